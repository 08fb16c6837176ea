//! File descriptors: of a process, and of the system.

use super::Need;
use super::check::{Check, Mend, with_spare};
use super::root::Root;
use crate::bench::plan::DESCRIPTORS_BESIDE;
use crate::measure::group::names;

/// Connections are spread over processes by a hash of their addresses: one gets this part more than its share.
const IMBALANCE_ONE_IN: u64 = 10;

/// The kernel takes no greater fs.nr_open.
const OPEN_LIMIT_MAX: u64 = 2_147_483_584;

/// Limits of one process, from `/proc/PID/limits`; `u64::MAX` where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessLimits {
    pub(crate) files_soft: u64,
    pub(crate) files_hard: u64,
    /// RLIMIT_AS, soft, in bytes.
    pub(crate) address_space: u64,
}

impl ProcessLimits {
    /// `process` is a number, or `self`.
    pub(crate) fn read(root: &Root, process: &str) -> Option<ProcessLimits> {
        parse(&root.text(&format!("proc/{process}/limits"))?)
    }
}

fn parse(text: &str) -> Option<ProcessLimits> {
    let (files_soft, files_hard) = limit(text, "Max open files")?;
    let (address_space, _) = limit(text, "Max address space")?;
    Some(ProcessLimits { files_soft, files_hard, address_space })
}

fn limit(text: &str, name: &str) -> Option<(u64, u64)> {
    let mut words = text.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace();
    let mut number = || match words.next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    };
    Some((number()?, number()?))
}

pub(super) fn checks(root: &Root, need: &Need) -> Vec<Check> {
    let limits = ProcessLimits::read(root, "self");
    let open_limit = root.number("proc/sys/fs/nr_open");
    let mut checks = Vec::new();
    checks.extend((!need.server.is_empty()).then(|| of_server(root, need)));
    let own = Own { root, need, limits, needed: in_one_process(need), open_limit };
    checks.extend([own.soft(), own.hard(), own.most()]);
    checks.extend(system(root, need));
    checks
}

/// Descriptors of the fullest process.
fn in_one_process(need: &Need) -> u64 {
    share(need.clients, need.processes) + DESCRIPTORS_BESIDE
}

/// Of the clients, those of the process that has most.
fn share(clients: u64, processes: u64) -> u64 {
    let share = clients.div_ceil(processes.max(1));
    if processes > 1 { share + share / IMBALANCE_ONE_IN } else { share }
}

/// What allows `process` so many descriptors: a number, or `$$`, the shell's own.
fn allow(root: &Root, process: &str, wanted: u64, open_limit: Option<u64>) -> Mend {
    if !root.may_raise() {
        let words = "root itself may not raise it here (no CAP_SYS_RESOURCE): it has to be done where this system \
                     was started, in a container by --ulimit nofile=";
        return Mend::Words(format!("{words}{wanted}"));
    }
    if wanted > OPEN_LIMIT_MAX {
        return Mend::Words(format!("no process may have more than {OPEN_LIMIT_MAX}: take several"));
    }
    let raise = format!("prlimit --pid {process} --nofile={wanted}:{wanted}");
    match open_limit {
        Some(most) if most < wanted => {
            // In double quotes: `$$` is the shell that is asked, and not the one of sudo.
            root.by_root(&format!("sh -c \"sysctl -w fs.nr_open={wanted} && {raise}\""))
        }
        _ => root.by_root(&raise),
    }
}

/// The limits of a process that is started from here: that of the load, or the server's if it is not known.
struct Own<'a> {
    root: &'a Root,
    need: &'a Need,
    limits: Option<ProcessLimits>,
    needed: u64,
    open_limit: Option<u64>,
}

