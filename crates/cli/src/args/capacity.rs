//! `capacity`: what can be typed, and the search that it makes.

use std::time::Duration;

use clap::ValueEnum;
use webscale_load::bench::Probe;
use webscale_load::capacity::search::{Range, STEPS_MAX};
use webscale_load::capacity::{Find, Settings};
use webscale_load::schedule::Ramp;

use super::bench::{EndpointArgs, MachineArgs, MessageArgs};
use super::{OutputArgs, units};
use crate::exit::Usage;

/// Find the most that a WebSocket server holds, and name what stops it.
///
/// Held means: every client connected and stayed, every message was sent and answered as it should be, and p99 latency,
/// counted from when a message was due, stayed within the limit. The number of clients is doubled until it is not
/// held, then halved in between, then confirmed: the result was held twice, the second time for the whole --hold;
/// steps on the way take a quarter of it. Every step is a load of its own with fresh connections.
///
/// Run it on a machine that does nothing else. It sees what a server on this machine has too little of, in all processes
/// that listen at the URL's address or are named by --pid. Of a server elsewhere it sees the answers alone: it names what
/// the load or the way there had too little of, or else that answers were slow. Where it was not the server that was at
/// its end, the result is `at least` so many.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  webscale capacity wss://127.0.0.1:9001
  webscale capacity wss://127.0.0.1:9001 --quick --memory 4GiB
  webscale capacity ws://127.0.0.1:9001 --find rate --clients 100 --size 128 --probe echo
  webscale capacity wss://127.0.0.1:9001 --from 5000 --most 40000 --html capacity.html

--find rate times the answers to one client in 10, from 100 clients on: pings behind all messages would be half of the \
load. --sample says otherwise.

Exit code 0 when a number was found and confirmed, also one that the server may exceed (`at least`); 1 when nothing was \
held, the server ended, or the search was interrupted.")]
pub(crate) struct CapacityArgs {
    #[command(flatten)]
    pub(crate) endpoint: EndpointArgs,
    #[command(flatten)]
    pub(crate) search: SearchArgs,
    #[command(flatten)]
    pub(crate) message: MessageArgs,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What is looked for.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Search")]
pub(crate) struct SearchArgs {
    /// What is looked for
    #[arg(long, value_enum, default_value_t = FindArg::Clients)]
    pub(crate) find: FindArg,
    /// With --find rate: so many clients [default: 100]
    #[arg(long, short, value_name = "N", value_parser = units::count)]
    pub(crate) clients: Option<u32>,
    /// With --find clients: time between two messages of one client [default: 1s]
    #[arg(long, short, value_name = "TIME", value_parser = units::duration, conflicts_with = "idle")]
    pub(crate) interval: Option<Duration>,
    /// Have clients that are due within so long send together: small bursts, which cost the load much less CPU time than
    /// messages one by one [default: each at its own time]
    #[arg(long, value_name = "TIME", value_parser = units::duration, conflicts_with = "idle")]
    pub(crate) tick: Option<Duration>,
    /// The result is held for this time; steps on the way for a quarter of it [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(crate) hold: Option<Duration>,
    /// --hold 5s --warmup 1s --resolution 0.05 --within 2m, where these are not given
    #[arg(long)]
    pub(crate) quick: bool,
    /// Narrow no further when this time is almost over, and confirm what was held until then [default: until the boundary is
    /// known to --resolution]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(crate) within: Option<Duration>,
    /// The first number that is tried [default: 1000]
    #[arg(long, value_name = "N", value_parser = units::count)]
    pub(crate) from: Option<u32>,
    /// Nothing above is tried [default: what the machine can do]
    #[arg(long, value_name = "N", value_parser = units::count)]
    pub(crate) most: Option<u32>,
    /// The result may be below the boundary by this share, as 3% or 0.03 [default: 3%]
    #[arg(long, value_name = "SHARE", value_parser = resolution)]
    pub(crate) resolution: Option<f64>,
    /// Load before each measured part [default: 2s]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(crate) warmup: Option<Duration>,
    /// Open so many connections a second, as 2000/s [default: as fast as the server accepts]
    #[arg(long, value_name = "RATE", value_parser = units::rate)]
    pub(crate) connect_rate: Option<f64>,
    /// Corrected p99 latency above this is not held
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = units::duration)]
    pub(crate) latency_limit: Duration,
    /// How many clients would a machine with so much memory hold? Projected by the slope of the server's memory over the
    /// clients of the steps, with what that may be off
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    pub(crate) memory: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FindArg {
    /// The most clients
    Clients,
    /// The most messages a second
    Rate,
}

