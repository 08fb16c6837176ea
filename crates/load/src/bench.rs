//! A load on any WebSocket endpoint: clients that connect, send on schedule, and learn how long it took.
//!
//! ```text
//!   idle ── connect, over the ramp ── settle ── warm up ── measure ── drain ── close
//!    │                                   │         │          │
//!   mark                                mark      mark       mark      (CPU, memory, sockets)
//! ```
//!
//! Messages are due by [`Schedule`](crate::schedule::Schedule), whatever the server does (the open model); latency counts from
//! when a message was due.

mod client;
pub mod compressed;
mod conductor;
pub mod counts;
pub mod endpoint;
pub(crate) mod fleet;
pub(crate) mod judgement;
pub mod outcome;
pub mod payload;
pub mod plan;
pub mod provenance;
mod reconnect;
mod server;
pub mod stop;
pub(crate) mod tally;
pub mod template;
mod tickets;
pub mod timeline;
mod waiting;
mod watch;

use std::io;
use std::net::IpAddr;
use std::time::Instant;

use webscale::{TargetError, TlsConfigError};

use crate::measure::kernel::KernelError;
use crate::measure::process::ProcessError;
use crate::observe::{Observer, Phase};
use conductor::Conductor;
use counts::{CountsError, Reconciliation};
pub use fleet::run_part;
use outcome::Outcome;
pub use plan::{Plan, Probe, Program, Trust};
use watch::Marks;

/// Why a load could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// No clients, no interval, no duration or no event loop.
    #[error("nothing to do: clients, interval and duration must be above zero")]
    Nothing,
    /// A closed loop in which not every message is answered.
    #[error("in a closed loop every message must be answered, and every client be probed")]
    NotAnswered,
    /// The URL holds a field that has no place there.
    #[error("the URL, {0}")]
    Url(String),
    /// The URL.
    #[error("{0}")]
    Target(TargetError),
    /// The certificates to trust.
    #[error("{0}")]
    Tls(TlsConfigError),
    /// Too few file descriptors.
    #[error(
        "{clients} clients need {needs} file descriptors a process and one may open {has}: take more processes, raise \
         the hard limit (`ulimit -Hn {needs}` as root, or LimitNOFILE={needs} in a systemd unit), or use at most {most} \
         clients"
    )]
    Descriptors {
        /// Clients asked for.
        clients: u32,
        /// Descriptors for them, in each process.
        needs: u64,
        /// Descriptors allowed.
        has: u64,
        /// Clients that fit.
        most: u64,
    },
    /// Too few ports.
    #[error(
        "{clients} clients from {sources} source address(es) with {ports} ports each: name more addresses of this \
         machine with --source, or widen net.ipv4.ip_local_port_range"
    )]
    Ports {
        /// Clients asked for.
        clients: u32,
        /// Source addresses.
        sources: usize,
        /// Ports that each has.
        ports: u64,
    },
    /// A processor that this process may not use.
    #[error("processor {cpu} is not there for this process: it may use {}", list(.allowed))]
    Processor {
        /// The processor.
        cpu: usize,
        /// Those that there are.
        allowed: Vec<usize>,
    },
    /// A source address of the wrong family.
    #[error("the source address {from} cannot reach {host}: one is IPv4 and the other is IPv6")]
    SourceFamily {
        /// The source address.
        from: IpAddr,
        /// The server's address.
        host: IpAddr,
    },
    /// The limit of descriptors could not be raised.
    #[error("raising the limit of open files: {0}")]
    Raise(io::Error),
    /// The processors that may be used could not be read.
    #[error("reading the processors that may be used: {0}")]
    Affinity(io::Error),
    /// The event loop could not be started or has ended.
    #[error("the load's event loop: {0}")]
    Loop(String),
    /// A process that makes a part of the load failed.
    #[error("{name}, which makes a part of the load: {why}")]
    Part {
        /// Which one.
        name: String,
        /// What it said, or how it ended.
        why: String,
    },
    /// The server's own counts could not be read at the start.
    #[error("--counts: {0}")]
    Counts(#[from] CountsError),
    /// A process could not be measured at the start.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The kernel's counters could not be read.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Not one client could connect.
    #[error("no client could connect: {said}{advice}")]
    NoClient {
        /// What most of them met.
        said: String,
        /// What the user of a load can do about it, behind a semicolon; empty where nothing is known.
        advice: String,
    },
}

fn list(numbers: &[usize]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Makes the load of `plan`, and returns what came of it. Blocks for as long as the plan says.
///
/// # Errors
/// When the load could not be made at all. A load that the server did not hold is an [`Outcome`], and so is one of which a
/// part was lost on the way.
pub fn run(plan: &Plan, observer: &mut dyn Observer) -> Result<Outcome, BenchError> {
    let prepared = plan.prepare()?;
    let mut reconciliation = Reconciliation::begin(plan)?;
    let mut conductor = Conductor::new(plan, &prepared, observer)?;
    let idle = conductor.mark()?;
    let connecting = Instant::now();
    conductor.connect();
    let connect_time = connecting.elapsed();
    conductor.some_connected()?;
    conductor.settle();
    let connected = conductor.mark()?;
    if let Some(reconciliation) = &mut reconciliation {
        reconciliation.connected(conductor.open());
    }
    let start = conductor.start();
    conductor.wait(Phase::WarmingUp, start + plan.warmup);
    let begin = conductor.mark()?;
    conductor.wait(Phase::Measuring, start + plan.until());
    // Of what was not come to, nothing was taken.
    let end = if conductor.is_measured() { conductor.mark()? } else { begin.clone() };
    conductor.drain();
    let mut outcome = conductor.finish(&Marks { idle, connected, begin, end }, connect_time);
    if let Some(reconciliation) = reconciliation {
        reconciliation.end(&mut outcome);
    }
    Ok(outcome)
}
