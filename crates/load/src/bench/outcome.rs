//! What a load found, and whether it counts.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use super::compressed::Compressed;
use super::counts::Reconciled;
use super::payload::Kind;
use super::plan::{Model, Probe};
use super::provenance::Provenance;
use super::timeline::Sample;
use crate::histogram::Summary;
use crate::measure::kernel::{MachineShare, Sockets};
use crate::measure::process::{Memory, Switches};

/// Other programs that take more than this, in processors, disturb a load.
const DISTURBED_FROM: f64 = 0.2;

/// Everything that a load found.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// What made the load.
    pub provenance: Provenance,
    /// The endpoint, without credentials.
    pub url: String,
    /// How latency was learnt. In JSON the fields `probe` (`ping`, `echo`, `ack`, `sink` or `idle`) and `ack_every`.
    #[serde(flatten, serialize_with = "Probe::serialize_fields")]
    pub probe: Probe,
    /// Of the clients, one in so many was probed.
    pub probe_one_in: u32,
    /// Text or binary.
    pub payload_kind: Kind,
    /// Length of each message, in bytes.
    pub payload_bytes: usize,
    /// What decided when a client sent.
    pub model: Model,
    /// Time between two messages of one client, in seconds; in a closed loop between an answer and the next message.
    pub interval_seconds: f64,
    /// Clients that were due within so long sent together, in seconds; zero for each at its own time.
    pub tick_seconds: f64,
    /// Length of the measured part as it was, by the schedule, in seconds; zero where it was not come to.
    pub measured_seconds: f64,
    /// Connections.
    pub connections: Connections,
    /// Messages of the measured part.
    pub messages: Messages,
    /// What crossed the wire compressed, where permessage-deflate was offered.
    pub compressed: Option<Compressed>,
    /// The whole load as the server counted it, where that is known.
    pub counted: Option<Reconciled>,
    /// In a closed loop, whether the figures fit together.
    pub closed_loop: Option<ClosedLoop>,
    /// Latency of the measured messages; none without answers.
    pub latency_us: Option<LatencySummary>,
    /// The same as a curve, from the median to the slowest.
    pub latency_curve: Vec<CurvePoint>,
    /// Corrected p99 latency above this is a failure, in seconds.
    pub latency_limit_seconds: f64,
    /// How late messages were sent after they were due.
    pub schedule_lag_us: Option<Summary>,
    /// What made the load.
    pub generator: Generator,
    /// The whole machine that made the load, while it was measured.
    pub machine: MachineShare,
    /// What was taken by neither the server's process nor the load, in processors, as far as the kernel's ticks tell;
    /// none where the server's process is not known. Interrupts belong to nobody and are left out.
    pub other_programs: Option<f64>,
    /// The server's processes, where they were named or found.
    pub server: Option<ServerUse>,
    /// Sockets of the machine that made the load, both ends if the server is on it.
    pub kernel: KernelUse,
    /// The whole load, from the first connection on, second by second.
    pub timeline: Vec<Sample>,
    /// Whether all this counts.
    pub verdict: Verdict,
}

impl Outcome {
    /// CPU time of the load for each second of the server's, in the measured part; none without a server that worked to its
    /// end.
    pub(crate) fn generator_to_server(&self) -> Option<f64> {
        let server = self.server.as_ref().filter(|server| server.cpu_us_per_message.is_some())?.cpu_seconds;
        (server > 0.0).then(|| self.generator.cpu_seconds / server)
    }

    /// What was sent a second of the measured part, and its payload in bytes.
    pub fn sent_rates(&self) -> (f64, f64) {
        let Messages { sent, bytes, .. } = self.messages;
        match self.measured_seconds {
            0.0 => (0.0, 0.0),
            seconds => (sent as f64 / seconds, bytes as f64 / seconds),
        }
    }

    /// Connections and messages that failed. Who cuts a load short does not wait for the last answers.
    pub(crate) fn failure_count(&self) -> u64 {
        let Messages { refused, unanswered, lost, reordered, corrupt, .. } = self.messages;
        let unanswered = if self.verdict.is_cut() { 0 } else { unanswered.max(lost) };
        let connections = self.connections.failed_count() + self.connections.disconnected_count();
        connections + refused + unanswered + reordered + corrupt
    }

    /// What was sent: idle clients have nothing but pings.
    pub(crate) fn sent_noun(&self) -> &'static str {
        if self.probe == Probe::Idle { "ping" } else { "message" }
    }

    /// What other programs took, in processors, if that is enough to disturb.
    pub fn disturbed(&self) -> Option<f64> {
        self.other_programs.filter(|processors| *processors > DISTURBED_FROM)
    }
}

