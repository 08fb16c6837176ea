//! What stops a server from holding more, and what shows it.

use serde::Serialize;

use super::witness::{InAll, Witness};
use crate::bench::outcome::Outcome;
use crate::bench::timeline::busiest_thread;

/// A server's thread, or all that it may use, above this share is full.
const FULL: f64 = 0.9;
/// The whole machine above this share is full.
const MACHINE_FULL: f64 = 0.95;
/// Descriptors that a server may keep in reserve.
pub(super) const DESCRIPTORS_SPARE: u64 = 8;

/// What there is too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// The server's file descriptors.
    ServerDescriptors,
    /// The load's file descriptors.
    LoadDescriptors,
    /// Local ports of the load's source addresses.
    Ports,
    /// Memory of the machine, of the control group, or of the process.
    Memory,
    /// The kernel's memory for TCP (`net.ipv4.tcp_mem`).
    TcpMemory,
    /// Entries of the connection tracking.
    ConnectionTracking,
    /// A thread of the server, or all processors that it may use.
    ServerCpu,
    /// The processors that server and load share.
    MachineCpu,
    /// A network interface of the load, or the way to the server.
    Network,
    /// The load generator.
    Generator,
    /// Answers came late, and nothing was full as far as could be seen.
    Latency,
    /// Clients could not connect, or were disconnected.
    Connections,
    /// Messages were lost, reordered or corrupt.
    Messages,
    /// The server's process ended.
    Death,
}

impl Resource {
    /// A few words for people.
    pub fn words(self) -> &'static str {
        match self {
            Resource::ServerDescriptors => "descriptors of the server",
            Resource::LoadDescriptors => "descriptors of the load",
            Resource::Ports => "ports",
            Resource::Memory => "memory",
            Resource::TcpMemory => "tcp_mem",
            Resource::ConnectionTracking => "connection tracking",
            Resource::ServerCpu => "server CPU",
            Resource::MachineCpu => "CPU of the machine",
            Resource::Network => "network",
            Resource::Generator => "generator",
            Resource::Latency => "slow answers",
            Resource::Connections => "connections",
            Resource::Messages => "messages",
            Resource::Death => "the server's death",
        }
    }

    /// What helps against it.
    fn advice(self) -> Option<&'static str> {
        Some(match self {
            Resource::ServerDescriptors => {
                "`webscale doctor --clients N --url URL` says how to allow it more"
            }
            Resource::TcpMemory | Resource::ConnectionTracking => "`webscale doctor` says how to raise it",
            Resource::MachineCpu => "with the load on another machine the server has all of this one",
            Resource::Network => {
                "a load from another machine, or another way there, tells whether the server holds more"
            }
            Resource::Generator => "more load: --threads, --processes or --tick, or another machine for it",
            _ => return None,
        })
    }

    /// Whose it is, where nothing else is known.
    fn end(self) -> End {
        match self {
            Resource::LoadDescriptors | Resource::Ports | Resource::Network | Resource::Generator => {
                End::Load
            }
            Resource::MachineCpu => End::Both,
            _ => End::Server,
        }
    }
}

/// Which end of the connections had too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The server: this is its capacity.
    Server,
    /// The load, or its way to the server: the server may hold more.
    Load,
    /// Both share it, on one machine: alone on it the server may hold more.
    Both,
}

/// What stopped a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Binding {
    /// The resource.
    pub resource: Resource,
    /// Who had too little of it.
    pub end: End,
    /// The step, in clients or messages a second.
    pub at: u32,
    /// What shows it.
    pub evidence: Vec<String>,
    /// What helps against it, where that is no part of the evidence.
    pub advice: Option<&'static str>,
}

impl Binding {
    pub(crate) fn new(resource: Resource, at: u32, evidence: impl Into<String>) -> Binding {
        let evidence = vec![evidence.into()];
        Binding { resource, end: resource.end(), at, evidence, advice: resource.advice() }
    }

    /// Whose end it was, if not the server's.
    pub(crate) fn reservation(&self) -> Option<&'static str> {
        match self.end {
            End::Server => None,
            End::Load => Some("it was on the load's side: the server may hold more"),
            End::Both => Some("server and load share it: alone on this machine the server may hold more"),
        }
    }

    /// The resource, and the first of what shows it.
    pub(crate) fn brief(&self) -> String {
        let first = self.evidence.first().map(|why| format!(" ({why})")).unwrap_or_default();
        format!("{}{first}", self.resource.words())
    }

    /// One line: the resource, and the evidence behind it.
    pub fn sentence(&self) -> String {
        format!("{} ({})", self.resource.words(), self.evidence.join("; "))
    }
}

