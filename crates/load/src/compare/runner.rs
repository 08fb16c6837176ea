//! One run: a fresh server, a load on it, and the counts of both set against each other.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use workload::Mode;
use workload::report::Counts;

use super::contestant::Contestant;
use super::machine::Apart;
use super::server::{Launch, Server, ServerError};
use super::settings::{ECHO_BYTES, Stage};
use crate::bench::outcome::Outcome;
use crate::bench::payload::{Kind, Payload};
use crate::bench::{self, BenchError, Plan, Probe, Program, Trust, timeline};
use crate::capacity::binding::{Binding, Resource, judge};
use crate::capacity::witness::{InAll, Witness, Witnessed};
use crate::cert::Files;
use crate::doctor::Root;
use crate::observe::Observer;
use crate::report::unit::Unit;

/// Of the clients, one in so many is probed: each pong is work for the server that the article's server had not.
const PROBE_ONE_IN: u32 = 10;
/// Up to so many clients, all are probed.
const ALL_PROBED: u32 = 100;
/// Rest between the last handshake and the first message, in which memory is read.
const SETTLE: Duration = Duration::from_millis(300);

/// Samples that are kept of each run: enough for its shape, and the JSON stays readable.
const SAMPLES_MAX: usize = 30;

/// Why a run has no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The load.
    #[error(transparent)]
    Bench(#[from] BenchError),
}

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// The same server twice: how much two runs differ by themselves.
    Noise,
    /// CPU, latency, handshakes.
    Load,
    /// CPU of small messages that are sent back.
    Echo,
    /// Memory with fewer clients.
    Memory,
    /// Peak heap, under heaptrack.
    Heap,
    /// A step towards the most clients.
    Capacity,
}

impl Purpose {
    /// What it is called.
    pub fn words(self) -> &'static str {
        match self {
            Purpose::Noise => "noise floor",
            Purpose::Load => "load",
            Purpose::Echo => "128-byte echo",
            Purpose::Memory => "memory",
            Purpose::Heap => "peak heap",
            Purpose::Capacity => "most clients",
        }
    }
}

/// A run and what came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// Who was loaded.
    pub server: Contestant,
    /// What it was for.
    pub purpose: Purpose,
    /// Runs of different servers with the same purpose and round are a pair.
    pub round: usize,
    /// Why its figures do not count, if so.
    pub rejected: Option<String>,
    /// Messages that the server itself counted; none where it does not say.
    pub server_messages: Option<u64>,
    /// Connections that the server itself counted; none where it does not say.
    pub server_connections: Option<u64>,
    /// What stopped it, for a step towards the most clients that was not held.
    pub binding: Option<Binding>,
    /// What the load found.
    pub outcome: Outcome,
    /// Descriptors of those processes of the server that took clients, without these.
    #[serde(skip)]
    pub(crate) descriptors: Option<InAll>,
}

/// What one run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Task {
    /// Who.
    pub contestant: Contestant,
    /// What for.
    pub purpose: Purpose,
    /// Which time.
    pub round: usize,
    /// The load.
    pub stage: Stage,
}

/// What is the same for all runs of a comparison.
#[derive(Debug, Clone)]
pub struct Runner {
    /// The certificate of all servers.
    pub certificate: Files,
    /// Where server and load run.
    pub apart: Option<Apart>,
    /// Above this, p99 is a problem.
    pub latency_limit: Duration,
    /// What a further process of the load runs, for the most clients.
    pub program: Option<Program>,
}

