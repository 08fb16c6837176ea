//! Whole connections, over a socket and a clock that the test plays. A fuzzer plays the same.

#[cfg(test)]
mod client;
#[cfg(test)]
mod closing;
#[cfg(test)]
mod corpus;
#[cfg(test)]
mod deflate;
#[cfg(test)]
mod egress;
mod harness;
#[cfg(test)]
mod http;
#[cfg(test)]
mod malformed;
#[cfg(test)]
mod messages;
#[cfg(test)]
mod opening;
#[cfg(test)]
mod operations;
pub(crate) mod play;
#[cfg(test)]
mod proxied;
#[cfg(test)]
mod races;
mod recorder;
#[cfg(test)]
mod resumption;
#[cfg(test)]
mod sending;
#[cfg(test)]
mod slow;
mod socket;
#[cfg(test)]
mod streaming;
#[cfg(test)]
mod tampering;
#[cfg(test)]
mod time;
#[cfg(test)]
mod tls;
mod wire;
#[cfg(test)]
mod workers;
