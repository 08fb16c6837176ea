//! When clients arrive, and in the open model when each message is due, whatever the server does.
//!
//! Client `i` of `n` is due at `i·interval/n + k·interval` for `k = 0, 1, …`, so that the clients are spread evenly
//! over the interval and the rate of all together is constant. All times count from the schedule's start.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When the messages of `clients` clients are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    clients: u32,
    interval: Duration,
    /// Clients begin at multiples of it; zero for each at its own time.
    tick: Duration,
}

impl Schedule {
    /// Every one of `clients` sends once an `interval`.
    ///
    /// # Panics
    /// When either is zero: there would be no schedule.
    pub fn new(clients: u32, interval: Duration) -> Schedule {
        assert!(clients > 0 && !interval.is_zero(), "a schedule needs clients and an interval");
        Schedule { clients, interval, tick: Duration::ZERO }
    }

    /// The same with clients that begin together where they would begin within one `tick`, at its beginning: small bursts,
    /// which cost whoever sends them less. Zero for none.
    #[must_use]
    pub(crate) fn in_ticks(self, tick: Duration) -> Schedule {
        Schedule { tick, ..self }
    }

    /// When client `client` is due to send its message number `message`, both from 0.
    pub fn due(&self, client: u32, message: u64) -> Duration {
        let interval = self.interval.as_nanos();
        let phase = interval * u128::from(client) / u128::from(self.clients);
        let phase = phase - phase.checked_rem(self.tick.as_nanos()).unwrap_or(0);
        from_nanoseconds(phase + interval * u128::from(message))
    }

    /// The number of the first message of `client` that is due at `from` or later.
    pub(crate) fn first_from(&self, client: u32, from: Duration) -> u64 {
        let behind = from.saturating_sub(self.due(client, 0)).as_nanos();
        u64::try_from(behind.div_ceil(self.interval.as_nanos())).unwrap_or(u64::MAX)
    }

    /// How many messages of all clients are due in `from..until`.
    pub fn offered(&self, from: Duration, until: Duration) -> u64 {
        self.due_before(until).saturating_sub(self.due_before(from))
    }

    /// How many messages of all clients are due before `time`.
    fn due_before(&self, time: Duration) -> u64 {
        let (interval, clients) = (self.interval.as_nanos(), u128::from(self.clients));
        let (whole, rest) = (time.as_nanos() / interval, time.as_nanos() % interval);
        // Who begins in a tick that has begun has its turn.
        let rest = rest.checked_next_multiple_of(self.tick.as_nanos()).unwrap_or(rest).min(interval);
        // Client i has its turn before `rest` if interval·i/n is below it.
        let begun = (rest * clients).div_ceil(interval);
        u64::try_from(whole * clients + begun).unwrap_or(u64::MAX)
    }

    /// Messages a second, of all clients.
    pub fn rate(&self) -> f64 {
        f64::from(self.clients) / self.interval.as_secs_f64()
    }
}

/// What decides when a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// The time alone.
    Open(Schedule),
    /// The answer to the message before.
    Closed(Closed),
}

/// A closed loop: a client sends its next message so long after the answer to the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// Clients.
    pub clients: u32,
    /// Time between an answer and the next message.
    pub think: Duration,
}

impl Pace {
    /// When client `client` is due to send its first message: spread evenly over the interval or the time to think.
    pub(crate) fn first_due(&self, client: u32) -> Duration {
        match self {
            Pace::Open(schedule) => schedule.due(client, 0),
            Pace::Closed(Closed { clients, think }) => {
                from_nanoseconds(think.as_nanos() * u128::from(client) / u128::from(*clients.max(&1)))
            }
        }
    }

    /// How many messages of all clients are due in `from..until`; none where the answers decide it.
    pub fn offered(&self, from: Duration, until: Duration) -> Option<u64> {
        match self {
            Pace::Open(schedule) => Some(schedule.offered(from, until)),
            Pace::Closed(_) => None,
        }
    }
}

fn from_nanoseconds(nanoseconds: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// How the clients arrive.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Ramp {
    /// As fast as the server takes them.
    AtOnce,
    /// Evenly over this time.
    Linear(Duration),
    /// In equal groups, the last of which arrives one step before the end of `over`.
    Steps {
        /// The time that all steps take together.
        over: Duration,
        /// How many groups, at least one.
        steps: u32,
    },
    /// So many a second, whether or not the server keeps up.
    Rate(f64),
}

