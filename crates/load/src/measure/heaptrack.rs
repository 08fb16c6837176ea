//! Peak heap by heaptrack, where it is installed.
//!
//! The script `heaptrack` would stand between us and the server: it does not pass signals on, and the server would
//! outlive it. So the server is started directly, with heaptrack's library preloaded, and writes its record to a
//! file; `heaptrack_interpret` and `heaptrack_print` then read it as the script would have.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why there is no peak.
#[derive(Debug, thiserror::Error)]
pub enum HeaptrackError {
    /// A file or a program of heaptrack's could not be used.
    #[error("heaptrack: {path}: {source}", path = path.display())]
    Io {
        /// The file or the program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program of heaptrack's failed.
    #[error("heaptrack: {program} failed: {message}", program = program.display())]
    Failed {
        /// The program.
        program: PathBuf,
        /// The end of what it wrote on stderr.
        message: String,
    },
    /// The record is empty: the process was killed before it wrote, or does not use the system's allocator.
    #[error("heaptrack recorded no allocation: the process has to exit by itself, on SIGTERM")]
    Empty,
}

/// An installed heaptrack.
#[derive(Debug, Clone)]
pub struct Heaptrack {
    preload: PathBuf,
    interpret: PathBuf,
    print: PathBuf,
}

impl Heaptrack {
    /// Looks for heaptrack in `PATH`.
    pub fn find() -> Option<Heaptrack> {
        env::split_paths(&env::var_os("PATH")?).find_map(|directory| Heaptrack::in_directory(&directory))
    }

    /// The parts lie where the script itself looks for them: beside its own real path.
    fn in_directory(directory: &Path) -> Option<Heaptrack> {
        let script = directory.join("heaptrack").canonicalize().ok()?;
        let programs = script.parent()?;
        let library = programs.parent()?.join("lib/heaptrack");
        let found = Heaptrack {
            preload: library.join("libheaptrack_preload.so"),
            interpret: library.join("libexec/heaptrack_interpret"),
            print: programs.join("heaptrack_print"),
        };
        [&found.preload, &found.interpret, &found.print].iter().all(|path| path.is_file()).then_some(found)
    }

    /// The environment in which a process records its allocations into `record`. The record is complete once the
    /// process has exited by itself.
    pub fn environment(&self, record: &Path) -> [(&'static str, OsString); 2] {
        [("LD_PRELOAD", self.preload.clone().into()), ("DUMP_HEAPTRACK_OUTPUT", record.into())]
    }

    /// The peak heap in a record, in bytes, to the three digits that heaptrack prints. About 73 kB of it are
    /// libstdc++'s own, which the preloaded library brings in. Writes `record` with `.interpreted` appended.
    ///
    /// # Errors
    /// When the record is empty or heaptrack's programs fail.
    pub(crate) fn peak_bytes(&self, record: &Path) -> Result<u64, HeaptrackError> {
        let mut interpreted = record.as_os_str().to_owned();
        interpreted.push(".interpreted");
        let interpreted = PathBuf::from(interpreted);
        let open = |path: &Path| File::open(path).map_err(|source| io_error(path, source));
        let create = |path: &Path| File::create(path).map_err(|source| io_error(path, source));
        let mut interpret = Command::new(&self.interpret);
        interpret.stdin(open(record)?).stdout(create(&interpreted)?);
        run(&self.interpret, &mut interpret)?;

        let mut print = Command::new(&self.print);
        print.args(["--print-peaks=0", "--print-allocators=0", "--print-temporary=0", "--file"]);
        print.arg(&interpreted).stdin(Stdio::null()).stdout(Stdio::piped());
        let report = run(&self.print, &mut print)?;
        match parse_peak(&report) {
            None | Some(0) => Err(HeaptrackError::Empty),
            Some(bytes) => Ok(bytes),
        }
    }
}

fn run(program: &Path, command: &mut Command) -> Result<String, HeaptrackError> {
    let output = command.stderr(Stdio::piped()).spawn().and_then(std::process::Child::wait_with_output);
    let output = output.map_err(|source| io_error(program, source))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let message = stderr.lines().last().unwrap_or("no message").to_owned();
    Err(HeaptrackError::Failed { program: program.to_owned(), message })
}

fn io_error(path: &Path, source: io::Error) -> HeaptrackError {
    HeaptrackError::Io { path: path.to_owned(), source }
}

/// `peak heap memory consumption: 3.20M`, with decimal units (heaptrack ≥ 1.2).
fn parse_peak(report: &str) -> Option<u64> {
    let text = super::process::value(report, "peak heap memory consumption:")?.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match &text[digits.len()..] {
        "B" => 1.0,
        "K" | "KB" => 1e3,
        "M" | "MB" => 1e6,
        "G" | "GB" => 1e9,
        _ => return None,
    };
    let number: f64 = digits.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked: finite, not negative"
    )]
    Some((number * scale).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "reading file \"interp\" - please wait, this might take some time...\n\
        Debuggee command was: ./a\nfinished reading file, now analyzing data:\n\n\
        total runtime: 1.002000s.\ncalls to allocation functions: 3 (2/s)\n\
        temporary memory allocations: 1 (0/s)\npeak heap memory consumption: 3.20M\n\
        peak RSS (including heaptrack overhead): 3.92M\ntotal memory leaked: 1000B\n";

    #[test]
    fn peak_of_a_captured_report() {
        assert_eq!(parse_peak(REPORT), Some(3_200_000));
        assert_eq!(parse_peak("peak heap memory consumption: 73.70K\n"), Some(73_700));
        assert_eq!(parse_peak("peak heap memory consumption: 0B\n"), Some(0));
        assert_eq!(parse_peak("peak heap memory consumption: -1B\n"), None);
        assert_eq!(parse_peak("peak heap memory consumption: many\n"), None);
        assert_eq!(parse_peak(""), None);
    }

    #[test]
    fn absent_programs_are_no_heaptrack() {
        assert!(Heaptrack::in_directory(Path::new("/nonexistent")).is_none());
    }

    /// Runs only where heaptrack is installed; `sort` keeps its input on the heap and exits by itself.
    #[test]
    fn peak_of_a_real_process() {
        let Some(heaptrack) = Heaptrack::find() else { return };
        let directory = env::temp_dir().join(format!("heaptrack-test-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let record = directory.join("record");
        let status = Command::new("sort")
            .args(["--buffer-size=8M", "/proc/self/status"])
            .envs(heaptrack.environment(&record))
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        let peak = heaptrack.peak_bytes(&record).unwrap();
        assert!((1_000..100_000_000).contains(&peak), "{peak}");

        std::fs::write(&record, "").unwrap();
        assert!(matches!(heaptrack.peak_bytes(&record), Err(HeaptrackError::Empty)));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
