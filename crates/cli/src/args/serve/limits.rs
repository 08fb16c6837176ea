//! `serve`: how much it lets clients have.

use clap::builder::{RangedU64ValueParser, TypedValueParser};
use webscale::Limits;

use super::super::units;
use crate::exit::Usage;

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
    /// Keep within so much memory, of all processes together and with the kernel's part: half for connections, 16 KiB each,
    /// and a quarter for what is held for clients; above that, whoever holds most is closed with 1013 [default: a quarter
    /// of the machine's memory or control group for what is held]
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    pub(crate) memory: Option<usize>,
}

fn count() -> impl TypedValueParser<Value = usize> {
    RangedU64ValueParser::<usize>::new().range(1..)
}

impl LimitArgs {
    /// `limits`, with what was typed in their place, for one of so many processes.
    ///
    /// # Errors
    /// The memory does not suffice for the longest message.
    pub(crate) fn apply(&self, limits: Limits, processes: u16) -> Result<Limits, Usage> {
        let mut limits = limits;
        if let Some(memory) = self.memory {
            limits = limits.within(memory / usize::from(processes));
            let (held, message) = (limits.held_bytes, limits.message_bytes);
            if held < message {
                return Err(Usage(format!(
                    "--memory of {memory} bytes leaves {held} for what the clients of a process send, but a message may \
                     have {message}: give it four times that for each process, or lower --max-message"
                )));
            }
        }
        let put = |limit: &mut usize, typed: Option<usize>| *limit = typed.unwrap_or(*limit);
        put(&mut limits.connections, self.max_connections);
        put(&mut limits.connections_per_address, self.max_per_address);
        put(&mut limits.handshakes_per_address, self.max_handshakes_per_address);
        Ok(limits)
    }

    /// What is typed for one of so many processes in place of what was for all.
    pub(crate) fn share(&self, processes: u16) -> impl Iterator<Item = String> {
        let flags = [
            ("--max-connections", self.max_connections.map(|all| all.div_ceil(processes.into()))),
            ("--memory", self.memory.map(|all| all / usize::from(processes))),
        ];
        flags.into_iter().filter_map(|(flag, value)| Some(format!("{flag}={}", value?)))
    }
}
