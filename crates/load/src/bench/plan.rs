//! What a load is to do, and whether this machine can do it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use super::BenchError;
use super::counts::Counting;
use super::endpoint::{Endpoint, Handshake, TlsOptions};
use super::payload::Payload;
use super::stop::StopConditions;
use crate::measure::kernel::Limits;
use crate::schedule::{Closed, Pace, Ramp, Schedule};

/// Clients that share one source address before another is taken, on loopback. One address has ports for twice as
/// many, but beyond half of them the kernel searches long for a free one: connecting becomes slow.
pub(crate) const CLIENTS_PER_SOURCE: u32 = 12_500;
/// Descriptors beside the clients': event loops, `/proc`, standard streams, room.
pub(crate) const DESCRIPTORS_BESIDE: u64 = 64;
/// More processes are not started without being asked for.
const PROCESSES_MAX: u32 = 256;
/// Up to so many clients, each one is probed.
const CLIENTS_ALL_PROBED: u32 = 1000;
/// Beyond that, one client in so many.
const PROBED_ONE_IN: u32 = 10;

/// How the latency of a message is learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// No messages: every client sends pings on the schedule, and awaits their pongs. For connections that are only held.
    Idle,
    /// Some clients send a ping directly behind each message: the pong comes back after the message was read. For
    /// servers that consume what they get.
    Ping,
    /// The server sends every message back, and the bytes are compared.
    Echo,
    /// The server sends any message after each so many of a client: those are timed.
    Ack {
        /// Every so many-th message is acknowledged.
        every: NonZeroU32,
    },
    /// No answer is expected.
    Sink,
}

impl Probe {
    /// With acknowledgements, each so many-th message has one.
    pub fn ack_every(self) -> Option<u32> {
        if let Probe::Ack { every } = self { Some(every.get()) } else { None }
    }

    fn name(self) -> &'static str {
        match self {
            Probe::Ping => "ping",
            Probe::Echo => "echo",
            Probe::Ack { .. } => "ack",
            Probe::Sink => "sink",
            Probe::Idle => "idle",
        }
    }

    /// Two fields of a result: `probe`, one word, and `ack_every`.
    pub(crate) fn serialize_fields<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut fields = out.serialize_struct("Probe", 2)?;
        fields.serialize_field("probe", self.name())?;
        fields.serialize_field("ack_every", &self.ack_every())?;
        fields.end()
    }
}

/// What decides when a client sends its next message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Model {
    /// The time: one message an interval, whatever the server does.
    #[default]
    Open,
    /// The answer: the interval is the time between it and the next message.
    Closed,
}

/// Which server certificates are accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trust {
    /// Any: a load generator has no secret to keep, and test servers have certificates of their own making.
    Any,
    /// Those below the certificates in this PEM file.
    CaFile(PathBuf),
    /// Those below the system's root certificates.
    System,
}

/// How another process that makes a part of the load is started. It has to call [`run_part`](super::run_part) with its
/// standard input and output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The file to run.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// A load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// `ws://…` or `wss://…`; `{client}` in its path stands for the client's number.
    pub url: String,
    /// What is asked for besides.
    pub handshake: Handshake,
    /// How TLS is spoken.
    pub tls: TlsOptions,
    /// Certificates that are accepted.
    pub trust: Trust,
    /// Clients, at least one.
    pub clients: u32,
    /// What decides when a client sends.
    pub model: Model,
    /// Time between two messages of one client, above zero; in a closed loop between an answer and the next message.
    pub interval: Duration,
    /// In the open model, clients that are due within so long send together; zero for each at its own time.
    pub tick: Duration,
    /// What they send.
    pub payload: Payload,
    /// How latency is learnt.
    pub probe: Probe,
    /// With [`Probe::Ping`]: one client in so many is probed. By default all up to 1,000, then one in 10.
    pub probe_one_in: Option<u32>,
    /// How the connections are opened.
    pub ramp: Ramp,
    /// Whether a client that lost its connection connects again, after a pause that doubles with each failure.
    pub reconnect: bool,
    /// What ends the load before its time.
    pub stop: StopConditions,
    /// Rest between the last handshake and the first message.
    pub settle: Duration,
    /// Load that is not measured yet.
    pub warmup: Duration,
    /// Load that is measured.
    pub duration: Duration,
    /// Corrected p99 latency above this is a failure.
    pub latency_limit: Duration,
    /// Source addresses, used in turn. Empty: the system's choice, or several of 127/8 where one is not enough.
    pub sources: Vec<IpAddr>,
    /// The server's processes, if they are to be measured, with all that they start.
    pub pids: Vec<u32>,
    /// Where the server tells its counts to Prometheus: to be held against the load's.
    pub counts: Counting,
    /// One event loop for each entry, on that processor if one is named.
    pub loops: Vec<Option<usize>>,
    /// Processes that make the load, over which the clients and the loops are spread. By default this one alone while it may
    /// hold enough descriptors, and else as many as it takes.
    pub processes: Option<u32>,
    /// What a further process runs. Without it all clients are in this one.
    pub program: Option<Program>,
}

