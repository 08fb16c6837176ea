//! What the kernel uses for sockets, the whole machine's CPU and memory, and the limits that a load meets first.
//!
//! Everything here is of the machine, not of one process: with server and load on one machine, both ends of every
//! connection are counted.

use std::fs;
use std::io;

use serde::Serialize;

use webscale_sys::limits;

use super::process::kilobytes;

/// A file of the kernel that could not be read or understood.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Reading failed.
    #[error("reading {file}: {source}")]
    Unreadable {
        /// The file.
        file: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel wrote something that this program does not know.
    #[error("{file} has an unknown format")]
    Format {
        /// The file.
        file: &'static str,
    },
}

/// TCP sockets of the machine, from `/proc/net/sockstat` and `/proc/slabinfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sockets {
    /// IPv4 TCP sockets in use.
    pub tcp_in_use: u64,
    /// TCP sockets that only wait for late segments.
    pub tcp_time_wait: u64,
    /// Data in socket buffers, in bytes (the kernel counts pages).
    pub buffer_bytes: u64,
    /// What sockets take in the slab caches, in bytes. `None` where `/proc/slabinfo` is for root only.
    pub slab_bytes: Option<u64>,
}

impl Sockets {
    /// Reads both now.
    ///
    /// # Errors
    /// When `/proc/net/sockstat` cannot be read; a refused `/proc/slabinfo` is no error.
    pub fn read() -> Result<Sockets, KernelError> {
        const FILE: &str = "/proc/net/sockstat";
        let mut sockets =
            parse_sockstat(&read(FILE)?, page_bytes()).ok_or(KernelError::Format { file: FILE })?;
        sockets.slab_bytes = match read("/proc/slabinfo") {
            Ok(text) => Some(parse_slabs(&text, page_bytes())),
            Err(KernelError::Unreadable { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(sockets)
    }

    /// Buffers and slab caches, in bytes.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.buffer_bytes + self.slab_bytes.unwrap_or(0)
    }
}

/// CPU time of the whole machine since it started, from `/proc/stat`, in clock ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineCpu {
    /// Not idle: user, nice, system, interrupts.
    pub busy_ticks: u64,
    /// In interrupts, which is where loopback delivers.
    pub interrupt_ticks: u64,
    /// Taken by the host for other guests.
    pub stolen_ticks: u64,
    /// Everything, idle included.
    pub total_ticks: u64,
    /// Processors that are counted.
    pub processors: u32,
}

/// A share of the machine's CPU between two readings: 1.0 is all cores.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MachineShare {
    /// Not idle.
    pub busy: f64,
    /// In interrupts.
    pub interrupts: f64,
    /// Taken by the host for other guests.
    pub stolen: f64,
}

impl MachineCpu {
    /// Reads it now.
    ///
    /// # Errors
    /// When `/proc/stat` cannot be read.
    pub fn read() -> Result<MachineCpu, KernelError> {
        const FILE: &str = "/proc/stat";
        parse_machine_cpu(&read(FILE)?).ok_or(KernelError::Format { file: FILE })
    }

    /// What the host took for other guests, from all processors together, in nanoseconds.
    pub(crate) fn stolen_ns(&self) -> u64 {
        self.stolen_ticks * (1_000_000_000 / rustix::param::clock_ticks_per_second())
    }

    /// The share of each kind since `earlier`.
    pub fn since(&self, earlier: &MachineCpu) -> MachineShare {
        let total = self.total_ticks.saturating_sub(earlier.total_ticks).max(1);
        let share = |now: u64, then: u64| now.saturating_sub(then) as f64 / total as f64;
        MachineShare {
            busy: share(self.busy_ticks, earlier.busy_ticks),
            interrupts: share(self.interrupt_ticks, earlier.interrupt_ticks),
            stolen: share(self.stolen_ticks, earlier.stolen_ticks),
        }
    }
}

/// Memory that can be given to programs without swapping, in bytes (`MemAvailable`).
///
/// # Errors
/// When `/proc/meminfo` cannot be read.
pub(crate) fn available_memory() -> Result<u64, KernelError> {
    const FILE: &str = "/proc/meminfo";
    kilobytes(&read(FILE)?, "MemAvailable:").ok_or(KernelError::Format { file: FILE })
}

