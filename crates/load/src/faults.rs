//! What a server survives: one attack after another, while honest clients are served and watched.
//!
//! ```text
//!   for each row:   a fresh server ── 100 honest clients ── baseline ── attack ── recovery ── the server's own account
//!                   its own processor                        p99        p99       descriptors, memory, idle CPU
//! ```
//!
//! A [`Row`] says what is done to the server and what is expected; what is asked of every row beside that stands in
//! `trial.rs`. Only a server that was started here is attacked.

mod attacker;
mod bystanders;
mod counts;
mod figure;
pub mod html;
mod report;
mod row;
mod rows;
mod settings;
pub mod soak;
mod subject;
pub mod text;
mod trial;
mod verdict;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use crate::bench::BenchError;
use crate::cert::{self, CertError, Existing};
use crate::compare::build::{self, BuildError};
use crate::compare::contestant::Contestant;
use crate::compare::machine::Apart;
use crate::compare::server::ServerError;
use crate::compare::workspace::{ScratchError, Workspace, WorkspaceError};
use crate::measure::kernel::KernelError;
use crate::measure::process::ProcessError;
use crate::observe::Observer;

pub use figure::{Bar, Figure, Unit};
pub use report::{Report, RowReport, Tally};
pub use row::Row;
pub use rows::ROWS;
pub use settings::{Scale, Settings};
pub use verdict::Verdict;

use subject::Stage;
use trial::Trial;

/// Why the rows could not be tried.
#[derive(Debug, thiserror::Error)]
pub enum FaultsError {
    /// No sources of the other servers.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// No place for their files.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// They could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// No certificate.
    #[error(transparent)]
    Cert(#[from] CertError),
    /// The server could not be started, or ended.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The server's process could not be measured.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The machine could not be measured.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The honest clients.
    #[error("the honest clients: {0}")]
    Honest(#[from] BenchError),
    /// The hostile clients' TLS.
    #[error("the hostile clients' TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The server did not say what it counted.
    #[error("asking the server for its counts: {0}")]
    Counts(#[source] io::Error),
    /// This machine refused something.
    #[error("{0}")]
    Machine(#[from] io::Error),
}

/// Tries the rows that `settings` names, one after the other. What fails is said in its row, and the rest goes on.
///
/// The calling thread, and with it the clients, is pinned to another processor than the servers.
///
/// # Errors
/// When the machine does not let it be watched, or not even the first server could be started.
pub fn run(settings: &Settings, observer: &mut dyn Observer) -> Result<Report, FaultsError> {
    let descriptors = webscale_sys::limits::raise_descriptors()?.soft;
    // It tells of the machine, of which this thread sees one processor when it is pinned.
    let mut report = Report::new(settings);
    let prepared = Prepared::new()?;
    let stage = prepared.stage(settings.server, settings.program.clone(), &settings.flags, observer)?;
    report.processors = stage.apart;
    for row in settings.rows() {
        let trial = Trial { row, stage: &stage, scale: settings.scale, timed: settings.timed, descriptors };
        let tried = match trial.run(observer) {
            Err(error) if report.rows.is_empty() => return Err(error),
            Err(error) => RowReport::new(row, Verdict::Disturbed(vec![error.to_string()])),
            Ok(tried) => tried,
        };
        observer.note(&text::row(&tried));
        report.rows.push(tried);
        if observer.stopped() {
            report.interrupted = true;
            break;
        }
    }
    Ok(report)
}

/// What is made before the first server is started, and gone in the end.
struct Prepared {
    _directory: Directory,
    certificate: cert::Files,
}

impl Prepared {
    fn new() -> Result<Prepared, FaultsError> {
        let directory = Directory::new()?;
        let certificate = cert::issue(&[])?.write(&directory.0, Existing::Replace)?;
        Ok(Prepared { _directory: directory, certificate })
    }

    /// Chooses the processors, and takes the calling thread to the clients'.
    fn stage(
        &self,
        server: Contestant,
        program: PathBuf,
        flags: &[OsString],
        observer: &mut dyn Observer,
    ) -> Result<Stage, FaultsError> {
        let binary = match server {
            Contestant::Webscale => program,
            other => build_other(other, observer)?,
        };
        let apart = Apart::choose();
        match apart {
            Some(apart) => webscale_sys::process::pin_thread(&[apart.load])?,
            None => observer
                .note("only one processor may be used: server and clients share it, and disturb each other"),
        }
        let certificate = self.certificate.clone();
        Ok(Stage { binary, certificate, apart, server, flags: flags.to_vec() })
    }
}

/// Builds a server of the comparison.
fn build_other(contestant: Contestant, observer: &mut dyn Observer) -> Result<PathBuf, FaultsError> {
    let workspace = Workspace::find()?;
    let scratch = workspace.scratch()?;
    let package = contestant.package().unwrap_or_default();
    observer.note(&format!("building {package}"));
    Ok(build::up_to_date(&workspace, &scratch, package, &|| observer.stopped())?)
}

/// A directory of ours alone, gone in the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> io::Result<Directory> {
        let path = std::env::temp_dir().join(format!("webscale-faults-{}", std::process::id()));
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&path)?;
        Ok(Directory(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // The system clears its directory for temporary files as well.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
