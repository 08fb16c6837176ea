//! What a server prints on stdout, for people and for the harness that reconciles its counts.

use std::{
    fmt,
    io::{self, Write},
    net::SocketAddr,
    sync::{
        Once,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::Mode;

/// The reason of a close frame with code 1003.
pub const BINARY_REFUSED: &str = "telemetry is sent as text";

/// What a server has done so far; shared by its threads.
#[derive(Debug, Default)]
pub struct Counters {
    messages: AtomicU64,
    failed: AtomicU64,
    connections: AtomicU64,
}

impl Counters {
    /// All at zero.
    #[must_use]
    pub const fn new() -> Self {
        Self { messages: AtomicU64::new(0), failed: AtomicU64::new(0), connections: AtomicU64::new(0) }
    }

    /// A message was deserialised, or its echo handed over to be sent.
    pub fn message(&self) {
        self.messages.fetch_add(1, Relaxed);
    }

    /// A message did not fit the struct, or was binary where text was due.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    /// A client has finished its opening handshake.
    pub fn connection(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    /// The counts at this moment.
    #[must_use]
    pub fn counts(&self, mode: Mode) -> Counts {
        Counts {
            mode,
            messages: self.messages.load(Relaxed),
            failed: self.failed.load(Relaxed),
            connections: self.connections.load(Relaxed),
        }
    }
}

/// What a server has done, as one line: `parsed 12 messages, 0 failed, 3 connections` (`echoed …` when echoing).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// What was done with the messages.
    pub mode: Mode,
    /// Messages deserialised or echoed.
    pub messages: u64,
    /// Messages that could not be.
    pub failed: u64,
    /// Opening handshakes finished.
    pub connections: u64,
}

impl Counts {
    /// Reads the line that [`Display`](fmt::Display) writes; none for any other line.
    #[must_use]
    pub fn from_line(line: &str) -> Option<Self> {
        let (verb, rest) = line.trim_end().split_once(' ')?;
        let mode = [Mode::Ingest, Mode::Echo].into_iter().find(|mode| mode.verb() == verb)?;
        let (messages, rest) = rest.split_once(" messages, ")?;
        let (failed, rest) = rest.split_once(" failed, ")?;
        let connections = rest.strip_suffix(" connections")?;
        Some(Self {
            mode,
            messages: messages.parse().ok()?,
            failed: failed.parse().ok()?,
            connections: connections.parse().ok()?,
        })
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mode, messages, failed, connections } = self;
        write!(f, "{} {messages} messages, {failed} failed, {connections} connections", mode.verb())
    }
}

const LISTENING: &str = "listening on ";

/// Prints `listening on wss://ADDR`, or `ws://` for a plain server. Call it when clients are accepted.
pub fn listening(address: SocketAddr, tls: bool) {
    let scheme = if tls { "wss" } else { "ws" };
    line(format_args!("{LISTENING}{scheme}://{address}"));
}

/// The URL in the line that [`listening`] prints; none for any other line.
#[must_use]
pub fn listening_url(line: &str) -> Option<&str> {
    line.trim_end().strip_prefix(LISTENING)
}

/// Prints the line of the counts.
pub fn counts(counts: &Counts) {
    line(format_args!("{counts}"));
}

/// Says on stderr that no client can be accepted at the moment; once, however often it happens.
pub fn exhausted(error: &io::Error) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        let _ = writeln!(
            io::stderr(),
            "clients wait to be accepted: {error} (raise the limit, such as ulimit -n)"
        );
    });
}

/// A reader who has gone away is no reason to stop serving, so a failure is let go.
fn line(text: fmt::Arguments<'_>) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_read_back() {
        for mode in [Mode::Ingest, Mode::Echo] {
            let counters = Counters::new();
            counters.connection();
            counters.message();
            counters.message();
            counters.failed();
            let counts = counters.counts(mode);
            assert_eq!(counts, Counts { mode, messages: 2, failed: 1, connections: 1 });
            assert_eq!(Counts::from_line(&counts.to_string()), Some(counts));
        }
        let counts = Counts { mode: Mode::Ingest, messages: 12, failed: 0, connections: 3 };
        assert_eq!(counts.to_string(), "parsed 12 messages, 0 failed, 3 connections");
    }

    #[test]
    fn other_lines_are_none() {
        for line in [
            "",
            "parsed",
            "listening on ws://127.0.0.1:9001",
            "parsed 1 messages, 0 failed",
            "parsed -1 messages, 0 failed, 0 connections",
            "held 1 messages, 0 failed, 0 connections",
        ] {
            assert_eq!(Counts::from_line(line), None, "{line}");
        }
    }
}
