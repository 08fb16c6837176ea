//! The server under attack: a process of its own, seen from outside.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::FaultsError;
use super::attacker::tls;
use super::counts::Counts;
use super::row::CLIENT_CA;
use crate::cert::Files;
use crate::compare::contestant::Contestant;
use crate::compare::machine::Apart;
use crate::compare::server::{Heard, Launch, Server, ServerError};
use crate::measure::kernel::MachineCpu;
use crate::measure::process::Process;
use workload::Mode;

const LOOK_EVERY: Duration = Duration::from_millis(5);

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
            let ca = || self.certificate.ca_cert.clone().into_os_string();
            arguments.extend(flags.iter().map(|flag| if *flag == CLIENT_CA { ca() } else { flag.into() }));
            arguments.extend(self.flags.iter().cloned());
        }
        arguments.extend(self.server.arguments().iter().map(OsString::from));
        arguments
    }
}

/// The memory that a server holds at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) pss_bytes: u64,
    /// Address space: what was asked of the kernel, whether or not it was written to.
    pub(crate) virtual_bytes: u64,
}

/// All that a server holds at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gauge {
    pub(crate) memory: Holding,
    pub(crate) descriptors: usize,
}

/// CPU time of a server, and what others took from it, since some moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meter {
    at: Instant,
    cpu_ns: u64,
    waited_ns: u64,
    /// From the whole machine.
    stolen_ns: u64,
}

/// Shares of one processor between two readings.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Shares {
    /// The server's own.
    pub(crate) cpu: f64,
    /// It was ready to run, and others ran.
    pub(crate) waited: f64,
    /// The machine's host took it for other guests, from server or clients.
    pub(crate) stolen: f64,
}

/// More of a processor than this explains that honest clients had to wait.
const STOLEN_MAX: f64 = 0.02;

impl Shares {
    /// What others took, if it was enough to make a server slow: it may wait for a share of `waited_max`.
    pub(crate) fn disturbances(&self, waited_max: f64) -> impl Iterator<Item = String> {
        let waited = (self.waited > waited_max).then(|| {
            format!("the server was ready to run and others ran, {:.0} % of the time", self.waited * 100.0)
        });
        let stolen = (self.stolen > STOLEN_MAX).then(|| {
            format!("the machine's host took {:.0} % of a processor for other guests", self.stolen * 100.0)
        });
        waited.into_iter().chain(stolen)
    }
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
        Shares {
            cpu: share(later.cpu_ns, self.cpu_ns),
            waited: share(later.waited_ns, self.waited_ns),
            stolen: share(later.stolen_ns, self.stolen_ns),
        }
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
        Ok(Gauge { memory: self.holding()?, descriptors: self.process.descriptors()? })
    }

    /// Its memory alone: descriptors are a list, which may be long.
    pub(crate) fn holding(&self) -> Result<Holding, FaultsError> {
        let pss_bytes = self.process.memory()?.pss_bytes;
        Ok(Holding { pss_bytes, virtual_bytes: self.process.virtual_bytes()? })
    }

    pub(crate) fn meter(&mut self) -> Result<Meter, FaultsError> {
        let cpu = self.process.cpu()?;
        let stolen_ns = MachineCpu::read()?.stolen_ns();
        Ok(Meter { at: cpu.at, cpu_ns: cpu.total_ns, waited_ns: self.process.waited_ns()?, stolen_ns })
    }

    /// Why it ended, if it has.
    pub(crate) fn death(&mut self) -> Option<ServerError> {
        self.server.death()
    }

    /// The same, for as long as it may take to be seen.
    pub(crate) fn death_within(&mut self, patience: Duration) -> Option<ServerError> {
        let until = Instant::now() + patience;
        loop {
            let death = self.death();
            if death.is_some() || Instant::now() >= until {
                return death;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Has it end, and says what it wrote on stderr.
    pub(crate) fn finish(self) -> (Result<(), ServerError>, Heard) {
        let (ended, heard) = self.server.finish_heard();
        (ended.map(drop), heard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_one_processor() {
        let at = Instant::now();
        let begun = Meter { at, cpu_ns: 1_000_000_000, waited_ns: 0, stolen_ns: 70_000_000 };
        let later = Meter {
            at: at + Duration::from_secs(2),
            cpu_ns: 2_000_000_000,
            waited_ns: 200_000_000,
            stolen_ns: 90_000_000,
        };
        assert_eq!(begun.until(&later), Shares { cpu: 0.5, waited: 0.1, stolen: 0.01 });
    }

    #[test]
    fn what_others_took_is_named_where_it_is_much() {
        let named = |waited, stolen| -> Vec<String> {
            Shares { cpu: 1.0, waited, stolen }.disturbances(0.05).collect()
        };
        assert!(named(0.05, 0.02).is_empty());
        let [waited] = &named(0.06, 0.02)[..] else { panic!() };
        assert!(waited.contains("others ran, 6 %"), "{waited}");
        let [stolen] = &named(0.05, 0.03)[..] else { panic!() };
        assert!(stolen.contains("took 3 % of a processor"), "{stolen}");
    }
}
