//! What a comparison found, as it goes into JSON; the field names are documented in docs/compare-json.md.

use serde::Serialize;

use super::build::Build;
use super::contestant::{ArticleFigures, Contestant};
use super::figures::{Difference, Line, Spread, ratios};
use super::machine::{Apart, Machine};
use super::runner::{Purpose, Run};
use super::settings::Settings;
use crate::bench::outcome::ServerUse;

/// A whole comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// The contestants with their figures, in the table's order.
    pub servers: Vec<ServerReport>,
    /// How much two runs of the same server differed.
    pub noise: Option<Noise>,
    /// What `--quick` shortened.
    pub shortened: Option<String>,
    /// The user ended it early.
    pub interrupted: bool,
    /// Where server and load ran; none on a single processor.
    pub processors: Option<Apart>,
    /// The machine.
    pub machine: Machine,
    /// How long and how much.
    pub settings: Settings,
    /// Every run, those that were rejected too.
    pub runs: Vec<Run>,
}

impl Comparison {
    /// Whether every contestant has been measured to the end.
    pub fn is_complete(&self) -> bool {
        !self.interrupted && self.missing().is_empty()
    }

    /// What could not be measured, a sentence for each contestant that lacks something.
    pub fn missing(&self) -> Vec<String> {
        let of = |server: &ServerReport| {
            Some(format!("{}: {}", server.contestant.name(), server.missing(&self.runs)?))
        };
        self.servers.iter().filter_map(of).collect()
    }

    /// Runs that do not count.
    pub fn rejected(&self) -> impl Iterator<Item = (&Run, &str)> {
        self.runs.iter().filter_map(|run| Some((run, run.rejected.as_deref()?)))
    }
}

/// The same server twice, one run directly after the other.
#[derive(Debug, Clone, Serialize)]
pub struct Noise {
    /// Which one.
    pub server: Contestant,
    /// CPU a message in the second run, as a share of that in the first.
    pub cpu_ratio: f64,
    /// p50 latency in the second run, as a share of that in the first.
    pub p50_ratio: Option<f64>,
}

/// One contestant's figures; what could not be measured is null.
#[derive(Debug, Clone, Serialize)]
pub struct ServerReport {
    /// Whose they are.
    #[serde(rename = "name")]
    pub contestant: Contestant,
    /// What distinguishes it.
    pub description: &'static str,
    /// Why it was not measured to the end, if so.
    pub error: Option<String>,
    /// A clean release build.
    pub compile_seconds: Option<f64>,
    /// The stripped executable.
    pub binary_bytes: Option<u64>,
    /// Packages linked.
    pub dependencies: Option<usize>,
    /// With 100 clients: heaptrack's peak heap where heaptrack is installed, else the peak of PSS.
    pub peak_memory_bytes: Option<u64>,
    /// heaptrack's peak heap.
    pub peak_heap_bytes: Option<u64>,
    /// The peak of PSS.
    pub peak_pss_bytes: Option<u64>,
    /// PSS without a client.
    pub idle_pss_bytes: Option<u64>,
    /// Slope of PSS over the number of clients, after load.
    pub memory_bytes_per_client: Option<f64>,
    /// The line behind it.
    pub memory_line: Option<Line>,
    /// Kernel memory a client with nothing under way, both ends of the connection counted.
    pub kernel_bytes_per_client: Option<f64>,
    /// CPU of the server's process for the 10 kB messages.
    pub cpu_seconds_per_million_messages: Option<f64>,
    /// The runs behind it.
    pub cpu_spread: Option<Spread>,
    /// CPU of the server's process for one 128-byte message that is sent back.
    pub echo_cpu_us: Option<f64>,
    /// The runs behind it.
    pub echo_spread: Option<Spread>,
    /// CPU of the server's process for one TLS handshake and upgrade.
    pub handshake_cpu_us: Option<f64>,
    /// The runs behind it.
    pub handshake_spread: Option<Spread>,
    /// Corrected latency in the main load.
    pub latency_us: Option<LatencyFigures>,
    /// Most clients held.
    pub max_clients: Option<u32>,
    /// They were held twice, the second time for the whole time.
    pub max_clients_confirmed: bool,
    /// It may hold more: what stopped the search was not the server's alone.
    pub max_clients_at_least: bool,
    /// What stopped more.
    pub stopped_by: Option<String>,
    /// CPU figures as shares of those of tokio with defaults, pair by pair.
    pub against_tokio: Option<Against>,
    /// What the article found of this server.
    pub article: Option<ArticleFigures>,
}

/// Medians over the runs, in µs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names are the percentiles")]
pub struct LatencyFigures {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
}

