//! All clients of a load, wherever they are.

mod loops;

use std::time::{Duration, Instant};

use super::BenchError;
use super::plan::{Plan, Prepared};
use super::tally::{Counts, Tally};
use loops::Loops;

/// Which clients of a load one process holds: every `of`-th, beginning with number `first`. So all processes connect and
/// send side by side, as the event loops of one do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    first: u32,
    of: u32,
}

impl Share {
    /// All clients.
    pub(crate) const WHOLE: Share = Share { first: 0, of: 1 };

    /// How many clients that is, of `clients` in all.
    fn clients(self, clients: u32) -> u32 {
        clients.saturating_sub(self.first).div_ceil(self.of)
    }

    /// The load's number of this share's client `nth`.
    fn index(self, nth: u32) -> u32 {
        self.first + nth * self.of
    }
}

/// How the clients stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// Connections that are open.
    pub(crate) open: u32,
    /// Connections that are being opened.
    pub(crate) connecting: u32,
    /// Connections that were opened or failed.
    pub(crate) settled: u32,
    /// What is not yet collected.
    pub(crate) counts: Counts,
}

/// All clients of a load.
pub(crate) struct Fleet {
    loops: Loops,
    peak_open: u32,
}

impl Fleet {
    /// Starts the event loops; nothing is connected yet.
    pub(crate) fn new(plan: &Plan, prepared: Prepared) -> Result<Fleet, BenchError> {
        Ok(Fleet { loops: Loops::new(plan, prepared, Share::WHOLE)?, peak_open: 0 })
    }

    /// Begins to open all connections over the ramp, which counts from `begun`.
    pub(crate) fn connect(&mut self, begun: Instant) {
        self.loops.connect(begun);
    }

    /// Does what has become due. To be called often while connections are being opened.
    pub(crate) fn tend(&mut self) -> Result<(), BenchError> {
        self.loops.tend()
    }

    /// How the clients stand now.
    pub(crate) fn census(&mut self) -> Result<Census, BenchError> {
        let census = self.loops.census();
        self.peak_open = self.peak_open.max(self.loops.peak_open());
        Ok(census)
    }

    /// The most connections that were seen open at the same time.
    pub(crate) fn peak_open(&self) -> u32 {
        self.peak_open
    }

    /// Everything that was counted since this was last called.
    pub(crate) fn collect(&mut self) -> Result<Tally, BenchError> {
        Ok(self.loops.collect())
    }

    /// How far ahead the schedule's start must be told, so that every client learns of it in time.
    pub(crate) fn notice(&self) -> Duration {
        2 * super::client::START_POLL
    }

    /// The schedule begins at `at`.
    pub(crate) fn start(&mut self, at: Instant) {
        self.loops.start(at);
    }

    /// No further message is sent.
    pub(crate) fn end(&mut self) {
        self.loops.end();
    }

    /// Closes all connections, and gives what was not yet collected.
    ///
    /// # Errors
    /// When an event loop had failed.
    pub(crate) fn close(&mut self) -> Result<Tally, BenchError> {
        self.loops.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_disjoint_and_whole() {
        for (clients, of) in [(1, 1), (10, 3), (9, 3), (2, 5), (100_000, 6)] {
            let shares = (0..of).map(|first| Share { first, of });
            let mut all: Vec<u32> = shares
                .flat_map(|share| (0..share.clients(clients)).map(move |nth| share.index(nth)))
                .collect();
            all.sort_unstable();
            assert_eq!(all, (0..clients).collect::<Vec<_>>(), "{clients} in {of}");
        }
    }
}
