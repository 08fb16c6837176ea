//! Memory of the machine and of the control group.

use webscale_sys::cgroup::Cgroups;

use super::check::{Check, Value};
use super::root::Root;
use super::{Need, Role};
use crate::measure::process::kilobytes;

/// What the load takes for one TLS client in its process, at most.
const LOAD_BYTES: u64 = 5_000;
/// What the kernel takes for one end of an idle connection: measured at 3.8 to 4.6 kB.
pub(crate) const KERNEL_BYTES: u64 = 4_600;

/// Memory for all clients, in bytes.
pub(super) fn needed_bytes(need: &Need) -> u64 {
    let server = if need.role.serves() { need.server_bytes } else { 0 };
    let load = if need.role.loads() { LOAD_BYTES } else { 0 };
    need.clients.saturating_mul(server + load + need.role.ends() * KERNEL_BYTES)
}

fn arithmetic(need: &Need) -> String {
    let kb = |bytes: u64| format!("{:.1}", bytes as f64 / 1e3);
    let (clients, server, load, kernel) =
        (need.clients, kb(need.server_bytes), kb(LOAD_BYTES), kb(KERNEL_BYTES));
    match need.role {
        Role::Server => format!("{clients} clients × ({server} server + {kernel} kernel) kB"),
        Role::Load => format!("{clients} clients × ({load} load + {kernel} kernel) kB"),
        Role::Both => format!("{clients} clients × ({server} server + {load} load + 2 × {kernel} kernel) kB"),
    }
}

pub(super) fn checks(root: &Root, need: &Need) -> Vec<Check> {
    let needed = needed_bytes(need);
    let meminfo = root.text("proc/meminfo").unwrap_or_default();
    let available = kilobytes(&meminfo, "MemAvailable:");
    let each = (needed / need.clients.max(1)).max(1);
    let fit = |bytes: Option<u64>| bytes.map_or(0, |bytes| bytes / each);
    vec![
        Check::bytes("MemAvailable", available, needed)
            .note(arithmetic(need))
            .mend([format!("at most {} clients on this machine", fit(available))]),
        control_group(root, need, needed),
        swap(&meminfo),
    ]
}

fn control_group(root: &Root, need: &Need, needed: u64) -> Check {
    const NAME: &str = "cgroup: memory limit";
    let note = format!("{}; beyond it the kernel kills", arithmetic(need));
    let Some(groups) = Cgroups::of(root.directory(), "self") else {
        return Check::bytes(NAME, None, needed).note("/proc/self/cgroup and /sys/fs/cgroup cannot be read");
    };
    match groups.memory() {
        Some(limit) => {
            let wanted = limit.used.saturating_add(needed + needed / 5);
            Check::bytes(NAME, Some(limit.left()), needed).note(note).mend([
                format!("echo {wanted} > /{}", limit.file),
                format!("MemoryMax={wanted} in the systemd unit"),
            ])
        }
        None => Check::word(NAME, Some("none".into()), true).note("no memory limit in force"),
    }
}

fn swap(meminfo: &str) -> Check {
    let total = kilobytes(meminfo, "SwapTotal:");
    let used = total.zip(kilobytes(meminfo, "SwapFree:")).map(|(total, free)| total.saturating_sub(free));
    let now = used.map(|used| if total == Some(0) { "none".into() } else { Value::Bytes(used).to_string() });
    Check::word("swap in use", now, used == Some(0))
        .note("a server that is paged out answers in milliseconds, not microseconds")
        .mend(["swapoff -a".into(), "sysctl -w vm.swappiness=1".into()])
}
