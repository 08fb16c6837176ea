//! The machine that a comparison ran on, for its report, and which of its processors to use.

use std::fs;
use std::process::{Command, Stdio};

use serde::Serialize;

use crate::measure::kernel::{KernelError, Limits};

/// What a reader has to know of the machine.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Logical processors that may be used.
    pub cpus: usize,
    /// Whether the processor has instructions for AES.
    pub aes: bool,
    /// Whether it is a guest of a hypervisor.
    pub virtual_machine: bool,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// The kernel's release.
    pub kernel: String,
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
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let flags =
            cpuinfo_value(&cpuinfo, "flags").or_else(|| cpuinfo_value(&cpuinfo, "Features")).unwrap_or("");
        let has = |flag: &str| flags.split_ascii_whitespace().any(|word| word == flag);
        Ok(Machine {
            cpu: cpuinfo_value(&cpuinfo, "model name").unwrap_or(std::env::consts::ARCH).to_owned(),
            cpus: webscale_sys::process::allowed_cpus().map_or(1, |cpus| cpus.len()),
            aes: has("aes"),
            virtual_machine: has("hypervisor"),
            memory_bytes: crate::measure::process::kilobytes(&meminfo, "MemTotal:").unwrap_or(0),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            rustc: said_by(Command::new("rustc").arg("--version")),
            commit: said_by(Command::new("git").args(["rev-parse", "HEAD"]).current_dir(workspace)),
            command: std::env::args().collect::<Vec<_>>().join(" "),
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

/// What stands behind `key` in `/proc/cpuinfo`, for the first processor.
pub(crate) fn cpuinfo_value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let (name, value) =
        text.lines().filter_map(|line| line.split_once(':')).find(|(name, _)| name.trim() == key)?;
    let _ = name;
    Some(value.trim())
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
    fn this_machine_has_a_name() {
        let machine = Machine::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(!machine.cpu.is_empty() && !machine.kernel.is_empty() && machine.memory_bytes > 1 << 20);
        assert!(machine.rustc.starts_with("rustc "), "{}", machine.rustc);
    }

    #[test]
    fn cpuinfo_is_read_by_key() {
        let text = "processor\t: 0\nmodel name\t: A Processor @ 2 GHz: fast\nflags\t\t: fpu aes\n";
        assert_eq!(cpuinfo_value(text, "model name"), Some("A Processor @ 2 GHz: fast"));
        assert_eq!(cpuinfo_value(text, "Features"), None);
    }
}