impl Ramp {
    /// When client `index` of `count` begins to connect, from when connecting began.
    pub(crate) fn connect_at(&self, index: u32, count: u32) -> Duration {
        let part = |over: Duration, at: u32, of: u32| {
            from_nanoseconds(over.as_nanos() * u128::from(at) / u128::from(of.max(1)))
        };
        match *self {
            Ramp::AtOnce => Duration::ZERO,
            Ramp::Linear(over) => part(over, index, count),
            Ramp::Steps { over, steps } => {
                let step = u64::from(index) * u64::from(steps) / u64::from(count.max(1));
                part(over, u32::try_from(step).unwrap_or(u32::MAX), steps)
            }
            Ramp::Rate(rate) => Duration::try_from_secs_f64(f64::from(index) / rate).unwrap_or(Duration::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn clients_are_spread_evenly() {
        let schedule = Schedule::new(4, SECOND);
        let first: Vec<u128> = (0..4).map(|client| schedule.due(client, 0).as_millis()).collect();
        assert_eq!(first, [0, 250, 500, 750]);
        assert_eq!(schedule.due(3, 10), Duration::from_millis(10_750));
        assert!((schedule.rate() - 4.0).abs() < 1e-9);
    }

    #[test]
    fn clients_of_one_tick_begin_together() {
        let schedule = Schedule::new(10, SECOND).in_ticks(Duration::from_millis(300));
        let first: Vec<u128> = (0..10).map(|client| schedule.due(client, 0).as_millis()).collect();
        assert_eq!(first, [0, 0, 0, 300, 300, 300, 600, 600, 600, 900]);
        assert_eq!(schedule.due(4, 2), Duration::from_millis(2300));
        for ms in [0, 1, 299, 300, 301, 900, 901, 999, 1000, 1001, 2300, 2301] {
            let until = Duration::from_millis(ms);
            let due = (0..10).flat_map(|client| (0..4).map(move |k| schedule.due(client, k)));
            let counted = due.filter(|due| *due < until).count() as u64;
            assert_eq!(schedule.offered(Duration::ZERO, until), counted, "{ms} ms");
        }
    }

    #[test]
    fn many_clients_do_not_drift() {
        let schedule = Schedule::new(30_000, SECOND);
        // The phase is a fraction of the interval, not a multiple of a rounded step.
        assert_eq!(schedule.due(29_999, 0), Duration::from_nanos(999_966_666));
        assert_eq!(schedule.due(15_000, 86_400), Duration::from_millis(86_400_500));
    }

    #[test]
    fn first_from_is_the_inverse_of_due() {
        let schedule = Schedule::new(7, Duration::from_millis(33));
        for (client, message) in (0..7).flat_map(|client| (0..50).map(move |message| (client, message))) {
            let due = schedule.due(client, message);
            assert_eq!(schedule.first_from(client, due), message);
            assert_eq!(schedule.first_from(client, due + Duration::from_nanos(1)), message + 1);
        }
    }

    #[test]
    fn offered_is_the_rate_over_whole_intervals() {
        let schedule = Schedule::new(100, SECOND);
        assert_eq!(schedule.offered(Duration::ZERO, 5 * SECOND), 500);
        assert_eq!(schedule.offered(2 * SECOND, 5 * SECOND), 300);
        assert_eq!(schedule.offered(5 * SECOND, 5 * SECOND), 0);
        assert_eq!(schedule.offered(Duration::ZERO, SECOND / 2), 50);
    }

    #[test]
    fn offered_counts_each_due_time_once() {
        let schedule = Schedule::new(3, Duration::from_millis(10));
        let cut = Duration::from_micros(37_123);
        let end = Duration::from_millis(95);
        let whole = schedule.offered(Duration::ZERO, end);
        assert_eq!(schedule.offered(Duration::ZERO, cut) + schedule.offered(cut, end), whole);
        let counted = (0..3).flat_map(|c| (0..20).map(move |k| schedule.due(c, k))).filter(|due| *due < end);
        assert_eq!(whole, counted.count() as u64);
    }

    #[test]
    fn offered_agrees_with_due_at_every_moment() {
        let schedule = Schedule::new(7, Duration::from_nanos(33));
        let due: Vec<Duration> = (0..7).flat_map(|c| (0..5).map(move |k| schedule.due(c, k))).collect();
        for time in (0..120).map(Duration::from_nanos) {
            let before = due.iter().filter(|due| **due < time).count() as u64;
            assert_eq!(schedule.offered(Duration::ZERO, time), before, "{time:?}");
        }
    }

    #[test]
    fn a_closed_loop_begins_spread_over_the_time_to_think() {
        let pace = Pace::Closed(Closed { clients: 4, think: SECOND });
        assert_eq!(pace.first_due(3), Duration::from_millis(750));
        assert_eq!(pace.offered(Duration::ZERO, SECOND), None);
        let pace = Pace::Open(Schedule::new(4, SECOND));
        assert_eq!(
            (pace.first_due(3), pace.offered(Duration::ZERO, SECOND)),
            (Duration::from_millis(750), Some(4))
        );
    }

    #[test]
    fn connections_fill_the_ramp() {
        let at = |ramp: Ramp, index| ramp.connect_at(index, 100);
        assert_eq!(at(Ramp::Linear(SECOND), 0), Duration::ZERO);
        assert_eq!(at(Ramp::Linear(SECOND), 50), Duration::from_millis(500));
        assert_eq!(at(Ramp::AtOnce, 99), Duration::ZERO);
        assert_eq!(at(Ramp::Rate(50.0), 99), Duration::from_millis(1980));
    }

    #[test]
    fn steps_are_equal_groups() {
        let ramp = Ramp::Steps { over: 4 * SECOND, steps: 4 };
        let at: Vec<u64> = (0..10).map(|index| ramp.connect_at(index, 10).as_secs()).collect();
        assert_eq!(at, [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]);
        let more_steps_than_clients = Ramp::Steps { over: 4 * SECOND, steps: 8 };
        assert_eq!(more_steps_than_clients.connect_at(1, 2), 2 * SECOND);
    }
}