impl InAll {
    /// Why a server that holds no clients cannot take so many, and how many it can take; none if nothing is against it.
    pub(super) fn refuse(&self, clients: u32) -> Option<(Binding, u32)> {
        (u64::from(clients) > self.free()).then(|| (self.binding(clients), self.most()))
    }

    /// How many clients a server that holds none can take.
    pub(crate) fn most(&self) -> u32 {
        u32::try_from(self.free().saturating_sub(self.processes * DESCRIPTORS_SPARE)).unwrap_or(u32::MAX)
    }

    /// What stops a server that holds no clients, at so many.
    pub(crate) fn binding(&self, at: u32) -> Binding {
        let InAll { held, limit, .. } = self;
        let text = format!("without clients the server has {held} of {limit} (RLIMIT_NOFILE)");
        Binding::new(Resource::ServerDescriptors, at, text)
    }

    pub(super) fn free(&self) -> u64 {
        self.limit.saturating_sub(self.held)
    }
}

/// What stopped a step, as one look found it.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    resource: Resource,
    end: End,
    why: String,
}

impl Finding {
    fn new(resource: Resource, why: String) -> Finding {
        Finding { resource, end: resource.end(), why }
    }
}

type Look = fn(&Outcome, &Witness) -> Option<Finding>;

/// In this order: what makes all else meaningless, hard limits, the load's own shortcomings, then who was full. A server that
/// has no processor leaves its messages unread, so that the kernel's memory for TCP comes behind it.
const LOOKS: [Look; 9] =
    [broken, death, turned_away, generator, memory, server_cpu, tcp_memory, machine_cpu, network];

/// Names what stopped a step that was not held. What else was full stands in the evidence.
pub(crate) fn judge(outcome: &Outcome, witness: &Witness, at: u32) -> Binding {
    let mut findings = LOOKS.iter().filter_map(|look| look(outcome, witness));
    let problems = outcome.verdict.problems.iter().cloned();
    let (resource, end, mut evidence): (_, _, Vec<String>) = match findings.next() {
        Some(Finding { resource, end, why }) => {
            let others =
                findings.filter(|other| other.resource != Resource::Generator).map(|other| other.why);
            (resource, end, [why].into_iter().chain(others).chain(problems).collect())
        }
        None => {
            let resource = unexplained(outcome);
            let is_slow = resource == Resource::Latency;
            // Other programs may have made it slow.
            let end = if is_slow && outcome.disturbed().is_some() { End::Both } else { resource.end() };
            (resource, end, problems.chain([cpu_text(outcome, witness)]).collect())
        }
    };
    if let Some(late) = outcome.verdict.saturated.as_ref().filter(|_| resource != Resource::Generator) {
        evidence.push(format!("the generator was not at its best: {late}"));
    }
    let mut advice = resource.advice();
    if let Some(others) = outcome.disturbed() {
        evidence.push(format!("other programs took {others:.1} processors meanwhile"));
        advice = Some("a machine that does nothing else tells more");
    }
    Binding { resource, end, at, evidence, advice }
}

/// A load that lost a part of itself says nothing of the server.
fn broken(outcome: &Outcome, _: &Witness) -> Option<Finding> {
    Some(Finding::new(Resource::Generator, outcome.verdict.broken.clone()?))
}

fn death(outcome: &Outcome, witness: &Witness) -> Option<Finding> {
    if !witness.is_gone() {
        return None;
    }
    let open = outcome.connections.peak_open;
    let died = format!("the server's process ended with {open} clients open");
    Some(match witness.memory_limit(open) {
        Some(limit) => Finding::new(Resource::Memory, format!("{died}; {limit}")),
        None => Finding::new(Resource::Death, died),
    })
}

/// Limits that a step ran into while clients were turned away.
fn turned_away(outcome: &Outcome, witness: &Witness) -> Option<Finding> {
    let connections = &outcome.connections;
    if connections.failed_count() + connections.disconnected_count() == 0 {
        return None;
    }
    if let Some(failure) = connections.failed.get("no local port") {
        return Some(Finding::new(Resource::Ports, format!("{} clients found no local port", failure.count)));
    }
    if let Some((used, limit)) =
        witness.descriptors().filter(|(used, limit)| used + DESCRIPTORS_SPARE >= *limit)
    {
        let why = format!("the server has {used} of {limit} descriptors (RLIMIT_NOFILE)");
        return Some(Finding::new(Resource::ServerDescriptors, why));
    }
    let (used, limit) = witness.tracked().filter(|(used, limit)| used >= limit)?;
    let why = format!("nf_conntrack_count is {used} of {limit}");
    Some(Finding { resource: Resource::ConnectionTracking, end: witness.machine(), why })
}

