//! What became of a soaked server, for people and for programs.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use super::super::bystanders::Window;
use super::super::counts::Counts;
use super::super::figure::Figure;
use super::super::subject::{Gauge, Shares};
use super::super::verdict::{Verdict, judge};
use super::{Slope, SoakSettings, WARMUP_MIN, WARMUP_SHARE};
use crate::bench::provenance::Provenance;
use crate::compare::machine::Apart;
use crate::compare::server::ServerError;

/// A slope is judged where so much time is left behind the warm-up: over less, noise of a few pages is megabytes an hour.
const JUDGED_FROM: Duration = Duration::from_secs(10 * 60);

/// Where it is more, others were in the server's way.
const WAITED_MAX: f64 = 0.05;

/// What became of a soaked server.
#[derive(Debug, Clone, Serialize)]
pub struct SoakReport {
    /// What soaked it, when and where.
    pub provenance: Provenance,
    /// What decided what the hostile clients did.
    pub seed: u64,
    /// How long they came and went, in seconds.
    pub duration_seconds: f64,
    /// What is not judged by its slope, in seconds from the beginning.
    pub warmup_seconds: f64,
    /// Where server and clients ran; none where they shared the one processor.
    pub processors: Option<Apart>,
    /// The user ended it before its time.
    pub interrupted: bool,
    /// What it comes to; none when it was interrupted.
    #[serde(flatten)]
    pub verdict: Option<Verdict>,
    /// The server's memory (PSS) after the warm-up, in bytes.
    pub memory_slope: Option<Slope>,
    /// Its descriptors.
    pub descriptor_slope: Option<Slope>,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// What was seen, every few seconds.
    pub samples: Vec<Sample>,
}

/// What was seen in a few seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// Since the beginning.
    pub seconds: f64,
    /// The server's memory.
    pub pss_bytes: u64,
    /// Its descriptors.
    pub descriptors: u64,
    /// Its connections.
    pub open: u64,
    /// Those that it accepted so far.
    pub accepted: u64,
    /// Those that it closed so far, by cause.
    pub closed: std::collections::BTreeMap<String, u64>,
    /// Its share of a processor.
    pub server_cpu: f64,
    /// The share of the time that it was ready to run while others ran.
    pub server_waited: f64,
    /// What the machine's host took for other guests, from server and clients.
    pub stolen: f64,
    /// The share of all clients.
    pub clients_cpu: f64,
    /// How fast hostile clients came.
    pub pace: f64,
    /// Echoes that honest clients got.
    pub honest_answered: u64,
    /// Those that they never will, because their connections ended.
    pub honest_lost: u64,
    /// Those that were none.
    pub honest_corrupt: u64,
    /// Honest clients that were lost.
    pub honest_disconnected: u64,
    /// From when a message was due to its echo; none without echoes.
    pub honest_p99_seconds: Option<f64>,
}

impl Sample {
    pub(super) fn new(
        at: Duration,
        gauge: &Gauge,
        counts: &Counts,
        window: &Window,
        shares: Shares,
        clients_cpu: f64,
        pace: f64,
    ) -> Sample {
        let closed = counts.parts("connections_closed_total");
        Sample {
            seconds: at.as_secs_f64(),
            pss_bytes: gauge.memory.pss_bytes,
            descriptors: gauge.descriptors as u64,
            open: counts.open(),
            accepted: counts.get("connections_accepted_total"),
            closed: closed.map(|(cause, count)| (cause.to_owned(), count)).collect(),
            server_cpu: shares.cpu,
            server_waited: shares.waited,
            stolen: shares.stolen,
            clients_cpu,
            pace,
            honest_answered: window.answered,
            honest_lost: window.lost,
            honest_corrupt: window.corrupt,
            honest_disconnected: window.disconnected,
            honest_p99_seconds: window.p99.map(|time| time.as_secs_f64()),
        }
    }

    /// In one line.
    pub(super) fn line(&self, duration: Duration) -> String {
        let p99 = self.honest_p99_seconds.map_or("none".into(), |p99| format!("{:.1} ms", p99 * 1e3));
        format!(
            "{:.0} of {:.0} s: {:.1} MB, {} descriptors, {} open of {} accepted; CPU {:.0} % and clients {:.0} %; \
             honest p99 {p99}, {} lost",
            self.seconds,
            duration.as_secs_f64(),
            self.pss_bytes as f64 / 1e6,
            self.descriptors,
            self.open,
            self.accepted,
            self.server_cpu * 100.0,
            self.clients_cpu * 100.0,
            self.honest_disconnected,
        )
    }
}

impl SoakReport {
    pub(super) fn new(settings: &SoakSettings) -> SoakReport {
        let warmup = settings.duration.mul_f64(WARMUP_SHARE).max(WARMUP_MIN);
        SoakReport {
            provenance: Provenance::now(),
            seed: settings.seed,
            duration_seconds: settings.duration.as_secs_f64(),
            warmup_seconds: warmup.as_secs_f64(),
            processors: None,
            interrupted: false,
            verdict: None,
            memory_slope: None,
            descriptor_slope: None,
            figures: Vec::new(),
            samples: Vec::new(),
        }
    }

