//! The files of the kernel, below a directory that a test may choose.

use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::check::Mend;
use crate::measure::process::value;

/// Where `/proc` and `/sys` are.
#[derive(Debug, Clone)]
pub struct Root(PathBuf);

impl Default for Root {
    fn default() -> Root {
        Root::new("/")
    }
}

impl Root {
    /// `proc` and `sys` are below `path`.
    pub fn new(path: impl Into<PathBuf>) -> Root {
        Root(path.into())
    }

    /// The directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.0
    }

    /// A file's text; none if it cannot be read, for whatever reason.
    pub(crate) fn text(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.0.join(file)).ok()
    }

    /// The number that is all of a file.
    pub(crate) fn number(&self, file: &str) -> Option<u64> {
        self.text(file)?.trim().parse().ok()
    }

    /// The numbers that are all of a file.
    pub(crate) fn numbers(&self, file: &str) -> Option<Vec<u64>> {
        self.text(file)?.split_ascii_whitespace().map(|word| word.parse().ok()).collect()
    }

    /// The entries of a directory whose names are numbers; empty if it cannot be read.
    pub(crate) fn list(&self, directory: &str) -> Vec<u32> {
        let entries = fs::read_dir(self.0.join(directory)).into_iter().flatten();
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
    }

    /// A command for which it takes root, as whoever asks has to type it. What it redirects has to stand in `sh -c`.
    pub(crate) fn by_root(&self, command: &str) -> Mend {
        Mend::Command(if self.is_root() { command.to_owned() } else { format!("sudo {command}") })
    }

    /// The command that sets `value` by sysctl(8).
    pub(crate) fn sysctl(&self, name: &str, value: impl Display) -> Mend {
        self.by_root(&format!("sysctl -w {name}={value}"))
    }

    /// The command that writes `value` into `file`, which is named without the leading slash.
    pub(crate) fn write(&self, file: &str, value: u64) -> Mend {
        self.by_root(&format!("sh -c 'echo {value} > /{file}'"))
    }

    /// Whether whoever asks is root: the effective user of `/proc/self/status`.
    fn is_root(&self) -> bool {
        self.status("Uid:").is_some_and(|ids| ids.split_ascii_whitespace().nth(1) == Some("0"))
    }

    /// Whether root may go beyond a hard limit here: in a container often not (capabilities(7)).
    pub(crate) fn may_raise(&self) -> bool {
        const CAP_SYS_RESOURCE: u32 = 24;
        let bounding = self.status("CapBnd:").and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
        bounding.is_none_or(|set| set & 1 << CAP_SYS_RESOURCE != 0)
    }

    fn status(&self, key: &str) -> Option<String> {
        Some(value(&self.text("proc/self/status")?, key)?.to_owned())
    }

    /// Whether there is certainly no such file: what cannot be looked at may be there.
    pub(crate) fn lacks(&self, file: &str) -> bool {
        fs::metadata(self.0.join(file)).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }
}
