//! The machine that a comparison ran on, for its report, and which of its processors to use.

use std::fs;
use std::process::{Command, Stdio};

use serde::Serialize;

use crate::measure::host::Host;
use crate::measure::kernel::{KernelError, Limits};
use crate::report::redact;

/// The machine, and what was compared with what on it.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Processor, memory, kernel.
    #[serde(flatten)]
    pub host: Host,
    /// The compiler.
    pub rustc: String,
    /// The commit of the sources; empty outside a git checkout.
    pub commit: String,
    /// What was typed.
    pub command: String,
    /// Limits of the process and of the system.
    pub limits: Limits,
}

impl Machine {
    /// Reads what the machine is.
    ///
    /// # Errors
    /// When the limits cannot be read; what else is unknown stays empty.
    pub fn read(workspace: &std::path::Path) -> Result<Machine, KernelError> {
        Ok(Machine {
            host: Host::read(),
            rustc: said_by(Command::new("rustc").arg("--version")),
            commit: said_by(Command::new("git").args(["rev-parse", "HEAD"]).current_dir(workspace)),
            command: redact::command_line(std::env::args()),
            limits: Limits::read()?,
        })
    }
}

/// The first line that a command prints; empty if it cannot.
fn said_by(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

/// One processor for the server and one for the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Apart {
    /// The server's.
    pub server: usize,
    /// The load's.
    pub load: usize,
}

impl Apart {
    /// Two processors that this process may use, on different cores if there are; none with a single one.
    pub fn choose() -> Option<Apart> {
        let cpus = webscale_sys::process::allowed_cpus().ok()?;
        choose(&cpus, |cpu| {
            let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            fs::read_to_string(path).unwrap_or_default()
        })
    }
}

/// `siblings` tells which logical processors share a core, in any form that is the same for all of them.
fn choose(cpus: &[usize], siblings: impl Fn(usize) -> String) -> Option<Apart> {
    let (&server, others) = cpus.split_first()?;
    let core = siblings(server);
    let load = others.iter().find(|&&cpu| siblings(cpu) != core || core.is_empty()).or(others.first())?;
    Some(Apart { server, load: *load })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_on_different_cores() {
        let two_threads_a_core = |cpu: usize| format!("{}-{}", cpu / 2 * 2, cpu / 2 * 2 + 1);
        assert_eq!(choose(&[0, 1, 2, 3], two_threads_a_core), Some(Apart { server: 0, load: 2 }));
        assert_eq!(choose(&[0, 1], two_threads_a_core), Some(Apart { server: 0, load: 1 }));
        assert_eq!(choose(&[5, 7], |_| String::new()), Some(Apart { server: 5, load: 7 }));
        assert_eq!(choose(&[3], two_threads_a_core), None);
    }

    #[test]
    fn the_compiler_has_a_name() {
        let machine = Machine::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(machine.rustc.starts_with("rustc "), "{}", machine.rustc);
    }
}
