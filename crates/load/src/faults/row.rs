//! One row of the table: what is done to a server, and what is expected of it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::ClientConfig;
use workload::Mode;

use super::figure::Figure;
use super::settings::Scale;

/// One row of the table.
#[derive(Debug)]
pub struct Row {
    /// Its number.
    pub number: u8,
    /// What is done, in a few words.
    pub name: &'static str,
    /// What the server is expected to do.
    pub expected: &'static str,
    /// What the server does with the messages of honest clients.
    pub(crate) mode: Mode,
    /// Flags of `serve`.
    pub(crate) flags: fn(Scale) -> Vec<&'static str>,
    /// Whether it says something of a server that has no such flags.
    pub(crate) for_others: bool,
    /// Connections that it holds at the same time, at full scale.
    pub(crate) connections: u32,
    /// The honest clients' p99 may rise to so many times the baseline.
    pub(crate) slower_at_most: f64,
    /// Does it.
    pub(crate) attack: fn(&Arena<'_>) -> io::Result<Findings>,
}

/// Where a row is tried.
#[derive(Debug)]
pub(crate) struct Arena<'a> {
    /// The server.
    pub(crate) address: SocketAddr,
    /// TLS of the hostile clients: they trust anybody, and resume nothing.
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) scale: Scale,
    /// The attack is to end.
    pub(crate) stop: &'a AtomicBool,
}

impl Arena<'_> {
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// What an attack did, and found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// What was done, with the counts that were really achieved.
    pub(crate) done: Vec<String>,
    /// What the attack itself could see.
    pub(crate) figures: Vec<Figure>,
    /// The most hostile connections at the same time.
    pub(crate) connections: u64,
    /// Bytes that they sent.
    pub(crate) sent_bytes: u64,
    /// What the server may take in all at full scale, in bytes; without it only what holds for every row.
    pub(crate) memory_at_most: Option<f64>,
    /// What each of the connections may take in the server, in bytes, whether or not it is ever written to.
    pub(crate) memory_each_at_most: Option<f64>,
    /// How the server should count the ends of so many connections, at least.
    pub(crate) ends: Vec<(&'static str, u64)>,
}
