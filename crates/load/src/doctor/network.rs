//! Ports, queues and buffers of TCP.

use super::Need;
use super::check::{Check, Mend, Value, Verdict};
use super::root::Root;
use crate::measure::kernel::{page_bytes, parse_port_range, parse_sockstat};

/// The longest queue of connections that a server asks for.
const BACKLOG: u64 = 4096;
/// What the kernel keeps of a message that nobody has read yet, beside its bytes: measured with 10 kB.
const BESIDE_UNREAD: u64 = 1_760;
/// Of the clients that are served in time, one in so many has an unread message, at most.
const UNREAD_ONE_IN: u64 = 10;
/// The widest range of ports that leaves those alone for which it takes root.
const PORTS_WIDEST: u64 = 65_535 - 1_024 + 1;

pub(super) fn checks(root: &Root, need: &Need) -> Vec<Check> {
    let mut checks = Vec::new();
    if need.role.serves() {
        checks.extend(queues(root, need));
    }
    if need.role.loads() {
        checks.extend([ports(root, need), time_wait(root, need)]);
    }
    checks.extend(kernel(root, need));
    checks.extend(windows(root, need));
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
        let mend = root.sysctl(sysctl, BACKLOG);
        Check::count(name, root.number(&file), needed).without_spare().never_short().note(note).mend([mend])
    };
    let accept =
        "beyond it connects are dropped in a storm; a server takes it over at listen(2), as it starts";
    let half_open =
        queue("tcp_max_syn_backlog", "net.ipv4.tcp_max_syn_backlog", "half-open connections in a storm");
    let has_cookies = root.number("proc/sys/net/ipv4/tcp_syncookies").is_some_and(|mode| mode > 0);
    let half_open = match has_cookies {
        true => half_open.not_needed().note("bounds nothing while tcp_syncookies is on"),
        false => half_open,
    };
    [queue("somaxconn", "net.core.somaxconn", accept), half_open]
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
    let widen = (need.clients < PORTS_WIDEST * sources)
        .then(|| root.sysctl("net.ipv4.ip_local_port_range", "'1024 65535'"));
    let more = format!("{} addresses of this machine for the load, each by --source ADDR", addresses.max(2));
    Check::count(NAME, each.map(|each| each * sources), need.clients)
        .note(format!("{} ports × {} to one server", each.unwrap_or(0), addresses_of(sources)))
        .mend(widen.into_iter().chain([Mend::Words(more)]))
}

fn addresses_of(sources: u64) -> String {
    if sources == 1 { "1 source address".into() } else { format!("{sources} source addresses") }
}

fn time_wait(root: &Root, need: &Need) -> Check {
    let waiting = root.text("proc/net/sockstat").and_then(|text| parse_sockstat(&text, page_bytes()));
    let waiting = waiting.map(|sockets| sockets.tcp_time_wait);
    let ports = ports_each(root).map(|each| each * need.sources.max(1));
    let left = ports.zip(waiting).map(|(ports, waiting)| ports.saturating_sub(waiting));
    let is_reused = root.number("proc/sys/net/ipv4/tcp_tw_reuse") == Some(1);
    // Who needs all ports or more is told so by their number.
    let needed = need.clients.min(ports.unwrap_or(u64::MAX));
    let is_good = need.loopback || is_reused || waiting == Some(0) || left.is_some_and(|left| left >= needed);
    Check::word("TIME_WAIT left", waiting.map(|waiting| waiting.to_string()), is_good)
        .note("ports that stay taken for 60 s after a run")
        .mend([Mend::Command("sleep 60".into()), root.sysctl("net.ipv4.tcp_tw_reuse", 1)])
}

pub(crate) const TCP_MEMORY: &str = "tcp_mem, free";
pub(crate) const CONNECTION_TRACKING: &str = "nf_conntrack, free";

/// Should nobody have read anybody's last message, all of them are in the kernel. Above `pressure` windows shrink, above
/// `max` data is dropped.
fn tcp_memory(root: &Root, need: &Need) -> Check {
    let page = page_bytes();
    let limits = root.numbers("proc/sys/net/ipv4/tcp_mem").filter(|limits| limits.len() == 3);
    let used = root.text("proc/net/sockstat").and_then(|text| parse_sockstat(&text, page));
    let needed = need.clients.saturating_mul(unread_bytes(need));
    let (Some(limits), Some(used)) = (limits, used) else {
        return Check::bytes(TCP_MEMORY, None, needed)
            .note("not shown; in a network namespace of its own the host's counts");
    };
    let room = |pages: u64| pages.saturating_mul(page).saturating_sub(used.buffer_bytes);
    let (calm, most) = (room(limits[1]), room(limits[2]));
    let verdict = match () {
        () if most < needed / UNREAD_ONE_IN => Verdict::Short,
        () if calm < needed => Verdict::Tight,
        () => Verdict::Ok,
    };
    let pages = needed.saturating_add(used.buffer_bytes).div_ceil(page);
    let (pages, most) = (pages + pages / 5, pages * 2);
    let kb = unread_bytes(need) as f64 / 1e3;
    Check { verdict, ..Check::bytes(TCP_MEMORY, Some(calm), needed) }
        .note(format!(
            "{} clients × {kb:.1} kB, should all last messages lie unread; in time a tenth do",
            need.clients
        ))
        .mend([root.sysctl("net.ipv4.tcp_mem", format!("'{} {pages} {most}'", pages / 2))])
}

/// What the kernel keeps of one unread message.
fn unread_bytes(need: &Need) -> u64 {
    if need.message_bytes == 0 { 0 } else { need.message_bytes + BESIDE_UNREAD }
}

fn connection_tracking(root: &Root, need: &Need) -> Check {
    const MOST: &str = "proc/sys/net/netfilter/nf_conntrack_max";
    if root.lacks(MOST) && !root.lacks("proc/sys/net/ipv4") {
        return Check::word(CONNECTION_TRACKING, Some("not loaded".into()), true)
            .note("connections are not tracked");
    }
    let most = root.number(MOST);
    let used = root.number("proc/sys/net/netfilter/nf_conntrack_count");
    let wanted = need.clients * 2 + used.unwrap_or(0);
    Check::count(
        CONNECTION_TRACKING,
        most.zip(used).map(|(most, used)| most.saturating_sub(used)),
        need.clients,
    )
    .note("one entry a connection; beyond it SYNs are dropped in silence")
    .mend([root.sysctl("net.netfilter.nf_conntrack_max", wanted)])
}

/// The default of a socket's buffers: below it, a message needs more than one round trip.
fn windows(root: &Root, need: &Need) -> [Check; 2] {
    let needed = unread_bytes(need);
    let window = |name: &'static str| {
        let numbers = root.numbers(&format!("proc/sys/net/ipv4/{name}")).filter(|numbers| numbers.len() == 3);
        let check = Check::bytes(name, numbers.as_ref().map(|numbers| numbers[1]), needed);
        let wanted = needed.saturating_add(needed / 4);
        let mend = numbers.map(|numbers| {
            let value = format!("'{} {wanted} {}'", numbers[0], numbers[2].max(wanted));
            root.sysctl(&format!("net.ipv4.{name}"), value)
        });
        check
            .never_short()
            .note("a message in one flight; the kernel enlarges it up to the third number")
            .mend(mend)
    };
    [window("tcp_rmem"), window("tcp_wmem")]
}
