//! `serve`: what it says of itself.

use std::net::SocketAddr;

use clap::ValueEnum;
use server_webscale::status::Readers;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Status")]
pub(crate) struct StatusArgs {
    /// Who may GET /metrics (Prometheus' text) on the port of the service; GET /healthz answers everybody, with 200 or, and
    /// the reason, 503
    #[arg(long, value_name = "WHO", value_enum, default_value_t = ReadersArg::Loopback)]
    metrics: ReadersArg,
    /// Answer GET /healthz and /metrics there too, by plain HTTP and to all who reach it, even while every loop is stuck.
    /// With --processes each one takes the next port
    #[arg(long, value_name = "ADDR", value_parser = super::address)]
    pub(crate) status: Option<SocketAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReadersArg {
    /// Who asks from this host, and not through a proxy
    Loopback,
    /// Everybody
    Anyone,
    /// Nobody
    Nobody,
}

impl StatusArgs {
    pub(crate) fn readers(&self) -> Readers {
        match self.metrics {
            ReadersArg::Loopback => Readers::Loopback,
            ReadersArg::Anyone => Readers::Anyone,
            ReadersArg::Nobody => Readers::Nobody,
        }
    }

    /// What is typed for the process of this index in place of what was for all.
    pub(crate) fn share(&self, index: u16) -> Option<String> {
        self.status.map(|address| format!("--status={}", nth(address, index)))
    }

    /// What is wrong with these for so many processes.
    pub(crate) fn fault(&self, processes: u16) -> Option<String> {
        let port = self.status?.port();
        let last = port.checked_add(processes - 1);
        last.is_none()
            .then(|| format!("--status: {processes} processes from port {port} on are beyond port 65535"))
    }
}

/// The kernel chooses each port by itself where that is asked for.
fn nth(address: SocketAddr, index: u16) -> SocketAddr {
    let port = if address.port() == 0 { 0 } else { address.port().saturating_add(index) };
    SocketAddr::new(address.ip(), port)
}
