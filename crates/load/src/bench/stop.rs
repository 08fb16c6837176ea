//! What ends a load before its time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::tally::Tally;
use crate::histogram::Times;

/// Fewer attempts, messages or answers than this say little about a share of them.
const SAMPLE_MIN: u64 = 100;

/// Limits beyond which a load is not worth going on. Looked at once a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct StopConditions {
    /// Share of the connections or of the messages that may fail, 0 to 1. A load that stays within it has held in that
    /// respect; without it every failure counts.
    pub failures: Option<f64>,
    /// Corrected p99 latency of the measured messages so far.
    pub p99: Option<Duration>,
}

/// How much of something went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failures {
    pub(crate) failed: u64,
    pub(crate) of: u64,
}

impl Failures {
    pub(crate) fn share(self) -> f64 {
        if self.failed == 0 { 0.0 } else { self.failed as f64 / self.of.max(1) as f64 }
    }

    /// Connections that failed or were lost, and messages that were refused, not answered, or wrongly echoed.
    fn of(tally: &Tally) -> [(&'static str, Failures); 2] {
        let failed: u64 = tally.failed.values().map(|failure| failure.count).sum();
        let lost: u64 = tally.disconnected.values().map(|failure| failure.count).sum();
        let connections =
            Failures { failed: failed + lost, of: failed + u64::from(tally.opened + tally.reconnected) };
        let counts = tally.counts();
        let failed = counts.refused + counts.unanswered + counts.reordered + counts.corrupt;
        [("connections", connections), ("messages", Failures { failed, of: counts.offered() })]
    }
}

impl StopConditions {
    /// Which limit has been passed, if any, by a load of `clients`.
    pub(crate) fn passed(&self, tally: &Tally, clients: u32) -> Option<String> {
        self.failed(tally, clients).or_else(|| self.slow(&tally.measured.latency.corrected))
    }

    fn failed(&self, tally: &Tally, clients: u32) -> Option<String> {
        let limit = self.failures?;
        let enough = SAMPLE_MIN.min(clients.into());
        let (what, failures) = Failures::of(tally)
            .into_iter()
            .find(|(_, failures)| failures.of >= enough && failures.share() > limit)?;
        let (Failures { failed, of }, limit) = (failures, limit * 100.0);
        Some(format!("{failed} of {of} {what} failed, more than {limit} %"))
    }

    fn slow(&self, corrected: &Times) -> Option<String> {
        let limit = self.p99.filter(|_| corrected.count() >= SAMPLE_MIN)?;
        let (p99, limit) = (corrected.quantile(0.99).as_secs_f64() * 1e3, limit.as_secs_f64() * 1e3);
        (p99 > limit).then(|| format!("p99 latency was {p99:.1} ms, more than {limit} ms"))
    }

    /// Whether what went wrong in the whole load is within the limit.
    pub(crate) fn tolerates(&self, tally: &Tally) -> bool {
        self.failures.is_some_and(|limit| Failures::of(tally).iter().all(|(_, all)| all.share() <= limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(failures: f64) -> StopConditions {
        StopConditions { failures: Some(failures), p99: None }
    }

    #[test]
    fn failures_count_once_there_are_enough() {
        let mut tally = Tally { opened: 90, ..Tally::default() };
        (0..10).for_each(|_| tally.failed(&webscale::CloseCause::Peer));
        let words = stop(0.05).passed(&tally, 1000).unwrap();
        assert_eq!(words, "10 of 100 connections failed, more than 5 %");
        assert_eq!(stop(0.1).passed(&tally, 1000), None);
        assert!(stop(0.1).tolerates(&tally) && !stop(0.09).tolerates(&tally));
        tally.opened = 89;
        assert_eq!(stop(0.05).passed(&tally, 1000), None);
        assert!(stop(0.05).passed(&tally, 99).is_some());
        assert_eq!(StopConditions::default().passed(&tally, 1), None);
    }

    #[test]
    fn messages_fail_too() {
        let mut tally = Tally::default();
        let counts = &mut tally.part(true).counts;
        (counts.sent, counts.corrupt) = (1000, 11);
        assert!(stop(0.01).passed(&tally, 5).unwrap().starts_with("11 of 1000 messages"));
        tally.part(true).counts.corrupt = 10;
        assert_eq!(stop(0.01).passed(&tally, 5), None);
    }

    #[test]
    fn slow_answers_stop_it() {
        let limits = StopConditions { failures: None, p99: Some(Duration::from_millis(200)) };
        let mut tally = Tally::default();
        (0..99).for_each(|_| tally.measured.latency.corrected.record(Duration::from_millis(300)));
        assert_eq!(limits.passed(&tally, 1), None);
        tally.measured.latency.corrected.record(Duration::from_millis(300));
        assert!(limits.passed(&tally, 1).unwrap().contains("more than 200 ms"));
    }
}