    pub(super) fn warmup(&self) -> Duration {
        Duration::from_secs_f64(self.warmup_seconds)
    }

    pub(super) fn processors_used(&self) -> f64 {
        if self.processors.is_some() { 2.0 } else { 1.0 }
    }

    /// What it comes to, in one word.
    pub(super) fn word(&self) -> &'static str {
        self.verdict.as_ref().map_or("interrupted", Verdict::word)
    }

    /// What was seen behind the warm-up.
    pub(super) fn settled(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(|sample| sample.seconds >= self.warmup_seconds)
    }

    /// Whether it was long enough to know how memory grows.
    pub(super) fn judges_slope(&self) -> bool {
        self.duration_seconds - self.warmup_seconds >= JUDGED_FROM.as_secs_f64()
    }

    /// Why the memory's slope is not judged, if so.
    pub(super) fn unjudged(&self) -> Option<String> {
        let minutes = JUDGED_FROM.as_secs() / 60;
        let warmup = self.warmup_seconds;
        (!self.judges_slope()).then(|| {
            format!(
                "the memory's slope is judged where {minutes} minutes are left behind a warm-up of {warmup:.0} s"
            )
        })
    }

    /// Finds the lines through the samples.
    pub(super) fn draw_lines(&mut self) {
        let line = |of: fn(&Sample) -> u64| {
            Slope::through(
                &self.settled().map(|sample| (sample.seconds, of(sample) as f64)).collect::<Vec<_>>(),
            )
        };
        (self.memory_slope, self.descriptor_slope) =
            (line(|sample| sample.pss_bytes), line(|sample| sample.descriptors));
    }

    /// Whether others used the server's processor, so that deadlines passed which it would have kept.
    fn disturbances(&self) -> Vec<String> {
        let mean = |of: fn(&Sample) -> f64| {
            self.samples.iter().map(of).sum::<f64>() / (self.samples.len() as f64).max(1.0)
        };
        let shares = Shares {
            cpu: mean(|sample| sample.server_cpu),
            waited: mean(|sample| sample.server_waited),
            stolen: mean(|sample| sample.stolen),
        };
        shares.disturbances(WAITED_MAX).collect()
    }

    /// It could not go on, by no fault of the server.
    pub(super) fn break_off(&mut self, why: &str) {
        self.verdict = Some(Verdict::Disturbed(vec![format!("broken off: {why}")]));
    }

    /// Judges by the figures, and by how the server ended.
    pub(super) fn judge(&mut self, figures: Vec<Figure>, death: Option<ServerError>) {
        self.figures = figures;
        if self.interrupted {
            return;
        }
        self.verdict = Some(judge(&self.figures, self.disturbances()).with_death(death));
    }
}

/// All figures, and what they come to.
pub fn text(report: &SoakReport) -> String {
    let mut text = String::new();
    for figure in &report.figures {
        let mark = if figure.holds { ' ' } else { '!' };
        let _ = writeln!(text, " {mark} {figure}");
    }
    if let Some(why) = report.unjudged() {
        let _ = writeln!(text, "   {why}");
    }
    let (seconds, seed, word) = (report.duration_seconds, report.seed, report.word());
    let _ = writeln!(text, "soaked for {seconds:.0} s, seed {seed}: {word}");
    for why in report.verdict.iter().flat_map(Verdict::why) {
        let _ = writeln!(text, "  {why}");
    }
    text
}

#[cfg(test)]
pub(in crate::faults) mod tests {
    use super::super::SEED;
    use super::*;

    /// A soak that passed, with a sample each five seconds, of which memory grows a little.
    pub(in crate::faults) fn soaked(samples: u32) -> SoakReport {
        let settings = SoakSettings {
            program: std::path::PathBuf::new(),
            duration: Duration::from_secs(1800),
            seed: SEED,
            flags: Vec::new(),
        };
        let mut report = SoakReport::new(&settings);
        report.samples = (1..=samples).map(sample).collect();
        report.draw_lines();
        report.verdict = Some(Verdict::Passed);
        report
    }

    fn sample(at: u32) -> Sample {
        let count = u64::from(at);
        Sample {
            seconds: f64::from(at) * 5.0,
            pss_bytes: 20_000_000 + count * 100,
            descriptors: 150,
            open: 120,
            accepted: 100 + count * 8,
            closed: [("peer".to_owned(), count * 7), ("timeout".to_owned(), count)].into(),
            server_cpu: 0.4,
            server_waited: 0.0,
            stolen: 0.0,
            clients_cpu: 0.6,
            pace: 1.0,
            honest_answered: 500,
            honest_lost: 0,
            honest_corrupt: 0,
            honest_disconnected: 0,
            honest_p99_seconds: Some(0.0025),
        }
    }

    #[test]
    fn the_slope_is_of_what_comes_behind_the_warmup() {
        let report = soaked(360);
        assert!(report.judges_slope() && report.unjudged().is_none());
        assert_eq!(report.settled().count(), 289);
        let slope = report.memory_slope.unwrap();
        assert!((slope.per_hour - 72_000.0).abs() < 1e-3, "{slope:?}");
        assert_eq!(soaked(50).memory_slope, None);
    }
}
