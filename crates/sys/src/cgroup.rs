//! The control groups of a process, version 1 or 2, and what they limit (cgroups(7)).

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where the hierarchies are mounted.
const MOUNT: &str = "sys/fs/cgroup";

/// A limit of this size or above is none: version 1 writes the greatest number of pages.
const NO_LIMIT: u64 = 1 << 60;

/// The groups that a process is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    root: PathBuf,
    groups: Vec<Group>,
}

/// A line of `/proc/PID/cgroup`: `0::/a/b` for version 2, or `4:cpu,memory:/a/b`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    controllers: String,
    path: String,
}

/// A limit that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// The most, in the unit of what is limited.
    pub limit: u64,
    /// What is taken of it.
    pub used: u64,
    /// Where it is set, without the leading slash.
    pub file: String,
}

impl Limit {
    /// What is left of it.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }
}

impl Cgroups {
    /// Those of a process by its number, or of `self`, where `proc` and `sys` are below `root`. `None` where
    /// `/proc/PID/cgroup` cannot be read, or the limits are not shown.
    #[must_use]
    pub fn of(root: &Path, process: &str) -> Option<Cgroups> {
        if fs::metadata(root.join(MOUNT)).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            return None;
        }
        let text = fs::read_to_string(root.join(format!("proc/{process}/cgroup"))).ok()?;
        Some(Cgroups { root: root.to_owned(), groups: text.lines().filter_map(Group::parse).collect() })
    }

    /// The memory limit with the least left, in bytes. Files that nobody uses now do not count: the kernel takes them back
    /// before it kills.
    #[must_use]
    pub fn memory(&self) -> Option<Limit> {
        self.memory_limits().into_iter().min_by_key(Limit::left)
    }

    /// All memory limits in force, of the groups and of those above them.
    #[must_use]
    pub fn memory_limits(&self) -> Vec<Limit> {
        let limit = |directory: &str, most, used, cache| {
            let limit = self.limit(directory, most, used)?;
            let reclaimable = self.reclaimable(directory, cache).unwrap_or(0);
            Some(Limit { used: limit.used.saturating_sub(reclaimable), ..limit })
        };
        self.limits("memory", |directory, is_unified| match is_unified {
            true => limit(directory, "memory.max", "memory.current", "inactive_file "),
            false => {
                limit(directory, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ")
            }
        })
    }

    /// The limit of tasks (processes and threads) with the least left.
    #[must_use]
    pub fn tasks(&self) -> Option<Limit> {
        let limits = self.limits("pids", |directory, _| self.limit(directory, "pids.max", "pids.current"));
        limits.into_iter().min_by_key(Limit::left)
    }

    /// How many processors the group may use, where a quota bounds them (CFS bandwidth).
    #[must_use]
    pub fn processors(&self) -> Option<f64> {
        let read = |directory: &str, file| fs::read_to_string(self.root.join(directory).join(file)).ok();
        let quotas = self.limits("cpu", |directory, is_unified| match is_unified {
            true => {
                let both = read(directory, "cpu.max")?;
                let (quota, period) = both.trim().split_once(' ')?;
                share(quota, period)
            }
            false => share(&read(directory, "cpu.cfs_quota_us")?, &read(directory, "cpu.cfs_period_us")?),
        });
        quotas.into_iter().min_by(f64::total_cmp)
    }

    /// What `limit` finds in the directories of a controller, which is told whether they are of version 2.
    fn limits<T>(&self, controller: &str, limit: impl Fn(&str, bool) -> Option<T>) -> Vec<T> {
        let in_version = |is_unified: bool| -> Vec<T> {
            let groups = self.groups.iter().filter(|group| group.is_unified() == is_unified);
            let directories = groups.flat_map(|group| group.directories(controller));
            directories.filter_map(|directory| limit(&directory, is_unified)).collect()
        };
        let limits = in_version(false);
        if limits.is_empty() { in_version(true) } else { limits }
    }

    fn limit(&self, directory: &str, limit: &str, used: &str) -> Option<Limit> {
        let file = format!("{directory}/{limit}");
        let limit = self.number(&file).filter(|limit| *limit < NO_LIMIT)?;
        Some(Limit { limit, used: self.number(&format!("{directory}/{used}")).unwrap_or(0), file })
    }

    fn reclaimable(&self, directory: &str, key: &str) -> Option<u64> {
        let stat = fs::read_to_string(self.root.join(directory).join("memory.stat")).ok()?;
        stat.lines().find_map(|line| line.strip_prefix(key))?.trim().parse().ok()
    }

    fn number(&self, file: &str) -> Option<u64> {
        fs::read_to_string(self.root.join(file)).ok()?.trim().parse().ok()
    }
}