/// Ratios of CPU time to that of another server, pair by pair.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Against {
    /// A 10 kB message.
    pub cpu: Option<Ratio>,
    /// A 128-byte echo.
    pub echo: Option<Ratio>,
    /// A handshake.
    pub handshake: Option<Ratio>,
}

/// What one server takes as a share of what another one does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ratio {
    /// Over the pairs.
    #[serde(flatten)]
    pub spread: Spread,
    /// Whether that is a difference.
    pub difference: Difference,
}

/// What became of a contestant outside of its runs.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) contestant: Contestant,
    pub(crate) build: Option<Build>,
    pub(crate) error: Option<String>,
    pub(crate) peak_heap_bytes: Option<u64>,
    pub(crate) max_clients: Option<u32>,
    pub(crate) max_clients_confirmed: bool,
    pub(crate) max_clients_at_least: bool,
    pub(crate) stopped_by: Option<String>,
}

impl Row {
    /// Of a contestant that was not run yet, nor built.
    pub(crate) fn new(contestant: Contestant) -> Row {
        Row {
            contestant,
            build: None,
            error: None,
            peak_heap_bytes: None,
            max_clients: None,
            max_clients_confirmed: false,
            max_clients_at_least: false,
            stopped_by: None,
        }
    }
}

/// The runs of one contestant for one purpose that count, in order.
fn counted(runs: &[Run], contestant: Contestant, purpose: Purpose) -> impl Iterator<Item = &Run> {
    let is = move |run: &&Run| run.server == contestant && run.purpose == purpose && run.rejected.is_none();
    runs.iter().filter(is)
}

/// A figure of every run of one contestant for one purpose that counts, with its round.
fn by_round(
    runs: &[Run],
    (contestant, purpose): (Contestant, Purpose),
    figure: impl Fn(&ServerUse) -> Option<f64>,
) -> Vec<(usize, f64)> {
    let of_run = |run: &Run| Some((run.round, figure(run.outcome.server.as_ref()?)?));
    counted(runs, contestant, purpose).filter_map(of_run).collect()
}

fn message_cpu(runs: &[Run], contestant: Contestant, purpose: Purpose) -> Vec<(usize, f64)> {
    by_round(runs, (contestant, purpose), |server| server.cpu_us_per_message)
}

fn handshake_cpu(runs: &[Run], contestant: Contestant) -> Vec<(usize, f64)> {
    by_round(runs, (contestant, Purpose::Load), |server| server.handshake_cpu_us)
}

fn spread(rounds: Vec<(usize, f64)>) -> Option<Spread> {
    Spread::of(rounds.into_iter().map(|(_, figure)| figure))
}

/// (clients, PSS after load) of every run that tells something about memory.
fn memory_points(runs: &[Run], contestant: Contestant) -> Vec<(f64, f64)> {
    let of = |purpose| counted(runs, contestant, purpose);
    let point = |run: &Run| {
        let loaded = run.outcome.server.as_ref()?.memory_loaded.pss_bytes;
        Some((f64::from(run.outcome.connections.opened), loaded as f64))
    };
    of(Purpose::Memory).chain(of(Purpose::Load)).filter_map(point).collect()
}

/// Kernel memory a client with everything connected and nothing sent.
fn kernel_bytes(runs: &[Run], contestant: Contestant) -> Vec<f64> {
    let of_run = |run: &Run| {
        let (idle, connected) = (run.outcome.kernel.idle, run.outcome.kernel.connected);
        let grown = connected.total_bytes() as f64 - idle.total_bytes() as f64;
        grown / f64::from(run.outcome.connections.opened.max(1))
    };
    counted(runs, contestant, Purpose::Load).map(of_run).collect()
}

fn latency(runs: &[Run], contestant: Contestant) -> Option<LatencyFigures> {
    let summaries: Vec<_> = counted(runs, contestant, Purpose::Load)
        .filter_map(|run| Some(run.outcome.latency_us?.corrected))
        .collect();
    let median = |of: &dyn Fn(&crate::histogram::Summary) -> f64| {
        Spread::of(summaries.iter().map(of)).map(|spread| spread.median)
    };
    Some(LatencyFigures { p50: median(&|s| s.p50)?, p99: median(&|s| s.p99)?, p999: median(&|s| s.p999)? })
}

fn against(runs: &[Run], contestant: Contestant, other: Contestant, noise: Option<f64>) -> Option<Against> {
    let pairs = |of: &dyn Fn(Contestant) -> Vec<(usize, f64)>| {
        let spread = ratios(&of(contestant), &of(other))?;
        Some(Ratio { spread, difference: Difference::of(&spread, noise) })
    };
    let against = Against {
        cpu: pairs(&|who| message_cpu(runs, who, Purpose::Load)),
        echo: pairs(&|who| message_cpu(runs, who, Purpose::Echo)),
        handshake: pairs(&|who| handshake_cpu(runs, who)),
    };
    (contestant != other && (against.cpu.is_some() || against.echo.is_some())).then_some(against)
}

