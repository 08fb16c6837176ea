//! Memory of the machine and of the control group.

use webscale_sys::cgroup::Cgroups;

use super::check::{Check, Mend, Value};
use super::root::Root;
use super::{Need, Role};
use crate::measure::process::kilobytes;

/// What the load takes for one TLS client in its process, at most.
const LOAD_BYTES: u64 = 5_000;
/// What the kernel takes for one end of an idle connection: measured at 3.8 to 4.6 kB.
pub(crate) const KERNEL_BYTES: u64 = 4_600;

/// Memory for all clients on these ends, in bytes.
fn needed_bytes(need: &Need, ends: Role) -> u64 {
    let server = if ends.serves() { need.server_bytes } else { 0 };
    let load = if ends.loads() { LOAD_BYTES } else { 0 };
    need.clients.saturating_mul(server + load + ends.ends() * KERNEL_BYTES)
}

fn arithmetic(need: &Need, ends: Role) -> String {
    let kb = |bytes: u64| format!("{:.1}", bytes as f64 / 1e3);
    let (clients, server, load, kernel) =
        (need.clients, kb(need.server_bytes), kb(LOAD_BYTES), kb(KERNEL_BYTES));
    match ends {
        Role::Server => format!("{clients} clients × ({server} server + {kernel} kernel) kB"),
        Role::Load => format!("{clients} clients × ({load} load + {kernel} kernel) kB"),
        Role::Both => format!("{clients} clients × ({server} server + {load} load + 2 × {kernel} kernel) kB"),
    }
}

/// What is known of this machine, and of the group that a process started from here is in.
pub(super) fn checks(root: &Root, need: &Need) -> Vec<Check> {
    let needed = needed_bytes(need, need.role);
    let meminfo = root.text("proc/meminfo").unwrap_or_default();
    let available = kilobytes(&meminfo, "MemAvailable:");
    let each = (needed / need.clients.max(1)).max(1);
    let fit = available.map_or(0, |bytes| bytes / each);
    let here = if server_group(root, need).is_some() { Role::Load } else { need.role };
    vec![
        Check::bytes("MemAvailable", available, needed)
            .note(arithmetic(need, need.role))
            .mend([Mend::Words(format!("at most {fit} clients on this machine, or one with more memory"))]),
        control_group(root, "cgroup: memory limit", Cgroups::of(root.directory(), "self"), need, here),
        swap(root, &meminfo),
    ]
}

/// The control group of a server that runs, where that is not the one of a process started from here.
pub(super) fn of_server(root: &Root, need: &Need) -> Vec<Check> {
    let groups = server_group(root, need);
    let check = |groups| control_group(root, "cgroup: server's memory", Some(groups), need, Role::Server);
    groups.map(check).into_iter().collect()
}

fn server_group(root: &Root, need: &Need) -> Option<Cgroups> {
    let groups = Cgroups::of(root.directory(), &need.server.first()?.to_string())?;
    let file = |groups: &Cgroups| groups.memory().map(|limit| limit.file);
    let own = Cgroups::of(root.directory(), "self").as_ref().and_then(file);
    (need.role == Role::Both && file(&groups) != own).then_some(groups)
}

fn control_group(root: &Root, name: &'static str, groups: Option<Cgroups>, need: &Need, ends: Role) -> Check {
    let needed = needed_bytes(need, ends);
    let Some(groups) = groups else {
        return Check::bytes(name, None, needed).note("/proc/self/cgroup and /sys/fs/cgroup cannot be read");
    };
    match groups.memory() {
        Some(limit) => {
            let wanted = limit.used.saturating_add(needed).saturating_add(needed / 5);
            let note = format!("{}; beyond it the kernel kills", arithmetic(need, ends));
            Check::bytes(name, Some(limit.left()), needed)
                .note(note)
                .mend([root.write(&limit.file, wanted), Mend::Unit(format!("MemoryMax={wanted}"))])
        }
        None => Check::word(name, Some("none".into()), true).note("no memory limit in force"),
    }
}

fn swap(root: &Root, meminfo: &str) -> Check {
    let total = kilobytes(meminfo, "SwapTotal:");
    let used = total.zip(kilobytes(meminfo, "SwapFree:")).map(|(total, free)| total.saturating_sub(free));
    let now = used.map(|used| if total == Some(0) { "none".into() } else { Value::Bytes(used).to_string() });
    let has_room = used.zip(kilobytes(meminfo, "MemAvailable:")).is_some_and(|(used, free)| used < free / 2);
    let mend = match has_room {
        true => root.by_root("sh -c 'swapoff -a && swapon -a'"),
        false => Mend::Words("more memory, or less in it".into()),
    };
    Check::word("swap in use", now, used == Some(0))
        .note("a server that is paged out answers in milliseconds, not microseconds")
        .mend([mend])
}
