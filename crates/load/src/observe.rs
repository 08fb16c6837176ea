//! Who watches a run, and may end it.

use std::time::Duration;

use crate::measure::process::Memory;

/// Is told how a run goes. Called by the thread that runs it, about once a second.
pub trait Observer {
    /// Something worth a line happened.
    fn note(&mut self, text: &str) {
        let _ = text;
    }

    /// How the load stands now.
    fn progress(&mut self, progress: &Progress) {
        let _ = progress;
    }

    /// Whether the user wants the run to end. Asked often.
    fn stopped(&self) -> bool {
        false
    }
}

/// Sees nothing and stops nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}

/// What a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Opening connections.
    Connecting,
    /// All connections are settled; the server rests.
    Resting,
    /// Sending, not yet counted.
    WarmingUp,
    /// Sending, and measured.
    Measuring,
    /// Waiting for the last answers.
    Draining,
}

/// How a load stands.
#[derive(Debug, Clone)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Since the phase began.
    pub elapsed: Duration,
    /// How long the phase is planned to last, where that is known.
    pub planned: Option<Duration>,
    /// Clients asked for.
    pub clients: u32,
    /// Connections that are open.
    pub open: u32,
    /// Connections that failed.
    pub failed: u64,
    /// Messages sent in all.
    pub sent: u64,
    /// Messages sent a second, since the last progress.
    pub sent_per_second: f64,
    /// Corrected latency of the measured messages so far: p50 and p99.
    pub latency: Option<(Duration, Duration)>,
    /// The server's process: share of one processor since the last progress, and memory where it was read.
    pub server: Option<(f64, Option<Memory>)>,
}
