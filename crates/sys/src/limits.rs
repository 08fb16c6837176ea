//! Limits of the process: getrlimit(2), cgroups(7).

use std::path::Path;
use std::{fs, io};

use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cgroup::Cgroups;

/// How many descriptors this process may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Descriptors {
    /// In force now.
    pub soft: u64,
    /// As far as the process may raise it by itself.
    pub hard: u64,
}

/// RLIMIT_NOFILE of this process.
#[must_use]
pub fn descriptors() -> Descriptors {
    let limit = getrlimit(Resource::Nofile);
    Descriptors { soft: limit.current.unwrap_or(u64::MAX), hard: limit.maximum.unwrap_or(u64::MAX) }
}

/// Raises the soft limit of descriptors to the hard one, and says what is in force then.
///
/// # Errors
/// EPERM, where a sandbox forbids it; the old limit stays.
pub fn raise_descriptors() -> io::Result<Descriptors> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(descriptors())
}

/// Room for more is not made ahead: this is half a mebibyte of the kernel's memory.
const RESERVED_MAX: usize = 65_536;

/// Makes room in the process's table of descriptors for `count` of them, as far as its limit goes, and for 65,536 at most.
///
/// The kernel doubles that table when it is full, and where several threads have it in common whoever needs the next
/// descriptor waits for an RCU grace period: 10 to 25 ms in which an event loop serves nobody. Better before it serves anybody.
///
/// # Errors
/// EMFILE, ENFILE or ENOMEM; then the table grows as it is needed.
pub fn reserve_descriptors(count: usize) -> io::Result<()> {
    let limit = usize::try_from(descriptors().soft).unwrap_or(usize::MAX);
    let last = count.min(limit).min(RESERVED_MAX).saturating_sub(1);
    let any = eventfd(0, EventfdFlags::CLOEXEC)?;
    // Closed again at once; the table never shrinks.
    rustix::io::fcntl_dupfd_cloexec(&any, i32::try_from(last).unwrap_or_default())?;
    Ok(())
}

/// Bytes of memory that this process may use: those of the machine, or of its control group where that has less. `None`
/// where /proc cannot be read.
#[must_use]
pub fn memory() -> Option<u64> {
    memory_below(Path::new("/"))
}

fn memory_below(root: &Path) -> Option<u64> {
    let machine = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let total = machine.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let groups = Cgroups::of(root, "self");
    let limits = groups.iter().flat_map(Cgroups::memory_limits).map(|limit| limit.limit);
    Some(limits.fold(kib * 1024, u64::min))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read where these files are all there is.
    fn memory_of(name: &str, files: &[(&str, &str)]) -> Option<u64> {
        let root = std::env::temp_dir().join(format!("webscale-sys-{name}-{}", std::process::id()));
        for (file, text) in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let memory = memory_below(&root);
        let _ = fs::remove_dir_all(&root);
        memory
    }

    #[test]
    fn the_least_of_machine_and_groups() {
        let machine = ("proc/meminfo", "MemFree: 1 kB\nMemTotal:       2048 kB\n");
        assert_eq!(memory_of("machine", &[machine]), Some(2 << 20));
        let unified = ("proc/self/cgroup", "0::/a/b\n");
        let (above, own) =
            (("sys/fs/cgroup/a/memory.max", "4096\n"), ("sys/fs/cgroup/a/b/memory.max", "max\n"));
        assert_eq!(memory_of("unified", &[machine, unified, above, own]), Some(4096));
        // As in a container: the path is not there, the mount point is the group.
        let mount = ("sys/fs/cgroup/memory.max", "8192\n");
        assert_eq!(memory_of("container", &[machine, unified, mount]), Some(8192));
        let old = ("proc/self/cgroup", "5:cpu:/x\n4:memory:/m\n");
        let limit = ("sys/fs/cgroup/memory/m/memory.limit_in_bytes", "1024\n");
        let other = ("sys/fs/cgroup/cpu/x/memory.max", "1\n");
        assert_eq!(memory_of("old", &[machine, old, limit, other]), Some(1024));
        let together = ("proc/self/cgroup", "4:cpu,memory:/m\n");
        assert_eq!(memory_of("together", &[machine, together, limit]), Some(1024));
        let none = ("sys/fs/cgroup/memory/m/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(memory_of("none", &[machine, old, none]), Some(2 << 20));
        assert_eq!(memory_of("nothing", &[]), None);
    }

    #[test]
    fn this_machine_has_some() {
        assert!(memory().unwrap() > 1 << 20);
    }

    /// FDSize of /proc/self/status: places in the table of descriptors.
    fn table_len() -> usize {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap().trim().parse().unwrap()
    }

    #[test]
    fn the_table_of_descriptors_grows_ahead_and_not_beyond_the_limits() {
        let soft = usize::try_from(raise_descriptors().unwrap().soft).unwrap();
        reserve_descriptors(0).unwrap();
        reserve_descriptors(700).unwrap();
        assert!(table_len() >= 700.min(soft));
        reserve_descriptors(usize::MAX).unwrap();
        assert!(table_len() >= RESERVED_MAX.min(soft) && table_len() <= RESERVED_MAX);
    }

    #[test]
    fn raising_brings_soft_to_hard() {
        let raised = raise_descriptors().unwrap();
        assert_eq!(raised.soft, raised.hard);
        assert_eq!(descriptors(), raised);
    }
}
