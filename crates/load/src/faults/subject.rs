//! The server under attack: a process of its own, seen from outside.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::FaultsError;
use super::attacker::tls;
use super::counts::Counts;
use crate::cert::Files;
use crate::compare::contestant::Contestant;
use crate::compare::machine::Apart;
use crate::compare::server::{Heard, Launch, Server, ServerError};
use crate::measure::process::Process;
use workload::Mode;

/// What is the same for all rows.
#[derive(Debug)]
pub(crate) struct Stage {
    /// The server's executable.
    pub(crate) binary: PathBuf,
    pub(crate) certificate: Files,
    /// Where server and clients run.
    pub(crate) apart: Option<Apart>,
    pub(crate) server: Contestant,
    /// Further flags of `serve`.
    pub(crate) flags: Vec<OsString>,
}

impl Stage {
    /// Whether the server is this program's own.
    pub(crate) fn is_own(&self) -> bool {
        self.server == Contestant::Webscale
    }

    fn arguments(&self, mode: Mode, flags: &[&str]) -> Vec<OsString> {
        let mode = if mode == Mode::Echo { "echo" } else { "ingest" };
        let mut arguments: Vec<OsString> = ["--mode", mode].map(OsString::from).to_vec();
        arguments.extend(["--cert".into(), self.certificate.cert.clone().into_os_string()]);
        arguments.extend(["--key".into(), self.certificate.key.clone().into_os_string()]);
        if self.is_own() {
            arguments.insert(0, "serve".into());
            arguments.extend(flags.iter().map(OsString::from));
            arguments.extend(self.flags.iter().cloned());
        }
        arguments.extend(self.server.arguments().iter().map(OsString::from));
        arguments
    }
}

/// What a server holds at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gauge {
    pub(crate) pss_bytes: u64,
    /// Address space: what was asked of the kernel, whether or not it was written to.
    pub(crate) virtual_bytes: u64,
    pub(crate) descriptors: usize,
}

/// CPU time of a server, and what others took from it, since some moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meter {
    at: Instant,
    cpu_ns: u64,
    waited_ns: u64,
}

/// Shares of one processor between two readings.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Shares {
    /// The server's own.
    pub(crate) cpu: f64,
    /// It was ready to run, and others ran.
    pub(crate) waited: f64,
}

impl Meter {
    /// What share of one processor `cpu_ns` are until `later`.
    pub(crate) fn share(&self, later: &Meter, cpu_ns: u64) -> f64 {
        let elapsed = later.at.saturating_duration_since(self.at).max(Duration::from_nanos(1));
        cpu_ns as f64 / elapsed.as_nanos() as f64
    }

    /// What was taken until `later`.
    pub(crate) fn until(&self, later: &Meter) -> Shares {
        let share = |now: u64, then: u64| self.share(later, now.saturating_sub(then));
        Shares { cpu: share(later.cpu_ns, self.cpu_ns), waited: share(later.waited_ns, self.waited_ns) }
    }
}

/// A running server; killed when dropped.
pub(crate) struct Subject {
    server: Server,
    process: Process,
    /// On loopback.
    address: SocketAddr,
    url: String,
}

impl Subject {
    /// Starts it; `flags` are of `serve` alone.
    pub(crate) fn start(stage: &Stage, mode: Mode, flags: &[&str]) -> Result<Subject, FaultsError> {
        let server = Server::start(&Launch {
            binary: &stage.binary,
            arguments: stage.arguments(mode, flags),
            environment: Vec::new(),
            cpu: stage.apart.map(|apart| apart.server),
        })?;
        let process = Process::open(server.pid())?;
        let address = server.url().rsplit('/').next().and_then(|address| address.parse().ok());
        // It said that it listens, and nothing that can be understood.
        let mut address: SocketAddr = address.ok_or(ServerError::Silent)?;
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        Ok(Subject { server, process, address, url: format!("wss://{address}") })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// What it counted so far.
    pub(crate) fn counts(&self) -> Result<Counts, FaultsError> {
        Counts::ask(self.address, &tls::hostile()?).map_err(FaultsError::Counts)
    }

    /// Somebody else has asked it to end.
    pub(crate) fn expect_end(&mut self) {
        self.server.expect_end();
    }

    /// Has it read its certificates again.
    pub(crate) fn hang_up(&self) {
        self.server.hang_up();
    }

    /// What it holds now.
    pub(crate) fn gauge(&self) -> Result<Gauge, FaultsError> {
        let (pss_bytes, descriptors) = (self.process.memory()?.pss_bytes, self.process.descriptors()?);
        Ok(Gauge { pss_bytes, virtual_bytes: self.process.virtual_bytes()?, descriptors })
    }

    pub(crate) fn meter(&mut self) -> Result<Meter, FaultsError> {
        let cpu = self.process.cpu()?;
        Ok(Meter { at: cpu.at, cpu_ns: cpu.total_ns, waited_ns: self.process.waited_ns()? })
    }

    /// Why it ended, if it has.
    pub(crate) fn death(&mut self) -> Option<ServerError> {
        self.server.death()
    }

    /// Has it end, and says what it wrote on stderr until then.
    pub(crate) fn finish(self) -> (Result<(), ServerError>, Heard) {
        let heard = self.server.heard();
        (self.server.finish().map(drop), heard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_one_processor() {
        let at = Instant::now();
        let meter =
            |seconds, cpu_ns, waited_ns| Meter { at: at + Duration::from_secs(seconds), cpu_ns, waited_ns };
        let shares = meter(0, 1_000_000_000, 0).until(&meter(2, 2_000_000_000, 200_000_000));
        assert_eq!(shares, Shares { cpu: 0.5, waited: 0.1 });
    }
}