/// A saturated generator, unless the server was too slow even counted from when messages were sent, however late, and if
/// the answers were read as late as that.
fn generator(outcome: &Outcome, _: &Witness) -> Option<Finding> {
    let why = outcome.verdict.saturated.clone()?;
    let sent = outcome.latency_us.as_ref().and_then(|latency| latency.uncorrected);
    let late_us = outcome.schedule_lag_us.map_or(0.0, |lag| lag.p99);
    let is_slow = sent.is_some_and(|sent| sent.p99 - late_us > outcome.latency_limit_seconds * 1e6);
    (!is_slow).then_some(Finding::new(Resource::Generator, why))
}

fn memory(_: &Outcome, witness: &Witness) -> Option<Finding> {
    let (end, why) = witness.memory_exhausted()?;
    Some(Finding { resource: Resource::Memory, end, why })
}

fn server_cpu(outcome: &Outcome, witness: &Witness) -> Option<Finding> {
    let found = |why| Some(Finding::new(Resource::ServerCpu, why));
    if let Some(thread) = busiest_thread(&outcome.timeline).filter(|thread| thread.share >= FULL) {
        return found(format!(
            "the server's thread {:?} used {:.0} % of a processor",
            thread.name,
            thread.share * 100.0
        ));
    }
    let (share, allowed) = (outcome.server.as_ref()?.cpu_share, witness.processors());
    if share >= FULL * allowed {
        let used = share / allowed * 100.0;
        return found(format!("the server used {used:.0} % of the {allowed:.1} processors that it may use"));
    }
    let (wanted, had) = (witness.runnable() * 100.0, share * 100.0);
    let why = format!(
        "a thread of the server wanted a processor for {wanted:.0} % of the time; it had {had:.0} % in all"
    );
    // What other programs have taken of it was not the server's to use.
    let end = if outcome.disturbed().is_some() { End::Both } else { End::Server };
    (witness.runnable() >= FULL).then_some(Finding { resource: Resource::ServerCpu, end, why })
}

fn tcp_memory(_: &Outcome, witness: &Witness) -> Option<Finding> {
    let why = witness.tcp_memory_pressed()?;
    Some(Finding { resource: Resource::TcpMemory, end: witness.machine(), why })
}

fn machine_cpu(outcome: &Outcome, _: &Witness) -> Option<Finding> {
    let share = outcome.server.as_ref()?.cpu_share * 100.0;
    let busy = outcome.machine.busy + outcome.machine.stolen;
    let load = outcome.generator.cpu_share * 100.0;
    let is_full = busy >= MACHINE_FULL && outcome.disturbed().is_none();
    let busy = busy * 100.0;
    let why = format!("all processors are {busy:.0} % busy: server {share:.0} %, load {load:.0} %");
    is_full.then_some(Finding::new(Resource::MachineCpu, why))
}

fn network(_: &Outcome, witness: &Witness) -> Option<Finding> {
    Some(Finding::new(Resource::Network, witness.network_exhausted()?))
}

/// What went wrong, where nothing was full.
fn unexplained(outcome: &Outcome) -> Resource {
    let (connections, messages) = (&outcome.connections, &outcome.messages);
    if connections.failed_count() + connections.disconnected_count() > 0 {
        Resource::Connections
    } else if messages.reordered + messages.corrupt > 0 {
        Resource::Messages
    } else {
        Resource::Latency
    }
}

