//! `doctor`: what can be typed, and the need that it makes.

use std::path::PathBuf;

use clap::ValueEnum;
use webscale_load::bench::Plan;
use webscale_load::doctor::{Need, Role};

use super::{output, units};
use crate::exit::Usage;

/// Examine this machine's limits against a number of clients.
///
/// Each row: what there is, what the clients need, and whether that is enough (ok), enough with little to spare or
/// under a condition (tight), not enough (short), or not told by the kernel (unknown). Below the table stands what mends the rows that
/// are not ok. Nothing is changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  webscale doctor --clients 25000
  webscale doctor --clients 100000 --role server --processes 6
  webscale doctor --clients 50000 --role server --server-memory 150kB
  webscale doctor --clients 20000 --url wss://127.0.0.1:9001
  webscale doctor --clients 30000 --url wss://192.0.2.7:9001 --json

Exit code 1 when a row is short: that many clients do not fit.")]
pub(crate) struct DoctorArgs {
    /// Clients at the same time
    #[arg(long, short, value_name = "N", default_value_t = 10_000, value_parser = units::count)]
    pub(crate) clients: u32,
    /// The server that is to be loaded. Where it runs on this machine, the limits of its own processes count; if it is
    /// elsewhere, only the load's end is examined, and ports matter
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// What is on this machine [default: both, or the load where --url is elsewhere]
    #[arg(long, value_enum)]
    pub(crate) role: Option<RoleArg>,
    /// Processes that share the server's port, as with `serve --processes` [default: those that listen at --url, or 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) processes: Option<u16>,
    /// Memory of the server's process for each client [default: that of `webscale serve`, 4.1 kB]
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    pub(crate) server_memory: Option<usize>,
    /// Length of a message [default: 10240]
    #[arg(long, short, value_name = "SIZE", value_parser = units::size)]
    pub(crate) size: Option<usize>,
    /// Write the result as JSON, to FILE or else to stdout in place of the text
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-",
          value_parser = output::file)]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArg {
    /// Server and load
    Both,
    /// The server alone
    Server,
    /// The load alone
    Load,
}

impl DoctorArgs {
    /// A load on the server that was named.
    pub(crate) fn plan(&self) -> Option<Plan> {
        let url = self.url.clone()?;
        Some(Plan { clients: self.clients, ..Plan::new(url) })
    }

    /// What the machine is to hold.
    pub(crate) fn need(&self) -> anyhow::Result<Need> {
        let mut need = match self.plan() {
            Some(plan) => Need::of_plan(&plan).map_err(|error| Usage(format!("--url: {error}")))?,
            None => Need::of(self.clients.into()),
        };
        match self.role {
            Some(RoleArg::Both) => need.role = Role::Both,
            Some(RoleArg::Server) => need.role = Role::Server,
            Some(RoleArg::Load) => need.role = Role::Load,
            None => {}
        }
        if !need.role.serves() && (self.processes.is_some() || self.server_memory.is_some()) {
            let text = "--processes and --server-memory are the server's, which is not on this machine: --role says what is";
            return Err(Usage(text.into()).into());
        }
        need.processes = self.processes.unwrap_or(1).into();
        if let Some(bytes) = self.size {
            need.message_bytes = bytes as u64;
        }
        if let Some(bytes) = self.server_memory {
            need.server_bytes = bytes as u64;
        }
        Ok(need)
    }
}
