//! Threads, processes, and what epoll watches.

use webscale_sys::cgroup::Cgroups;

use super::Need;
use super::check::Check;
use super::root::Root;

/// Threads of a server and a load that use epoll, however many clients they have; generous.
const THREADS: u64 = 128;

pub(super) fn checks(root: &Root, need: &Need) -> Vec<Check> {
    let wanted = need.clients.max(THREADS);
    let of_kernel = |name: &'static str| {
        let file = format!("proc/sys/{}", name.replace('.', "/"));
        Check::count(name, root.number(&file), THREADS)
            .note(format!("with epoll; a server with a thread a client needs {wanted}"))
            .mend([format!("sysctl -w {name}={wanted}")])
    };
    let watches = need.clients * need.role.ends();
    vec![
        tasks_of_group(root),
        of_kernel("kernel.threads-max"),
        of_kernel("kernel.pid_max"),
        of_kernel("vm.max_map_count"),
        Check::count("epoll max_user_watches", root.number("proc/sys/fs/epoll/max_user_watches"), watches)
            .note("one for each end of a connection, for all processes of a user")
            .mend([format!("sysctl -w fs.epoll.max_user_watches={}", watches * 2)]),
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
            Check::count(NAME, Some(limit.left()), THREADS).note("what is left of it, threads included").mend(
                [
                    format!("echo {wanted} > /{}", limit.file),
                    format!("TasksMax={wanted} in the systemd unit"),
                ],
            )
        }
        None => Check::word(NAME, Some("none".into()), true).note("no limit of tasks in force"),
    }
}
