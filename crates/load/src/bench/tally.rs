//! What one event loop's clients have counted.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use webscale::{CloseCause, HandshakeError, ResponseError};

use super::compressed::Compressed;
use super::outcome::Failure;
use super::plan::Plan;
use super::waiting::Sent;
use crate::histogram::{Latency, Times};

/// What one event loop's clients counted since it was last collected. The loop's thread writes it; each second it is
/// exchanged for an empty one and added to the rest, so that nothing is recorded twice, and memory is taken only once.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Clients that were connected.
    pub(crate) opened: u32,
    /// Connections of clients that had lost one.
    pub(crate) reconnected: u32,
    /// TLS handshakes that resumed a session, once the load is over.
    pub(crate) resumed: u64,
    /// What crossed the wire compressed, once the load is over.
    pub(crate) compressed: Compressed,
    pub(crate) handshakes: Times,
    pub(crate) failed: BTreeMap<Cow<'static, str>, Failure>,
    pub(crate) disconnected: BTreeMap<u16, Failure>,
    pub(crate) warmup: Part,
    pub(crate) measured: Part,
    /// Where messages are put together; its content means nothing between two messages.
    #[serde(skip)]
    pub(crate) scratch: String,
}

/// The messages that were due in one part of the load.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) counts: Counts,
    pub(crate) latency: Latency,
    pub(crate) lag: Times,
}

/// Messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    /// Of the payload of those sent.
    pub(crate) bytes: u64,
    pub(crate) refused: u64,
    pub(crate) awaited: u64,
    pub(crate) answered: u64,
    pub(crate) unanswered: u64,
    pub(crate) reordered: u64,
    pub(crate) corrupt: u64,
}

impl Tally {
    /// Adds what another loop counted, or what this one counted later.
    pub(crate) fn add(&mut self, other: &Tally) {
        self.opened += other.opened;
        self.reconnected += other.reconnected;
        self.resumed += other.resumed;
        self.compressed.add(other.compressed);
        self.handshakes.add(&other.handshakes);
        self.warmup.add(&other.warmup);
        self.measured.add(&other.measured);
        for (kind, failure) in &other.failed {
            count(&mut self.failed, kind.clone(), failure.count, || failure.example.clone());
        }
        for (code, failure) in &other.disconnected {
            count(&mut self.disconnected, *code, failure.count, || failure.example.clone());
        }
    }

    /// Forgets everything; the memory stays.
    pub(crate) fn reset(&mut self) {
        // Each by its name: one that were left out would be counted again.
        let Tally {
            opened,
            reconnected,
            resumed,
            compressed,
            handshakes,
            failed,
            disconnected,
            warmup,
            measured,
            scratch: _,
        } = self;
        (*opened, *reconnected, *resumed, *compressed) = Default::default();
        handshakes.reset();
        failed.clear();
        disconnected.clear();
        warmup.reset();
        measured.reset();
    }

    /// The part that a message belongs to, by when it was due.
    pub(crate) fn part(&mut self, measured: bool) -> &mut Part {
        if measured { &mut self.measured } else { &mut self.warmup }
    }

    /// Messages of both parts.
    pub(crate) fn counts(&self) -> Counts {
        let mut sum = self.warmup.counts;
        sum.add(&self.measured.counts);
        sum
    }

    /// Connections that could not be opened.
    pub(crate) fn failed_count(&self) -> u64 {
        self.failed.values().map(|failure| failure.count).sum()
    }

    /// Connections that ended while they were needed.
    pub(crate) fn disconnected_count(&self) -> u64 {
        self.disconnected.values().map(|failure| failure.count).sum()
    }

    /// A connection could not be opened.
    pub(crate) fn failed(&mut self, cause: &CloseCause) {
        count(&mut self.failed, failure_kind(cause), 1, || cause.to_string());
    }

    /// A connection ended while it was needed.
    pub(crate) fn disconnected(&mut self, close: &webscale::Close) {
        count(&mut self.disconnected, close.code.get(), 1, || close.to_string());
    }
}

impl Part {
    fn add(&mut self, other: &Part) {
        self.counts.add(&other.counts);
        self.latency.add(&other.latency);
        self.lag.add(&other.lag);
    }

    fn reset(&mut self) {
        let Part { counts, latency, lag } = self;
        *counts = Counts::default();
        latency.reset();
        lag.reset();
    }

    /// A message with so many bytes went out.
    pub(crate) fn sent(&mut self, sent: &Sent, bytes: usize) {
        self.counts.sent += 1;
        self.counts.bytes += bytes as u64;
        self.lag.record(sent.at.saturating_sub(sent.due));
    }