impl Group {
    fn parse(line: &str) -> Option<Group> {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        Some(Group { controllers: controllers.to_owned(), path: path.to_owned() })
    }

    /// Version 2, in which one hierarchy has all controllers.
    fn is_unified(&self) -> bool {
        self.controllers.is_empty()
    }

    /// Those of the group and of all above it, where it has the controller. In a container the path may be the host's, and
    /// only the mount point is there. Several controllers may be mounted as one, under all their names or each under its own.
    fn directories(&self, controller: &str) -> Vec<String> {
        let mut mounts = match &self.controllers {
            none if none.is_empty() => vec![MOUNT.to_owned()],
            all if all.split(',').any(|name| name == controller) => {
                vec![format!("{MOUNT}/{controller}"), format!("{MOUNT}/{all}")]
            }
            _ => Vec::new(),
        };
        mounts.dedup();
        mounts.iter().flat_map(|mount| below(mount, &self.path)).collect()
    }
}

/// Processors, by two times in µs. No quota is written as `max` or -1.
fn share(quota: &str, period: &str) -> Option<f64> {
    let us = |text: &str| text.trim().parse::<u32>().ok().map(f64::from);
    us(period).filter(|period| *period > 0.0).and_then(|period| Some(us(quota)? / period))
}

/// `mount`, and each directory on the way from there along `path`.
fn below(mount: &str, path: &str) -> Vec<String> {
    let mut directories = vec![mount.to_owned()];
    let mut directory = mount.to_owned();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        directory = format!("{directory}/{name}");
        directories.push(directory.clone());
    }
    directories
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The groups of a process where these files are all there is; removed when dropped.
    struct Files(PathBuf);

    impl Files {
        fn new(name: &str, files: &[(&str, &str)]) -> Files {
            let root = std::env::temp_dir().join(format!("webscale-cgroup-{name}-{}", std::process::id()));
            for (file, text) in files {
                let path = root.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Files(root)
        }

        fn groups(&self) -> Option<Cgroups> {
            Cgroups::of(&self.0, "7")
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn of_all_groups_above_the_tightest_counts() {
        let files = Files::new(
            "two",
            &[
                ("proc/7/cgroup", "0::/a/b\n"),
                ("sys/fs/cgroup/a/memory.max", "1000\n"),
                ("sys/fs/cgroup/a/memory.current", "900\n"),
                ("sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 300\n"),
                ("sys/fs/cgroup/a/b/memory.max", "500\n"),
                ("sys/fs/cgroup/a/b/memory.current", "10\n"),
                ("sys/fs/cgroup/a/b/pids.max", "max\n"),
            ],
        );
        let groups = files.groups().unwrap();
        let file = "sys/fs/cgroup/a/memory.max".to_owned();
        assert_eq!(groups.memory(), Some(Limit { limit: 1000, used: 600, file }));
        assert_eq!(groups.memory_limits().len(), 2);
        assert_eq!(groups.tasks(), None);
    }

    #[test]
    fn controllers_that_are_mounted_as_one_are_found_by_either_name() {
        let line = ("proc/7/cgroup", "9:pids:/x\n4:cpu,memory:/a\n0::/\n");
        for (name, mount) in [("all", "cpu,memory"), ("own", "memory")] {
            let file = format!("sys/fs/cgroup/{mount}/a/memory.limit_in_bytes");
            let files = Files::new(name, &[line, (&file, "4096\n"), ("sys/fs/cgroup/memory.max", "1\n")]);
            let groups = files.groups().unwrap();
            assert_eq!(groups.memory(), Some(Limit { limit: 4096, used: 0, file }));
        }
    }

    #[test]
    fn the_tightest_quota_of_processors() {
        let unified = [
            ("proc/7/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/a/b/cpu.max", "max 100000\n"),
        ];
        assert_eq!(Files::new("quota-two", &unified).groups().unwrap().processors(), Some(1.5));
        let old = [
            ("proc/7/cgroup", "4:cpu,cpuacct:/a\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "25000\n"),
            ("sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n"),
        ];
        assert_eq!(Files::new("quota-one", &old).groups().unwrap().processors(), Some(0.25));
        assert_eq!(Files::new("quota-none", &old[..3]).groups().unwrap().processors(), None);
    }

    #[test]
    fn what_is_not_shown_is_unknown() {
        let unmounted = Files::new("unmounted", &[("proc/7/cgroup", "0::/\n")]);
        assert_eq!(unmounted.groups(), None);
        let unread = Files::new("unread", &[("sys/fs/cgroup/memory.max", "1\n")]);
        assert_eq!(unread.groups(), None);
    }
}