impl Runner {
    /// Starts the server, loads it, ends it.
    ///
    /// # Errors
    /// When the server could not be started or died, or no load could be made.
    pub fn run(
        &self,
        task: Task,
        binary: &Path,
        environment: Vec<(&'static str, OsString)>,
        observer: &mut dyn Observer,
    ) -> Result<Run, RunError> {
        let Task { contestant, purpose, round, stage } = task;
        let mode = if purpose == Purpose::Echo { Mode::Echo } else { Mode::Ingest };
        let cpu = self.apart.map(|apart| apart.server);
        let mut server = match contestant {
            Contestant::Extra(extra) => {
                Server::start_extra(extra, &self.certificate, cpu, &|| observer.stopped())?
            }
            _ => {
                let arguments = self.arguments(contestant, mode);
                Server::start(&Launch { binary, arguments, environment, cpu })?
            }
        };
        let plan = self.plan(&server, purpose, stage);
        let witness = Witness::new(Root::default(), &plan.pids, &[], true);
        let mut watched = Witnessed { witness, observer };
        let mut outcome = match bench::run(&plan, &mut watched) {
            Ok(outcome) => outcome,
            // If the server died, that is why.
            Err(error) => return Err(server.death().map_or(RunError::Bench(error), RunError::Server)),
        };
        let mut witness = watched.witness;
        witness.look();
        let stopped_by = (!outcome.verdict.held()).then(|| judge(&outcome, &witness, stage.clients));
        outcome.timeline = timeline::thinned(&outcome.timeline, SAMPLES_MAX);
        let counts = server.finish()?;
        let rejected = rejection(&outcome, counts.as_ref(), mode);
        let miscounted = || Some(Binding::new(Resource::Messages, stage.clients, rejected.clone()?));
        let binding = stopped_by.or_else(miscounted).filter(|_| purpose == Purpose::Capacity);
        Ok(Run {
            server: contestant,
            purpose,
            round,
            rejected,
            server_messages: counts.as_ref().map(|counts| counts.messages),
            server_connections: counts.as_ref().map(|counts| counts.connections),
            binding,
            outcome,
            descriptors: witness.descriptors_without_clients(),
        })
    }

    fn arguments(&self, contestant: Contestant, mode: Mode) -> Vec<OsString> {
        let mode = if mode == Mode::Echo { "echo" } else { "ingest" };
        let file = |path: &PathBuf| path.clone().into_os_string();
        let mut arguments: Vec<OsString> = vec!["--mode".into(), mode.into()];
        arguments.extend(["--cert".into(), file(&self.certificate.cert)]);
        arguments.extend(["--key".into(), file(&self.certificate.key)]);
        arguments.extend(contestant.arguments().iter().map(OsString::from));
        arguments
    }

    fn plan(&self, server: &Server, purpose: Purpose, stage: Stage) -> Plan {
        let echo = purpose == Purpose::Echo;
        Plan {
            trust: Trust::CaFile(self.certificate.ca_cert.clone()),
            clients: stage.clients,
            interval: stage.interval,
            payload: if echo { Payload::filler(ECHO_BYTES, Kind::Text) } else { Payload::telemetry() },
            probe: if echo { Probe::Echo } else { Probe::Ping },
            probe_one_in: Some(if stage.clients <= ALL_PROBED { 1 } else { PROBE_ONE_IN }),
            settle: SETTLE,
            warmup: stage.warmup,
            duration: stage.measured,
            latency_limit: self.latency_limit,
            pids: vec![server.pid()],
            loops: vec![self.apart.map(|apart| apart.load)],
            program: self.program.clone().filter(|_| purpose == Purpose::Capacity),
            ..Plan::new(server.url())
        }
    }
}

/// Half of the messages may be answered later than this share of the measured time: so much of the server's work for them falls
/// behind it, and out of its CPU time.
const BEHIND_MAX: f64 = 0.05;

/// Why a run's figures do not count: they are of the generator, or of another load than the one that was planned.
fn rejection(outcome: &Outcome, counts: Option<&Counts>, mode: Mode) -> Option<String> {
    if outcome.verdict.interrupted {
        return Some("interrupted".into());
    }
    if let Some(why) = &outcome.verdict.broken {
        return Some(why.clone());
    }
    if let Some(why) = &outcome.verdict.saturated {
        return Some(format!("the generator was saturated: {why}"));
    }
    let connections = &outcome.connections;
    let lost = connections.failed_count() + connections.disconnected_count();
    if lost > 0 {
        let example = connections.failed.values().chain(connections.disconnected.values()).next();
        let why = example.map_or("", |failure| failure.example.as_str());
        return Some(format!("{lost} of {} clients were not held ({why})", connections.clients));
    }
    let sent = outcome.messages.sent_in_all;
    let differs = |counts: &&Counts| counts.mode != mode || counts.failed > 0 || counts.messages != sent;
    if let Some(Counts { messages, failed, .. }) = counts.filter(differs) {
        return Some(format!(
            "{sent} messages were sent, and the server counted {messages}, {failed} failed"
        ));
    }
    let behind_us = outcome.measured_seconds * BEHIND_MAX * 1e6;
    if let Some(latency) = outcome.latency_us.filter(|latency| latency.corrected.p50 > behind_us) {
        let late = Unit::Microseconds.format(latency.corrected.p50);
        return Some(format!(
            "the server fell behind: half of the messages were answered after more than {late}"
        ));
    }
    if outcome.messages.corrupt + outcome.messages.reordered > 0 {
        return Some("echoes were not what was sent".into());
    }
    outcome.server.is_none().then(|| "the server's process could not be measured".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::outcome::tests::good;

    #[test]
    fn a_server_that_fell_behind_has_no_cost_a_message() {
        let mut outcome = good();
        outcome.server = None;
        let why = |outcome: &Outcome| rejection(outcome, None, Mode::Ingest);
        assert_eq!(why(&outcome).unwrap(), "the server's process could not be measured");
        outcome.latency_us.as_mut().unwrap().corrected.p50 = 600_000.0;
        assert!(why(&outcome).unwrap().contains("half of the messages were answered after more than 600 ms"));
        outcome.measured_seconds = 300.0;
        assert!(!why(&outcome).unwrap().contains("fell behind"));
    }
}
