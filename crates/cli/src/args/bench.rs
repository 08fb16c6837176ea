//! `bench`: what can be typed, and the plan that it makes.

mod counts;
mod endpoint;
mod given;
mod load;
mod message;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use webscale_load::bench::plan::Model;
use webscale_load::bench::{BenchError, Plan, Probe, Program};
use webscale_load::observe::Observer;

use super::OutputArgs;
use crate::exit::Usage;

use counts::CountsArgs;
pub(crate) use endpoint::EndpointArgs;
pub(crate) use load::LoadArgs;
pub(crate) use message::MessageArgs;

/// Load a WebSocket endpoint and say how it bore it.
///
/// Every client sends one message an interval, whether or not the server keeps up (open model), and latency counts
/// from the time at which a message was due. A server that consumes its messages is timed by pings that a sample of
/// the clients sends directly behind them; --probe echo expects every message back and compares its bytes, and --ack-every
/// times the messages that the server answers.
///
/// Certificates are not checked unless --ca or --system-roots says so.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  webscale bench wss://127.0.0.1:9001 --clients 10000 --duration 1m
  webscale bench ws://127.0.0.1:9001 --size 128 --probe echo --interval 100ms
  webscale bench wss://127.0.0.1:9001 -c 5000 --connect-rate 200/s --rate 20000/s -d 2d
  webscale bench wss://127.0.0.1:9001 --closed --think 100ms --probe echo
  webscale bench wss://127.0.0.1:9001 --template '{\"device\": {client}, \"n\": {seq}, \"at\": {timestamp}}'
  webscale bench 'wss://host.example/devices/{client}' --bearer @token.txt --reconnect --max-failures 1%
  webscale bench wss://127.0.0.1:9001 --counts http://127.0.0.1:9100/metrics
  webscale bench ws://127.0.0.1:8080 --counts http://127.0.0.1:8080/metrics --counts-messages ws_in_total
  webscale bench wss://127.0.0.1 --pid $(pgrep -o nginx) --pid $(pgrep -o node)
  webscale bench wss://127.0.0.1:9001 --html report.html --csv seconds.csv --json result.json

Fields of --template:
  {seq}                number of the client's message, from 0
  {client}             number of the client, from 0; also in the URL's path and in --header
  {timestamp}          time of sending in ms since 1970; {timestamp:s}, :ms, :us, :ns, :rfc3339
  {random:N}           N letters and digits
  {random_int:A-B}     a whole number from A to B
  {{                   one {; any { that no small letter follows stands for itself, as in JSON

Exit code 1 when the server did not bear the load or, with --counts, counted another one, or the load could not be \
made as asked or was interrupted.")]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) endpoint: EndpointArgs,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    #[command(flatten)]
    pub(crate) message: MessageArgs,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// Write every second of the load as comma-separated values
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) csv: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) counts: CountsArgs,
}

/// The machine that makes the load, and the server's process where that is on it.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "This machine")]
pub(crate) struct MachineArgs {
    /// Connect from this address; may be repeated [default: the system's choice, several of 127/8 where one does
    /// not have enough ports]
    #[arg(long, value_name = "ADDR")]
    pub(crate) source: Vec<IpAddr>,
    /// Measure CPU and memory of this process of the server and of all that it starts; may be repeated [default: all that
    /// listen at the URL's address, if it is one of this machine; behind a proxy, name it and the server]
    #[arg(long, value_name = "PID")]
    pub(crate) pid: Vec<u32>,
    /// Do not look for the server's processes
    #[arg(long, conflicts_with = "pid")]
    pub(crate) no_pid: bool,
    /// Threads that make the load
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "cpu",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: u16,
    /// Pin the load to this processor; may be repeated, a thread each
    #[arg(long, value_name = "CPU")]
    pub(crate) cpu: Vec<usize>,
    /// Processes that make the load, with the threads spread over them [default: as many as it takes to hold a descriptor
    /// for each client]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) processes: Option<u32>,
}

impl BenchArgs {
    /// What is to be done, once everything that was typed has been checked.
    pub(crate) fn plan(&self) -> anyhow::Result<Plan> {
        let mut plan = self.endpoint.plan()?;
        self.load.apply(&mut plan)?;
        self.message.apply(&mut plan)?;
        self.machine.apply(&mut plan)?;
        plan.counts = self.counts.counting();
        check_due(&plan)?;
        Ok(plan)
    }
}

/// A load in which no message is due would be held by any server.
fn check_due(plan: &Plan) -> anyhow::Result<()> {
    let every = plan.interval / plan.clients.max(1);
    if plan.model == Model::Closed || plan.probe == Probe::Idle || every <= plan.duration {
        return Ok(());
    }
    let (clients, every, length) = (plan.clients, every.as_secs_f64(), plan.duration.as_secs_f64());
    Err(Usage(format!(
        "{clients} clients send a message every {every} s in all, and none may be due in a --duration of {length} s"
    ))
    .into())
}

/// How a further process of a load is started.
pub(crate) fn own_program() -> anyhow::Result<Program> {
    Ok(Program { path: own_path()?, arguments: vec!["bench-part".into()] })
}

/// This program's file.
pub(crate) fn own_path() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("this program's own file")
}

impl MachineArgs {
    pub(crate) fn apply(&self, plan: &mut Plan) -> anyhow::Result<()> {
        if let Some(pid) = self.pid.iter().find(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            bail!("--pid {pid}: there is no such process");
        }
        plan.loops = match self.cpu.as_slice() {
            [] => vec![None; usize::from(self.threads)],
            cpus => cpus.iter().copied().map(Some).collect(),
        };
        plan.sources.clone_from(&self.source);
        plan.pids.clone_from(&self.pid);
        plan.processes = self.processes;
        plan.program = Some(own_program()?);
        Ok(())
    }

    /// Finds the server's processes where none were named, unless that is not wanted.
    pub(crate) fn find_server(&self, plan: &mut Plan, observer: &mut dyn Observer) -> Result<(), BenchError> {
        if self.no_pid || !self.pid.is_empty() { Ok(()) } else { plan.find_server(observer) }
    }
}
