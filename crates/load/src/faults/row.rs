//! One row of the table: what is done to a server, and what is expected of it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use rustls::ClientConfig;
use workload::Mode;

use super::counts::Counts;
use super::figure::{Bar, Figure};
use super::settings::Scale;
use crate::cert::Files;
use crate::measure::process::Process;

/// In place of the certificate of the CA that issued the server's own.
pub(crate) const CLIENT_CA: &str = "{ca}";

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
    /// Flags of `serve`; [`CLIENT_CA`] stands for a file.
    pub(crate) flags: fn(Scale) -> Vec<&'static str>,
    /// Whether it says something of a server that has no such flags.
    pub(crate) for_others: bool,
    /// Connections that it holds at the same time, at full scale.
    pub(crate) connections: u32,
    /// The honest clients' p99 may rise to so many times the baseline; [`f64::INFINITY`] where they have to wait too.
    pub(crate) slower_at_most: f64,
    /// Does it.
    pub(crate) attack: fn(&Arena<'_>) -> io::Result<Findings>,
}

/// Where a row is tried.
#[derive(Debug, Clone)]
pub(crate) struct Arena<'a> {
    /// The server.
    pub(crate) address: SocketAddr,
    /// TLS of the hostile clients: they trust anybody, and resume nothing.
    pub(crate) tls: Arc<ClientConfig>,
    /// The server's process.
    pub(crate) pid: u32,
    /// Whether it is this program's own, and has the row's flags.
    pub(crate) is_own: bool,
    /// What the server was given.
    pub(crate) certificate: &'a Files,
    pub(crate) scale: Scale,
    /// The attack is to end.
    pub(crate) stop: &'a AtomicBool,
    /// Set by an attack which ends the server, before it does: nothing is asked of it afterwards.
    pub(crate) finale: &'a AtomicBool,
}

impl Arena<'_> {
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// What the server counted so far; the question counts as well.
    pub(crate) fn counts(&self) -> io::Result<Counts> {
        Counts::ask(self.address, &self.tls)
    }

    /// The server's process, to be measured.
    pub(crate) fn process(&self) -> io::Result<Process> {
        Process::open(self.pid).map_err(io::Error::other)
    }

    /// Looks again and again whether something is so, until it is; false if it was not in time.
    pub(crate) fn wait_for(
        &self,
        patience: Duration,
        every: Duration,
        mut is_so: impl FnMut() -> io::Result<bool>,
    ) -> io::Result<bool> {
        let until = Instant::now() + patience;
        loop {
            if is_so()? {
                return Ok(true);
            }
            if Instant::now() >= until || self.is_stopped() {
                return Ok(false);
            }
            thread::sleep(every);
        }
    }

    /// Sends the server a signal.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        Ok(rustix::process::kill_process(pid.ok_or(io::ErrorKind::NotFound)?, signal)?)
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
    /// Connections that should have been made too, and for which this machine had no port or no descriptor.
    pub(crate) not_begun: u64,
    /// Connections that never came as far as the attack.
    pub(crate) late: u64,
    /// What the server may take in all at full scale, in bytes; without it only what holds for every row.
    pub(crate) memory_at_most: Option<f64>,
    /// What the server was told to keep within, in bytes, whatever the scale.
    pub(crate) memory_budget: Option<f64>,
    /// What each of the connections may take in the server, in bytes, whether or not it is ever written to.
    pub(crate) memory_each_at_most: Option<f64>,
    /// How the server should count the ends of so many connections, at least.
    pub(crate) ends: Vec<(&'static str, u64)>,
    /// It ended the server, which had to tell its honest clients so (1001).
    pub(crate) says_farewell: bool,
    /// Handlers were made to panic: the log may tell of it.
    pub(crate) panics_provoked: bool,
    /// Why it could not be made on this machine.
    pub(crate) skipped: Option<String>,
}

impl Findings {
    /// What the attack could see, and how much of it was not made.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        let missing = [
            ("connections this machine could not make", self.not_begun),
            ("connections that came too late for the attack", self.late),
        ];
        let missing = missing.into_iter().filter(|(_, count)| *count > 0);
        let missing = missing.map(|(name, count)| Figure::count(name, count, Bar::Exactly(0.0)).of_attack());
        self.figures.iter().cloned().chain(missing).collect()
    }
}
