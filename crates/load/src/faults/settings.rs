//! What is to be tried, and on what scale.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::row::Row;
use super::rows::ROWS;
use crate::compare::contestant::Contestant;

/// How much of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// As the rows say.
    Full,
    /// A tenth of the connections and bytes, and shorter times where a row waits.
    Tenth,
}

impl Scale {
    /// So many connections, bytes or rounds.
    pub fn of(self, full: u32) -> u32 {
        match self {
            Scale::Full => full,
            Scale::Tenth => full.div_ceil(10),
        }
    }

    /// Either of two.
    pub fn either<T>(self, full: T, tenth: T) -> T {
        match self {
            Scale::Full => full,
            Scale::Tenth => tenth,
        }
    }

    /// The share of the full scale.
    pub fn share(self) -> f64 {
        self.either(1.0, 0.1)
    }

    /// How long the honest clients are watched before the attack; where time is not judged, it is enough that they are served.
    pub(crate) fn baseline(self, timed: bool) -> Duration {
        match timed {
            true => self.either(Duration::from_secs(5), Duration::from_secs(2)),
            false => Duration::from_millis(500),
        }
    }

    /// How long an attack that is over sooner is repeated: percentiles need messages.
    pub(crate) fn attack_min(self) -> Duration {
        self.either(Duration::from_secs(10), Duration::from_secs(2))
    }
}

/// What is to be tried.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How much.
    pub scale: Scale,
    /// Whether how long things took is held against a bar, or only told.
    pub timed: bool,
    /// These rows alone; empty for all.
    pub only: Vec<u8>,
    /// The server.
    pub server: Contestant,
    /// What `serve` runs: this program.
    pub program: PathBuf,
    /// Further flags of `serve`, behind those of the row.
    pub flags: Vec<OsString>,
}

impl Settings {
    /// The rows that are to be tried, in the table's order.
    pub fn rows(&self) -> impl Iterator<Item = &'static Row> {
        ROWS.iter().filter(|row| self.only.is_empty() || self.only.contains(&row.number))
    }
}
