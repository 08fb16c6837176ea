//! What a load found, and whether it counts.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::counts::Reconciled;
use super::payload::Kind;
use super::plan::Model;
use super::provenance::Provenance;
use super::timeline::Sample;
use crate::histogram::Summary;
use crate::measure::group;
use crate::measure::kernel::{MachineShare, Sockets};
use crate::measure::process::{Memory, Switches};

/// Schedule lag above this share of the latency limit: the generator was late, not the server.
pub(crate) const LAG_SHARE_MAX: f64 = 0.10;
/// A generator's core above this share has no room to be on time.
pub(crate) const CORE_SHARE_MAX: f64 = 0.80;
/// Sent below this share of what was due: the load was not the one that was asked for.
const SENT_SHARE_MIN: f64 = 0.999;

/// Little's law off by more than this: the generator lost time or answers.
const LITTLE_ERROR_MAX: f64 = 0.05;

/// Of a run that was cut shorter, the shares say nothing: it may be microseconds.
const SHARES_FROM_SECONDS: f64 = 1.0;

/// Other programs that take more than this, in processors, disturb a load.
const DISTURBED_FROM: f64 = 0.2;

/// Everything that a load found.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// What made the load.
    pub provenance: Provenance,
    /// The endpoint, without credentials.
    pub url: String,
    /// How latency was learnt: `ping`, `echo`, `ack` or `sink`.
    pub probe: &'static str,
    /// With `ack`, each so many-th message of a client was acknowledged.
    pub ack_every: Option<u32>,
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
    /// Length of the measured part as it was, in seconds.
    pub measured_seconds: f64,
    /// Connections.
    pub connections: Connections,
    /// Messages of the measured part.
    pub messages: Messages,
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
    /// CPU time of the load for each second of the server's, in the measured part; none without a server that worked.
    pub fn generator_to_server(&self) -> Option<f64> {
        let server = self.server.as_ref()?.cpu_seconds;
        (server > 0.0).then(|| self.generator.cpu_seconds / server)
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
    /// TLS handshakes that really resumed an earlier session.
    pub resumed: u64,
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
    pub fn failed_count(&self) -> u64 {
        self.failed.values().map(|failure| failure.count).sum()
    }

    /// How many ended while they were needed.
    pub fn disconnected_count(&self) -> u64 {
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
    /// Sent in all, warm-up included: what the server's own count should be.
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
    /// From when it was sent, in µs.
    pub uncorrected_us: f64,
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
    /// CPU time for connecting, a client that opened, in µs; none when none opened.
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

/// Whether the figures count, and whether the server held.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Why the figures are of the generator and not of the server, if so.
    pub saturated: Option<String>,
    /// What the server did not do.
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

impl Verdict {
    /// In one word: `held`, `failed`, `saturated` or `interrupted`.
    pub fn word(&self) -> &'static str {
        match self {
            _ if self.interrupted => "interrupted",
            Verdict { saturated: Some(_), .. } => "saturated",
            Verdict { stopped: Some(_), .. } | Verdict { broken: Some(_), .. } => "failed",
            _ if !self.problems.is_empty() => "failed",
            _ => "held",
        }
    }

    /// Whether the whole load was made, and held.
    pub fn held(&self) -> bool {
        self.saturated.is_none() && self.problems.is_empty() && !self.is_cut()
    }

    /// Whether it ended before its time.
    fn is_cut(&self) -> bool {
        self.interrupted || self.stopped.is_some() || self.broken.is_some()
    }
}

/// Judges an outcome of whose verdict it is known only why it ended, and what is tolerated.
pub(crate) fn judge(outcome: &Outcome, latency_limit: Duration) -> Verdict {
    let is_short = outcome.verdict.is_cut() && outcome.measured_seconds < SHARES_FROM_SECONDS;
    let saturated = if is_short { None } else { saturation(outcome, latency_limit) };
    Verdict { saturated, problems: problems(outcome, latency_limit), ..outcome.verdict.clone() }
}

/// Whether the generator was too late or too busy in this second.
pub(crate) fn is_saturated(sample: &Sample, latency_limit: Duration) -> bool {
    let lag_max_us = latency_limit.as_secs_f64() * LAG_SHARE_MAX * 1e6;
    sample.lag_p99_us.is_some_and(|lag| lag > lag_max_us)
        || (sample.sent > 0 && sample.generator.busiest_thread > CORE_SHARE_MAX)
}

fn saturation(outcome: &Outcome, latency_limit: Duration) -> Option<String> {
    let lag_max = Duration::from_secs_f64(latency_limit.as_secs_f64() * LAG_SHARE_MAX);
    if let Some(lag) = outcome.schedule_lag_us.filter(|lag| lag.p99 > lag_max.as_secs_f64() * 1e6) {
        let (late, most) = (lag.p99 / 1e3, lag_max.as_secs_f64() * 1e3);
        return Some(format!("messages were sent up to {late:.1} ms late (p99), more than {most:.1} ms"));
    }
    let busiest = outcome.generator.busiest_thread;
    let Connections { clients, opened, .. } = outcome.connections;
    let disconnected = outcome.connections.disconnected_count();
    // When nobody is left the load ends, perhaps after microseconds, of which a share says nothing.
    if busiest > CORE_SHARE_MAX && disconnected < u64::from(opened) {
        return Some(format!("its busiest thread used {:.0} % of a processor", busiest * 100.0));
    }
    // Threads of several processes may share a processor, each with little.
    if let Some(share) = outcome
        .generator
        .pinned_share
        .filter(|share| *share > CORE_SHARE_MAX && outcome.generator.processes > 1)
    {
        return Some(format!("it used {:.0} % of the processors to which it is pinned", share * 100.0));
    }
    let messages = &outcome.messages;
    if let Some(closed) = outcome.closed_loop.filter(|_| disconnected == 0 && messages.unanswered == 0)
        // With few cycles the cut ones at both ends weigh more than that.
        && closed.cycles * LITTLE_ERROR_MAX >= 1.0
        && (closed.accounted - 1.0).abs() > LITTLE_ERROR_MAX
    {
        let (percent, law) = (closed.accounted * 100.0, "Little's law");
        return Some(format!(
            "{law} accounts for {percent:.0} % of the clients' time: it was late, or lost count"
        ));
    }
    // Who cuts a load short does not wait for the last messages to be sent either.
    let explained = messages.refused > 0 || opened < clients || disconnected > 0 || outcome.verdict.is_cut();
    if !explained && (messages.sent as f64) < messages.offered as f64 * SENT_SHARE_MIN {
        return Some(format!("it sent {} of the {} messages that were due", messages.sent, messages.offered));
    }
    None
}

fn problems(outcome: &Outcome, latency_limit: Duration) -> Vec<String> {
    let mut problems = if outcome.verdict.tolerated { Vec::new() } else { failures(outcome) };
    if let Some(server) =
        outcome.server.as_ref().filter(|server| outcome.messages.sent > 0 && server.cpu_seconds == 0.0)
    {
        let which = group::names(&server.pids);
        problems.push(format!("{which} took no CPU time under the load: it is not the server"));
    }
    let limit_us = latency_limit.as_secs_f64() * 1e6;
    if let Some(latency) = outcome.latency_us.filter(|latency| latency.corrected.p99 > limit_us) {
        let (p99, limit) = (latency.corrected.p99 / 1e3, limit_us / 1e3);
        problems.push(format!("p99 latency was {p99:.1} ms, above the limit of {limit:.0} ms"));
    }
    problems
}

/// Connections and messages that failed.
fn failures(outcome: &Outcome) -> Vec<String> {
    let Outcome { connections, messages, .. } = outcome;
    let mut problems = Vec::new();
    let opened = u64::from(connections.opened) + u64::from(connections.reconnected);
    let attempts = opened + connections.failed_count();
    for (kind, Failure { count, example }) in &connections.failed {
        problems.push(format!("{count} of {attempts} attempts to connect failed ({kind}: {example})"));
    }
    if let (false, dropped @ 1..) = (connections.failed.is_empty(), outcome.kernel.listen_overflows) {
        problems
            .push(format!("the kernel dropped {dropped} connections: the backlog of a listener was full"));
    }
    for (code, failure) in &connections.disconnected {
        problems
            .push(format!("{} clients were disconnected with {code} ({})", failure.count, failure.example));
    }
    // Who cuts a load short does not wait for the last answers.
    let (unanswered, lost) = match outcome.probe {
        _ if outcome.verdict.is_cut() => (0, 0),
        "echo" => (0, messages.lost),
        _ => (messages.unanswered, 0),
    };
    let counts = [
        (messages.refused, "messages could not be sent: the server did not read"),
        (unanswered, "messages were not answered"),
        (lost, "echoes were lost"),
        (messages.reordered, "echoes came out of order"),
        (messages.corrupt, "echoes had other bytes than what was sent"),
    ];
    problems
        .extend(counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
    problems
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(100);

    fn sockets() -> Sockets {
        Sockets { tcp_in_use: 0, tcp_time_wait: 0, buffer_bytes: 0, slab_bytes: None }
    }

    fn summary(p99: f64) -> Summary {
        Summary { count: 9, min: 1.0, mean: 2.0, p50: 2.0, p90: 3.0, p99, p999: p99, p9999: p99, max: p99 }
    }

    /// A load of which everything went well.
    pub(crate) fn good() -> Outcome {
        Outcome {
            provenance: Provenance::default(),
            url: "ws://127.0.0.1:9".into(),
            probe: "ping",
            ack_every: None,
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
                awaited: 1000,
                answered: 1000,
                ..Messages::default()
            },
            counted: None,
            closed_loop: None,
            latency_us: Some(LatencySummary { corrected: summary(900.0), uncorrected: Some(summary(800.0)) }),
            latency_curve: Vec::new(),
            latency_limit_seconds: 0.1,
            schedule_lag_us: Some(summary(70.0)),
            generator: Generator { cpu_seconds: 1.0, busiest_thread: 0.1, ..Generator::default() },
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

    #[test]
    fn a_good_load_counts() {
        let verdict = judge(&good(), LIMIT);
        assert_eq!(verdict, Verdict::default());
        assert!(verdict.held());
    }

    #[test]
    fn a_late_generator_is_saturated() {
        let late = Outcome { schedule_lag_us: Some(summary(10_001.0)), ..good() };
        let verdict = judge(&late, LIMIT);
        assert!(verdict.saturated.as_ref().is_some_and(|why| why.contains("late")), "{verdict:?}");
        assert!(!verdict.held() && verdict.problems.is_empty());
        // A tenth of the limit, whatever the limit.
        assert!(judge(&late, LIMIT * 2).held());
    }

    #[test]
    fn a_busy_generator_is_saturated() {
        let busy =
            Outcome { generator: Generator { busiest_thread: 0.81, ..Generator::default() }, ..good() };
        assert!(judge(&busy, LIMIT).saturated.unwrap().contains("81 %"));
        let crowded =
            Generator { processes: 3, busiest_thread: 0.3, pinned_share: Some(0.9), ..Generator::default() };
        assert!(judge(&Outcome { generator: crowded, ..good() }, LIMIT).saturated.unwrap().contains("90 %"));
        let mut deserted = busy;
        deserted.connections.disconnected.insert(1003, Failure { count: 100, example: "text".into() });
        let verdict = judge(&deserted, LIMIT);
        assert!(verdict.saturated.is_none() && verdict.problems[0].contains("1003"), "{verdict:?}");
    }

    #[test]
    fn unsent_messages_are_the_generators_fault_only_if_nothing_else_explains_them() {
        let mut outcome = good();
        outcome.messages.sent = 998;
        assert!(judge(&outcome, LIMIT).saturated.unwrap().contains("998 of the 1000"));
        outcome.messages.refused = 2;
        let verdict = judge(&outcome, LIMIT);
        assert_eq!(verdict.saturated, None);
        assert_eq!(verdict.problems, ["2 messages could not be sent: the server did not read"]);
    }

    #[test]
    fn each_failure_of_the_server_is_named() {
        let mut outcome = good();
        outcome
            .connections
            .failed
            .insert("refused".into(), Failure { count: 3, example: "connection refused".into() });
        outcome.connections.disconnected.insert(1006, Failure { count: 2, example: "lost".into() });
        outcome.kernel.listen_overflows = 7;
        outcome.messages.unanswered = 4;
        outcome.messages.reordered = 5;
        outcome.messages.corrupt = 6;
        outcome.latency_us = Some(LatencySummary { corrected: summary(100_001.0), uncorrected: None });
        let problems = judge(&outcome, LIMIT).problems.join("\n");
        for part in [
            "3 of 103",
            "refused",
            "2 clients",
            "1006",
            "4 messages",
            "dropped 7",
            "5 echoes",
            "6 echoes",
            "100.0 ms",
        ] {
            assert!(problems.contains(part), "{part}: {problems}");
        }
    }

    #[test]
    fn a_closed_loop_obeys_littles_law() {
        let closed = |cycles, accounted| {
            let closed_loop =
                Some(ClosedLoop { cycles, clients_by_littles_law: 100.0 * accounted, accounted });
            judge(&Outcome { closed_loop, ..good() }, LIMIT)
        };
        assert!(closed(1000.0, 0.96).held() && closed(1000.0, 1.04).held());
        for accounted in [0.94, 1.06] {
            assert!(closed(1000.0, accounted).saturated.unwrap().contains("Little's law"));
            assert!(closed(10.0, accounted).held());
        }
    }

    #[test]
    fn what_is_tolerated_is_no_problem_and_a_limit_that_was_passed_is_one() {
        let mut outcome = good();
        (outcome.probe, outcome.messages.lost) = ("echo", 7);
        assert_eq!(judge(&outcome, LIMIT).problems, ["7 echoes were lost"]);
        outcome.verdict.tolerated = true;
        assert!(judge(&outcome, LIMIT).held());
        assert_eq!(judge(&outcome, LIMIT).word(), "held");
        outcome.verdict.stopped = Some("11 of 1000 messages failed, more than 1 %".into());
        let verdict = judge(&outcome, LIMIT);
        assert!(!verdict.held() && verdict.problems.is_empty());
        assert_eq!(verdict.word(), "failed");
    }

    #[test]
    fn an_interrupted_load_did_not_hold() {
        let mut outcome = good();
        outcome.verdict.interrupted = true;
        outcome.messages.sent = 10;
        outcome.messages.unanswered = 1;
        let verdict = judge(&outcome, LIMIT);
        assert!(verdict.saturated.is_none() && verdict.problems.is_empty() && !verdict.held());
        assert_eq!(verdict.word(), "interrupted");
    }

    #[test]
    fn a_load_that_was_cut_short_is_saturated_if_it_was_long_enough_to_tell() {
        for is_user in [true, false] {
            let mut outcome = good();
            outcome.generator.busiest_thread = 0.98;
            outcome.verdict.interrupted = is_user;
            outcome.verdict.stopped = (!is_user).then(|| "p99 latency was 9 ms".into());
            assert!(judge(&outcome, LIMIT).saturated.is_some(), "interrupted: {is_user}");
            outcome.measured_seconds = 0.9;
            assert_eq!(judge(&outcome, LIMIT).saturated, None, "interrupted: {is_user}");
        }
    }

    #[test]
    fn serialises_with_units_in_the_names() {
        let json = serde_json::to_value(good()).unwrap();
        assert_eq!(json["probe"], "ping");
        assert_eq!(json["latency_us"]["corrected"]["p99"], 900.0);
        assert_eq!(json["messages"]["sent"], 1000);
    }
}
