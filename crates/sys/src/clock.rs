//! A clock that all processes of a machine share: clock_gettime(2).

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC: time since some moment that is the same for all processes of this machine (of one time namespace).
/// [`std::time::Instant`] reads the same clock, but does not show it.
#[must_use]
pub fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    // Never negative, by its definition.
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn it_goes_as_instants_do() {
        let (before, instant, after) = (monotonic(), Instant::now(), monotonic());
        let (later_before, elapsed, later_after) = (monotonic(), instant.elapsed(), monotonic());
        assert!(before <= after && after <= later_before && later_before <= later_after);
        assert!(later_before - after <= elapsed && elapsed <= later_after - before);
    }
}
