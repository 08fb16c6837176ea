//! `serve`: how much it lets clients have.

use std::time::Duration;

use clap::builder::{RangedU64ValueParser, TypedValueParser};
use webscale::Limits;

use super::super::units;

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
    /// TLS and HTTP handshake together; no byte that arrives resets it [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(crate) handshake_time: Option<Duration>,
    /// A message, from its first byte to its last [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(crate) message_time: Option<Duration>,
    /// Silence after which a ping is sent [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(crate) ping_after: Option<Duration>,
    /// How long a client may leave it unanswered [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(crate) pong_time: Option<Duration>,
}

fn count() -> impl TypedValueParser<Value = usize> {
    RangedU64ValueParser::<usize>::new().range(1..)
}

impl LimitArgs {
    /// Puts what was typed in place of `limits`.
    pub(crate) fn apply(&self, limits: &mut Limits) {
        put(&mut limits.connections, self.max_connections);
        put(&mut limits.connections_per_address, self.max_per_address);
        put(&mut limits.handshakes_per_address, self.max_handshakes_per_address);
        put(&mut limits.handshake_time, self.handshake_time);
        put(&mut limits.message_time, self.message_time);
        put(&mut limits.ping_after, self.ping_after);
        put(&mut limits.pong_time, self.pong_time);
    }

    /// What is typed for one of so many processes.
    pub(crate) fn share(&self, processes: u16) -> Vec<String> {
        let counts = [
            ("--max-connections", self.max_connections.map(|all| all.div_ceil(processes.into()))),
            ("--max-per-address", self.max_per_address),
            ("--max-handshakes-per-address", self.max_handshakes_per_address),
        ];
        let times = [
            ("--handshake-time", self.handshake_time),
            ("--message-time", self.message_time),
            ("--ping-after", self.ping_after),
            ("--pong-time", self.pong_time),
        ];
        let counts = counts.into_iter().filter_map(|(flag, count)| Some(format!("{flag}={}", count?)));
        let times =
            times.into_iter().filter_map(|(flag, time)| Some(format!("{flag}={}us", time?.as_micros())));
        counts.chain(times).collect()
    }
}

fn put<T: Copy>(limit: &mut T, typed: Option<T>) {
    *limit = typed.unwrap_or(*limit);
}
