//! For tests: a machine that is files below a temporary directory.

use std::fs;
use std::path::PathBuf;

use super::Root;

/// Removed when dropped.
pub(crate) struct Machine(PathBuf);

impl Machine {
    /// A machine of these files; `name` tells it from those of other tests.
    pub(crate) fn new(name: &str, files: &[(&str, &str)]) -> Machine {
        let path = std::env::temp_dir().join(format!("webscale-machine-{name}-{}", std::process::id()));
        let machine = Machine(path);
        files.iter().for_each(|(file, text)| machine.write(file, text));
        machine
    }

    pub(crate) fn root(&self) -> Root {
        Root::new(&self.0)
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        let path = self.0.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn remove(&self, file: &str) {
        fs::remove_file(self.0.join(file)).unwrap();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