fn resolution(text: &str) -> Result<f64, String> {
    let share = units::share(text).ok().filter(|share| (0.001..=0.5).contains(share));
    share.ok_or_else(|| "wanted a share from 0.1% to 50%, as 3% or 0.03".into())
}

/// The first number that is tried, and all clients of a search for the rate.
const FIRST: u32 = 1000;
const RATE_CLIENTS: u32 = 100;
/// A quick search takes no longer.
const QUICK: Duration = Duration::from_secs(120);
/// In a search for the rate of so many clients or more, one in so many sends pings.
const RATE_SAMPLE_FROM: u32 = 100;
const RATE_SAMPLE: u32 = 10;

impl CapacityArgs {
    /// What is to be done, once everything that was typed has been checked.
    pub(crate) fn settings(&self) -> anyhow::Result<Settings> {
        let search = &self.search;
        let find = match search.find {
            FindArg::Clients => Find::Clients,
            FindArg::Rate => Find::Rate,
        };
        search.check(find)?;
        if find == Find::Rate && self.message.idle {
            return Err(Usage("--find rate needs messages: it does not go with --idle".into()).into());
        }
        let mut plan = self.endpoint.plan()?;
        plan.interval = search.interval.unwrap_or(Duration::from_secs(1));
        self.message.apply(&mut plan)?;
        self.machine.apply(&mut plan)?;
        let or =
            |given: Option<Duration>, full, quick| given.unwrap_or(if search.quick { quick } else { full });
        let s = Duration::from_secs;
        plan.clients = search.clients.unwrap_or(RATE_CLIENTS);
        if find == Find::Rate && plan.clients >= RATE_SAMPLE_FROM && plan.probe == Probe::Ping {
            plan.probe_one_in = plan.probe_one_in.or(Some(RATE_SAMPLE));
        }
        plan.tick = search.tick.unwrap_or_default();
        plan.warmup = or(search.warmup, s(2), s(1));
        plan.latency_limit = search.latency_limit;
        plan.ramp = search.connect_rate.map_or(Ramp::AtOnce, Ramp::Rate);
        let range = Range {
            first: search.from.unwrap_or(FIRST),
            most: search.most.unwrap_or(u32::MAX),
            resolution: search.resolution.unwrap_or(if search.quick { 0.05 } else { 0.03 }),
            steps: STEPS_MAX,
        };
        let hold = or(search.hold, s(60), s(5));
        let within = search.within.or(search.quick.then_some(QUICK));
        Ok(Settings { plan, find, range, hold, within, memory: search.memory.map(|bytes| bytes as u64) })
    }
}

impl SearchArgs {
    fn check(&self, find: Find) -> anyhow::Result<()> {
        let refuse = |text: &str| Err(Usage(text.to_owned()).into());
        if find == Find::Clients && self.clients.is_some() {
            return refuse(
                "--clients is what is looked for: --find rate takes a number, --from and --most bound it",
            );
        }
        if find == Find::Rate && self.interval.is_some() {
            return refuse("--interval is what --find rate looks for: --from and --most bound the rate");
        }
        if find == Find::Rate && self.memory.is_some() {
            return refuse("--memory needs different numbers of clients: leave --find rate away");
        }
        let times = [self.hold, self.interval, self.within, Some(self.latency_limit)];
        if times.into_iter().flatten().any(|time| time.is_zero()) {
            return refuse("--hold, --interval, --within and --latency-limit must be above zero");
        }
        if self.memory == Some(0) {
            return refuse("--memory must be above zero");
        }
        if self.memory.is_some() && self.from.is_some() && self.from == self.most {
            return refuse("--memory needs different numbers of clients: --from must be below --most");
        }
        if self.from.zip(self.most).is_some_and(|(from, most)| from > most) {
            return refuse("--from must not be above --most");
        }
        Ok(())
    }
}
