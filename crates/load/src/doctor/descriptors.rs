//! File descriptors: of a process, and of the system.

use super::Need;
use super::check::{Check, Verdict};
use super::root::Root;
use crate::bench::plan::DESCRIPTORS_BESIDE;

/// Connections are spread over processes by a hash of their addresses: one gets this part more than its share.
const IMBALANCE_ONE_IN: u64 = 10;

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
    let needed = in_one_process(need);
    let open_limit = root.number("proc/sys/fs/nr_open");
    let mut checks = vec![
        soft(limits.map(|limits| limits.files_soft), limits.map(|limits| limits.files_hard), need, needed),
        hard(limits.map(|limits| limits.files_hard), need, needed),
        Check::count("fs.nr_open", open_limit, needed)
            .note("what root may allow one process")
            .mend([format!("sysctl -w fs.nr_open={needed}")]),
    ];
    checks.extend(system(root, need));
    checks
}

/// Descriptors of the fullest process.
fn in_one_process(need: &Need) -> u64 {
    let share = need.clients.div_ceil(need.processes.max(1));
    let share = if need.processes > 1 { share + share / IMBALANCE_ONE_IN } else { share };
    share + DESCRIPTORS_BESIDE
}

fn soft(soft: Option<u64>, hard: Option<u64>, need: &Need, needed: u64) -> Check {
    let check = Check::count("RLIMIT_NOFILE, soft", soft, needed);
    match check.verdict {
        // Who can raise it by himself is not short of it; `webscale` does.
        Verdict::Short | Verdict::Tight if hard.is_some_and(|hard| hard >= needed) && !need.role.serves() => {
            Check { verdict: Verdict::Ok, ..check }.note("the load raises its own to the hard limit")
        }
        _ => check
            .never_short()
            .note("webscale raises its own to the hard limit; a server that does not gets EMFILE")
            .mend([format!("ulimit -n {needed}"), format!("LimitNOFILE={needed} in the systemd unit")]),
    }
}

fn hard(hard: Option<u64>, need: &Need, needed: u64) -> Check {
    let arithmetic = match need.processes {
        0 | 1 => format!("{} clients + {DESCRIPTORS_BESIDE} in one process", need.clients),
        processes => {
            format!("{} clients over {processes} processes, + 10 %, + {DESCRIPTORS_BESIDE}", need.clients)
        }
    };
    let check = Check::count("RLIMIT_NOFILE, hard", hard, needed);
    let check = if need.role.serves() { check } else { check.never_short() };
    let beside = DESCRIPTORS_BESIDE;
    let each = hard.map_or(1, |hard| hard.saturating_sub(beside).max(1));
    let processes = (need.clients + need.clients / IMBALANCE_ONE_IN).div_ceil(each).max(2);
    check.note(format!("{arithmetic}; the load takes more processes by itself")).mend([
        format!("ulimit -Hn {needed} (as root)"),
        format!("LimitNOFILE={needed} in the systemd unit"),
        format!("webscale serve --processes {processes}"),
    ])
}

/// Descriptors of the whole system.
pub(super) fn system(root: &Root, need: &Need) -> Vec<Check> {
    let most = root.number("proc/sys/fs/file-max");
    let used = root.numbers("proc/sys/fs/file-nr").and_then(|numbers| numbers.first().copied());
    let ends = need.role.ends();
    let free = most.zip(used).map(|(most, used)| most.saturating_sub(used));
    let needed = need.clients * ends + DESCRIPTORS_BESIDE;
    let wanted = needed + used.unwrap_or(0) + needed / 10;
    vec![
        Check::count("fs.file-max, free", free, needed)
            .note(format!("{} clients × {ends} ends here + {DESCRIPTORS_BESIDE}", need.clients))
            .mend([format!("sysctl -w fs.file-max={wanted}")]),
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
