//! Progress on stderr: a block that is drawn in place where a person looks on, plain lines otherwise.

use std::env;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use webscale_load::observe::{Observer, Progress};
use webscale_load::table::wrap_at;

use crate::live::{Live, Terminal};
use crate::plain::Plain;

/// How progress is shown. Notes are written in any case.
enum View {
    /// On a terminal that can move its cursor.
    Live(Live),
    /// Elsewhere.
    Plain(Plain),
    /// Elsewhere, of many short loads.
    Notes,
}

/// Writes progress, and passes on that the user wants to stop.
pub(crate) struct Stderr {
    view: View,
    interrupted: Arc<AtomicBool>,
}

impl Stderr {
    /// For one load: where stderr is no terminal, its progress is written now and then.
    pub(crate) fn new() -> io::Result<Stderr> {
        Stderr::with_view(View::Plain(Plain::default()))
    }

    /// For many short loads: where stderr is no terminal, the notes alone are written.
    pub(crate) fn with_notes_alone() -> io::Result<Stderr> {
        Stderr::with_view(View::Notes)
    }

    /// Also takes over SIGINT, SIGTERM and SIGHUP: the first asks to stop, the second ends the process. SIGHUP stays ignored
    /// where it was (nohup(1)).
    fn with_view(elsewhere: View) -> io::Result<Stderr> {
        let interrupted = Arc::new(AtomicBool::new(false));
        let hang_up = (!is_ignored(SIGHUP)).then_some(SIGHUP);
        for signal in [SIGINT, SIGTERM].into_iter().chain(hang_up) {
            // In this order: the second signal finds the flag set.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&interrupted))?;
            signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
        }
        let dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
        let colours = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let view =
            if io::stderr().is_terminal() && !dumb { View::Live(Live::new(colours)) } else { elsewhere };
        Ok(Stderr { view, interrupted })
    }

    /// Leaves what the last second showed, so that what follows stands below it.
    pub(crate) fn finish(&mut self) {
        if let View::Live(live) = &mut self.view {
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

/// The terminal's size; asked each time, because it may change.
fn terminal() -> Terminal {
    let size = rustix::termios::tcgetwinsize(io::stderr()).ok();
    let or = |known: Option<u16>, usual| known.filter(|known| *known > 0).map_or(usual, usize::from);
    Terminal { columns: or(size.map(|size| size.ws_col), 80), rows: or(size.map(|size| size.ws_row), 24) }
}

impl Observer for Stderr {
    fn note(&mut self, text: &str) {
        // A server may have said it, and anything.
        let text: String = text.chars().filter(|c| !c.is_control() || *c == '\n').collect();
        match &mut self.view {
            View::Live(live) => {
                let terminal = terminal();
                write(&(live.erase(terminal) + &wrap_at(terminal.columns, &text, "  ")));
            }
            View::Plain(_) | View::Notes => write(&format!("{text}\n")),
        }
    }

    fn progress(&mut self, progress: &Progress) {
        match &mut self.view {
            View::Live(live) => write(&live.draw(progress, terminal())),
            View::Plain(plain) => {
                if let Some(line) = plain.line(progress, Instant::now()) {
                    write(&format!("{line}\n"));
                }
            }
            View::Notes => {}
        }
    }

    fn stopped(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}
