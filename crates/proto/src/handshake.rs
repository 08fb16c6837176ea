//! The upgrade from HTTP/1.1 (RFC 6455 §4, RFC 9112).
//!
//! The caller gathers bytes until [`head_end`] finds the blank line, then parses the head at once:
//! [`parse_request`] and [`accept`] or [`respond`] on a server, [`client::write_request`] and
//! [`client::verify_response`] on a client. Nothing here allocates but what a caller's buffer grows.

mod answer;
pub mod client;
mod head;
mod server;

pub use answer::{Answer, respond};
pub(crate) use head::split_quoted;
pub use head::{HeadLimits, InvalidHeader, LineFault, MAX_HEADERS, check_lines, head_end};
pub use server::{Request, UpgradeError, accept, accept_key, parse_request};