    /// The answer to `sent` came at `now`.
    pub(crate) fn answered(&mut self, sent: &Sent, now: Duration) {
        self.counts.answered += 1;
        self.latency.record(sent.due, sent.at, now);
    }

    /// No answer to `sent` will come any more; it has waited until `now`, at least. That is timed if it is no
    /// less than is `usual`.
    pub(crate) fn unanswered(&mut self, sent: &Sent, now: Duration, usual: Duration) {
        self.counts.unanswered += 1;
        let waited = now.saturating_sub(sent.due);
        if waited >= usual {
            self.latency.corrected.record(waited);
        }
    }
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Counts) {
        self.sent += other.sent;
        self.bytes += other.bytes;
        self.refused += other.refused;
        self.awaited += other.awaited;
        self.answered += other.answered;
        self.unanswered += other.unanswered;
        self.reordered += other.reordered;
        self.corrupt += other.corrupt;
    }

    /// Messages that became due, whatever became of them.
    pub(crate) fn offered(&self) -> u64 {
        self.sent + self.refused
    }

    /// Answers that are still to come. Only the sum over all collections since the start knows.
    pub(crate) fn waiting(&self) -> u64 {
        self.awaited.saturating_sub(self.answered + self.unanswered)
    }
}

fn count<K: Ord>(failures: &mut BTreeMap<K, Failure>, key: K, more: u64, example: impl FnOnce() -> String) {
    failures.entry(key).or_insert_with(|| Failure { count: 0, example: example() }).count += more;
}

/// The kinds of failure that a person would treat differently.
fn failure_kind(cause: &CloseCause) -> Cow<'static, str> {
    let kind = match cause {
        CloseCause::Connect(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => "refused",
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => "no local port",
            io::ErrorKind::TimedOut => "timeout",
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
            _ => "connect",
        },
        CloseCause::Tls(_) => "tls",
        CloseCause::Upgrade(HandshakeError::Response(ResponseError::Status(status))) => {
            return format!("HTTP {status}").into();
        }
        CloseCause::Upgrade(_) => "upgrade",
        CloseCause::Timeout(_) => "timeout",
        CloseCause::Lost(_) => "lost",
        _ => "other",
    };
    kind.into()
}

