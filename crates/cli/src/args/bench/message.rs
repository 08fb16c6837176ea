//! What the clients send, and what counts as an answer.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use webscale_load::bench::payload::{Kind, Payload};
use webscale_load::bench::plan::Model;
use webscale_load::bench::template::Template;
use webscale_load::bench::{Plan, Probe};

use super::given;
use crate::args::units;
use crate::exit::Usage;

/// The largest message of a load; each loop holds some of them.
const SIZE_MAX: usize = given::FILE_BYTES_MAX;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Messages and answers")]
pub(crate) struct MessageArgs {
    /// Send so many bytes of filler [default: the 10 kB JSON message of `webscale payload`]
    #[arg(long, short, value_name = "SIZE", value_parser = units::size)]
    pub(crate) size: Option<usize>,
    /// Send the bytes of this file; - is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "size")]
    pub(crate) payload: Option<PathBuf>,
    /// Send this text, or that of @FILE, with its fields filled in: {seq}, {client}, {timestamp}, {random:8} and others,
    /// which stand below
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["size", "payload"])]
    pub(crate) template: Option<String>,
    /// Send binary messages instead of text
    #[arg(long)]
    pub(crate) binary: bool,
    /// How latency is learnt
    #[arg(long, value_enum, default_value_t = ProbeArg::Ping)]
    pub(crate) probe: ProbeArg,
    /// The server answers each K-th message of a client with any message: time those
    #[arg(long, value_name = "K", value_parser = every, conflicts_with_all = ["probe", "sample"])]
    pub(crate) ack_every: Option<NonZeroU32>,
    /// Send no messages: every client only keeps its connection alive by pings, and awaits their pongs
    #[arg(long, conflicts_with_all = ["size", "payload", "template", "binary", "probe", "ack_every", "sample"])]
    pub(crate) idle: bool,
    /// With --idle: time between two pings of one client
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = units::duration, requires = "idle")]
    pub(crate) ping_every: Duration,
    /// With --probe ping: one client in N sends pings [default: all up to 1,000 clients, then one in 10]
    #[arg(long, value_name = "N", value_parser = units::count)]
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

fn every(text: &str) -> Result<NonZeroU32, String> {
    NonZeroU32::try_from(units::count(text)?).map_err(|error| error.to_string())
}

impl MessageArgs {
    pub(crate) fn apply(&self, plan: &mut Plan) -> anyhow::Result<()> {
        if self.idle {
            plan.probe = Probe::Idle;
            plan.interval = super::load::above_zero("--ping-every", self.ping_every)?;
            return Ok(());
        }
        plan.payload = self.payload()?;
        plan.probe = match (self.ack_every, self.probe) {
            (Some(every), _) => Probe::Ack { every },
            (None, ProbeArg::Ping) => Probe::Ping,
            (None, ProbeArg::Echo) => Probe::Echo,
            (None, ProbeArg::Sink) => Probe::Sink,
        };
        plan.probe_one_in = self.sample;
        match self.contradiction(plan) {
            Some(words) => Err(Usage(words.into()).into()),
            None => Ok(()),
        }
    }

    fn contradiction(&self, plan: &Plan) -> Option<&'static str> {
        let is_closed = plan.model == Model::Closed;
        match plan.probe {
            Probe::Echo | Probe::Sink if self.sample.is_some() => {
                Some("--sample says who sends pings: it needs --probe ping")
            }
            Probe::Ping if is_closed && self.sample.is_some_and(|one_in| one_in > 1) => {
                Some("--closed waits for the answer to every message: it does not go with --sample")
            }
            Probe::Sink if is_closed => Some("--closed waits for answers: it does not go with --probe sink"),
            Probe::Ack { every } if is_closed && every.get() > 1 => Some(
                "--closed waits for the answer to every message: with --ack-every it needs --ack-every 1",
            ),
            _ => None,
        }
    }

    fn template(text: &str, kind: Kind) -> anyhow::Result<Payload> {
        let text = given::text("--template", text)?;
        let template = Template::parse(&text).map_err(|error| Usage(format!("--template, {error}")))?;
        if template.len_max() > SIZE_MAX {
            return Err(Usage(format!("--template: a message may have at most {SIZE_MAX} bytes")).into());
        }
        Ok(Payload::template(template, kind))
    }

    fn payload(&self) -> anyhow::Result<Payload> {
        if let Some(size) = self.size.filter(|size| *size > SIZE_MAX) {
            return Err(Usage(format!("--size {size}: a message may have at most {SIZE_MAX} bytes")).into());
        }
        let kind = if self.binary { Kind::Binary } else { Kind::Text };
        if let Some(text) = &self.template {
            return MessageArgs::template(text, kind);
        }
        match (&self.payload, self.size) {
            (Some(path), _) => {
                let bytes = given::file(&format!("--payload {}", path.display()), path)?;
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
