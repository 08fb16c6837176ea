//! Where the clients connect to, and what they say there.

use std::path::PathBuf;

use webscale_load::bench::{Plan, Trust};

#[derive(Debug, clap::Args)]
pub(crate) struct EndpointArgs {
    /// ws:// or wss:// address of the server
    pub(crate) url: String,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "TLS")]
pub(crate) struct TlsArgs {
    /// Accept only certificates below those in this PEM file
    #[arg(long, value_name = "FILE", conflicts_with = "system_roots")]
    pub(crate) ca: Option<PathBuf>,
    /// Accept only certificates below the system's roots
    #[arg(long)]
    pub(crate) system_roots: bool,
}

impl EndpointArgs {
    /// The plan of a load on this endpoint, all else by default.
    pub(crate) fn plan(&self) -> anyhow::Result<Plan> {
        Ok(Plan { trust: self.tls.trust(), ..Plan::new(self.url.clone()) })
    }
}

impl TlsArgs {
    fn trust(&self) -> Trust {
        match (&self.ca, self.system_roots) {
            (Some(path), _) => Trust::CaFile(path.clone()),
            (None, true) => Trust::System,
            (None, false) => Trust::Any,
        }
    }
}
