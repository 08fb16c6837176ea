//! The workspace whose servers are built.

use std::env;
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

    /// Where the comparison keeps its files.
    pub fn scratch(&self) -> PathBuf {
        self.root.join("target/compare")
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
    fn other_directories_are_refused() {
        assert_eq!(Workspace::around(Path::new("/proc")), None);
        let error = WorkspaceError { looked: vec!["/a".into(), "/b".into()] };
        let text = "the servers' source is not in /a nor in /b: run compare in a checkout of the project";
        assert_eq!(error.to_string(), text);
    }
}
