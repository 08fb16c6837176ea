//! Building a server as for a release, and what that cost: time, bytes, dependencies.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::job::Job;
use super::workspace::{Scratch, Workspace};

/// Why a server was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// cargo could not be started.
    #[error("cargo could not be started ({source}): is it in PATH?")]
    NoCargo {
        /// What the system said.
        source: io::Error,
    },
    /// cargo failed.
    #[error("`{command}` failed: {message}")]
    Failed {
        /// What was run.
        command: String,
        /// The first error that it wrote.
        message: String,
    },
    /// A file or directory of the build could not be used.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No earlier build is there to be used again.
    #[error("{path} is not there: compare once without --reuse-builds", path = path.display())]
    NoEarlierBuild {
        /// The record of the build.
        path: PathBuf,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// A server that was built, and what it cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Build {
    /// The executable.
    pub binary: PathBuf,
    /// Wall time of a clean release build, in seconds. The sources were fetched before.
    pub compile_seconds: f64,
    /// Size of the stripped executable.
    pub binary_bytes: u64,
    /// Packages linked into it, without itself and without procedural macros.
    pub dependencies: usize,
}

/// Builds `package` in a directory of its own that is emptied before, with symbols stripped.
///
/// # Errors
/// When cargo fails, or `stopped` says that the user does not want to wait.
pub fn build(
    workspace: &Workspace,
    scratch: &Scratch,
    package: &str,
    stopped: &dyn Fn() -> bool,
) -> Result<Build, BuildError> {
    let directory = scratch.path().join(package);
    fetch(workspace, stopped)?;
    let dependencies = dependencies(workspace, package, stopped)?;
    match fs::remove_dir_all(&directory) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(BuildError::Io { path: directory, source });
        }
        _ => {}
    }
    let begun = Instant::now();
    run(&mut release(workspace, package, &directory), stopped)?;
    let compile_seconds = begun.elapsed().as_secs_f64();

    let binary = directory.join("release").join(package);
    let binary_bytes =
        fs::metadata(&binary).map_err(|source| BuildError::Io { path: binary.clone(), source })?.len();
    let built = Build { binary, compile_seconds, binary_bytes, dependencies };
    remember(&directory, &built)?;
    Ok(built)
}

/// The executable of `package`, built as for a release where its sources are newer than it.
///
/// # Errors
/// When cargo fails, or `stopped` says that the user does not want to wait.
pub(crate) fn up_to_date(
    workspace: &Workspace,
    scratch: &Scratch,
    package: &str,
    stopped: &dyn Fn() -> bool,
) -> Result<PathBuf, BuildError> {
    let directory = scratch.path().join(package);
    run(&mut release(workspace, package, &directory), stopped)?;
    Ok(directory.join("release").join(package))
}

/// The build that an earlier comparison left behind.
///
/// # Errors
/// When there is none.
pub(crate) fn reuse(scratch: &Path, package: &str) -> Result<Build, BuildError> {
    let path = scratch.join(package).join(RECORD);
    let text = fs::read_to_string(&path).ok();
    let built = text.and_then(|text| serde_json::from_str::<Build>(&text).ok());
    built.filter(|built| built.binary.is_file()).ok_or(BuildError::NoEarlierBuild { path })
}

/// What is known of the build, beside it.
const RECORD: &str = "build.json";

fn remember(directory: &Path, built: &Build) -> Result<(), BuildError> {
    let path = directory.join(RECORD);
    let text = serde_json::to_string_pretty(built).map_err(io::Error::from);
    text.and_then(|text| fs::write(&path, text)).map_err(|source| BuildError::Io { path, source })
}

/// Downloads what any of the servers needs, so that the network is not part of the compile time.
fn fetch(workspace: &Workspace, stopped: &dyn Fn() -> bool) -> Result<(), BuildError> {
    let mut fetch = cargo(workspace, &["fetch", "--locked"]);
    if let Some(host) = host_triple() {
        fetch.args(["--target", &host]);
    }
    run(&mut fetch, stopped).map(drop)
}

fn host_triple() -> Option<String> {
    let output = Command::new("rustc").arg("-vV").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned)
}

fn dependencies(
    workspace: &Workspace,
    package: &str,
    stopped: &dyn Fn() -> bool,
) -> Result<usize, BuildError> {
    let edges = ["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"];
    let mut tree = cargo(workspace, &["tree", "--locked", "--package", package]);
    let tree = run(tree.args(edges), stopped)?;
    Ok(count_dependencies(&tree, package))
}

/// Counts the different packages that `cargo tree` lists, `package` itself left out.
fn count_dependencies(tree: &str, package: &str) -> usize {
    let name_and_version = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    };
    let all: BTreeSet<(String, String)> = tree.lines().filter_map(name_and_version).collect();
    all.iter().filter(|(name, _)| name != package).count()
}

fn release(workspace: &Workspace, package: &str, directory: &Path) -> Command {
    let mut cargo = cargo(workspace, &["build", "--release", "--locked", "--package", package]);
    cargo.arg("--target-dir").arg(directory).env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    cargo
}