/// What became of the connections.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Connections {
    /// Asked for.
    pub clients: u32,
    /// Opening handshakes that succeeded.
    pub opened: u32,
    /// Connections of clients that had lost one.
    pub reconnected: u32,
    /// TLS handshakes that really resumed an earlier session; none where that was not asked for.
    pub resumed: Option<u64>,
    /// Those that did not, by kind.
    pub failed: BTreeMap<Cow<'static, str>, Failure>,
    /// Most that were open at the same time.
    pub peak_open: u32,
    /// Ended while they were needed, by close code.
    pub disconnected: BTreeMap<u16, Failure>,
    /// From the first connect to the last outcome, in seconds.
    pub connect_seconds: f64,
    /// From connect to the end of the opening handshake.
    pub handshake_us: Option<Summary>,
}

impl Connections {
    /// How many could not be opened.
    pub(crate) fn failed_count(&self) -> u64 {
        self.failed.values().map(|failure| failure.count).sum()
    }

    /// How many ended while they were needed.
    pub(crate) fn disconnected_count(&self) -> u64 {
        self.disconnected.values().map(|failure| failure.count).sum()
    }
}

/// Connections that ended in the same way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// How many.
    pub count: u64,
    /// What the first one said.
    pub example: String,
}

/// What became of the messages that were due in the measured part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Messages {
    /// Due by the schedule.
    pub offered: u64,
    /// Handed to the connection.
    pub sent: u64,
    /// Payload of those sent, in bytes, before it was compressed.
    pub bytes: u64,
    /// Refused by the connection, because the server did not read or the connection was ending.
    pub refused: u64,
    /// An answer was expected.
    pub awaited: u64,
    /// The answer came.
    pub answered: u64,
    /// The answer had not come when the load ended.
    pub unanswered: u64,
    /// Echoes that never came, warm-up included, as in the next two.
    pub lost: u64,
    /// Echoes that came after the echo of a later message.
    pub reordered: u64,
    /// Echoes that equal no message that was sent.
    pub corrupt: u64,
    /// Sent in all, warm-up included and pings not: what the server's own count should be.
    pub sent_in_all: u64,
}

/// Little's law: clients = rate × (time until the answer + time to think). It holds of any closed loop, so that where it
/// does not, the generator lost time or answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClosedLoop {
    /// Messages answered, a client.
    pub cycles: f64,
    /// The clients that rate and times come to.
    pub clients_by_littles_law: f64,
    /// The same as a share of the clients that were open.
    pub accounted: f64,
}

/// Latency from two starting points.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LatencySummary {
    /// From when the message was due. Unanswered messages count with the time that they had waited.
    pub corrected: Summary,
    /// From when it was sent.
    pub uncorrected: Option<Summary>,
}

/// One point of the latency curve: the time that the share `quantile` of all messages stays at or below.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CurvePoint {
    /// From 0.0 to 1.0.
    pub quantile: f64,
    /// From when the message was due, in µs.
    pub corrected_us: f64,
    /// From when it was sent, in µs; none where nothing was answered.
    pub uncorrected_us: Option<f64>,
}

/// What the load itself took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Generator {
    /// Processes that held clients.
    pub processes: usize,
    /// Event loops of all of them.
    pub loops: usize,
    /// CPU time of all of them in the measured part, in seconds.
    pub cpu_seconds: f64,
    /// The same as a share of one processor.
    pub cpu_share: f64,
    /// The same a message that was sent in that time, in µs.
    pub cpu_us_per_message: Option<f64>,
    /// The busiest of the threads, as a share of one processor.
    pub busiest_thread: f64,
    /// All of them together, as a share of the processors to which they are pinned; none where they are not.
    pub pinned_share: Option<f64>,
    /// Memory of all of them before the first connection.
    pub memory_idle: Memory,
    /// With all clients connected, none having sent.
    pub memory_connected: Memory,
    /// At the end of the measured part.
    pub memory_loaded: Memory,
    /// PSS that came with connections and load, a client that opened, in bytes.
    pub pss_bytes_per_client: Option<f64>,
}

/// What the server's processes took together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServerUse {
    /// Which ones, also those that ended; of those that they have started, the ones that lived at the end.
    pub pids: Vec<u32>,
    /// Before the first connection.
    pub memory_idle: Memory,
    /// With all clients connected, none having sent.
    pub memory_connected: Memory,
    /// At the end of the measured part.
    pub memory_loaded: Memory,
    /// The greatest PSS that was seen, in bytes.
    pub peak_pss_bytes: u64,
    /// CPU time for connecting, a connection that was opened until all were settled, in µs; none when none was.
    pub handshake_cpu_us: Option<f64>,
    /// CPU time in the measured part, in seconds.
    pub cpu_seconds: f64,
    /// The same as a share of one processor.
    pub cpu_share: f64,
    /// The same a message that was sent in that time, in µs, which is also seconds a million messages.
    pub cpu_us_per_message: Option<f64>,
    /// Threads at the end.
    pub threads: usize,
    /// Descriptors at the end.
    pub descriptors: usize,
    /// Context switches in the measured part.
    pub switches: Switches,
    /// The same a message that was sent in that time.
    pub switches_per_message: Option<f64>,
}

