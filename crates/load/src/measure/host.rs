//! The machine on which something was measured.

use std::fs;

use serde::Serialize;

/// What a reader of figures has to know of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Host {
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
}

impl Host {
    /// Reads what this machine is; what is unknown stays empty.
    pub fn read() -> Host {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let flags =
            cpuinfo_value(&cpuinfo, "flags").or_else(|| cpuinfo_value(&cpuinfo, "Features")).unwrap_or("");
        let has = |flag: &str| flags.split_ascii_whitespace().any(|word| word == flag);
        Host {
            cpu: cpuinfo_value(&cpuinfo, "model name").unwrap_or(std::env::consts::ARCH).to_owned(),
            cpus: webscale_sys::process::allowed_cpus().map_or(1, |cpus| cpus.len()),
            aes: has("aes"),
            virtual_machine: has("hypervisor"),
            memory_bytes: super::process::kilobytes(&meminfo, "MemTotal:").unwrap_or(0),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        }
    }
}

/// What stands behind `key` in `/proc/cpuinfo`, for the first processor.
pub(crate) fn cpuinfo_value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.into_iter().find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_name() {
        let host = Host::read();
        assert!(!host.cpu.is_empty() && !host.kernel.is_empty() && host.memory_bytes > 1 << 20);
    }

    #[test]
    fn cpuinfo_is_read_by_key() {
        let text = "processor\t: 0\nmodel name\t: A Processor @ 2 GHz: fast\nflags\t\t: fpu aes\n";
        assert_eq!(cpuinfo_value(text, "model name"), Some("A Processor @ 2 GHz: fast"));
        assert_eq!(cpuinfo_value(text, "Features"), None);
    }
}
