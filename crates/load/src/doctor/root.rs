//! The files of the kernel, below a directory that a test may choose.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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

    /// Whether there is certainly no such file: what cannot be looked at may be there.
    pub(crate) fn lacks(&self, file: &str) -> bool {
        fs::metadata(self.0.join(file)).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }
}
