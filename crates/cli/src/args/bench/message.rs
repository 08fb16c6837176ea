//! What the clients send, and what counts as an answer.

use std::fs;
use std::path::PathBuf;

use clap::ValueEnum;
use webscale_load::bench::payload::{Kind, Payload};
use webscale_load::bench::{Plan, Probe};

use crate::args::units;
use crate::exit::Usage;

/// The largest message of a load; each loop holds some of them.
const SIZE_MAX: usize = 1 << 30;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Messages and answers")]
pub(crate) struct MessageArgs {
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProbeArg {
    /// Pings behind the messages of a sample of clients
    Ping,
    /// The server sends every message back
    Echo,
    /// None: throughput only
    #[value(alias = "none")]
    Sink,
}

impl MessageArgs {
    pub(super) fn apply(&self, plan: &mut Plan) -> anyhow::Result<()> {
        plan.payload = self.payload()?;
        plan.probe = match self.probe {
            ProbeArg::Ping => Probe::Ping,
            ProbeArg::Echo => Probe::Echo,
            ProbeArg::Sink => Probe::Sink,
        };
        plan.probe_one_in = self.sample;
        Ok(())
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
