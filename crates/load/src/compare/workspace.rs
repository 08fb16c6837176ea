//! The workspace whose servers are built.

use std::env;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// The workspace could not be found.
#[derive(Debug, thiserror::Error)]
#[error(
    "the servers' source is not in {}: run compare in a checkout of the project",
    .looked.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" nor in ")
)]
pub struct WorkspaceError {
    /// Where it was looked for.
    pub looked: Vec<PathBuf>,
}

/// The comparison's files could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// Somebody else has them.
    #[error("another comparison is running in {path}: wait for it, or end it", path = path.display())]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// They cannot be written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The lock.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The directory in which a comparison keeps its files; nobody else has it until this is dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn take(path: PathBuf) -> Result<Scratch, ScratchError> {
        let lock = path.join("lock");
        let failed = |source| ScratchError::Io { path: lock.clone(), source };
        std::fs::create_dir_all(&path).map_err(failed)?;
        let file = File::create(&lock).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Scratch { path, _lock: file }),
            Err(TryLockError::WouldBlock) => Err(ScratchError::Busy { path }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

/// The root of a checkout of this project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// Finds the checkout around the current directory, else the one that this program was built from.
    ///
    /// # Errors
    /// When neither is there (any more).
    pub fn find() -> Result<Workspace, WorkspaceError> {
        let built_from = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut looked = Vec::new();
        for start in env::current_dir().iter().map(PathBuf::as_path).chain([built_from]) {
            match Workspace::around(start) {
                Some(workspace) => return Ok(workspace),
                None => looked.push(start.to_owned()),
            }
        }
        Err(WorkspaceError { looked })
    }

    fn around(start: &Path) -> Option<Workspace> {
        let is_root = |path: &&Path| {
            path.join("Cargo.lock").is_file() && path.join("servers/workload/Cargo.toml").is_file()
        };
        start.ancestors().find(is_root).map(|root| Workspace { root: root.to_owned() })
    }

    /// The directory with the workspace's `Cargo.toml`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Takes the directory for the comparison's files.
    ///
    /// # Errors
    /// When another comparison has it, or it cannot be made.
    pub fn scratch(&self) -> Result<Scratch, ScratchError> {
        Scratch::take(self.root.join("target/compare"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_from_below_the_root() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let workspace = Workspace::around(&here.join("src/compare")).unwrap();
        assert_eq!(workspace.root(), here.parent().unwrap().parent().unwrap());
        assert_eq!(Workspace::find().unwrap(), workspace);
    }

    #[test]
    fn one_comparison_at_a_time() {
        let path = env::temp_dir().join(format!("webscale-scratch-{}", std::process::id()));
        let first = Scratch::take(path.clone()).unwrap();
        let error = Scratch::take(path.clone()).unwrap_err();
        assert!(error.to_string().contains("another comparison is running"), "{error}");
        drop(first);
        assert_eq!(Scratch::take(path.clone()).unwrap().path(), path);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn other_directories_are_refused() {
        assert_eq!(Workspace::around(Path::new("/proc")), None);
        let error = WorkspaceError { looked: vec!["/a".into(), "/b".into()] };
        let text = "the servers' source is not in /a nor in /b: run compare in a checkout of the project";
        assert_eq!(error.to_string(), text);
    }
}