impl Plan {
    /// 100 clients that send the 10 kB telemetry message each second for 30 s.
    pub fn new(url: impl Into<String>) -> Plan {
        Plan {
            url: url.into(),
            handshake: Handshake::default(),
            tls: TlsOptions::default(),
            trust: Trust::Any,
            clients: 100,
            model: Model::Open,
            interval: Duration::from_secs(1),
            tick: Duration::ZERO,
            payload: Payload::telemetry(),
            probe: Probe::Ping,
            probe_one_in: None,
            ramp: Ramp::AtOnce,
            reconnect: false,
            stop: StopConditions::default(),
            settle: Duration::from_millis(500),
            warmup: Duration::from_secs(2),
            duration: Duration::from_secs(30),
            latency_limit: Duration::from_millis(100),
            sources: Vec::new(),
            pids: Vec::new(),
            counts: Counting::default(),
            loops: vec![None],
            processes: None,
            program: None,
        }
    }

    /// One client in so many is probed.
    pub fn one_probed_in(&self) -> u32 {
        let all =
            self.clients <= CLIENTS_ALL_PROBED || self.model == Model::Closed || self.probe == Probe::Idle;
        let default = if all { 1 } else { PROBED_ONE_IN };
        self.probe_one_in.unwrap_or(default).max(1)
    }

    /// Whether an answer to each message is expected.
    fn is_each_answered(&self) -> bool {
        match self.probe {
            Probe::Ping => self.one_probed_in() == 1,
            Probe::Echo | Probe::Idle => true,
            Probe::Ack { every } => every.get() == 1,
            Probe::Sink => false,
        }
    }

    /// Whether it is TLS that the URL asks for.
    pub fn is_secure(&self) -> bool {
        self.url.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("wss:"))
    }

    /// Whether the server is on this machine, as far as its host can be found.
    pub fn is_near(&self) -> bool {
        Endpoint::new(self).is_ok_and(|endpoint| endpoint.is_near())
    }

    /// The server's first address.
    ///
    /// # Errors
    /// When the URL is none, or its host cannot be found.
    pub fn address(&self) -> Result<IpAddr, BenchError> {
        Endpoint::new(self)?.address().ok_or(BenchError::Nothing)
    }

    /// When each message is due.
    pub(crate) fn pace(&self) -> Pace {
        match self.model {
            Model::Open => Pace::Open(Schedule::new(self.clients, self.interval).in_ticks(self.tick)),
            Model::Closed => Pace::Closed(Closed { clients: self.clients, think: self.interval }),
        }
    }

    /// How many processors the loops are pinned to; none if one of them is not.
    pub(crate) fn pinned_to(&self) -> Option<usize> {
        let processors: Option<BTreeSet<usize>> = self.loops.iter().copied().collect();
        processors.map(|processors| processors.len())
    }

    /// How often a connected client looks whether the schedule has begun: the more there are, the more it costs.
    pub(crate) fn start_poll(&self) -> Duration {
        Duration::from_millis(200).max(Duration::from_micros(20) * self.clients)
    }

    /// The end of the load, counted from the schedule's start.
    pub(crate) fn until(&self) -> Duration {
        self.warmup + self.duration
    }

    /// Looks the host up and checks everything that can be checked before the first connection.
    pub(crate) fn prepare(&self) -> Result<Prepared, BenchError> {
        let is_idle = self.interval.is_zero() && self.model == Model::Open;
        if self.clients == 0 || is_idle || self.duration.is_zero() || self.loops.is_empty() {
            return Err(BenchError::Nothing);
        }
        if self.model == Model::Closed && !self.is_each_answered() {
            return Err(BenchError::NotAnswered);
        }
        check_processors(&self.loops)?;
        let endpoint = Endpoint::new(self)?;
        webscale_sys::limits::raise_descriptors().map_err(BenchError::Raise)?;
        let limits = Limits::read()?;
        let parts = self.parts(limits.descriptors_soft)?;
        let host = endpoint.address().ok_or(BenchError::Nothing)?;
        let sources = sources(&self.sources, host, self.clients, limits.ports())?;
        Ok(Prepared { endpoint, sources, parts })
    }

    /// The processes that it takes beside this one, which may each hold `descriptors`; none if this one is enough.
    fn parts(&self, descriptors: u64) -> Result<Option<(u32, Program)>, BenchError> {
        let by_need = self.clients.div_ceil(clients_by_descriptors(descriptors).max(1));
        let count = match &self.program {
            Some(_) => self.processes.unwrap_or(by_need.min(PROCESSES_MAX)).clamp(1, self.clients),
            None => 1,
        };
        check_descriptors(self.clients, count, descriptors)?;
        Ok(self.program.clone().filter(|_| count > 1).map(|program| (count, program)))
    }
}

