//! Progress on stderr: a block that is drawn in place where a person looks on, plain lines otherwise.

use std::env;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use webscale_load::observe::{Observer, Phase, Progress};

use crate::live::Live;

/// Where stderr is no terminal, progress is written this often, and when a phase begins.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// Writes progress, and passes on that the user wants to stop.
pub(crate) struct Stderr {
    /// Where stderr is a terminal that can move its cursor.
    live: Option<Live>,
    /// How often progress is written where it is not live; never if none.
    plain_every: Option<Duration>,
    last_plain: Option<(Phase, Instant)>,
    interrupted: Arc<AtomicBool>,
}

impl Stderr {
    /// For one load: where stderr is no terminal, its progress is written now and then.
    pub(crate) fn new() -> io::Result<Stderr> {
        Stderr::with_plain_progress(Some(PLAIN_EVERY))
    }

    /// For many short loads: where stderr is no terminal, the notes alone are written.
    pub(crate) fn with_notes_alone() -> io::Result<Stderr> {
        Stderr::with_plain_progress(None)
    }

    /// Also takes over SIGINT, SIGTERM and SIGHUP: the first asks to stop, the second ends the process. SIGHUP stays ignored
    /// where it was (nohup(1)).
    fn with_plain_progress(plain_every: Option<Duration>) -> io::Result<Stderr> {
        let interrupted = Arc::new(AtomicBool::new(false));
        let hang_up = (!is_ignored(SIGHUP)).then_some(SIGHUP);
        for signal in [SIGINT, SIGTERM].into_iter().chain(hang_up) {
            // In this order: the second signal finds the flag set.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&interrupted))?;
            signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
        }
        let dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
        let colours = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let live = (io::stderr().is_terminal() && !dumb).then(|| Live::new(colours));
        Ok(Stderr { live, plain_every, last_plain: None, interrupted })
    }

    /// Leaves what the last second showed, so that what follows stands below it.
    pub(crate) fn finish(&mut self) {
        if let Some(live) = &mut self.live {
            live.leave();
        }
    }
}

/// Whether this process was started with a signal ignored (proc(5), `SigIgn`).
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & 1 << (signal - 1) != 0
}

fn write(text: &str) {
    // Who closed stderr does not want to know.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Columns of the terminal; asked each time, because it may change.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stderr());
    size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(80)
}

impl Observer for Stderr {
    fn note(&mut self, text: &str) {
        let erased = self.live.as_mut().map_or_else(String::new, |live| live.erase(columns()));
        write(&format!("{erased}{text}\n"));
    }

    fn progress(&mut self, progress: &Progress) {
        if let Some(live) = &mut self.live {
            write(&live.draw(progress, columns()));
        } else if let Some(every) = self.plain_every
            && self.last_plain.is_none_or(|(phase, at)| phase != progress.phase || at.elapsed() >= every)
        {
            self.last_plain = Some((progress.phase, Instant::now()));
            write(&format!("{}\n", line(progress)));
        }
    }

    fn stopped(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

fn line(progress: &Progress) -> String {
    let phase = progress.phase.name();
    let elapsed = progress.elapsed.as_secs();
    let mut line = match progress.planned {
        // Rounded: a phase begins a little after its plan.
        Some(planned) => format!("{phase} {elapsed} of {:.0} s", planned.as_secs_f64()),
        None => format!("{phase} {elapsed} s"),
    };
    line += &format!(" | {} of {} open", progress.sample.clients.open, progress.clients);
    if progress.failed > 0 {
        line += &format!(", {} failed", progress.failed);
    }
    if progress.sent > 0 {
        line += &format!(" | {:.0} messages/s", progress.sample.sent_rate());
    }
    if let Some((p50, p99)) = progress.latency {
        line += &format!(" | p50 {} p99 {}", milliseconds(p50), milliseconds(p99));
    }
    if let Some(server) = &progress.sample.server {
        line += &format!(" | server {:.0} % CPU", server.cpu_share * 100.0);
        if let Some(bytes) = server.pss_bytes {
            line += &format!(", {:.1} MB", bytes as f64 / 1e6);
        }
    }
    line
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use webscale_load::bench::timeline::{ClientCounts, Sample, ServerSample};

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
                sent: 50,
                clients: ClientCounts { open: 98, ..ClientCounts::default() },
                server: Some(ServerSample { cpu_share: 0.25, ..ServerSample::default() }),
                ..Sample::default()
            },
        }
    }

    #[test]
    fn a_line_says_what_is_known() {
        let expected = "measuring 12 of 30 s | 98 of 100 open, 2 failed | 100 messages/s | p50 0.25 ms p99 1.23 ms \
                        | server 25 % CPU";
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
        assert_eq!(line(&nothing), "connecting 12 s | 98 of 100 open");
    }
}
