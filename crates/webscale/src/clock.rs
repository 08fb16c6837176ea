//! Time as a loop counts it.

use std::num::NonZeroU64;
use std::ops::{Add, Sub};
use std::time::{Duration, Instant};

/// Nanoseconds since the loop began (CLOCK_MONOTONIC): eight bytes where an [`Instant`] takes sixteen, and a number that
/// a test can choose. One more is stored, so that `Option<Time>` takes no more room.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Time(NonZeroU64);

const _: () = assert!(size_of::<Option<Time>>() == 8);

impl Time {
    pub(crate) const fn from_nanos(nanos: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }

    pub(crate) const fn nanos(self) -> u64 {
        self.0.get() - 1
    }

    /// Up to the next whole `step`, so that deadlines that need no precision fall together.
    pub(crate) fn round_up(self, step: Duration) -> Self {
        self.nanos().checked_next_multiple_of(nanos(step).max(1)).map_or(self, Self::from_nanos)
    }
}

impl Default for Time {
    fn default() -> Self {
        Self::from_nanos(0)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

impl Sub for Time {
    type Output = Duration;

    /// Zero where `earlier` is not earlier.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos().saturating_sub(earlier.nanos()))
    }
}

/// Turns the clock of the machine into [`Time`] and back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    pub(crate) fn now(&self) -> Time {
        Time::from_nanos(nanos(self.origin.elapsed()))
    }

    pub(crate) fn time(&self, instant: Instant) -> Time {
        Time::from_nanos(nanos(instant.saturating_duration_since(self.origin)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let end = Time::from_nanos(u64::MAX);
        assert_eq!(end + Duration::MAX, end);
        assert_eq!(Time::default() - end, Duration::ZERO);
        assert_eq!(end.round_up(Duration::from_secs(1)), end);
        assert_eq!(Time::from_nanos(1).round_up(Duration::from_nanos(64)).nanos(), 64);
    }

    #[test]
    fn instants_keep_their_distance() {
        let clock = Clock::start();
        let later = Instant::now() + Duration::from_secs(5);
        assert_eq!(clock.time(later + Duration::from_nanos(7)) - clock.time(later), Duration::from_nanos(7));
        assert_eq!(clock.time(clock.origin - Duration::from_secs(1)), Time::default());
    }
}
