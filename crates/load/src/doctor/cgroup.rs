//! The control groups of a process, version 1 or 2, and what they limit (cgroups(7)).

use super::root::Root;
use crate::measure::process::value;

/// A limit of this size or above is none: version 1 writes the greatest number of pages.
const NO_LIMIT: u64 = 1 << 60;

/// Where a process stands in the hierarchies: the directories below `/sys/fs/cgroup`, most specific first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cgroups {
    unified: Option<String>,
    memory: Option<String>,
    pids: Option<String>,
}

/// A limit that is in force, and what is taken of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) limit: u64,
    pub(crate) used: u64,
    /// Where it is set, without the leading slash.
    pub(crate) file: String,
}

impl Cgroups {
    /// Of a process by its number, or of `self`; none where `/proc/…/cgroup` cannot be read, or the limits are not
    /// shown.
    pub(crate) fn of(root: &Root, process: &str) -> Option<Cgroups> {
        if root.lacks("sys/fs/cgroup") {
            return None;
        }
        let text = root.text(&format!("proc/{process}/cgroup"))?;
        let mut groups = Cgroups { unified: None, memory: None, pids: None };
        for line in text.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            let path = Some(path.trim_matches('/').to_owned());
            match controllers {
                "" => groups.unified = path,
                controllers if controllers.split(',').any(|name| name == "memory") => groups.memory = path,
                controllers if controllers.split(',').any(|name| name == "pids") => groups.pids = path,
                _ => {}
            }
        }
        Some(groups)
    }

    /// The memory limit with the least left.
    pub(crate) fn memory(&self, root: &Root) -> Option<Limit> {
        let v1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ");
        let v2 = ("memory.max", "memory.current", "inactive_file ");
        let of = |mount: &str, path: &Option<String>, (most, used, cache): (&str, &str, &str)| {
            tightest(mount, path.as_ref()?, |directory| {
                let limit = limit(root, directory, most, used)?;
                let reclaimable = reclaimable(root, directory, cache).unwrap_or(0);
                Some(Limit { used: limit.used.saturating_sub(reclaimable), ..limit })
            })
        };
        of("sys/fs/cgroup/memory", &self.memory, v1).or_else(|| of("sys/fs/cgroup", &self.unified, v2))
    }

    /// The limit of tasks with the least left.
    pub(crate) fn tasks(&self, root: &Root) -> Option<Limit> {
        let of = |mount: &str, path: &Option<String>| {
            tightest(mount, path.as_ref()?, |directory| limit(root, directory, "pids.max", "pids.current"))
        };
        of("sys/fs/cgroup/pids", &self.pids).or_else(|| of("sys/fs/cgroup", &self.unified))
    }
}

/// The limit with the least left, of the group and all above it. In a container the path may be the host's, and only
/// the mount point is there.
fn tightest(mount: &str, path: &str, limit: impl Fn(&str) -> Option<Limit>) -> Option<Limit> {
    let mut directories = vec![mount.to_owned()];
    for name in path.split('/').filter(|name| !name.is_empty()) {
        let parent = directories.last().map_or(mount, String::as_str);
        directories.push(format!("{parent}/{name}"));
    }
    directories
        .iter()
        .filter_map(|directory| limit(directory))
        .min_by_key(|limit| limit.limit.saturating_sub(limit.used))
}

/// Memory of files that nobody uses now: the kernel takes it back before it kills.
fn reclaimable(root: &Root, directory: &str, key: &str) -> Option<u64> {
    value(&root.text(&format!("{directory}/memory.stat"))?, key)?.trim().parse().ok()
}

fn limit(root: &Root, directory: &str, limit: &str, used: &str) -> Option<Limit> {
    let file = format!("{directory}/{limit}");
    let limit = root.number(&file).filter(|limit| *limit < NO_LIMIT)?;
    let used = root.number(&format!("{directory}/{used}")).unwrap_or(0);
    Some(Limit { limit, used, file })
}
