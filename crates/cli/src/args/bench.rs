//! `bench`: what can be typed, and the plan that it makes.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use webscale_load::bench::payload::{Kind, Payload};
use webscale_load::bench::{Plan, Probe, Program, Trust};

use super::units;
use crate::exit::Usage;

/// The largest message of a load; each loop holds some of them.
const SIZE_MAX: usize = 1 << 30;

/// Load a WebSocket endpoint and say how it bore it.
///
/// Every client sends one message an interval, whether or not the server keeps up (open model), and latency counts
/// from the time at which a message was due. A server that consumes its messages is timed by pings that a sample of
/// the clients sends directly behind them; --probe echo expects every message back and compares its bytes.
///
/// Certificates are not checked unless --ca or --system-roots says so.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  webscale bench wss://127.0.0.1:9001 --clients 10000 --duration 1m
  webscale bench ws://127.0.0.1:9001 --size 128 --probe echo --interval 100ms
  webscale bench wss://127.0.0.1:9001 --pid $(pidof my-server) --json result.json

Exit code 1 when the server did not bear the load, or the load could not be made as asked.")]
pub(crate) struct BenchArgs {
    /// ws:// or wss:// address of the server
    pub(crate) url: String,
    /// Clients
    #[arg(long, short, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) clients: u32,
    /// Time between two messages of one client
    #[arg(long, short, value_name = "TIME", default_value = "1s", value_parser = units::duration)]
    pub(crate) interval: Duration,
    /// Length of the measured part
    #[arg(long, short, value_name = "TIME", default_value = "30s", value_parser = units::duration)]
    pub(crate) duration: Duration,
    /// Load before the measured part
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = units::duration)]
    pub(crate) warmup: Duration,
    /// Open the connections evenly over this time; 0s is as fast as the server accepts
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = units::duration)]
    pub(crate) ramp: Duration,
    /// Send so many bytes of filler [default: the 10 kB JSON message of `webscale payload`]
    #[arg(long, short, value_name = "SIZE", value_parser = units::size)]
    pub(crate) size: Option<usize>,
    /// Send the bytes of this file
    #[arg(long, value_name = "FILE", conflicts_with = "size")]
    pub(crate) payload: Option<PathBuf>,
    /// Send binary messages instead of text
    #[arg(long)]
    pub(crate) binary: bool,
    /// How latency is learnt
    #[arg(long, value_enum, default_value_t = ProbeArg::Ping)]
    pub(crate) probe: ProbeArg,
    /// With --probe ping: one client in N sends pings [default: all up to 1,000 clients, then one in 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) sample: Option<u32>,
    /// Corrected p99 latency above this is a failure
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = units::duration)]
    pub(crate) latency_limit: Duration,
    /// Accept only certificates below those in this PEM file
    #[arg(long, value_name = "FILE", conflicts_with = "system_roots")]
    pub(crate) ca: Option<PathBuf>,
    /// Accept only certificates below the system's roots
    #[arg(long)]
    pub(crate) system_roots: bool,
    /// Connect from this address; may be repeated [default: the system's choice, several of 127/8 where one does
    /// not have enough ports]
    #[arg(long, value_name = "ADDR")]
    pub(crate) source: Vec<IpAddr>,
    /// Measure CPU and memory of the server's process, which is on this machine
    #[arg(long, value_name = "PID")]
    pub(crate) pid: Option<u32>,
    /// Threads that make the load
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "cpu",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: u16,
    /// Pin the load to this processor; may be repeated, a thread each
    #[arg(long, value_name = "CPU")]
    pub(crate) cpu: Vec<usize>,
    /// Processes that make the load; the threads are spread over them [default: as many as it takes to hold a descriptor
    /// for each client]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) processes: Option<u32>,
    /// Write the result as JSON, to FILE or else to stdout in place of the text
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProbeArg {
    /// Pings behind the messages of a sample of clients
    Ping,
    /// The server sends every message back
    Echo,
    /// None: throughput only
    None,
}

/// This program, as a process of a load that several make.
fn part_program() -> anyhow::Result<Program> {
    let path = std::env::current_exe().context("this program's own file")?;
    Ok(Program { path, arguments: vec!["bench-part".into()] })
}

impl BenchArgs {
    /// What is to be done, once everything that was typed has been checked.
    pub(crate) fn plan(&self) -> anyhow::Result<Plan> {
        for (flag, time) in [("--interval", self.interval), ("--duration", self.duration)] {
            if time.is_zero() {
                return Err(Usage(format!("{flag} must be above zero")).into());
            }
        }
        let trust = match (&self.ca, self.system_roots) {
            (Some(path), _) => Trust::CaFile(path.clone()),
            (None, true) => Trust::System,
            (None, false) => Trust::Any,
        };
        let loops = match self.cpu.as_slice() {
            [] => vec![None; usize::from(self.threads)],
            cpus => cpus.iter().copied().map(Some).collect(),
        };
        Ok(Plan {
            trust,
            loops,
            clients: self.clients,
            interval: self.interval,
            payload: self.payload()?,
            probe: match self.probe {
                ProbeArg::Ping => Probe::Ping,
                ProbeArg::Echo => Probe::Echo,
                ProbeArg::None => Probe::None,
            },
            probe_one_in: self.sample,
            ramp: self.ramp,
            warmup: self.warmup,
            duration: self.duration,
            latency_limit: self.latency_limit,
            sources: self.source.clone(),
            pid: self.pid,
            processes: self.processes,
            program: Some(part_program()?),
            ..Plan::new(self.url.clone())
        })
    }

    fn payload(&self) -> anyhow::Result<Payload> {
        if let Some(size) = self.size.filter(|size| *size > SIZE_MAX) {
            return Err(Usage(format!("--size {size}: a message may have at most {SIZE_MAX} bytes")).into());
        }
        let kind = if self.binary { Kind::Binary } else { Kind::Text };
        match (&self.payload, self.size) {
            (Some(path), _) => {
                let bytes = fs::read(path)
                    .map_err(|error| Usage(format!("--payload {}: {error}", path.display())))?;
                let payload = Payload::fixed(bytes, kind).map_err(|position| {
                    let path = path.display();
                    Usage(format!("--payload {path} is not UTF-8 at byte {position}: send it with --binary"))
                })?;
                Ok(payload)
            }
            (None, Some(size)) => Ok(Payload::filler(size, kind)),
            (None, None) if self.binary => Ok(Payload::telemetry().into_binary()),
            (None, None) => Ok(Payload::telemetry()),
        }
    }
}
