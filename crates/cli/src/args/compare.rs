//! `compare`: what can be typed, and the settings that it makes.

use std::path::PathBuf;

use webscale_load::compare::contestant::Contestant;
use webscale_load::compare::settings::Settings;

/// Build several servers, load them in turn, and print their figures side by side.
///
/// The experiment: clients over TLS that each send 10 kB of JSON a second, which the server deserialises. The servers
/// are an epoll loop with a pool of threads (skeleton), tokio with its libraries' defaults (tokio) and with a small
/// read buffer (tokio-4k), and this project's own as shipped (webscale), parsing into a struct that borrows, and into the
/// struct of the others (webscale-serde). All have the same certificate, flags, load and processor. Runs are interleaved, each with a fresh
/// process; a run in which the load generator could not keep up is rejected.
///
/// Needs a checkout of the project and cargo. Run it on a machine that does nothing else. The full comparison takes
/// between two and three hours after the builds, --quick less than five minutes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  webscale compare --quick
  webscale compare --servers tokio,webscale --json compare.json --html compare.html

Exit code 1 when a server could not be built or measured; the table has the others then.")]
pub(crate) struct CompareArgs {
    /// Everything in under five minutes after the builds; the table says what was shortened
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only these, separated by commas: skeleton, tokio, tokio-4k, webscale, webscale-serde
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = contestant)]
    pub(crate) servers: Vec<Contestant>,
    /// Use the servers that an earlier comparison built; compile times are those measured then
    #[arg(long)]
    pub(crate) reuse_builds: bool,
    /// Write all figures and every run as JSON, to FILE or else to stdout in place of the table
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub(crate) json: Option<PathBuf>,
    /// Write one HTML page with plots, which opens offline
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

fn contestant(name: &str) -> Result<Contestant, String> {
    Contestant::from_name(name).ok_or_else(|| {
        let names = Contestant::ALL.map(Contestant::name).join(", ");
        format!("no such server: choose among {names}")
    })
}

impl CompareArgs {
    /// What is to be done.
    pub(crate) fn settings(&self) -> Settings {
        let chosen = |contestant: &Contestant| self.servers.is_empty() || self.servers.contains(contestant);
        let servers = Contestant::ALL.into_iter().filter(chosen).collect();
        let settings = if self.quick { Settings::quick(servers) } else { Settings::full(servers) };
        Settings { reuse_builds: self.reuse_builds, ..settings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(servers: &[Contestant]) -> Settings {
        CompareArgs { quick: true, servers: servers.to_vec(), reuse_builds: false, json: None, html: None }
            .settings()
    }

    #[test]
    fn servers_keep_the_tables_order() {
        let chosen = [Contestant::Webscale, Contestant::Tokio, Contestant::Tokio];
        assert_eq!(settings(&chosen).servers, [Contestant::Tokio, Contestant::Webscale]);
        assert_eq!(settings(&[]).servers, Contestant::ALL);
    }

    #[test]
    fn unknown_servers_are_told_the_known_ones() {
        assert!(contestant("node").unwrap_err().contains("tokio-4k"));
    }
}