/// What a person can do about a kind of failure that met every client, of which the first one said this.
pub(crate) fn advice(kind: &str, said: &str, plan: &Plan) -> String {
    let secure = plan.is_secure();
    let advice = match kind {
        "refused" => "is the server running there?",
        "no local port" => "is the --source an address of this machine, and has it ports left?",
        "tls" if said.contains("certificate") => {
            "--ca names the CA of a certificate that is checked, and --sni the name that it bears"
        }
        "tls" if said.contains("alert: Certificate") || said.contains("alert: BadCertificate") => {
            "does it ask for a certificate? --client-cert and --client-key show one"
        }
        "tls" if said.contains("alert: ProtocolVersion") => "--tls-version asks for the other one",
        // Whoever sends alerts speaks TLS.
        "tls" if said.contains("alert: ") => return String::new(),
        "tls" => "a server without TLS is reached by ws://",
        "HTTP 400" if !secure => {
            "is this the URL of a WebSocket, with the right path? A server with TLS is reached by wss://"
        }
        "HTTP 401" | "HTTP 403" => "--bearer, --basic or --header say who asks, and --origin from which page",
        "HTTP 429" | "HTTP 503" => "it takes no more: try fewer clients, or a slower --ramp",
        "HTTP 502" | "HTTP 504" => "a proxy does not reach the server behind it",
        kind if kind.starts_with("HTTP 3") => "it redirects: give the URL to which it does",
        kind if kind == "upgrade" || kind.starts_with("HTTP ") => {
            "is this the URL of a WebSocket, with the right path? A proxy in front has to pass Upgrade on"
        }
        "lost" if !secure => "a server with TLS is reached by wss://",
        "lost" => "does the server ask for a certificate? --client-cert and --client-key show one",
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

    fn refused(error: ResponseError) -> CloseCause {
        CloseCause::Upgrade(HandshakeError::Response(error))
    }

    const SENT: Sent = Sent { number: 0, due: ms(10), at: ms(12) };

    #[test]
    fn warm_up_and_measured_part_are_counted_apart() {
        let mut tally = Tally::default();
        for measured in [false, true] {
            let part = tally.part(measured);
            part.sent(&SENT, 7);
            part.counts.awaited += 1;
            part.answered(&SENT, ms(15));
        }
        let expected = Counts { sent: 1, bytes: 7, awaited: 1, answered: 1, ..Counts::default() };
        assert_eq!((tally.measured.counts, tally.counts().sent), (expected, 2));
        assert_eq!((tally.measured.lag.count(), tally.measured.latency.corrected.count()), (1, 1));
    }

    #[test]
    fn an_unanswered_message_is_slow_not_forgotten() {
        let mut part = Part::default();
        part.counts.awaited += 1;
        assert_eq!(part.counts.waiting(), 1);
        part.unanswered(&SENT, ms(5_010), ms(4_000));
        assert!(part.latency.corrected.quantile(0.5) >= ms(4_990));
        assert_eq!(part.latency.uncorrected.count(), 0);
        assert_eq!((part.counts.unanswered, part.counts.waiting()), (1, 0));
        // Who was not waited for long enough tells nothing.
        part.unanswered(&SENT, ms(30), ms(4_000));
        assert_eq!((part.counts.unanswered, part.latency.corrected.count()), (2, 1));
    }

    #[test]
    fn nothing_is_left_of_what_was_collected() {
        let mut tally = Tally { opened: 3, reconnected: 1, resumed: 2, ..Tally::default() };
        tally.handshakes.record(ms(3));
        tally.failed(&refused(ResponseError::Status(404)));
        tally.disconnected.insert(1006, Failure { count: 1, example: "lost".into() });
        for measured in [false, true] {
            let part = tally.part(measured);
            part.sent(&SENT, 7);
            part.answered(&SENT, ms(15));
        }
        tally.reset();
        let text = |tally: &Tally| serde_json::to_string(tally).unwrap();
        assert_eq!(text(&tally), text(&Tally::default()));
    }

    #[test]
    fn failures_are_told_apart_and_added() {
        let no_one = || CloseCause::Connect(io::ErrorKind::ConnectionRefused.into());
        let (mut one, mut other) = (Tally::default(), Tally::default());
        one.failed(&no_one());
        other.failed(&no_one());
        other.failed(&refused(ResponseError::Status(404)));
        other.failed(&refused(ResponseError::Accept));
        one.add(&other);
        assert_eq!(one.failed["refused"].count, 2);
        assert_eq!((one.failed["HTTP 404"].count, one.failed["upgrade"].count, one.failed.len()), (1, 1, 3));
        assert!(one.failed["HTTP 404"].example.contains("404"));
    }

    #[test]
    fn advice_is_for_the_kind_of_failure() {
        let (plain, secure) = (Plan::new("ws://h/"), Plan::new("wss://h/"));
        let said = |said| advice("tls", said, &secure);
        assert!(said("invalid peer certificate: UnknownIssuer").contains("--ca"));
        assert!(said("received corrupt message").contains("ws://"));
        assert!(said("received fatal alert: CertificateRequired").contains("--client-cert"));
        assert!(said("received fatal alert: ProtocolVersion").contains("--tls-version"));
        assert_eq!(said("received fatal alert: InternalError"), "");
        assert!(advice("lost", "", &secure).contains("--client-cert"));
        for (kind, words) in [
            ("HTTP 401", "--bearer"),
            ("HTTP 302", "redirects"),
            ("HTTP 503", "--ramp"),
            ("HTTP 502", "proxy"),
            ("HTTP 400", "wss://"),
            ("HTTP 404", "Upgrade"),
            ("upgrade", "the right path"),
            ("lost", "wss://"),
        ] {
            assert!(advice(kind, "", &plain).contains(words), "{kind}");
        }
        assert_eq!(advice("other", "", &plain), "");
    }

    #[test]
    fn another_process_reads_the_same() {
        let mut tally = Tally::default();
        tally.measured.sent(&SENT, 7);
        tally.measured.answered(&SENT, ms(15));
        tally.measured.lag.record(Duration::ZERO);
        tally.measured.latency.corrected.record(Duration::MAX);
        tally.handshakes.record(ms(3));
        tally.failed(&refused(ResponseError::Status(404)));
        let text = serde_json::to_string(&tally).unwrap();
        let read: Tally = serde_json::from_str(&text).unwrap();
        assert_eq!((read.counts(), &read.failed), (tally.counts(), &tally.failed));
        let summaries = |tally: &Tally| {
            let Part { latency, lag, .. } = &tally.measured;
            [&tally.handshakes, &latency.corrected, &latency.uncorrected, lag].map(Times::summary)
        };
        assert_eq!(summaries(&read), summaries(&tally));
    }
}
