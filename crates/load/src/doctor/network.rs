//! Ports, queues and buffers of TCP.

use super::Need;
use super::check::{Check, Value, Verdict};
use super::root::Root;
use crate::measure::kernel::{page_bytes, parse_port_range, parse_sockstat};

/// The longest queue of connections that a server asks for.
const BACKLOG: u64 = 4096;
/// What the kernel keeps of a message of 10 kB that nobody has read yet, measured.
const UNREAD_BYTES: u64 = 12_000;
/// A message of 10 kB and its frame and record headers fit into the window.
const WINDOW_BYTES: u64 = 12_000;

pub(super) fn checks(root: &Root, need: &Need) -> Vec<Check> {
    let mut checks = Vec::new();
    if need.role.serves() {
        checks.extend(queues(root, need));
    }
    if need.role.loads() {
        checks.extend([ports(root, need), time_wait(root, need)]);
    }
    checks.extend(kernel(root, need));
    checks.extend(windows(root));
    checks
}

/// What the kernel bounds for all sockets together.
pub(super) fn kernel(root: &Root, need: &Need) -> Vec<Check> {
    vec![tcp_memory(root, need), connection_tracking(root, need)]
}

fn queues(root: &Root, need: &Need) -> [Check; 2] {
    let needed = need.clients.min(BACKLOG);
    let queue = |name, sysctl: &str, note| {
        let file = format!("proc/sys/{}", sysctl.replace('.', "/"));
        let mend = format!("sysctl -w {sysctl}={BACKLOG}");
        Check::count(name, root.number(&file), needed).without_spare().never_short().note(note).mend([mend])
    };
    [
        queue("somaxconn", "net.core.somaxconn", "a longer storm of connects overflows listen(2)"),
        queue(
            "tcp_max_syn_backlog",
            "net.ipv4.tcp_max_syn_backlog",
            "half-open connections in a storm; SYN cookies help out",
        ),
    ]
}

fn ports_each(root: &Root) -> Option<u64> {
    let (first, last) = parse_port_range(&root.text("proc/sys/net/ipv4/ip_local_port_range")?)?;
    Some(u64::from(last.saturating_sub(first)) + 1)
}

fn ports(root: &Root, need: &Need) -> Check {
    const NAME: &str = "ip_local_port_range";
    let each = ports_each(root);
    let addresses = need.clients.div_ceil(each.unwrap_or(1).max(1));
    if need.loopback && each.is_some_and(|each| each > 0) {
        let note = format!("{} ports an address; bench takes more of 127/8 by itself", each.unwrap_or(0));
        let needed = Value::Text(format!("{addresses} × 127.0.0.x"));
        return Check { needed: Some(needed), ..Check::count(NAME, each, 0) }.note(note);
    }
    let sources = need.sources.max(1);
    Check::count(NAME, each.map(|each| each * sources), need.clients)
        .note(format!("{} ports × {sources} source address(es) to one server", each.unwrap_or(0)))
        .mend([
            "sysctl -w net.ipv4.ip_local_port_range='1024 65535'".into(),
            format!("bench --source ADDR, {addresses} times"),
        ])
}

fn time_wait(root: &Root, need: &Need) -> Check {
    let waiting = root.text("proc/net/sockstat").and_then(|text| parse_sockstat(&text, page_bytes()));
    let waiting = waiting.map(|sockets| sockets.tcp_time_wait);
    let ports = ports_each(root).map(|each| each * need.sources.max(1));
    let left = ports.zip(waiting).map(|(ports, waiting)| ports.saturating_sub(waiting));
    let is_good = need.loopback || left.is_some_and(|left| left >= need.clients);
    Check::word("TIME_WAIT left", waiting.map(|waiting| waiting.to_string()), is_good)
        .note("ports that stay taken for 60 s after a run")
        .mend(["wait 60 s".into(), "sysctl -w net.ipv4.tcp_tw_reuse=1".into()])
}

/// The worst case: nobody has read anybody's last message. Above `pressure` windows shrink, above `max` data is
/// dropped.
fn tcp_memory(root: &Root, need: &Need) -> Check {
    const NAME: &str = "tcp_mem";
    let page = page_bytes();
    let limits = root.numbers("proc/sys/net/ipv4/tcp_mem").filter(|limits| limits.len() == 3);
    let used = root.text("proc/net/sockstat").and_then(|text| parse_sockstat(&text, page));
    let needed = need.clients * UNREAD_BYTES;
    let (Some(limits), Some(used)) = (limits, used) else {
        return Check::bytes(NAME, None, needed).note("the limits or /proc/net/sockstat cannot be read");
    };
    let room = |pages: u64| pages.saturating_mul(page).saturating_sub(used.buffer_bytes);
    let pages = (needed + used.buffer_bytes) / page * 2;
    let check = Check::bytes(NAME, Some(room(limits[2])), needed);
    let verdict = match check.verdict {
        Verdict::Ok if room(limits[1]) < needed => Verdict::Tight,
        verdict => verdict,
    };
    Check { verdict, ..check }
        .note(format!("{} clients × 12 kB, should all messages lie unread", need.clients))
        .mend([format!("sysctl -w net.ipv4.tcp_mem='{} {pages} {}'", pages / 2, pages * 2)])
}

fn connection_tracking(root: &Root, need: &Need) -> Check {
    const NAME: &str = "nf_conntrack, free";
    const MOST: &str = "proc/sys/net/netfilter/nf_conntrack_max";
    if root.lacks(MOST) && !root.lacks("proc/sys/net/ipv4") {
        return Check::word(NAME, Some("not loaded".into()), true).note("connections are not tracked");
    }
    let most = root.number(MOST);
    let used = root.number("proc/sys/net/netfilter/nf_conntrack_count");
    let wanted = need.clients * 2 + used.unwrap_or(0);
    Check::count(NAME, most.zip(used).map(|(most, used)| most.saturating_sub(used)), need.clients)
        .note("one entry a connection; beyond it SYNs are dropped in silence")
        .mend([
            format!("sysctl -w net.netfilter.nf_conntrack_max={wanted}"),
            "a NOTRACK rule for the port".into(),
        ])
}

/// The default of a socket's buffers: below it, a message needs more than one round trip.
fn windows(root: &Root) -> [Check; 2] {
    let window = |name, wanted: &str| {
        let default = root.numbers(&format!("proc/sys/net/ipv4/{name}"));
        Check::bytes(name, default.and_then(|numbers| numbers.get(1).copied()), WINDOW_BYTES)
            .never_short()
            .note("a 10 kB message in one flight; the kernel enlarges it up to the third number")
            .mend([format!("sysctl -w net.ipv4.{name}='{wanted}'")])
    };
    [window("tcp_rmem", "4096 131072 6291456"), window("tcp_wmem", "4096 18432 4194304")]
}