/// Sockets of the machine at three moments.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct KernelUse {
    /// Before the first connection.
    pub idle: Sockets,
    /// With all clients connected, none having sent.
    pub connected: Sockets,
    /// At the end of the measured part.
    pub loaded: Sockets,
    /// Connections that the kernel of this machine dropped while the clients connected, because the backlog of a listener
    /// was full.
    pub listen_overflows: u64,
}

/// Whether the figures count, and whether the server held. Its JSON begins with what it comes to, in one word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why the figures are of the generator and not of the server, if so.
    pub saturated: Option<String>,
    /// What the server did not do, or counted otherwise.
    pub problems: Vec<String>,
    /// The user ended the run early.
    pub interrupted: bool,
    /// Which limit ended the run early, if one did.
    pub stopped: Option<String>,
    /// Which process of the load was lost, and how, if one was. That ended the run; the figures are of what was counted
    /// until then.
    pub broken: Option<String>,
    /// What failed stayed within the share that was allowed, and is no problem.
    pub tolerated: bool,
}

/// A verdict in one word. Of the last three the figures do not count, or are of what was done until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conclusion {
    /// The whole load was made, and borne.
    Held,
    /// The server did not bear it, or a limit ended it early.
    Failed,
    /// The figures are of the load, not of the server.
    Saturated,
    /// A process of the load was lost.
    Broken,
    /// The user ended it early.
    Interrupted,
}

impl Conclusion {
    /// As it stands in files.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Conclusion::Held => "held",
            Conclusion::Failed => "failed",
            Conclusion::Saturated => "saturated",
            Conclusion::Broken => "broken",
            Conclusion::Interrupted => "interrupted",
        }
    }
}

impl Verdict {
    /// What it comes to: the worst wins.
    pub(crate) fn conclusion(&self) -> Conclusion {
        match self {
            _ if self.interrupted => Conclusion::Interrupted,
            Verdict { broken: Some(_), .. } => Conclusion::Broken,
            Verdict { saturated: Some(_), .. } => Conclusion::Saturated,
            Verdict { stopped: Some(_), .. } => Conclusion::Failed,
            _ if !self.problems.is_empty() => Conclusion::Failed,
            _ => Conclusion::Held,
        }
    }

    /// Whether the whole load was made, and held.
    pub fn held(&self) -> bool {
        self.saturated.is_none() && self.problems.is_empty() && !self.is_cut()
    }