impl Own<'_> {
    /// Whether the server is to be started from here.
    fn serves(&self) -> bool {
        self.need.role.serves() && self.need.server.is_empty()
    }

    fn allow(&self) -> Vec<Mend> {
        let wanted = with_spare(self.needed);
        let unit = self.root.may_raise().then(|| Mend::Unit(format!("LimitNOFILE={wanted}")));
        [allow(self.root, "$$", wanted, self.open_limit)].into_iter().chain(unit).collect()
    }

    fn soft(&self) -> Check {
        let Own { needed, limits, .. } = *self;
        let check = Check::count("RLIMIT_NOFILE, soft", limits.map(|limits| limits.files_soft), needed);
        if !self.serves() {
            return check.not_needed().note("the load raises its own to the hard limit");
        }
        let mend = match limits {
            Some(limits) if limits.files_hard >= needed => {
                vec![Mend::Command(format!("ulimit -n {}", with_spare(needed).min(limits.files_hard)))]
            }
            _ => self.allow(),
        };
        let note = "webscale raises its own to the hard limit; a server that does not gets EMFILE";
        check.never_short().note(note).mend(mend)
    }

    fn hard(&self) -> Check {
        let Own { need, needed, limits, .. } = *self;
        let hard = limits.map(|limits| limits.files_hard);
        let check = Check::count("RLIMIT_NOFILE, hard", hard, needed);
        let arithmetic = match need.processes {
            0 | 1 => format!("{} clients + {DESCRIPTORS_BESIDE} in one process", need.clients),
            processes => {
                format!("{} clients over {processes} processes, + 10 %, + {DESCRIPTORS_BESIDE}", need.clients)
            }
        };
        let check = check.note(format!("{arithmetic}; the load takes more processes by itself"));
        if !self.serves() {
            return check.not_needed();
        }
        let each = hard.map_or(1, |hard| hard.saturating_sub(DESCRIPTORS_BESIDE).max(1));
        let processes = (need.clients + need.clients / IMBALANCE_ONE_IN).div_ceil(each).max(2);
        let several = Mend::Command(format!("webscale serve --processes {processes}"));
        check.mend(self.allow().into_iter().chain([several]))
    }

    fn most(&self) -> Check {
        let Own { root, needed, open_limit, .. } = *self;
        let check = Check::count("fs.nr_open", open_limit, needed).note("what root may allow one process");
        if !self.serves() {
            return check.not_needed();
        }
        let wanted = with_spare(needed);
        let mend = match wanted <= OPEN_LIMIT_MAX {
            true => root.sysctl("fs.nr_open", wanted),
            false => Mend::Words(format!("no process may have more than {OPEN_LIMIT_MAX}: take several")),
        };
        check.mend([mend])
    }
}

/// The limits of a server that runs, in all its processes that share the port.
fn of_server(root: &Root, need: &Need) -> Check {
    const NAME: &str = "RLIMIT_NOFILE, server";
    let pids = &need.server;
    let processes = pids.len() as u64;
    let of = |pid: &u32| {
        let open = root.list(&format!("proc/{pid}/fd")).len() as u64;
        Some((open, ProcessLimits::read(root, &pid.to_string())?))
    };
    let all: Option<Vec<(u64, ProcessLimits)>> = pids.iter().map(of).collect();
    let each = share(need.clients, processes);
    let Some(all) = all else {
        return Check::count(NAME, None, each).note("the limits of its process cannot be read");
    };
    // The one that has least room has to be large enough for its share.
    let room = |(open, limits): &&(u64, ProcessLimits)| limits.files_soft.saturating_sub(*open);
    let Some((open, limits)) = all.iter().min_by_key(room) else { return Check::count(NAME, None, each) };
    let needed = each + open + DESCRIPTORS_BESIDE;
    let check = Check::count(NAME, Some(limits.files_soft), needed)
        .note(format!("{}: the share of each + {open} that it has + {DESCRIPTORS_BESIDE}", names(pids)));
    let open_limit = root.number("proc/sys/fs/nr_open");
    let wanted = with_spare(needed);
    let mends = pids.iter().map(|pid| match limits.files_hard >= wanted {
        true => Mend::Command(format!("prlimit --pid {pid} --nofile={wanted}:")),
        false => allow(root, &pid.to_string(), wanted, open_limit),
    });
    check.mend(together(mends.collect()))
}

/// Commands that mend something only together become one.
fn together(mends: Vec<Mend>) -> Vec<Mend> {
    let commands: Option<Vec<&str>> = mends
        .iter()
        .map(|mend| if let Mend::Command(text) = mend { Some(text.as_str()) } else { None })
        .collect();
    match commands {
        Some(commands) => vec![Mend::Command(commands.join("; "))],
        None => mends.into_iter().take(1).collect(),
    }
}

pub(crate) const SYSTEM_FILES: &str = "fs.file-max, free";

/// Descriptors of the whole system.
pub(super) fn system(root: &Root, need: &Need) -> Vec<Check> {
    let most = root.number("proc/sys/fs/file-max");
    let used = root.numbers("proc/sys/fs/file-nr").and_then(|numbers| numbers.first().copied());
    let ends = need.role.ends();
    let free = most.zip(used).map(|(most, used)| most.saturating_sub(used));
    let needed = need.clients * ends + DESCRIPTORS_BESIDE;
    let wanted = needed + used.unwrap_or(0) + needed / 10;
    vec![
        Check::count(SYSTEM_FILES, free, needed)
            .note(format!("{} clients × {ends} ends here + {DESCRIPTORS_BESIDE}", need.clients))
            .mend([root.sysctl("fs.file-max", wanted)]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_a_process() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            1024                 524288               files     \n\
                    Max address space         unlimited            unlimited            bytes     \n";
        let limits = parse(text).unwrap();
        assert_eq!((limits.files_soft, limits.files_hard, limits.address_space), (1024, 524_288, u64::MAX));
        assert_eq!(parse("Max open files few many\n"), None);
        assert!(ProcessLimits::read(&Root::default(), "self").is_some());
    }
}