/// cargo in the workspace, without what a surrounding `cargo run` set for its own build.
fn cargo(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(arguments).current_dir(workspace.root()).stdin(Stdio::null());
    for variable in
        ["CARGO", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR", "CARGO_BUILD_TARGET", "CARGO_MANIFEST_DIR"]
    {
        cargo.env_remove(variable);
    }
    cargo
}

/// How often it is looked whether the user asked to stop.
const POLL: Duration = Duration::from_millis(50);

/// Runs cargo to its end and returns what it wrote on stdout.
fn run(command: &mut Command, stopped: &dyn Fn() -> bool) -> Result<String, BuildError> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut job = Job::start(command, &[]).map_err(|source| BuildError::NoCargo { source })?;
    let stdout = job.leader().stdout.take().map(read_to_end);
    let stderr = job.leader().stderr.take().map(read_to_end);
    let status = wait(job, stopped);
    let text = |reader: Option<std::thread::JoinHandle<String>>| {
        reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
    };
    // The pipes end when cargo and everything below it have ended.
    let (stdout, stderr) = (text(stdout), text(stderr));
    if status?.success() {
        return Ok(stdout);
    }
    let words = command.get_args().map(|word| word.to_string_lossy());
    let command = ["cargo".into()].into_iter().chain(words).collect::<Vec<_>>().join(" ");
    Err(BuildError::Failed { command, message: first_error(&stderr) })
}

fn read_to_end(mut pipe: impl io::Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is still worth showing.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Stopped, it ends cargo with its compilers, which would otherwise go on for nobody.
fn wait(mut job: Job, stopped: &dyn Fn() -> bool) -> Result<ExitStatus, BuildError> {
    loop {
        if let Some(status) = job.ended().map_err(|source| BuildError::Io { path: "cargo".into(), source })? {
            return Ok(status);
        }
        if stopped() {
            return Err(BuildError::Interrupted);
        }
        std::thread::sleep(POLL);
    }
}

/// The first line that says "error", as the last ones only say that something failed, and what cargo names as its cause in
/// the end.
fn first_error(stderr: &str) -> String {
    let line = stderr.lines().find(|line| line.starts_with("error")).or_else(|| stderr.lines().last());
    let cause = stderr.rsplit_once("Caused by:\n").and_then(|(_, cause)| cause.lines().next());
    let offline = stderr
        .contains("offline mode")
        .then_some("cargo is offline, and not everything has been downloaded (`cargo fetch --locked`)");
    let parts = [line.or(Some("no message")), cause, offline];
    parts.into_iter().flatten().map(str::trim).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_counted_once_by_name_and_version() {
        let tree = "server-x v0.1.0 (/src/servers/x)\nrustls v0.23.46\nlog v0.4.35\nlog v0.4.35 (*)\n\
                    webscale v0.1.0 (/src/crates/webscale)\nbitflags v1.3.2\nbitflags v2.13.2\n\n";
        assert_eq!(count_dependencies(tree, "server-x"), 5);
    }

    #[test]
    fn dependencies_of_a_real_package() {
        let workspace = Workspace::find().unwrap();
        let cargo = cargo(&workspace, &["tree", "--package", "webscale-sys"]);
        let tree = run(
            { cargo }.args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"]),
            &|| false,
        )
        .unwrap();
        let count = count_dependencies(&tree, "webscale-sys");
        assert!(tree.contains("rustix v1") && (1..20).contains(&count), "{count}: {tree}");
    }

    #[test]
    fn a_failure_names_its_first_error() {
        let workspace = Workspace::find().unwrap();
        let error =
            run(&mut cargo(&workspace, &["tree", "--package", "no-such-server"]), &|| false).unwrap_err();
        assert!(error.to_string().contains("no-such-server"), "{error}");
        assert!(matches!(error, BuildError::Failed { .. }));
        let stderr = "   Compiling x\nerror[E0308]: mismatched types\nerror: could not compile `x`\n";
        assert_eq!(first_error(stderr), "error[E0308]: mismatched types");
        let stderr = "error: failed to get `a`\n\nCaused by:\n  download failed\n\nCaused by:\n  no server\n";
        assert_eq!(first_error(stderr), "error: failed to get `a`: no server");
        let stderr = "error: no `a` found\nAs a reminder, you're using offline mode (--offline) which\n";
        assert!(first_error(stderr).starts_with("error: no `a` found: cargo is offline"), "{stderr}");
    }

    #[test]
    fn stopping_ends_the_child() {
        // As cargo with a compiler: the child has a child, which holds the pipe open as long as it lives.
        let mut command = Command::new("sh");
        let error = run(command.args(["-c", "sleep 600 & wait"]), &|| true).unwrap_err();
        assert!(matches!(error, BuildError::Interrupted));
    }

    #[test]
    fn nothing_to_reuse_says_what_to_do() {
        let error = reuse(&std::env::temp_dir(), "server-that-never-was").unwrap_err();
        assert!(error.to_string().contains("--reuse-builds"), "{error}");
    }
}
