//! Servers and clients over real sockets: against each other, and against another implementation of RFC 6455.
//!
//! Nothing here is timed. [`support::PATIENCE`] ends a test that hangs; ports are the kernel's choice.

mod addresses;
mod admission;
mod authority;
mod certificates;
mod counters;
mod deflate;
mod echo;
mod failures;
mod health;
mod identity;
mod memory;
mod own_client;
mod proxies;
mod revocation;
mod senders;
mod shutdown;
mod slow;
mod streams;
mod support;
mod timers;
mod tls;
mod workers;