/// A plan that this machine can begin.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) endpoint: Endpoint,
    /// Used in turn; empty for the system's choice.
    pub(crate) sources: Vec<IpAddr>,
    /// Processes that make the load, if it is not this one.
    pub(crate) parts: Option<(u32, Program)>,
}

fn check_processors(loops: &[Option<usize>]) -> Result<(), BenchError> {
    let allowed = webscale_sys::process::allowed_cpus().map_err(BenchError::Affinity)?;
    match loops.iter().flatten().find(|cpu| !allowed.contains(cpu)) {
        Some(cpu) => Err(BenchError::Processor { cpu: *cpu, allowed }),
        None => Ok(()),
    }
}

/// Whether `processes` that may each hold `has` descriptors are enough for the clients.
fn check_descriptors(clients: u32, processes: u32, has: u64) -> Result<(), BenchError> {
    let needs = u64::from(clients.div_ceil(processes)) + DESCRIPTORS_BESIDE;
    let most = has.saturating_sub(DESCRIPTORS_BESIDE) * u64::from(processes);
    if needs > has { Err(BenchError::Descriptors { clients, needs, has, most }) } else { Ok(()) }
}

/// The most clients that this process may hold by its descriptors.
pub(crate) fn clients_by_descriptors(descriptors: u64) -> u32 {
    u32::try_from(descriptors.saturating_sub(DESCRIPTORS_BESIDE)).unwrap_or(u32::MAX)
}

/// The source addresses for `clients` connections to `host`, where each address has `ports` ports.
fn sources(given: &[IpAddr], host: IpAddr, clients: u32, ports: u64) -> Result<Vec<IpAddr>, BenchError> {
    if let Some(source) = given.iter().find(|source| source.is_ipv4() != host.is_ipv4()) {
        return Err(BenchError::SourceFamily { from: *source, host });
    }
    let chosen = if given.is_empty() && host.is_ipv4() && host.is_loopback() {
        let per_source = u64::from(CLIENTS_PER_SOURCE).min(ports);
        loopback_sources(u64::from(clients), per_source)
    } else {
        given.to_vec()
    };
    let most = ports * chosen.len().max(1) as u64;
    if u64::from(clients) > most {
        return Err(BenchError::Ports { clients, sources: chosen.len().max(1), ports });
    }
    Ok(chosen)
}