/// The limits that many connections meet first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Descriptors that this process may open now (`RLIMIT_NOFILE`, soft).
    pub descriptors_soft: u64,
    /// Descriptors that it may allow itself (`RLIMIT_NOFILE`, hard).
    pub descriptors_hard: u64,
    /// Descriptors that root may allow to one process (`fs.nr_open`).
    pub descriptors_system: u64,
    /// First local port of outgoing connections (`net.ipv4.ip_local_port_range`).
    pub port_first: u16,
    /// Last local port of outgoing connections.
    pub port_last: u16,
    /// Longest queue of connections that wait for accept(2) (`net.core.somaxconn`).
    pub backlog: u64,
}

impl Limits {
    /// Reads them now.
    ///
    /// # Errors
    /// When a file of `/proc/sys` cannot be read.
    pub fn read() -> Result<Limits, KernelError> {
        const PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";
        let (port_first, port_last) =
            parse_port_range(&read(PORTS)?).ok_or(KernelError::Format { file: PORTS })?;
        let files = limits::descriptors();
        Ok(Limits {
            descriptors_soft: files.soft,
            descriptors_hard: files.hard,
            descriptors_system: read_number("/proc/sys/fs/nr_open")?,
            port_first,
            port_last,
            backlog: read_number("/proc/sys/net/core/somaxconn")?,
        })
    }

    /// Outgoing connections that one source address can hold to one server.
    pub fn ports(&self) -> u64 {
        u64::from(self.port_last.saturating_sub(self.port_first)) + 1
    }
}

pub(crate) fn page_bytes() -> u64 {
    rustix::param::page_size() as u64
}

/// Connections that the kernel dropped since it booted, because the backlog of a listener was full.
///
/// # Errors
/// When `/proc/net/netstat` cannot be read.
pub(crate) fn listen_overflows() -> Result<u64, KernelError> {
    const FILE: &str = "/proc/net/netstat";
    parse_netstat(&read(FILE)?, "TcpExt:", "ListenOverflows").ok_or(KernelError::Format { file: FILE })
}

/// A counter in a file of pairs of lines: the names, and below each its number.
pub(crate) fn parse_netstat(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(group)).map(str::split_ascii_whitespace);
    let (names, numbers) = (lines.next()?, lines.next()?);
    names.zip(numbers).find(|(known, _)| *known == name)?.1.parse().ok()
}

fn read(file: &'static str) -> Result<String, KernelError> {
    fs::read_to_string(file).map_err(|source| KernelError::Unreadable { file, source })
}

fn read_number(file: &'static str) -> Result<u64, KernelError> {
    read(file)?.trim().parse().map_err(|_| KernelError::Format { file })
}

pub(crate) fn parse_sockstat(text: &str, page_bytes: u64) -> Option<Sockets> {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let number = |name: &str| words.chunks(2).find(|pair| pair[0] == name)?.get(1)?.parse::<u64>().ok();
    Some(Sockets {
        tcp_in_use: number("inuse")?,
        tcp_time_wait: number("tw")?,
        buffer_bytes: number("mem")? * page_bytes,
        slab_bytes: None,
    })
}

/// The caches that a TCP socket under epoll lives in. Where the kernel merged one into a cache of the same object
/// size, it has no line of its own and is not counted.
const SOCKET_CACHES: [&str; 12] = [
    "TCP",
    "TCPv6",
    "sock_inode_cache",
    "tw_sock_TCP",
    "tw_sock_TCPv6",
    "request_sock_TCP",
    "request_sock_TCPv6",
    "tcp_bind_bucket",
    "tcp_bind2_bucket",
    "filp",
    "eventpoll_epi",
    "eventpoll_pwq",
];

/// Bytes in the socket caches: active objects, each with its part of its slab's pages. Whole slabs would also count
/// the free objects that an earlier load left behind.
fn parse_slabs(text: &str, page_bytes: u64) -> u64 {
    text.lines().filter_map(|line| slab_bytes(line, page_bytes)).sum()
}

fn slab_bytes(line: &str, page_bytes: u64) -> Option<u64> {
    let mut words = line.split_ascii_whitespace();
    let name = words.next()?;
    if !SOCKET_CACHES.contains(&name) {
        return None;
    }
    let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
    let [active, _, _, per_slab, pages] = numbers.get(..5)? else { return None };
    Some(active * pages * page_bytes / per_slab.max(&1))
}

