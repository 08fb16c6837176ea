//! `serve`: how much it lets clients have.

use clap::builder::{RangedU64ValueParser, TypedValueParser};
use webscale::Limits;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Connections at once, of all processes together; further ones are closed as they come [default: as many as there
    /// are descriptors]
    #[arg(long, value_name = "N", value_parser = count())]
    pub(crate) max_connections: Option<usize>,
    /// The same from one IP address (IPv6: one /64), in each process. Clients behind one router or load balancer share an
    /// address [default: any number]
    #[arg(long, value_name = "N", value_parser = count())]
    pub(crate) max_per_address: Option<usize>,
    /// The same of those whose TLS and HTTP handshake is not done [default: any number]
    #[arg(long, value_name = "N", value_parser = count())]
    pub(crate) max_handshakes_per_address: Option<usize>,
}

fn count() -> impl TypedValueParser<Value = usize> {
    RangedU64ValueParser::<usize>::new().range(1..)
}

impl LimitArgs {
    /// Puts what was typed in place of `limits`.
    pub(crate) fn apply(&self, limits: &mut Limits) {
        let put = |limit: &mut usize, typed: Option<usize>| *limit = typed.unwrap_or(*limit);
        put(&mut limits.connections, self.max_connections);
        put(&mut limits.connections_per_address, self.max_per_address);
        put(&mut limits.handshakes_per_address, self.max_handshakes_per_address);
    }

    /// What is typed for one of so many processes.
    pub(crate) fn share(&self, processes: u16) -> Vec<String> {
        let flags = [
            ("--max-connections", self.max_connections.map(|all| all.div_ceil(processes.into()))),
            ("--max-per-address", self.max_per_address),
            ("--max-handshakes-per-address", self.max_handshakes_per_address),
        ];
        flags.into_iter().filter_map(|(flag, value)| Some(format!("{flag}={}", value?))).collect()
    }
}