/// 127.0.0.2 and on, as many as needed; none where one address is enough.
fn loopback_sources(clients: u64, per_source: u64) -> Vec<IpAddr> {
    let count = clients.div_ceil(per_source.max(1));
    if count <= 1 {
        return Vec::new();
    }
    let first = u32::from(Ipv4Addr::new(127, 0, 0, 2));
    (first..)
        .take(usize::try_from(count).unwrap_or(usize::MAX))
        .map(|bits| Ipv4Addr::from(bits).into())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn few_clients_need_no_source() {
        assert_eq!(sources(&[], LOOPBACK, 12_500, 28_232).unwrap(), Vec::<IpAddr>::new());
    }

    #[test]
    fn many_clients_on_loopback_get_more_addresses() {
        let chosen = sources(&[], LOOPBACK, 26_000, 28_232).unwrap();
        let texts: Vec<String> = chosen.iter().map(IpAddr::to_string).collect();
        assert_eq!(texts, ["127.0.0.2", "127.0.0.3", "127.0.0.4"]);
        assert_eq!(sources(&[], LOOPBACK, 1_000, 100).unwrap().len(), 10);
        assert_eq!(loopback_sources(1_000_000, 1_000).len(), 1000);
    }

    #[test]
    fn elsewhere_the_user_has_to_name_more_addresses() {
        let host = "192.0.2.1".parse().unwrap();
        let error = sources(&[], host, 30_000, 28_232).unwrap_err().to_string();
        assert!(error.contains("--source") && error.contains("28232"), "{error}");
        let given = ["192.0.2.7".parse().unwrap(), "192.0.2.8".parse().unwrap()];
        assert_eq!(sources(&given, host, 30_000, 28_232).unwrap(), given);
        let error = sources(&given, "::1".parse().unwrap(), 1, 28_232).unwrap_err().to_string();
        assert!(error.contains("192.0.2.7") && error.contains("::1"), "{error}");
    }

    #[test]
    fn too_few_descriptors_say_how_many_clients_fit() {
        assert!(check_descriptors(936, 1, 1000).is_ok());
        let error = check_descriptors(937, 1, 1000).unwrap_err().to_string();
        assert!(error.contains("1001") && error.contains("1000") && error.contains("936"), "{error}");
        assert!(check_descriptors(1872, 2, 1000).is_ok());
        let error = check_descriptors(3000, 2, 1000).unwrap_err().to_string();
        assert!(error.contains("3000 clients") && error.contains("1872"), "{error}");
        assert_eq!(clients_by_descriptors(1000), 936);
    }

    #[test]
    fn as_many_processes_as_the_descriptors_demand() {
        let program = Program { path: "load".into(), arguments: Vec::new() };
        let count = |clients, processes, descriptors| {
            let program = Some(program.clone());
            let plan = Plan { clients, processes, program, ..Plan::new("ws://127.0.0.1:9") };
            plan.parts(descriptors).map(|parts| parts.map_or(1, |(count, _)| count))
        };
        assert_eq!(count(936, None, 1000).unwrap(), 1);
        assert_eq!(count(937, None, 1000).unwrap(), 2);
        assert_eq!(count(100_000, None, 20_000).unwrap(), 6);
        assert_eq!(count(100, Some(4), 1000).unwrap(), 4);
        assert_eq!(count(3, Some(4), 1000).unwrap(), 3);
        assert!(count(3000, Some(2), 1000).unwrap_err().to_string().contains("more processes"));
        assert!(count(1_000_000, None, 1000).unwrap_err().to_string().contains("at most 239616"));
        let alone = Plan { clients: 937, ..Plan::new("ws://127.0.0.1:9") };
        assert!(alone.parts(1000).is_err());
    }

    #[test]
    fn a_plan_reaches_another_process_as_it_is() {
        let plan = Plan {
            clients: 7,
            trust: Trust::CaFile("ca.pem".into()),
            sources: vec![LOOPBACK],
            loops: vec![Some(3), None],
            ..Plan::new("wss://127.0.0.1:9/x")
        };
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
        let bytes = Payload::fixed(vec![0, 255, 7], crate::bench::payload::Kind::Binary).unwrap();
        let plan = Plan { payload: bytes, ..plan };
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }

    #[test]
    fn probing_thins_out() {
        let mut plan = Plan::new("ws://127.0.0.1:9");
        assert_eq!(plan.one_probed_in(), 1);
        plan.clients = 1001;
        assert_eq!(plan.one_probed_in(), 10);
        plan.probe_one_in = Some(3);
        assert_eq!(plan.one_probed_in(), 3);
    }

    #[test]
    fn an_empty_plan_is_refused() {
        let empty = Plan { clients: 0, ..Plan::new("ws://127.0.0.1:9") };
        assert!(matches!(empty.prepare(), Err(BenchError::Nothing)));
        let elsewhere = Plan::new("http://127.0.0.1:9");
        assert!(elsewhere.prepare().unwrap_err().to_string().contains("ws://"));
    }
}
