//! This machine's limits against a number of clients, in the order in which they bite.
//!
//! Everything is read from below a root directory, `/` but for tests. A file that cannot be read makes a row
//! [`Verdict::Unknown`], never a good one.

mod check;
mod descriptors;
#[cfg(test)]
pub(crate) mod machine;
mod memory;
mod network;
mod processor;
mod root;
mod table;
mod tasks;

use serde::Serialize;

use crate::bench::endpoint::Endpoint;
use crate::bench::{BenchError, Plan, Probe};
use crate::measure::listener::{self, ListenerError};
use crate::measure::process::parse_stat;
pub use check::{Check, Mend, Value, Verdict};
pub(crate) use descriptors::{ProcessLimits, SYSTEM_FILES};
pub(crate) use memory::KERNEL_BYTES;
pub(crate) use network::{CONNECTION_TRACKING, TCP_MEMORY};
pub use root::Root;
pub use table::text;
pub(crate) use tasks::EPOLL_WATCHES;

/// Which ends of the connections are on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The server.
    Server,
    /// The load.
    Load,
    /// Both, as on loopback.
    Both,
}

impl Role {
    /// Whether the server is here.
    pub fn serves(self) -> bool {
        self != Role::Load
    }

    /// Whether the load is here.
    pub fn loads(self) -> bool {
        self != Role::Server
    }

    /// Ends of each connection that are here.
    pub fn ends(self) -> u64 {
        u64::from(self.serves()) + u64::from(self.loads())
    }
}

/// What the machine is to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Need {
    /// Clients at the same time.
    pub clients: u64,
    /// Which ends are here.
    pub role: Role,
    /// Processes that share the server's port, at least one.
    pub processes: u64,
    /// Source addresses of the load, at least one; on loopback as many as are needed.
    pub sources: u64,
    /// The load goes over loopback, where all of 127/8 are source addresses.
    pub loopback: bool,
    /// TLS.
    pub secure: bool,
    /// Memory of the server's process for each client, in bytes.
    pub server_bytes: u64,
    /// Length of a message, in bytes; zero where none are sent.
    pub message_bytes: u64,
    /// Processes of a server that runs here and share its port, whose own limits count. Empty where it is still to be
    /// started, or not known.
    pub server: Vec<u32>,
}

/// Length of the message of a load that says nothing of it: `webscale payload`.
pub const MESSAGE_BYTES: u64 = 10_240;

/// PSS of `webscale serve` for one TLS client, idle or loaded with 10 kB messages: measured at 3.7 to 4.1 kB.
pub const SERVER_BYTES: u64 = 4_100;

impl Need {
    /// What the load of `plan` needs, as far as it can be known before it: whether the server is on this machine is
    /// told by its address.
    ///
    /// # Errors
    /// When the URL is none, or its host cannot be found.
    pub fn of_plan(plan: &Plan) -> Result<Need, BenchError> {
        let endpoint = Endpoint::new(plan)?;
        let address = endpoint.address().ok_or(BenchError::Nothing)?;
        Ok(Need {
            role: if endpoint.is_near() { Role::Both } else { Role::Load },
            sources: plan.sources.len().max(1) as u64,
            loopback: address.is_loopback() && address.is_ipv4(),
            secure: plan.is_secure(),
            message_bytes: if plan.probe == Probe::Idle { 0 } else { plan.payload.len_max() as u64 },
            server: plan.pids.clone(),
            ..Need::of(plan.clients.into())
        })
    }

    /// `clients` over TLS on loopback, both ends here, a server in one process that takes [`SERVER_BYTES`] a client.
    pub fn of(clients: u64) -> Need {
        Need {
            clients,
            role: Role::Both,
            processes: 1,
            sources: 1,
            loopback: true,
            secure: true,
            server_bytes: SERVER_BYTES,
            message_bytes: MESSAGE_BYTES,
            server: Vec::new(),
        }
    }

    /// Takes the processes that listen at the URL of `plan` for the server, if it is on this machine and runs.
    ///
    /// # Errors
    /// When nobody listens there, or whoever does may not be looked at.
    pub fn find_server(&mut self, plan: &Plan) -> Result<(), ListenerError> {
        let addresses = Endpoint::new(plan).map(|endpoint| endpoint.addresses().to_vec()).unwrap_or_default();
        let mut found = addresses.into_iter().map(listener::holders);
        let holders = match found.next() {
            Some(Err(first)) => found.find_map(Result::ok).ok_or(first)?,
            Some(Ok(holders)) => holders,
            None => return Ok(()),
        };
        self.server = without_parents(&Root::default(), &holders);
        self.processes = self.server.len() as u64;
        Ok(())
    }
}

/// Of processes that share a port, those that take its connections: one that has started another leaves them to that.
fn without_parents(root: &Root, pids: &[u32]) -> Vec<u32> {
    let parent = |pid: &u32| Some(parse_stat(&root.text(&format!("proc/{pid}/stat"))?)?.parent);
    let parents: Vec<u32> = pids.iter().filter_map(parent).collect();
    pids.iter().copied().filter(|pid| !parents.contains(pid)).collect()
}

/// What the examination found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diagnosis {
    /// What was asked for.
    pub need: Need,
    /// Whether no row is [`Verdict::Short`].
    pub fits: bool,
    /// The rows.
    pub checks: Vec<Check>,
}

impl Diagnosis {
    fn new(need: &Need, checks: Vec<Check>) -> Diagnosis {
        let fits = checks.iter().all(|check| check.verdict != Verdict::Short);
        Diagnosis { need: need.clone(), fits, checks }
    }

    /// The rows with this verdict.
    pub fn with(&self, verdict: Verdict) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(move |check| check.verdict == verdict)
    }
}

/// Examines everything.
pub fn examine(root: &Root, need: &Need) -> Diagnosis {
    let groups = [
        descriptors::checks,
        network::checks,
        memory::checks,
        memory::of_server,
        tasks::checks,
        processor::checks,
    ];
    Diagnosis::new(need, groups.into_iter().flat_map(|checks| checks(root, need)).collect())
}

/// Examines what a load does not find out by itself before its first connection: not descriptors, ports and threads, of
/// which it takes what it needs or says what is missing, nor the processor, nor the server. A millisecond or so.
pub fn before_load(root: &Root, need: &Need) -> Diagnosis {
    let groups = [descriptors::system, network::kernel, memory::checks, tasks::watches];
    Diagnosis::new(need, groups.into_iter().flat_map(|checks| checks(root, need)).collect())
}

#[cfg(test)]
mod tests;
