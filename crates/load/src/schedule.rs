//! The open model: when each message is due, whatever the server does.
//!
//! Client `i` of `n` is due at `i·interval/n + k·interval` for `k = 0, 1, …`, so that the clients are spread evenly
//! over the interval and the rate of all together is constant. All times count from the schedule's start.

use std::time::Duration;

/// When the messages of `clients` clients are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    clients: u32,
    interval: Duration,
}

impl Schedule {
    /// Every one of `clients` sends once an `interval`.
    ///
    /// # Panics
    /// When either is zero: there would be no schedule.
    pub fn new(clients: u32, interval: Duration) -> Schedule {
        assert!(clients > 0 && !interval.is_zero(), "a schedule needs clients and an interval");
        Schedule { clients, interval }
    }

    /// When client `client` is due to send its message number `message`, both from 0.
    pub fn due(&self, client: u32, message: u64) -> Duration {
        let interval = self.interval.as_nanos();
        let phase = interval * u128::from(client) / u128::from(self.clients);
        from_nanoseconds(phase + interval * u128::from(message))
    }

    /// The number of the first message of `client` that is due at `from` or later.
    pub fn first_from(&self, client: u32, from: Duration) -> u64 {
        let behind = from.saturating_sub(self.due(client, 0)).as_nanos();
        u64::try_from(behind.div_ceil(self.interval.as_nanos())).unwrap_or(u64::MAX)
    }

    /// How many messages of all clients are due in `from..until`.
    pub fn offered(&self, from: Duration, until: Duration) -> u64 {
        let of_one = |client| self.first_from(client, until).saturating_sub(self.first_from(client, from));
        (0..self.clients).map(of_one).sum()
    }

    /// Messages a second, of all clients.
    pub fn rate(&self) -> f64 {
        f64::from(self.clients) / self.interval.as_secs_f64()
    }
}

fn from_nanoseconds(nanoseconds: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// When the handshake of connection `index` of `count` begins, spread evenly over `ramp`.
pub fn connect_at(index: u32, count: u32, ramp: Duration) -> Duration {
    from_nanoseconds(ramp.as_nanos() * u128::from(index) / u128::from(count.max(1)))
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
    fn many_clients_do_not_drift() {
        let schedule = Schedule::new(30_000, SECOND);
        // The phase is a fraction of the interval, not a multiple of a rounded step.
        assert_eq!(schedule.due(29_999, 0), Duration::from_nanos(999_966_666));
        assert_eq!(schedule.due(15_000, 86_400), Duration::from_millis(86_400_500));
    }

    #[test]
    fn first_from_is_the_inverse_of_due() {
        let schedule = Schedule::new(7, Duration::from_millis(33));
        for client in 0..7 {
            for message in 0..50 {
                let due = schedule.due(client, message);
                assert_eq!(schedule.first_from(client, due), message);
                assert_eq!(schedule.first_from(client, due + Duration::from_nanos(1)), message + 1);
            }
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
    fn connections_fill_the_ramp() {
        assert_eq!(connect_at(0, 100, SECOND), Duration::ZERO);
        assert_eq!(connect_at(50, 100, SECOND), Duration::from_millis(500));
        assert_eq!(connect_at(99, 100, Duration::ZERO), Duration::ZERO);
    }
}
