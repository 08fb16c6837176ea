//! Who watches a run, and may end it.

use std::time::Duration;

use serde::Serialize;

use crate::bench::timeline::Sample;

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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Opening connections.
    #[default]
    Connecting,
    /// All connections are settled; the server rests.
    Resting,
    /// Sending, not yet counted.
    WarmingUp,
    /// Sending, and measured.
    Measuring,
    /// Waiting for the last answers.
    #[serde(rename = "last_answers")]
    Draining,
}

impl Phase {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Connecting => "connecting",
            Phase::Resting => "resting",
            Phase::WarmingUp => "warming up",
            Phase::Measuring => "measuring",
            Phase::Draining => "last answers",
        }
    }
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
    /// The second that has just passed.
    pub sample: Sample,
    /// Connections that failed so far.
    pub failed: u64,
    /// Messages sent in all.
    pub sent: u64,
    /// Corrected latency of the measured messages so far: p50 and p99.
    pub latency: Option<(Duration, Duration)>,
}
