//! The library's lines in the log: ten a second at most, whatever peers and handlers do.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use log::Level;

use crate::panics::caught;

/// Lines in any second, of all loops and workers of the process.
const LINES: usize = 10;
const SECOND: Duration = Duration::from_secs(1);

static BUDGET: Mutex<Budget> = Mutex::new(Budget { written: [None; LINES], oldest: 0, left_out: 0 });

/// Writes a line, or leaves it out; the next one that is written says how many were.
pub(crate) fn write(level: Level, line: fmt::Arguments<'_>) {
    if level > log::max_level() {
        return;
    }
    let left_out = BUDGET.lock().unwrap_or_else(PoisonError::into_inner).spend(Instant::now());
    let Some(left_out) = left_out else { return };
    // A logger that panics must end neither a loop nor a worker.
    let _ = caught(|| match left_out {
        0 => log::log!(target: "webscale", level, "{line}"),
        _ => log::log!(target: "webscale", level, "{line} ({left_out} lines were left out before this one)"),
    });
}

/// When the last lines were written, in a ring.
struct Budget {
    written: [Option<Instant>; LINES],
    oldest: usize,
    left_out: u64,
}

impl Budget {
    /// `None` leaves the line out; otherwise how many were left out since the last that was not.
    fn spend(&mut self, now: Instant) -> Option<u64> {
        let slot = self.written.get_mut(self.oldest)?;
        if slot.is_some_and(|written| now.saturating_duration_since(written) < SECOND) {
            self.left_out += 1;
            return None;
        }
        *slot = Some(now);
        self.oldest = (self.oldest + 1) % LINES;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_has_more_than_ten_lines_and_none_is_left_out_in_silence() {
        let mut budget = Budget { written: [None; LINES], oldest: 0, left_out: 0 };
        let start = Instant::now();
        let mut written = Vec::new();
        let mut told = 0;
        for millis in 0..5000 {
            if let Some(left_out) = budget.spend(start + Duration::from_millis(millis)) {
                written.push(millis);
                told += left_out;
            }
        }
        assert!(written.windows(LINES + 1).all(|lines| lines[LINES] - lines[0] >= 1000), "{written:?}");
        assert_eq!(written.len(), 50);
        assert_eq!(told + budget.left_out + 50, 5000);
    }

    #[test]
    fn a_few_lines_at_once_are_all_written() {
        let mut budget = Budget { written: [None; LINES], oldest: 0, left_out: 0 };
        let now = Instant::now();
        assert_eq!((0..11).filter(|_| budget.spend(now) == Some(0)).count(), 10);
        assert_eq!(budget.spend(now + SECOND), Some(1));
    }
}
