//! `serve`: how long it waits for clients.

use std::time::Duration;

use webscale::Limits;

use super::super::units;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Times")]
pub(crate) struct TimeArgs {
    /// TLS and HTTP handshake together; no byte that arrives resets it [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(crate) handshake_time: Option<Duration>,
    /// A message, from its first byte to its last [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(crate) message_time: Option<Duration>,
    /// Silence after which a ping is sent [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(crate) ping_after: Option<Duration>,
    /// How long a client may leave that ping unanswered [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(crate) pong_time: Option<Duration>,
    /// How long a loop or a handler on a worker may be busy before /healthz says that it is stuck [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(crate) stuck_after: Option<Duration>,
    /// Have the first signal tell clients to go (1001) spread over so much time, so that they do not all connect elsewhere at
    /// once; who is not gone 10 s behind it is dropped [default: all at once]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(crate) drain: Option<Duration>,
}

impl TimeArgs {
    /// Puts what was typed in place of `limits`.
    pub(crate) fn apply(&self, limits: &mut Limits) {
        let put = |limit: &mut Duration, typed: Option<Duration>| *limit = typed.unwrap_or(*limit);
        put(&mut limits.handshake_time, self.handshake_time);
        put(&mut limits.message_time, self.message_time);
        put(&mut limits.ping_after, self.ping_after);
        put(&mut limits.pong_time, self.pong_time);
        put(&mut limits.stuck_after, self.stuck_after);
        put(&mut limits.shutdown_spread, self.drain);
        limits.shutdown_time = limits.shutdown_time.saturating_add(limits.shutdown_spread);
    }
}