impl ServerReport {
    /// Of a contestant with its runs, where the same server twice differed by the share `noise`.
    pub(crate) fn new(row: &Row, runs: &[Run], noise: Option<f64>) -> ServerReport {
        let contestant = row.contestant;
        let build = row.build.as_ref();
        let cpu = spread(message_cpu(runs, contestant, Purpose::Load));
        let echo = spread(message_cpu(runs, contestant, Purpose::Echo));
        let handshake = spread(handshake_cpu(runs, contestant));
        let line = Line::through(&memory_points(runs, contestant));
        let smallest =
            counted(runs, contestant, Purpose::Memory).next().and_then(|run| run.outcome.server.as_ref());
        let peak_pss_bytes = smallest.map(|server| server.peak_pss_bytes);
        let median = |spread: Option<Spread>| spread.map(|spread| spread.median);
        ServerReport {
            contestant,
            description: contestant.description(),
            error: row.error.clone(),
            compile_seconds: build.map(|build| build.compile_seconds),
            binary_bytes: build.map(|build| build.binary_bytes),
            dependencies: build.map(|build| build.dependencies),
            peak_memory_bytes: row.peak_heap_bytes.or(peak_pss_bytes),
            peak_heap_bytes: row.peak_heap_bytes,
            peak_pss_bytes,
            idle_pss_bytes: smallest.map(|server| server.memory_idle.pss_bytes),
            memory_bytes_per_client: line.map(|line| line.slope),
            memory_line: line,
            kernel_bytes_per_client: median(Spread::of(kernel_bytes(runs, contestant))),
            // µs a message are seconds a million messages.
            cpu_seconds_per_million_messages: median(cpu),
            cpu_spread: cpu,
            echo_cpu_us: median(echo),
            echo_spread: echo,
            handshake_cpu_us: median(handshake),
            handshake_spread: handshake,
            latency_us: latency(runs, contestant),
            max_clients: row.max_clients,
            max_clients_confirmed: row.max_clients_confirmed,
            max_clients_at_least: row.max_clients_at_least,
            stopped_by: row.stopped_by.clone(),
            against_tokio: against(runs, contestant, Contestant::Tokio, noise),
            article: contestant.article(),
        }
    }

    /// What is not known of it, in words; none if it was measured to the end.
    fn missing(&self, runs: &[Run]) -> Option<String> {
        let rejected = |what: &str, purpose| {
            let last = runs.iter().rfind(|run| run.server == self.contestant && run.purpose == purpose);
            let why = last.and_then(|run| run.rejected.as_deref()).unwrap_or("none was made");
            Some(format!("no run of the {what} counts: {why}"))
        };
        match self {
            ServerReport { error: Some(error), .. } => Some(error.clone()),
            ServerReport { cpu_spread: None, .. } => rejected("main load", Purpose::Load),
            // A server of the user's own is not built here, and not asked for echoes.
            ServerReport { echo_spread: None, binary_bytes: Some(_), .. } => {
                rejected("128-byte echo", Purpose::Echo)
            }
            ServerReport { peak_pss_bytes: None, .. } => rejected("memory", Purpose::Memory),
            // Without heaptrack none is made.
            ServerReport { peak_heap_bytes: None, .. }
                if runs.iter().any(|run| {
                    run.server == self.contestant && run.purpose == Purpose::Heap && run.rejected.is_some()
                }) =>
            {
                rejected("peak heap", Purpose::Heap)
            }
            _ => None,
        }
    }
}

impl Noise {
    /// By what share the second run differed in CPU.
    pub fn share(&self) -> f64 {
        (self.cpu_ratio - 1.0).abs()
    }
}

/// The noise floor, from the two runs that were made for it.
pub(crate) fn noise(runs: &[Run], contestant: Contestant) -> Option<Noise> {
    let pair: Vec<&Run> = counted(runs, contestant, Purpose::Noise).collect();
    let [first, second] = pair.as_slice() else { return None };
    let cpu = |run: &Run| run.outcome.server.as_ref()?.cpu_us_per_message.filter(|us| *us > 0.0);
    let p50 = |run: &Run| run.outcome.latency_us.map(|latency| latency.corrected.p50).filter(|us| *us > 0.0);
    let p50_ratio = p50(second).zip(p50(first)).map(|(second, first)| second / first);
    Some(Noise { server: contestant, cpu_ratio: cpu(second)? / cpu(first)?, p50_ratio })
}
