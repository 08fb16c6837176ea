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
/// A network interface above this share of its speed is full.
const NETWORK_FULL: f64 = 0.9;

/// What there is too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// The server's file descriptors.
    ServerDescriptors,
    /// The load's file descriptors: the server may hold more.
    LoadDescriptors,
    /// Local ports of the load's source addresses: the server may hold more.
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
    /// A network interface.
    Network,
    /// The load generator: the server may hold more.
    Generator,
    /// The server was slow without a full processor.
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
            Resource::Latency => "server slow",
            Resource::Connections => "connections",
            Resource::Messages => "messages",
            Resource::Death => "the server's death",
        }
    }

    /// Whether it is the load's: the server may hold more.
    pub fn is_ours(self) -> bool {
        matches!(self, Resource::LoadDescriptors | Resource::Ports | Resource::Generator)
    }
}

/// What stopped a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Binding {
    /// The resource.
    pub resource: Resource,
    /// The step, in clients or messages a second.
    pub at: u32,
    /// What shows it.
    pub evidence: Vec<String>,
}

impl Binding {
    pub(crate) fn new(resource: Resource, at: u32, evidence: impl Into<String>) -> Binding {
        Binding { resource, at, evidence: vec![evidence.into()] }
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

/// Names what stopped a step that was not held: hard limits first, then who was full, and last who was slow.
pub(crate) fn judge(outcome: &Outcome, witness: &Witness, at: u32) -> Binding {
    let found = broken(outcome)
        .or_else(|| death(outcome, witness))
        .or_else(|| limits(outcome, witness))
        .or_else(|| generator(outcome))
        .or_else(|| memory(witness))
        .or_else(|| processors(outcome, witness))
        .or_else(|| network(outcome, witness));
    let mut problems = outcome.verdict.problems.clone();
    let (resource, mut evidence) = match found {
        Some((resource, why)) => {
            let also = outcome.verdict.saturated.iter().filter(|_| resource != Resource::Generator);
            problems.extend(also.map(|why| format!("the generator was not at its best: {why}")));
            (resource, [vec![why], problems].concat())
        }
        None => (unexplained(outcome), [problems, vec![cpu_text(outcome)]].concat()),
    };
    if let Some(others) = outcome.disturbed() {
        evidence.push(format!("other programs took {others:.1} processors meanwhile"));
    }
    Binding { resource, at, evidence }
}

type Found = Option<(Resource, String)>;

/// A load that lost a part of itself says nothing of the server.
fn broken(outcome: &Outcome) -> Found {
    Some((Resource::Generator, outcome.verdict.broken.clone()?))
}

fn death(outcome: &Outcome, witness: &Witness) -> Found {
    if !witness.is_gone() {
        return None;
    }
    let open = outcome.connections.peak_open;
    let died = format!("the server's process ended with {open} clients open");
    match witness.memory_limit(open) {
        Some(limit) => Some((Resource::Memory, format!("{died}; {limit}"))),
        None => Some((Resource::Death, died)),
    }
}

/// Limits that a step ran into while clients were turned away.
fn limits(outcome: &Outcome, witness: &Witness) -> Found {
    let connections = &outcome.connections;
    if connections.failed_count() + connections.disconnected_count() == 0 {
        return None;
    }
    if let Some(failure) = connections.failed.get("no local port") {
        return Some((Resource::Ports, format!("{} clients found no local port", failure.count)));
    }
    if let Some((used, limit)) =
        witness.descriptors().filter(|(used, limit)| used + DESCRIPTORS_SPARE >= *limit)
    {
        return Some((
            Resource::ServerDescriptors,
            format!("the server has {used} of {limit} (RLIMIT_NOFILE)"),
        ));
    }
    let (used, limit) = witness.tracked()?;
    (used >= limit)
        .then(|| (Resource::ConnectionTracking, format!("nf_conntrack_count is {used} of {limit}")))
}

/// A saturated generator, unless the server was too slow even counted from when messages were sent, however late.
fn generator(outcome: &Outcome) -> Found {
    let why = outcome.verdict.saturated.clone()?;
    let sent = outcome.latency_us.as_ref().and_then(|latency| latency.uncorrected);
    let is_slow = sent.is_some_and(|sent| sent.p99 > outcome.latency_limit_seconds * 1e6);
    (!is_slow).then_some((Resource::Generator, why))
}

fn memory(witness: &Witness) -> Found {
    if let Some(text) = witness.memory_exhausted() {
        return Some((Resource::Memory, text));
    }
    Some((Resource::TcpMemory, witness.tcp_memory_pressed()?))
}

fn processors(outcome: &Outcome, witness: &Witness) -> Found {
    if let Some(thread) = busiest_thread(&outcome.timeline).filter(|thread| thread.share >= FULL) {
        let text = format!("its thread {:?} used {:.0} % of a processor", thread.name, thread.share * 100.0);
        return Some((Resource::ServerCpu, text));
    }
    let server = outcome.server.as_ref()?;
    let (share, allowed) = (server.cpu_share, witness.processors());
    if share >= FULL * allowed {
        let text = format!(
            "it used {:.0} % of the {allowed:.1} processors that it may use",
            share / allowed * 100.0
        );
        return Some((Resource::ServerCpu, text));
    }
    if witness.runnable() >= FULL {
        let (wanted, had) = (witness.runnable() * 100.0, share * 100.0);
        let text =
            format!("a thread wanted a processor for {wanted:.0} % of the time; the server had {had:.0} %");
        return Some((Resource::ServerCpu, text));
    }
    let busy = outcome.machine.busy + outcome.machine.stolen;
    let load = outcome.generator.cpu_seconds / outcome.measured_seconds;
    (busy >= MACHINE_FULL && outcome.disturbed().is_none()).then(|| {
        let (busy, server, load) = (busy * 100.0, share * 100.0, load * 100.0);
        (
            Resource::MachineCpu,
            format!("all processors are {busy:.0} % busy: server {server:.0} %, load {load:.0} %"),
        )
    })
}

fn network(outcome: &Outcome, witness: &Witness) -> Found {
    let (name, share) = witness.interface(outcome.measured_seconds)?;
    let text = format!("{name} carried {:.0} % of its speed", share * 100.0);
    (share >= NETWORK_FULL).then_some((Resource::Network, text))
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

fn cpu_text(outcome: &Outcome) -> String {
    match (busiest_thread(&outcome.timeline), &outcome.server) {
        (Some(thread), _) => {
            format!("its busiest thread used {:.0} % of a processor", thread.share * 100.0)
        }
        (None, Some(server)) => format!("it used {:.0} % of a processor", server.cpu_share * 100.0),
        (None, None) => "its CPU is not known: --pid names its process".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::outcome::tests::good;

    #[test]
    fn a_late_generator_is_no_excuse_for_a_server_that_is_slower_than_that() {
        let mut outcome = good();
        assert_eq!(generator(&outcome), None);
        outcome.verdict.saturated = Some("it was late".into());
        assert_eq!(generator(&outcome), Some((Resource::Generator, "it was late".into())));
        let uncorrected = &mut outcome.latency_us.as_mut().unwrap().uncorrected;
        uncorrected.as_mut().unwrap().p99 = 100_001.0;
        assert_eq!(generator(&outcome), None, "100 ms are the limit, from the time of sending");
        outcome.latency_us = None;
        assert!(generator(&outcome).is_some(), "nothing was answered that could tell");
    }
}
