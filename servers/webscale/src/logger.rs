//! The library's log on stderr, a line each: `warn: loop-0 goes on; it was stuck for 6.2 s`.
//!
//! A thread of its own writes, from the first line on. Who does not read stderr holds no client up: then lines are lost.

use std::io::{Write, stderr};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use log::{LevelFilter, Log, Metadata, Record};

/// Lines that wait to be written.
const LINES: usize = 64;
/// How long the end of a program waits for the last ones.
const PATIENCE: Duration = Duration::from_secs(1);

enum Entry {
    Line(String),
    /// All that came before is to be written; then this is dropped.
    Flush(#[expect(dead_code, reason = "its end is the message")] SyncSender<()>),
}

struct Lines(OnceLock<SyncSender<Entry>>);

static LINES_TO_STDERR: Lines = Lines(OnceLock::new());

/// Shows what the library logs, from `info` on, and has it log the panics of handlers. Once in a program.
pub fn install() {
    // Somebody else's logger does it then.
    if log::set_logger(&LINES_TO_STDERR).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
    webscale::log_panics();
}

/// Waits until all lines are written, for a second at most.
pub fn flush() {
    log::logger().flush();
}

impl Lines {
    fn start() -> SyncSender<Entry> {
        let (lines, queue) = sync_channel(LINES);
        // Without a thread there is no log; the server is worth more.
        let _ = thread::Builder::new().name("log".into()).spawn(move || write(&queue));
        lines
    }
}

fn write(queue: &Receiver<Entry>) {
    for entry in queue {
        if let Entry::Line(line) = entry {
            // At once, as siblings may write there too. Nobody may read it any more.
            let _ = stderr().write_all(line.as_bytes());
        }
    }
}

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= LevelFilter::Info
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = record.level().as_str().to_ascii_lowercase();
            let _ = self
                .0
                .get_or_init(Self::start)
                .try_send(Entry::Line(format!("{level}: {}\n", record.args())));
        }
    }

    fn flush(&self) {
        if let Some(lines) = self.0.get() {
            let _ = ask_to_flush(lines.clone()).recv_timeout(PATIENCE);
        }
    }
}

/// What is told once all lines are written that wait now.
fn ask_to_flush(lines: SyncSender<Entry>) -> Receiver<()> {
    let (done, is_done) = sync_channel(0);
    // Lines may wait for a reader of stderr, and this one behind them.
    let _ = thread::Builder::new().name("flush".into()).spawn(move || lines.send(Entry::Flush(done)));
    is_done
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::RecvTimeoutError;

    use super::*;

    #[test]
    fn the_end_waits_for_all_lines_however_many_there_are() {
        let (lines, queue) = sync_channel(LINES);
        for line in 0..LINES {
            lines.try_send(Entry::Line(line.to_string())).unwrap();
        }
        assert!(lines.try_send(Entry::Line("one more".into())).is_err());
        let is_done = ask_to_flush(lines);
        assert_eq!(is_done.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
        let written = queue.iter().take_while(|entry| matches!(entry, Entry::Line(_))).count();
        assert_eq!(written, LINES);
        assert!(is_done.recv().is_err());
    }
}
