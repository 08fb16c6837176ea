//! Threads, processes, and what epoll watches.

use webscale_sys::cgroup::Cgroups;

use super::Need;
use super::check::{Check, Mend};
use super::root::Root;

/// Threads of a server and a load that use epoll, however many clients they have; generous.
const THREADS: u64 = 128;

/// The kernel takes no greater kernel.pid_max.
const PID_MAX: u64 = 1 << 22;

pub(super) fn checks(root: &Root, need: &Need) -> Vec<Check> {
    let wanted = need.clients.max(THREADS);
    let of_kernel = |name: &'static str| {
        let file = format!("proc/sys/{}", name.replace('.', "/"));
        Check::count(name, root.number(&file), THREADS)
            .note(format!("with epoll; a server with a thread a client needs {wanted}"))
            .mend([root.sysctl(name, wanted.clamp(2 * THREADS, PID_MAX))])
    };
    let kernel = ["kernel.threads-max", "kernel.pid_max", "vm.max_map_count"].map(of_kernel);
    [tasks_of_group(root)].into_iter().chain(kernel).chain(watches(root, need)).collect()
}

pub(crate) const EPOLL_WATCHES: &str = "epoll max_user_watches";

/// Descriptors in epoll sets.
pub(super) fn watches(root: &Root, need: &Need) -> Vec<Check> {
    let needed = need.clients * need.role.ends();
    let most = root.number("proc/sys/fs/epoll/max_user_watches");
    vec![
        Check::count(EPOLL_WATCHES, most, needed)
            .note("one for each end of a connection, for all processes of a user")
            .mend([root.sysctl("fs.epoll.max_user_watches", needed * 2)]),
    ]
}

fn tasks_of_group(root: &Root) -> Check {
    const NAME: &str = "cgroup: pids.max";
    let Some(groups) = Cgroups::of(root.directory(), "self") else {
        return Check::count(NAME, None, THREADS).note("/proc/self/cgroup and /sys/fs/cgroup cannot be read");
    };
    match groups.tasks() {
        Some(limit) => {
            let wanted = limit.used + 2 * THREADS;
            Check::count(NAME, Some(limit.left()), THREADS)
                .note("what is left of it, threads included")
                .mend([root.write(&limit.file, wanted), Mend::Unit(format!("TasksMax={wanted}"))])
        }
        None => Check::word(NAME, Some("none".into()), true).note("no limit of tasks in force"),
    }
}