pub(crate) fn parse_machine_cpu(text: &str) -> Option<MachineCpu> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
    // guest and guest_nice (fields 9 and 10) are already in user and nice.
    let [user, nice, system, idle, iowait, irq, softirq, steal] = ticks.get(..8)? else { return None };
    let busy = user + nice + system + irq + softirq;
    let is_processor = |line: &&str| line.strip_prefix("cpu").is_some_and(|rest| !rest.starts_with(' '));
    let processors = u32::try_from(text.lines().filter(is_processor).count()).ok()?;
    Some(MachineCpu {
        busy_ticks: busy,
        interrupt_ticks: irq + softirq,
        stolen_ticks: *steal,
        total_ticks: busy + idle + iowait + steal,
        processors,
    })
}

pub(crate) fn parse_port_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.trim().split_once(char::is_whitespace)?;
    Some((first.parse().ok()?, last.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_stands_below_its_name() {
        let text = "TcpExt: SyncookiesSent ListenOverflows Other\nTcpExt: 1 23 4\nIpExt: ListenOverflows\nIpExt: 9\n";
        assert_eq!(parse_netstat(text, "TcpExt:", "ListenOverflows"), Some(23));
        assert_eq!(parse_netstat(text, "IpExt:", "ListenOverflows"), Some(9));
        assert_eq!(parse_netstat(text, "TcpExt:", "Missing"), None);
        assert_eq!(parse_netstat("TcpExt: ListenOverflows\n", "TcpExt:", "ListenOverflows"), None);
        assert!(listen_overflows().is_ok());
    }

    const SOCKSTAT: &str =
        "sockets: used 12\nTCP: inuse 7 orphan 0 tw 3 alloc 9 mem 193\nUDP: inuse 0 mem 5\n";
    const SLABINFO: &str = "slabinfo - version: 2.1\n\
        # name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit>\n\
        tw_sock_TCP           32     32    256   16    1 : tunables    0    0    0 : slabdata      2      2      0\n\
        TCP                   26     39   2368   13    8 : tunables    0    0    0 : slabdata      3      3      0\n\
        MPTCP                 16     16   1984   16    8 : tunables    0    0    0 : slabdata      0      0      0\n\
        sock_inode_cache      95     95    832   19    4 : tunables    0    0    0 : slabdata      5      5      0\n";

    #[test]
    fn sockstat_counts_pages() {
        let sockets = parse_sockstat(SOCKSTAT, 4096).unwrap();
        assert_eq!((sockets.tcp_in_use, sockets.tcp_time_wait), (7, 3));
        assert_eq!(sockets.buffer_bytes, 193 * 4096);
        assert_eq!(sockets.total_bytes(), 193 * 4096);
        assert_eq!(parse_sockstat("UDP: inuse 0 mem 5\n", 4096), None);
    }

    #[test]
    fn slabs_count_active_objects_with_their_pages() {
        let bytes = 32 * 4096 / 16 + 26 * 8 * 4096 / 13 + 95 * 4 * 4096 / 19;
        assert_eq!(parse_slabs(SLABINFO, 4096), bytes);
    }

    #[test]
    fn machine_cpu_is_split() {
        let earlier =
            parse_machine_cpu("cpu  100 0 100 700 50 10 30 10 5 0\ncpu0 1 2 3\ncpu1 1 2 3\nctxt 7\n")
                .unwrap();
        assert_eq!((earlier.total_ticks, earlier.processors), (1000, 2));
        let later = parse_machine_cpu("cpu  150 0 140 800 50 10 40 10 5 0\n").unwrap();
        let share = later.since(&earlier);
        assert_eq!((share.busy, share.interrupts, share.stolen), (0.5, 0.05, 0.0));
        assert_eq!(parse_machine_cpu("cpu  1 2 3\n"), None);
    }

    #[test]
    fn port_range_includes_both_ends() {
        assert_eq!(parse_port_range("32768\t60999\n"), Some((32768, 60999)));
        assert_eq!(parse_port_range("x y"), None);
    }

    #[test]
    fn live_machine() {
        let limits = Limits::read().unwrap();
        assert!(limits.ports() > 1 && limits.backlog > 0 && limits.descriptors_system >= 1024);
        assert!(available_memory().unwrap() > 1 << 20);
        let earlier = MachineCpu::read().unwrap();
        assert!(earlier.busy_ticks > 0 && earlier.total_ticks >= earlier.busy_ticks);
        assert!(limits.descriptors_soft <= limits.descriptors_hard);
    }

    #[test]
    fn live_sockets_are_counted() {
        let listeners: Vec<std::net::TcpListener> =
            (0..64).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        // How many others there are is not ours to say: they come and go.
        assert!(Sockets::read().unwrap().tcp_in_use >= listeners.len() as u64);
    }
}
