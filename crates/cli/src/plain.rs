//! What stands on stderr of a load where it is no terminal: a line now and then, and when a phase begins.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use webscale_load::bench::timeline::Sample;
use webscale_load::observe::{Phase, Progress};
use webscale_load::report::unit::Unit;

/// Within a phase a line is written this often.
const EVERY: Duration = Duration::from_secs(10);

/// Everything that went wrong so far, by kind.
#[derive(Debug, Default)]
pub(crate) struct Errors(BTreeMap<String, u64>);

impl Errors {
    pub(crate) fn add(&mut self, sample: &Sample) {
        for (kind, count) in &sample.errors {
            *self.0.entry(kind.clone()).or_default() += count;
        }
    }

    /// Each kind with its count.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(kind, count)| format!("{count} {kind}"))
    }
}

/// What the lines have to remember of a load.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    last: Option<(Phase, Instant)>,
    errors: Errors,
    /// The generator was saturated in a second since the last line.
    was_saturated: bool,
}

impl Plain {
    /// The line that is due `now`, if one is.
    pub(crate) fn line(&mut self, progress: &Progress, now: Instant) -> Option<String> {
        self.errors.add(&progress.sample);
        self.was_saturated |= progress.sample.generator.saturated;
        let is_due =
            |(phase, at): (Phase, Instant)| phase != progress.phase || now.duration_since(at) >= EVERY;
        if !self.last.is_none_or(is_due) {
            return None;
        }
        self.last = Some((progress.phase, now));
        let mut line = line(progress);
        let errors: Vec<String> = self.errors.kinds().collect();
        if !errors.is_empty() {
            let _ = write!(line, " | errors: {}", errors.join(", "));
        }
        if std::mem::take(&mut self.was_saturated) {
            line += " | generator SATURATED";
        }
        // What a server says may hold anything.
        line.retain(|c| !c.is_control());
        Some(line)
    }
}

fn line(progress: &Progress) -> String {
    let (phase, sample) = (progress.phase.name(), &progress.sample);
    let elapsed = progress.elapsed.as_secs();
    let mut line = match progress.planned {
        // Rounded: a phase begins a little after its plan.
        Some(planned) if planned.as_secs() > 0 => {
            format!("{phase} {elapsed} of {:.0} s", planned.as_secs_f64())
        }
        Some(_) => phase.to_owned(),
        None => format!("{phase} {elapsed} s"),
    };
    let _ = write!(line, " | {} of {} open", sample.clients.open, progress.clients);
    if progress.failed > 0 {
        let _ = write!(line, ", {} failed", progress.failed);
    }
    if progress.sent > 0 {
        let [due, sent] =
            [sample.offered_rate(), sample.sent_rate()].map(|rate| Unit::PerSecond.format(rate));
        let _ = write!(line, " | due {due}, sent {sent}");
    }
    if let Some((p50, p99)) = progress.latency {
        let [p50, p99] = [p50, p99].map(|time| Unit::Microseconds.format(time.as_secs_f64() * 1e6));
        let _ = write!(line, " | p50 {p50} p99 {p99}");
    }
    if let Some(server) = &sample.server {
        let _ = write!(line, " | server {:.0} % CPU", server.cpu_share * 100.0);
        if let Some(bytes) = server.pss_bytes {
            let _ = write!(line, ", {}", Unit::Bytes.format(bytes as f64));
        }
    }
    let _ = write!(line, " | generator {:.0} % CPU", sample.generator.busiest_thread * 100.0);
    line
}

#[cfg(test)]
mod tests {
    use webscale_load::bench::timeline::{ClientCounts, ServerSample};

    use super::*;

    fn progress() -> Progress {
        Progress {
            phase: Phase::Measuring,
            elapsed: Duration::from_secs(12),
            planned: Some(Duration::from_millis(29_990)),
            clients: 100,
            failed: 2,
            sent: 1400,
            latency: Some((Duration::from_micros(250), Duration::from_micros(1234))),
            sample: Sample {
                length_seconds: 0.5,
                offered: 60,
                sent: 50,
                clients: ClientCounts { open: 98, ..ClientCounts::default() },
                server: Some(ServerSample { cpu_share: 0.25, ..ServerSample::default() }),
                ..Sample::default()
            },
        }
    }

    #[test]
    fn a_line_says_what_is_known() {
        let expected = "measuring 12 of 30 s | 98 of 100 open, 2 failed | due 120/s, sent 100/s \
                        | p50 250 µs p99 1.23 ms | server 25 % CPU | generator 0 % CPU";
        assert_eq!(line(&progress()), expected);
    }

    #[test]
    fn a_line_leaves_out_what_is_not() {
        let nothing = Progress {
            phase: Phase::Connecting,
            planned: None,
            failed: 0,
            sent: 0,
            latency: None,
            sample: Sample { server: None, ..progress().sample },
            ..progress()
        };
        assert_eq!(line(&nothing), "connecting 12 s | 98 of 100 open | generator 0 % CPU");
        let moment = Progress { phase: Phase::Resting, planned: Some(Duration::from_millis(200)), ..nothing };
        assert!(line(&moment).starts_with("resting | 98"));
    }

    #[test]
    fn what_happens_between_two_lines_stands_in_the_next() {
        let (mut plain, begun) = (Plain::default(), Instant::now());
        assert!(plain.line(&progress(), begun).is_some());
        let mut bad = progress();
        bad.sample.generator.saturated = true;
        bad.sample.errors.insert("closed: 1006\x1b[2J".into(), 2);
        assert_eq!(plain.line(&bad, begun + EVERY / 2), None);
        let line = plain.line(&progress(), begun + EVERY).unwrap();
        assert!(line.ends_with(" | errors: 2 closed: 1006[2J | generator SATURATED"), "{line:?}");
        let line = plain.line(&progress(), begun + EVERY * 2).unwrap();
        assert!(line.contains("errors: 2") && !line.contains("SATURATED"), "{line}");
        let next = Progress { phase: Phase::Draining, ..progress() };
        assert!(plain.line(&next, begun + EVERY * 2).is_some());
    }
}