    /// Whether it ended before its time.
    pub(super) fn is_cut(&self) -> bool {
        self.interrupted || self.stopped.is_some() || self.broken.is_some()
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let Verdict { saturated, problems, interrupted, stopped, broken, tolerated } = self;
        let mut fields = out.serialize_struct("Verdict", 7)?;
        fields.serialize_field("result", self.conclusion().word())?;
        fields.serialize_field("saturated", saturated)?;
        fields.serialize_field("problems", problems)?;
        fields.serialize_field("interrupted", interrupted)?;
        fields.serialize_field("stopped", stopped)?;
        fields.serialize_field("broken", broken)?;
        fields.serialize_field("tolerated", tolerated)?;
        fields.end()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bench::counts::Pair;
    use crate::bench::timeline::{Points, SampleLatency, ServerSample, ThreadShare};
    use crate::report::documented::{assert_documented, json};

    fn sockets() -> Sockets {
        Sockets { tcp_in_use: 0, tcp_time_wait: 0, buffer_bytes: 0, slab_bytes: None }
    }

    pub(crate) fn summary(p99: f64) -> Summary {
        Summary { count: 9, min: 1.0, mean: 2.0, p50: 2.0, p90: 3.0, p99, p999: p99, p9999: p99, max: p99 }
    }

    /// A load of which everything went well.
    pub(crate) fn good() -> Outcome {
        Outcome {
            provenance: Provenance::default(),
            url: "ws://127.0.0.1:9".into(),
            probe: Probe::Ping,
            probe_one_in: 1,
            payload_kind: Kind::Text,
            payload_bytes: 10_240,
            model: Model::Open,
            interval_seconds: 1.0,
            tick_seconds: 0.0,
            measured_seconds: 10.0,
            connections: Connections { clients: 100, opened: 100, peak_open: 100, ..Connections::default() },
            messages: Messages {
                offered: 1000,
                sent: 1000,
                bytes: 10_240_000,
                awaited: 1000,
                answered: 1000,
                ..Messages::default()
            },
            compressed: None,
            counted: None,
            closed_loop: None,
            latency_us: Some(LatencySummary { corrected: summary(900.0), uncorrected: Some(summary(800.0)) }),
            latency_curve: Vec::new(),
            latency_limit_seconds: 0.1,
            schedule_lag_us: Some(summary(70.0)),
            generator: Generator {
                cpu_seconds: 1.0,
                cpu_share: 0.1,
                busiest_thread: 0.1,
                ..Generator::default()
            },
            machine: MachineShare { busy: 0.2, interrupts: 0.0, stolen: 0.0 },
            other_programs: None,
            server: None,
            kernel: KernelUse {
                idle: sockets(),
                connected: sockets(),
                loaded: sockets(),
                listen_overflows: 0,
            },
            timeline: Vec::new(),
            verdict: Verdict::default(),
        }
    }

    /// A server that did nothing.
    pub(crate) fn idle_server() -> ServerUse {
        ServerUse {
            pids: vec![7],
            memory_idle: Memory::default(),
            memory_connected: Memory::default(),
            memory_loaded: Memory::default(),
            peak_pss_bytes: 0,
            handshake_cpu_us: None,
            cpu_seconds: 0.0,
            cpu_share: 0.0,
            cpu_us_per_message: None,
            threads: 1,
            descriptors: 1,
            switches: Switches::default(),
            switches_per_message: None,
        }
    }

    #[test]
    fn rates_are_of_the_measured_part() {
        assert_eq!(good().sent_rates(), (100.0, 1_024_000.0));
        assert_eq!(Outcome { measured_seconds: 0.0, ..good() }.sent_rates(), (0.0, 0.0));
    }

    #[test]
    fn serialises_with_units_in_the_names() {
        let json = serde_json::to_value(good()).unwrap();
        assert_eq!((&json["probe"], &json["ack_every"]), (&"ping".into(), &().into()));
        assert_eq!(json["latency_us"]["corrected"]["p99"], 900.0);
        assert_eq!(json["messages"]["sent"], 1000);
        assert_eq!(json["verdict"]["result"], "held");
        let probe = Probe::Ack { every: 7.try_into().unwrap() };
        let json = serde_json::to_value(Outcome { probe, ..good() }).unwrap();
        assert_eq!((&json["probe"], &json["ack_every"]), (&"ack".into(), &7.into()));
    }

    /// A load of which everything is known, and not all went well.
    fn full() -> Outcome {
        let failure = || Failure { count: 1, example: "refused".into() };
        let points = Points { p50: 1.0, p90: 2.0, p99: 3.0, max: 4.0 };
        let pair = Some(Pair { load: 1, server: 1 });
        let mut outcome = good();
        outcome.connections.failed.insert("refused".into(), failure());
        outcome.connections.disconnected.insert(1006, failure());
        outcome.compressed = Some(Compressed::default());
        outcome.counted = Some(Reconciled { handshakes: pair, open: pair, messages: pair, agrees: true });
        outcome.closed_loop = Some(ClosedLoop { cycles: 1.0, clients_by_littles_law: 1.0, accounted: 1.0 });
        outcome.latency_curve =
            vec![CurvePoint { quantile: 0.5, corrected_us: 1.0, uncorrected_us: Some(1.0) }];
        outcome.server = Some(idle_server());
        let thread = ThreadShare { tid: 7, name: "loop".into(), share: 0.1 };
        outcome.timeline = vec![Sample {
            errors: [("refused".to_owned(), 1)].into(),
            latency_us: Some(SampleLatency { corrected: points, uncorrected: Some(points) }),
            server: Some(ServerSample { threads: vec![thread], ..ServerSample::default() }),
            ..Sample::default()
        }];
        outcome
    }

    #[test]
    fn every_field_is_documented_and_every_documented_field_is_there() {
        let page = include_str!("../../../../docs/bench-json.md");
        assert_documented(page, &[json(&full())], &[]);
    }

    #[test]
    fn a_verdict_has_one_word_and_the_worst_wins() {
        let mut verdict = Verdict::default();
        assert_eq!((verdict.conclusion(), verdict.held()), (Conclusion::Held, true));
        verdict.problems.push("slow".into());
        assert_eq!(verdict.conclusion(), Conclusion::Failed);
        verdict.saturated = Some("busy".into());
        assert_eq!(verdict.conclusion(), Conclusion::Saturated);
        verdict.broken = Some("a process ended".into());
        assert_eq!(verdict.conclusion(), Conclusion::Broken);
        verdict.interrupted = true;
        assert_eq!((verdict.conclusion(), verdict.held()), (Conclusion::Interrupted, false));
    }
}
