//! How many clients, how they arrive, how often they send, and for how long.

use std::time::Duration;

use webscale_load::bench::Plan;
use webscale_load::bench::plan::Model;
use webscale_load::bench::stop::StopConditions;
use webscale_load::schedule::Ramp;

use crate::args::units;
use crate::exit::Usage;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct LoadArgs {
    /// Clients, as 500 or 10k
    #[arg(long, short, value_name = "N", default_value_t = 100, value_parser = units::count)]
    pub(crate) clients: u32,
    /// Time between two messages of one client, whether or not the server keeps up
    #[arg(long, short, value_name = "TIME", default_value = "1s", value_parser = units::duration, conflicts_with = "idle")]
    pub(crate) interval: Duration,
    /// Messages of all clients together, as 5000/s or 90/m, in place of --interval
    #[arg(long, value_name = "RATE", value_parser = units::rate, conflicts_with_all = ["interval", "idle"])]
    pub(crate) rate: Option<f64>,
    /// Have clients that are due within so long send together: small bursts, which cost the load much less CPU time than
    /// messages one by one [default: each at its own time]
    #[arg(long, value_name = "TIME", value_parser = units::duration, conflicts_with = "closed")]
    pub(crate) tick: Option<Duration>,
    /// Send the next message when the answer to the last one has come (closed loop), and not by the clock
    #[arg(long, conflicts_with_all = ["interval", "rate", "idle"])]
    pub(crate) closed: bool,
    /// In a closed loop, time between an answer and the next message
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = units::duration, requires = "closed")]
    pub(crate) think: Duration,
    /// Length of the measured part: us, ms, s, m, h or d
    #[arg(long, short, value_name = "TIME", default_value = "30s", value_parser = units::duration)]
    pub(crate) duration: Duration,
    /// Load before the measured part
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = units::duration)]
    pub(crate) warmup: Duration,
    /// Open the connections evenly over this time; 0s is as fast as the server accepts
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = units::duration)]
    pub(crate) ramp: Duration,
    /// Open them in N equal groups over the time of --ramp
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), requires = "ramp")]
    pub(crate) ramp_steps: Option<u32>,
    /// Open so many connections a second, as 200/s, whether or not the server keeps up
    #[arg(long, value_name = "RATE", value_parser = units::rate, conflicts_with_all = ["ramp", "ramp_steps"])]
    pub(crate) connect_rate: Option<f64>,
    /// Clients that lost their connection connect again, after 0.1 s, 0.2 s, … 30 s and by chance up to half of that
    /// earlier [default: they are counted]
    #[arg(long)]
    pub(crate) reconnect: bool,
    /// End early with exit code 1 when more than this share of the connections or messages has failed, as 1% or 0.01;
    /// less than that is borne [default: every failure counts, at the end]
    #[arg(long, value_name = "SHARE", value_parser = units::share)]
    pub(crate) max_failures: Option<f64>,
    /// End early with exit code 1 when the corrected p99 latency so far is above this
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(crate) stop_above_p99: Option<Duration>,
    /// Corrected p99 latency above this is a failure
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = units::duration)]
    pub(crate) latency_limit: Duration,
}

impl LoadArgs {
    pub(super) fn apply(&self, plan: &mut Plan) -> anyhow::Result<()> {
        plan.clients = self.clients;
        (plan.model, plan.interval) = match self.closed {
            true => (Model::Closed, self.think),
            false => (Model::Open, self.interval()?),
        };
        plan.tick = self.tick.unwrap_or_default();
        plan.ramp = self.ramp()?;
        plan.reconnect = self.reconnect;
        plan.stop = StopConditions { failures: self.max_failures, p99: self.stop_above_p99 };
        plan.warmup = self.warmup;
        plan.duration = above_zero("--duration", self.duration)?;
        plan.latency_limit = above_zero("--latency-limit", self.latency_limit)?;
        Ok(())
    }

    fn interval(&self) -> anyhow::Result<Duration> {
        let Some(rate) = self.rate else { return above_zero("--interval", self.interval) };
        let interval = Duration::try_from_secs_f64(f64::from(self.clients) / rate).unwrap_or_default();
        if interval.is_zero() {
            let clients = self.clients;
            return Err(Usage(format!("--rate is too high for {clients} clients, or too low")).into());
        }
        Ok(interval)
    }

    fn ramp(&self) -> anyhow::Result<Ramp> {
        Ok(match (self.connect_rate, self.ramp_steps) {
            (Some(rate), _) => Ramp::Rate(rate),
            (None, Some(steps)) => Ramp::Steps { over: above_zero("--ramp", self.ramp)?, steps },
            (None, None) if self.ramp.is_zero() => Ramp::AtOnce,
            (None, None) => Ramp::Linear(self.ramp),
        })
    }
}

pub(super) fn above_zero(flag: &str, time: Duration) -> anyhow::Result<Duration> {
    if time.is_zero() { Err(Usage(format!("{flag} must be above zero")).into()) } else { Ok(time) }
}
