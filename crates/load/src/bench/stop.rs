//! What ends a load before its time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::tally::{Counts, Tally};
use crate::histogram::{LONGEST, Times};

/// Fewer attempts, messages or answers than this say little about a share of them.
const SAMPLE_MIN: u64 = 100;

/// Limits beyond which a load is not worth going on. Looked at once a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct StopConditions {
    /// Share of the connections or of the messages that may fail, 0 to 1. A load that stays within it has held in that
    /// respect; without it every failure counts.
    pub failures: Option<f64>,
    /// Corrected p99 latency of the measured messages so far, of which those that wait for longer count as well.
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
        let failed = tally.failed_count();
        let connections = Failures {
            failed: failed + tally.disconnected_count(),
            of: failed + u64::from(tally.opened + tally.reconnected),
        };
        let counts = tally.counts();
        let failed = counts.refused + counts.unanswered + counts.reordered + counts.corrupt;
        [("connections", connections), ("messages", Failures { failed, of: counts.offered() })]
    }
}

impl StopConditions {
    /// Which limit has been passed, if any, by a load of `clients`, of whose measured messages so many are overdue.
    pub(crate) fn passed(&self, tally: &Tally, clients: u32, overdue: u64) -> Option<String> {
        let corrected = &tally.measured.latency.corrected;
        self.failed(tally, clients)
            .or_else(|| self.slow(corrected))
            .or_else(|| self.silent(corrected, clients, overdue))
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

    /// Nothing is recorded of messages that wait: of a server that stands still, nothing at all.
    fn silent(&self, corrected: &Times, clients: u32, overdue: u64) -> Option<String> {
        let enough = SAMPLE_MIN.min(clients.into());
        let all = corrected.count() + overdue;
        let limit = self.p99.filter(|_| overdue >= enough && overdue * 100 > all)?;
        let limit = limit.as_secs_f64() * 1e3;
        Some(format!("{overdue} messages wait for more than {limit} ms, and so p99 latency is more"))
    }

    /// Whether what went wrong in the whole load is within the limit.
    pub(crate) fn tolerates(&self, tally: &Tally) -> bool {
        self.failures.is_some_and(|limit| Failures::of(tally).iter().all(|(_, all)| all.share() <= limit))
    }
}

/// Counts the messages whose answers are overdue, from looks at how many are awaited.
#[derive(Debug)]
pub(crate) struct Overdue {
    limit: Duration,
    /// When it was looked, and how many answers had been awaited in all by then: the first one as long ago as the limit.
    awaited: VecDeque<(Instant, u64)>,
}

impl Overdue {
    /// Those that wait for longer than `limit`, if there is one.
    pub(crate) fn new(limit: Option<Duration>) -> Overdue {
        // Longer times are not told apart, and looks are kept for as long as the limit says.
        Overdue { limit: limit.unwrap_or_default().min(LONGEST), awaited: VecDeque::new() }
    }

    /// Takes note of the counts at `now`. Gives how many are overdue, at least: an answer to a later message counts as one to
    /// an earlier.
    pub(crate) fn look(&mut self, now: Instant, counts: Counts) -> u64 {
        let is_old = |at: Instant| now.saturating_duration_since(at) > self.limit;
        self.awaited.push_back((now, counts.awaited));
        while self.awaited.get(1).is_some_and(|(at, _)| is_old(*at)) {
            self.awaited.pop_front();
        }
        let by_then = self.awaited.front().filter(|(at, _)| is_old(*at)).map_or(0, |(_, awaited)| *awaited);
        by_then.saturating_sub(counts.answered + counts.unanswered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_never_answers_is_overdue() {
        let (begun, second) = (Instant::now(), Duration::from_secs(1));
        let mut overdue = Overdue::new(Some(2 * second));
        let mut look = |at: u32, awaited, answered| {
            overdue.look(begun + at * second, Counts { awaited, answered, ..Counts::default() })
        };
        let looks = [look(0, 10, 10), look(1, 20, 15), look(2, 30, 15), look(3, 40, 15), look(4, 50, 15)];
        assert_eq!(looks, [0, 0, 0, 0, 5]);
        assert_eq!([look(5, 60, 15), look(6, 70, 70), look(7, 80, 70)], [15, 0, 0]);
        assert_eq!(overdue.awaited.len(), 4);
    }

    #[test]
    fn a_server_that_stands_still_stops_it() {
        let limits = StopConditions { failures: None, p99: Some(Duration::from_millis(250)) };
        let mut tally = Tally::default();
        assert_eq!(limits.passed(&tally, 10, 9), None);
        let words = limits.passed(&tally, 10, 10).unwrap();
        assert_eq!(words, "10 messages wait for more than 250 ms, and so p99 latency is more");
        (0..990).for_each(|_| tally.measured.latency.corrected.record(Duration::from_millis(1)));
        // Of a thousand, ten are no more than one in a hundred.
        assert_eq!(limits.passed(&tally, 10, 10), None);
        assert!(limits.passed(&tally, 10, 11).is_some());
        assert_eq!(StopConditions::default().passed(&tally, 10, 990), None);
    }

    fn stop(failures: f64) -> StopConditions {
        StopConditions { failures: Some(failures), p99: None }
    }

    #[test]
    fn failures_count_once_there_are_enough() {
        let mut tally = Tally { opened: 90, ..Tally::default() };
        (0..10).for_each(|_| tally.failed(&webscale::CloseCause::Peer));
        let words = stop(0.05).passed(&tally, 1000, 0).unwrap();
        assert_eq!(words, "10 of 100 connections failed, more than 5 %");
        assert_eq!(stop(0.1).passed(&tally, 1000, 0), None);
        assert!(stop(0.1).tolerates(&tally) && !stop(0.09).tolerates(&tally));
        tally.opened = 89;
        assert_eq!(stop(0.05).passed(&tally, 1000, 0), None);
        assert!(stop(0.05).passed(&tally, 99, 0).is_some());
        assert_eq!(StopConditions::default().passed(&tally, 1, 0), None);
    }

    #[test]
    fn messages_fail_too() {
        let mut tally = Tally::default();
        let counts = &mut tally.part(true).counts;
        (counts.sent, counts.corrupt) = (1000, 11);
        assert!(stop(0.01).passed(&tally, 5, 0).unwrap().starts_with("11 of 1000 messages"));
        tally.part(true).counts.corrupt = 10;
        assert_eq!(stop(0.01).passed(&tally, 5, 0), None);
    }

    #[test]
    fn slow_answers_stop_it() {
        let limits = StopConditions { failures: None, p99: Some(Duration::from_millis(200)) };
        let mut tally = Tally::default();
        (0..99).for_each(|_| tally.measured.latency.corrected.record(Duration::from_millis(300)));
        assert_eq!(limits.passed(&tally, 1, 0), None);
        tally.measured.latency.corrected.record(Duration::from_millis(300));
        assert!(limits.passed(&tally, 1, 0).unwrap().contains("more than 200 ms"));
    }
}
