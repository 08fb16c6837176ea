//! `faults`: what can be typed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use webscale_load::compare::contestant::Contestant;
use webscale_load::faults::soak::{self, SoakSettings};
use webscale_load::faults::{ROWS, Scale, Settings};

use super::{OutputArgs, own_path, units};
use crate::exit::Usage;

/// Attack a server, row by row, while honest clients are served and watched.
///
/// Starts its own server on loopback for each row, attacks it, and looks at it from outside: whether 100 honest clients
/// (TLS, 10 kB of JSON a second each) stayed connected and were served in time, what memory it took, and whether it is
/// afterwards as it was before. Nothing else can be attacked. docs/faults.md says how each row is measured.
///
/// A row is *disturbed* when the machine was too busy to tell. It wants two processors that do nothing else; a row takes
/// between five seconds and two minutes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  webscale faults --quick
  webscale faults --row 1 --row 10 --json faults.json
  webscale faults --server tokio
  webscale faults --row 1 -- --handshake-time 1h
  webscale faults --quick --html faults.html
  webscale faults --soak 30m --html soak.html --csv soak.csv --json soak.json

Exit codes:
  0  no row failed, and none was disturbed
  1  a row failed
  2  what was typed cannot be done
  3  no row failed, but some were disturbed or not tried")]
pub(crate) struct FaultsArgs {
    /// A tenth of the connections and bytes, and shorter times where a row waits for a deadline
    #[arg(long)]
    pub(crate) quick: bool,
    /// Tell how long things took without judging it, for a machine that has other things to do
    #[arg(long)]
    pub(crate) untimed: bool,
    /// This row alone; may be repeated
    #[arg(long = "row", value_name = "N", value_parser = row)]
    pub(crate) rows: Vec<u8>,
    /// The server: webscale is `serve` of this program; skeleton, tokio and tokio-4k are built as for `compare`, from a
    /// checkout of the project
    #[arg(long, value_name = "NAME", default_value = "webscale", value_parser = server)]
    pub(crate) server: Contestant,
    /// Instead of the rows: use and abuse one server for so long, at half of the processors' time, and see whether its
    /// memory grows (judged from 12m30s on), its descriptors come back, and its counts agree with what was done to it
    #[arg(long, value_name = "TIME", value_parser = soak_time, conflicts_with_all = ["quick", "untimed", "rows", "server"])]
    pub(crate) soak: Option<Duration>,
    /// What decides what hostile clients do in a soak
    #[arg(long, value_name = "N", requires = "soak", default_value_t = soak::SEED)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// Write every sample of a soak as comma-separated values
    #[arg(long, value_name = "FILE", requires = "soak", help_heading = "Output")]
    pub(crate) csv: Option<PathBuf>,
    /// Further flags of `serve`, to see what they do
    #[arg(last = true, value_name = "FLAGS")]
    pub(crate) flags: Vec<OsString>,
}

const SERVERS: [Contestant; 4] =
    [Contestant::Webscale, Contestant::Skeleton, Contestant::Tokio, Contestant::TokioSmallBuffer];

fn server(name: &str) -> Result<Contestant, String> {
    SERVERS
        .into_iter()
        .find(|server| server.name() == name)
        .ok_or_else(|| format!("no such server: choose among {}", SERVERS.map(Contestant::name).join(", ")))
}

fn soak_time(text: &str) -> Result<Duration, String> {
    let time = units::duration(text)?;
    let longest = Duration::from_secs(7 * 24 * 3600);
    if time < Duration::from_secs(5) || time > longest {
        return Err("a soak takes from 5s to 7d".into());
    }
    Ok(time)
}

fn row(text: &str) -> Result<u8, String> {
    let number = text.parse().ok().filter(|number| ROWS.iter().any(|row| row.number == *number));
    number.ok_or_else(|| {
        let numbers: Vec<String> = ROWS.iter().map(|row| row.number.to_string()).collect();
        format!("no such row: there are {}", numbers.join(", "))
    })
}

impl FaultsArgs {
    /// How a server is to be soaked, if that was asked for.
    pub(crate) fn soak(&self) -> anyhow::Result<Option<SoakSettings>> {
        let Some(duration) = self.soak else { return Ok(None) };
        let program = own_path()?;
        Ok(Some(SoakSettings { program, duration, seed: self.seed, flags: self.flags.clone() }))
    }

    /// What is to be done.
    pub(crate) fn settings(&self) -> anyhow::Result<Settings> {
        if self.server != Contestant::Webscale && !self.flags.is_empty() {
            return Err(Usage(
                "flags behind -- are those of `serve`, which --server webscale stands for".into(),
            )
            .into());
        }
        Ok(Settings {
            scale: if self.quick { Scale::Tenth } else { Scale::Full },
            timed: !self.untimed,
            only: self.rows.clone(),
            server: self.server,
            program: own_path()?,
            flags: self.flags.clone(),
        })
    }
}
