//! Clients that lost their connection, and when they try again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// The longest pause before the first new attempt; it doubles with each that fails.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// The longest pause of all.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A client without a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lost {
    pub(crate) client: u32,
    /// Attempts that came to nothing since it was last connected for a while.
    pub(crate) failures: u8,
    /// It was connected before.
    pub(crate) was_open: bool,
}

impl Lost {
    /// How long it waits before it tries again: up to half of that is chance, so that clients which were lost together
    /// do not come back together.
    fn pause(self) -> Duration {
        let longest = PAUSE_FIRST.saturating_mul(1 << self.failures.min(20)).min(PAUSE_MAX);
        // Multiplicative hashing: any spread over the clients will do.
        let hash =
            (u64::from(self.client) << 8 | u64::from(self.failures)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let chance = (hash >> 32) as f64 / f64::from(u32::MAX);
        longest.mul_f64(1.0 - chance.min(1.0) / 2.0)
    }
}

/// Where the event loops say that a client lost its connection.
pub(crate) type Losses = Sender<Lost>;

/// The clients that are to connect again, by time. At most all of them.
#[derive(Debug)]
pub(crate) struct Comebacks {
    lost: Receiver<Lost>,
    due: BinaryHeap<Reverse<(Instant, Lost)>>,
}

impl Comebacks {
    pub(crate) fn new() -> (Losses, Comebacks) {
        let (losses, lost) = channel();
        (losses, Comebacks { lost, due: BinaryHeap::new() })
    }

    /// A client whose pause is over.
    pub(crate) fn next_due(&mut self, now: Instant) -> Option<Lost> {
        self.due.extend(self.lost.try_iter().map(|lost| Reverse((now + lost.pause(), lost))));
        let is_due = self.due.peek().is_some_and(|Reverse((at, _))| *at <= now);
        is_due.then(|| self.due.pop()).flatten().map(|Reverse((_, lost))| lost)
    }

    /// This client could not begin yet.
    pub(crate) fn put_back(&mut self, lost: Lost) {
        self.due.push(Reverse((Instant::now() + PAUSE_FIRST, lost)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(client: u32, failures: u8) -> Lost {
        Lost { client, failures, was_open: true }
    }

    #[test]
    fn pauses_grow_to_a_limit_and_are_spread() {
        for failures in 0..40 {
            let longest = PAUSE_MAX.min(PAUSE_FIRST * (1 << failures.min(20)));
            let pauses: Vec<Duration> = (0..1000).map(|client| lost(client, failures).pause()).collect();
            assert!(pauses.iter().all(|pause| *pause >= longest / 2 && *pause <= longest), "{failures}");
            let early = pauses.iter().filter(|pause| **pause < longest.mul_f64(0.75)).count();
            assert!((400..600).contains(&early), "{failures}: {early}");
        }
    }

    #[test]
    fn each_comes_back_once_when_its_pause_is_over() {
        let (losses, mut comebacks) = Comebacks::new();
        losses.send(lost(7, 0)).unwrap();
        losses.send(lost(8, 5)).unwrap();
        let now = Instant::now();
        assert_eq!(comebacks.next_due(now), None);
        assert_eq!(comebacks.next_due(now + PAUSE_FIRST), Some(lost(7, 0)));
        assert_eq!(comebacks.next_due(now + PAUSE_FIRST), None);
        assert_eq!(comebacks.next_due(now + PAUSE_MAX), Some(lost(8, 5)));
        assert_eq!(comebacks.next_due(now + PAUSE_MAX), None);
    }
}
