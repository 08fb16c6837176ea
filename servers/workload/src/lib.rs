//! What the three servers of the comparison have in common, so that they differ in their engine alone.
//!
//! - [`payload`]: the 10 kB telemetry message that every client sends.
//! - [`telemetry`]: the struct that it is deserialised into, owned and borrowed.
//! - [`parse`]: the parsers (feature `serde_json`; `sonic-rs` for the benchmark that compares them).
//! - [`options`]: the command line, and how a server ends.
//! - [`random`]: numbers that a seed decides.
//! - [`report`]: what a server prints: where it listens, what it counted.
//! - `tls`: a `rustls::ServerConfig` from PEM files (feature `tls`).
//! - `testing`: the checks that every server has to pass (feature `testing`).

#![forbid(unsafe_code)]

pub mod options;
pub mod parse;
mod payload;
pub mod random;
pub mod report;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tls")]
pub mod tls;

pub use options::{Mode, Options};
pub use payload::{PAYLOAD_BYTES, payload};