/// What is known of the server's CPU, where it explains nothing.
fn cpu_text(outcome: &Outcome, witness: &Witness) -> String {
    match (busiest_thread(&outcome.timeline), &outcome.server) {
        (Some(thread), _) => {
            format!("the server's busiest thread used {:.0} % of a processor", thread.share * 100.0)
        }
        (None, Some(server)) => format!("the server used {:.0} % of a processor", server.cpu_share * 100.0),
        (None, None) if witness.is_near() => "the server's CPU is not known: --pid names its process".into(),
        (None, None) => {
            "the server is on another machine, where its CPU and memory have to be looked at".into()
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::outcome::tests::{good, summary};
    use crate::bench::outcome::{Failure, LatencySummary, ServerUse};
    use crate::bench::timeline::{Sample, ServerSample, ThreadShare};
    use crate::doctor::machine::Machine;
    use crate::measure::process::{Memory, Switches};
    use crate::observe::Phase;

    /// What is needed of a machine on which all is well, with the server's process 7.
    const CALM: [(&str, &str); 5] = [
        ("proc/7/statm", "900 800 0 0 0 0 0\n"),
        ("proc/7/status", "Cpus_allowed_list:\t0-1\n"),
        ("proc/7/limits", "Max open files 100 100 files\nMax address space unlimited unlimited bytes\n"),
        ("proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 500000 kB\n"),
        ("proc/sys/net/ipv4/tcp_mem", "100 200 300\n"),
    ];

    fn machine(name: &str) -> Machine {
        Machine::new(&format!("binding-{name}"), &CALM)
    }

    /// Of a server on the same machine, or on another, after one more look.
    fn witness(machine: &Machine, is_near: bool) -> Witness {
        let pids: &[u32] = if is_near { &[7] } else { &[] };
        let mut witness = Witness::new(machine.root(), pids, &[], is_near);
        witness.look();
        witness
    }

    /// A load whose answers were late.
    fn slow() -> Outcome {
        let mut outcome = good();
        outcome.latency_us =
            Some(LatencySummary { corrected: summary(200_000.0), uncorrected: Some(summary(200_000.0)) });
        outcome.verdict.problems = vec!["p99 latency was 200.0 ms, above the limit of 100 ms".into()];
        outcome
    }

    /// The same, while a thread of the server had this share of a processor.
    fn slow_with_thread(share: f64) -> Outcome {
        let threads = vec![ThreadShare { tid: 7, name: "ws".into(), share }];
        let server = Some(ServerSample { cpu_share: share, threads, ..ServerSample::default() });
        let sample = Sample { phase: Phase::Measuring, length_seconds: 1.0, server, ..Sample::default() };
        Outcome { timeline: vec![sample], ..slow() }
    }

    /// A server that took this share of a processor.
    pub(crate) fn server(cpu_share: f64) -> ServerUse {
        ServerUse {
            pids: vec![7],
            memory_idle: Memory::default(),
            memory_connected: Memory::default(),
            memory_loaded: Memory::default(),
            peak_pss_bytes: 0,
            handshake_cpu_us: None,
            cpu_seconds: cpu_share * 10.0,
            cpu_share,
            cpu_us_per_message: None,
            threads: 1,
            descriptors: 9,
            switches: Switches::default(),
            switches_per_message: None,
        }
    }

    fn found(outcome: &Outcome, witness: &Witness) -> (Resource, End, String) {
        let Binding { resource, end, evidence, .. } = judge(outcome, witness, 9);
        (resource, end, evidence.join("; "))
    }

    #[test]
    fn a_late_generator_is_no_excuse_for_a_server_that_is_slower_than_that() {
        let machine = machine("late");
        let witness = witness(&machine, true);
        let of = |outcome: &Outcome| generator(outcome, &witness).map(|finding| finding.why);
        let mut outcome = good();
        assert_eq!(of(&outcome), None);
        outcome.verdict.saturated = Some("it was late".into());
        assert_eq!(of(&outcome), Some("it was late".into()));
        assert_eq!(judge(&outcome, &witness, 9).end, End::Load);
        let uncorrected = &mut outcome.latency_us.as_mut().unwrap().uncorrected;
        uncorrected.as_mut().unwrap().p99 = 111_001.0;
        outcome.schedule_lag_us = Some(summary(11_001.0));
        assert!(of(&outcome).is_some(), "100 ms are the limit, and 11 ms may be the load's again");
        outcome.schedule_lag_us = Some(summary(11_000.0));
        assert_eq!(of(&outcome), None);
        assert!(judge(&outcome, &witness, 9).sentence().contains("not at its best: it was late"));
        outcome.latency_us = None;
        assert!(of(&outcome).is_some(), "nothing was answered that could tell");
    }

    #[test]
    fn a_full_thread_comes_before_the_unread_messages_that_it_causes() {
        let machine = machine("unread");
        machine.write("proc/net/sockstat", "TCP: inuse 7 orphan 0 tw 3 alloc 9 mem 250\n");
        let witness = witness(&machine, true);
        let (resource, end, evidence) = found(&slow_with_thread(0.95), &witness);
        assert_eq!((resource, end), (Resource::ServerCpu, End::Server));
        assert!(evidence.contains("\"ws\" used 95 %") && evidence.contains("pressure begins"), "{evidence}");
        let (resource, end, evidence) = found(&slow_with_thread(0.4), &witness);
        assert_eq!((resource, end), (Resource::TcpMemory, End::Both));
        assert!(evidence.contains("pressure begins") && evidence.contains("200.0 ms"), "{evidence}");
    }

    #[test]
    fn memory_is_the_servers_own_or_that_of_the_machine() {
        let machine = machine("memory");
        machine.write("proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 9000 kB\n");
        let of = |is_near| found(&slow(), &witness(&machine, is_near));
        assert_eq!((of(true).0, of(true).1), (Resource::Memory, End::Both));
        assert_eq!((of(false).0, of(false).1), (Resource::Memory, End::Load));
        machine.write("proc/7/cgroup", "4:memory:/a\n");
        machine.write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "100000000\n");
        machine.write("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "99000000\n");
        let (resource, end, evidence) = of(true);
        assert_eq!((resource, end), (Resource::Memory, End::Server));
        assert!(evidence.contains("its cgroup has 99 MB of 100 MB"), "{evidence}");
        // A server with room left in its group is slow for another reason.
        machine.write("proc/meminfo", CALM[3].1);
        machine.write("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "85000000\n");
        assert_eq!(of(true).0, Resource::Latency);
    }

    #[test]
    fn clients_that_are_turned_away_by_a_limit() {
        let machine = machine("turned-away");
        let mut outcome = good();
        let failure = Failure { count: 3, example: "no answer".into() };
        outcome.connections.failed.insert("timeout".into(), failure.clone());
        assert_eq!(found(&outcome, &witness(&machine, true)).0, Resource::Connections);
        (0..95).for_each(|number| machine.write(&format!("proc/7/fd/{number}"), ""));
        let (resource, end, evidence) = found(&outcome, &witness(&machine, true));
        assert_eq!((resource, end), (Resource::ServerDescriptors, End::Server));
        assert!(evidence.contains("95 of 100"), "{evidence}");
        for (file, number) in [("max", "500\n"), ("count", "500\n")] {
            machine.write(&format!("proc/sys/net/netfilter/nf_conntrack_{file}"), number);
        }
        let (resource, end, _) = found(&outcome, &witness(&machine, false));
        assert_eq!((resource, end), (Resource::ConnectionTracking, End::Load));
        outcome.connections.failed.insert("no local port".into(), failure);
        assert_eq!(found(&outcome, &witness(&machine, true)).0, Resource::Ports);
    }

    #[test]
    fn a_processor_that_a_control_group_bounds_is_full_below_one() {
        let machine = machine("quota");
        machine.write("proc/7/cgroup", "1:cpu:/a\n");
        machine.write("sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "50000\n");
        machine.write("sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n");
        let with_server = |share: f64| {
            let server = server(share);
            found(&Outcome { server: Some(server), ..slow() }, &witness(&machine, true))
        };
        let (resource, _, evidence) = with_server(0.49);
        assert_eq!(resource, Resource::ServerCpu);
        assert!(evidence.contains("98 % of the 0.5 processors"), "{evidence}");
        assert_eq!(with_server(0.3).0, Resource::Latency);
    }

    #[test]
    fn of_a_server_elsewhere_nothing_is_said_that_cannot_be_done() {
        let machine = machine("elsewhere");
        let (resource, end, evidence) = found(&slow(), &witness(&machine, false));
        assert_eq!((resource, end), (Resource::Latency, End::Server));
        assert!(evidence.contains("another machine") && !evidence.contains("--pid"), "{evidence}");
        assert!(found(&slow(), &Witness::new(machine.root(), &[], &[], true)).2.contains("--pid"));
    }

    #[test]
    fn the_whole_machine_is_shared() {
        let machine = machine("whole");
        let mut outcome = Outcome { server: Some(server(0.5)), ..slow() };
        outcome.machine.busy = 0.97;
        let (resource, end, evidence) = found(&outcome, &witness(&machine, true));
        assert_eq!((resource, end), (Resource::MachineCpu, End::Both));
        assert!(evidence.contains("97 % busy: server 50 %, load 10 %"), "{evidence}");
        // What others take is nobody's end.
        outcome.other_programs = Some(1.2);
        let binding = judge(&outcome, &witness(&machine, true), 9);
        assert_eq!((binding.resource, binding.end), (Resource::Latency, End::Both));
        assert!(binding.sentence().contains("took 1.2 processors"), "{binding:?}");
        assert!(binding.advice.is_some_and(|advice| advice.contains("nothing else")), "{binding:?}");
    }
}
