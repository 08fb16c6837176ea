//! What became of the rows, for people and for programs.

use serde::Serialize;

use super::figure::Figure;
use super::row::Row;
use super::settings::{Scale, Settings};
use super::verdict::Verdict;
use crate::bench::provenance::Provenance;
use crate::compare::machine::Apart;

/// What became of all rows.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What tried them, when and where.
    pub provenance: Provenance,
    /// The server that was attacked.
    pub server: &'static str,
    /// How much of everything.
    pub scale: Scale,
    /// Whether how long things took was held against a bar.
    pub timed: bool,
    /// Where server and clients ran; none where they shared the one processor.
    pub processors: Option<Apart>,
    /// The user ended it before its time.
    pub interrupted: bool,
    /// The rows that were tried.
    pub rows: Vec<RowReport>,
}

impl Report {
    pub(crate) fn new(settings: &Settings) -> Report {
        Report {
            provenance: Provenance::now(),
            server: settings.server.name(),
            scale: settings.scale,
            timed: settings.timed,
            processors: None,
            interrupted: false,
            rows: Vec::new(),
        }
    }

    /// How many rows there are of each verdict.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for row in &self.rows {
            *match row.verdict {
                Verdict::Passed => &mut tally.passed,
                Verdict::Failed(_) => &mut tally.failed,
                Verdict::Disturbed(_) => &mut tally.disturbed,
                Verdict::Skipped(_) => &mut tally.skipped,
            } += 1;
        }
        tally
    }
}

/// Rows by their verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Every figure is inside its bar.
    pub passed: usize,
    /// The server did not survive, or let others suffer.
    pub failed: usize,
    /// They say nothing of the server.
    pub disturbed: usize,
    /// They were not tried.
    pub skipped: usize,
}

/// What became of one row.
#[derive(Debug, Clone, Serialize)]
pub struct RowReport {
    /// Its number.
    pub number: u8,
    /// What was done, in a few words.
    pub name: &'static str,
    /// What was expected.
    pub expected: &'static str,
    /// What it says of the server.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What was done, with the counts that were really achieved.
    pub done: Vec<String>,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl RowReport {
    pub(crate) fn new(row: &Row, verdict: Verdict) -> RowReport {
        let Row { number, name, expected, .. } = *row;
        RowReport { number, name, expected, verdict, done: Vec::new(), figures: Vec::new(), seconds: 0.0 }
    }
}
