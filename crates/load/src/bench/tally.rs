//! What one event loop's clients have counted.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use webscale::CloseCause;

use super::outcome::Failure;
use super::waiting::Sent;
use crate::histogram::{Latency, Times};

/// Counters and histograms of one event loop. The loop's thread writes them, the conductor reads them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) counts: Counts,
    pub(crate) handshakes: Times,
    pub(crate) latency: Latency,
    pub(crate) lag: Times,
    pub(crate) failed: BTreeMap<Cow<'static, str>, Failure>,
    pub(crate) disconnected: BTreeMap<u16, Failure>,
    /// Where messages are put together; its content means nothing between two messages.
    #[serde(skip)]
    pub(crate) scratch: Vec<u8>,
}

/// Counters; where not said otherwise, of messages that were due in the measured part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) opened: u32,
    pub(crate) sent: u64,
    pub(crate) refused: u64,
    pub(crate) awaited: u64,
    pub(crate) answered: u64,
    pub(crate) unanswered: u64,
    pub(crate) reordered: u64,
    pub(crate) corrupt: u64,
    /// Warm-up included.
    pub(crate) sent_in_all: u64,
    /// Answers that are still to come, warm-up included.
    pub(crate) waiting: u64,
}

impl Tally {
    /// Adds what another loop counted.
    pub(crate) fn add(&mut self, other: &Tally) {
        self.counts.add(&other.counts);
        self.handshakes.add(&other.handshakes);
        self.latency.add(&other.latency);
        self.lag.add(&other.lag);
        for (kind, failure) in &other.failed {
            count(&mut self.failed, kind.clone(), failure.count, || failure.example.clone());
        }
        for (code, failure) in &other.disconnected {
            count(&mut self.disconnected, *code, failure.count, || failure.example.clone());
        }
    }

    /// A message went out; `measured` says whether it was due in the measured part.
    pub(crate) fn sent(&mut self, sent: &Sent, measured: bool) {
        self.counts.sent_in_all += 1;
        if measured {
            self.counts.sent += 1;
            self.lag.record(sent.at.saturating_sub(sent.due));
        }
    }

    /// An answer is expected.
    pub(crate) fn awaits(&mut self, measured: bool) {
        self.counts.waiting += 1;
        self.counts.awaited += u64::from(measured);
    }

    /// The answer to `sent` came at `now`.
    pub(crate) fn answered(&mut self, sent: &Sent, now: Duration, measured: bool) {
        self.counts.waiting -= 1;
        if measured {
            self.counts.answered += 1;
            self.latency.record(sent.due, sent.at, now);
        }
    }

    /// No answer to `sent` will come any more; it has waited until `now`, at least.
    pub(crate) fn unanswered(&mut self, sent: &Sent, now: Duration, measured: bool) {
        self.counts.waiting -= 1;
        if measured {
            self.counts.unanswered += 1;
            self.latency.corrected.record(now.saturating_sub(sent.due));
        }
    }

    /// A connection could not be opened.
    pub(crate) fn failed(&mut self, cause: &CloseCause) {
        count(&mut self.failed, failure_kind(cause).into(), 1, || cause.to_string());
    }

    /// A connection ended while it was needed.
    pub(crate) fn disconnected(&mut self, close: &webscale::Close) {
        count(&mut self.disconnected, close.code.get(), 1, || close.to_string());
    }
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Counts) {
        self.opened += other.opened;
        self.sent += other.sent;
        self.refused += other.refused;
        self.awaited += other.awaited;
        self.answered += other.answered;
        self.unanswered += other.unanswered;
        self.reordered += other.reordered;
        self.corrupt += other.corrupt;
        self.sent_in_all += other.sent_in_all;
        self.waiting += other.waiting;
    }
}

fn count<K: Ord>(failures: &mut BTreeMap<K, Failure>, key: K, more: u64, example: impl FnOnce() -> String) {
    failures.entry(key).or_insert_with(|| Failure { count: 0, example: example() }).count += more;
}

/// The kinds of failure that a person would treat differently.
fn failure_kind(cause: &CloseCause) -> &'static str {
    match cause {
        CloseCause::Connect(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => "refused",
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => "no local port",
            io::ErrorKind::TimedOut => "timeout",
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
            _ => "connect",
        },
        CloseCause::Tls(_) => "tls",
        CloseCause::Upgrade(_) => "upgrade",
        CloseCause::Timeout(_) => "timeout",
        CloseCause::Lost(_) => "lost",
        _ => "other",
    }
}

/// What a person can do about a kind of failure that met every client.
pub(crate) fn advice(kind: &str, url: &str) -> String {
    let secure = url.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("wss:"));
    let advice = match kind {
        "refused" => "is the server running there?",
        "no local port" => "is the --source an address of this machine, and has it ports left?",
        "tls" => {
            "a server without TLS is reached by ws://, and --ca names the CA of a certificate that is checked"
        }
        "upgrade" => "is this the URL of a WebSocket, with the right path?",
        "lost" if !secure => "a server with TLS is reached by wss://",
        "unreachable" | "timeout" => "is the address right, and no firewall between?",
        _ => return String::new(),
    };
    format!("; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const SENT: Sent = Sent { number: 0, due: ms(10), at: ms(12) };

    #[test]
    fn only_the_measured_part_counts() {
        let mut tally = Tally::default();
        for measured in [false, true] {
            tally.sent(&SENT, measured);
            tally.awaits(measured);
            tally.answered(&SENT, ms(15), measured);
        }
        let expected = Counts { sent: 1, awaited: 1, answered: 1, sent_in_all: 2, ..Counts::default() };
        assert_eq!(tally.counts, expected);
        assert_eq!((tally.lag.count(), tally.latency.corrected.count()), (1, 1));
    }

    #[test]
    fn an_unanswered_message_is_slow_not_forgotten() {
        let mut tally = Tally::default();
        tally.awaits(true);
        tally.unanswered(&SENT, ms(5_010), true);
        assert!(tally.latency.corrected.quantile(0.5) >= ms(4_990));
        assert_eq!(tally.latency.uncorrected.count(), 0);
        assert_eq!((tally.counts.unanswered, tally.counts.waiting), (1, 0));
    }

    #[test]
    fn failures_are_told_apart_and_added() {
        let refused = || CloseCause::Connect(io::ErrorKind::ConnectionRefused.into());
        let (mut one, mut other) = (Tally::default(), Tally::default());
        one.failed(&refused());
        other.failed(&refused());
        other.failed(&CloseCause::Upgrade("HTTP status 404".into()));
        one.add(&other);
        assert_eq!(one.failed["refused"].count, 2);
        assert_eq!((one.failed["upgrade"].count, one.failed.len()), (1, 2));
        assert!(one.failed["upgrade"].example.contains("404"));
    }

    #[test]
    fn another_process_reads_the_same() {
        let mut tally = Tally::default();
        tally.sent(&SENT, true);
        tally.awaits(true);
        tally.answered(&SENT, ms(15), true);
        tally.handshakes.record(ms(3));
        tally.failed(&CloseCause::Upgrade("HTTP status 404".into()));
        let text = serde_json::to_string(&tally).unwrap();
        let read: Tally = serde_json::from_str(&text).unwrap();
        assert_eq!((read.counts, &read.failed), (tally.counts, &tally.failed));
        let summaries = |tally: &Tally| {
            [&tally.handshakes, &tally.latency.corrected, &tally.latency.uncorrected, &tally.lag]
                .map(Times::summary)
        };
        assert_eq!(summaries(&read), summaries(&tally));
    }
}
