//! Whole connections, over a socket and a clock that the test plays.

mod client;
mod closing;
mod deflate;
mod egress;
mod harness;
mod messages;
mod opening;
mod operations;
mod recorder;
mod sending;
mod socket;
mod streaming;
mod tampering;
mod time;
mod tls;
mod wire;
mod workers;
