//! Who listens at an address of this machine: `/proc/net/tcp` (proc_pid_net(5)) names the sockets, `/proc/PID/fd` their
//! holders.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::doctor::Root;

/// Why nobody was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListenerError {
    /// No socket listens there, as far as this network namespace knows.
    #[error("nobody on this machine listens at {0}")]
    Nobody(SocketAddr),
    /// A socket listens there, but its holder's descriptors are shown to its owner and to root only.
    #[error("the process that listens at {0} may not be read: run as its owner or as root")]
    Hidden(SocketAddr),
}

/// The processes that hold a listening socket which takes connections to `address`, in order of their ids: all that
/// share the port, and those that only inherited the socket.
///
/// # Errors
/// [`ListenerError`].
pub(crate) fn holders(address: SocketAddr) -> Result<Vec<u32>, ListenerError> {
    let root = Root::default();
    let tables = ["proc/net/tcp", "proc/net/tcp6"].map(|file| root.text(file).unwrap_or_default());
    let sockets = listening(&tables, address);
    if sockets.is_empty() {
        return Err(ListenerError::Nobody(address));
    }
    let links: BTreeSet<String> = sockets.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let mut holders = root.list("proc");
    holders.retain(|pid| holds(*pid, &links));
    holders.sort_unstable();
    if holders.is_empty() { Err(ListenerError::Hidden(address)) } else { Ok(holders) }
}

fn holds(pid: u32, links: &BTreeSet<String>) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
    let mut targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets.any(|target| target.to_str().is_some_and(|target| links.contains(target)))
}

/// The inodes of the sockets that take connections to `address`: of those that listen, the most specific.
fn listening(tables: &[String], address: SocketAddr) -> Vec<u64> {
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    let ranked = |line| {
        let (local, inode) = listener(line)?;
        let rank = rank(local.ip(), address.ip()).filter(|_| local.port() == address.port())?;
        Some((rank, inode))
    };
    let found: Vec<(u8, u64)> = lines.filter_map(ranked).collect();
    let best = found.iter().map(|(rank, _)| *rank).min();
    found.into_iter().filter(|(rank, _)| Some(*rank) == best).map(|(_, inode)| inode).collect()
}

/// How far a socket bound to `local` is from `address`, if it takes connections to it.
fn rank(local: IpAddr, address: IpAddr) -> Option<u8> {
    match local {
        local if local.to_canonical() == address.to_canonical() => Some(0),
        local if local.is_unspecified() && local.is_ipv4() == address.is_ipv4() => Some(1),
        // Also IPv4, unless IPV6_V6ONLY is set (ipv6(7)).
        IpAddr::V6(local) if local.is_unspecified() => Some(2),
        _ => None,
    }
}

/// The local address and the inode of a line, if its socket listens.
fn listener(line: &str) -> Option<(SocketAddr, u64)> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (host, port) = fields.get(1)?.split_once(':')?;
    let local = SocketAddr::new(host_of(host)?, u16::from_str_radix(port, 16).ok()?);
    (*fields.get(3)? == LISTEN).then_some((local, fields.get(9)?.parse().ok()?))
}

/// An address as the kernel prints it: words of 32 bits in the machine's order, each of whose bytes are in the network's.
fn host_of(text: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(text.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut octets = [0; 16];
            for (at, octets) in octets.chunks_exact_mut(4).enumerate() {
                octets.copy_from_slice(&word(at)?);
            }
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::OwnedFd;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A child that holds the socket as its standard input; ended when dropped.
    struct Heir(Child);

    impl Heir {
        fn of(listener: &TcpListener) -> Heir {
            let stdin = Stdio::from(OwnedFd::from(listener.try_clone().unwrap()));
            Heir(Command::new("sleep").arg("600").stdin(stdin).spawn().unwrap())
        }
    }

    impl Drop for Heir {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// Asserts who holds a listener. What another test starts has all descriptors of this process for a moment, until it runs
    /// its own program: that is let pass.
    #[track_caller]
    fn assert_holders(address: SocketAddr, expected: &[u32], what: &str) {
        let is_found = || holders(address).as_deref() == Ok(expected);
        if !(0..1000).any(|_| is_found()) {
            assert_eq!(holders(address).as_deref(), Ok(expected), "{what}");
        }
    }

    #[test]
    fn own_listeners_are_found_and_no_others() {
        for (bound, reached) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("127.0.0.9:0", "127.0.0.9"),
            ("0.0.0.0:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
            ("[::]:0", "::1"),
            ("[::]:0", "127.0.0.1"),
        ] {
            // A machine may have no IPv6.
            let Ok(listener) = TcpListener::bind(bound) else { continue };
            let port = listener.local_addr().unwrap().port();
            let address = SocketAddr::new(reached.parse().unwrap(), port);
            assert_holders(address, &[std::process::id()], &format!("{bound} by {reached}"));
        }
        let listener = TcpListener::bind("127.0.0.9:0").unwrap();
        let other = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listener.local_addr().unwrap().port());
        assert_eq!(holders(other), Err(ListenerError::Nobody(other)));
    }

    #[test]
    fn whoever_inherited_the_listener_counts_too() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heirs = [Heir::of(&listener), Heir::of(&listener)];
        let mut all = vec![std::process::id(), heirs[0].0.id(), heirs[1].0.id()];
        all.sort_unstable();
        assert_holders(address, &all, "all");
        drop(listener);
        let mut left: Vec<u32> = heirs.iter().map(|heir| heir.0.id()).collect();
        left.sort_unstable();
        assert_holders(address, &left, "the heirs");
    }

    #[test]
    fn the_most_specific_listener_takes_the_connection() {
        let line = |local: &str, state: &str, inode: u32| {
            format!(
                "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  1000  0 {inode} 1 0 100"
            )
        };
        let word = |address: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(address));
        let local = word([127, 0, 0, 1]);
        let table = |lines: &[String]| format!("  sl  local_address …\n{}\n", lines.join("\n"));
        let wildcard = line("00000000:1F90", "0A", 5);
        let tables = [
            table(&[
                wildcard.clone(),
                line(&format!("{local}:1F90"), "0A", 6),
                line(&format!("{local}:1F90"), "0A", 7),
            ]),
            table(&[
                line(&format!("{}:1F90", "0".repeat(32)), "0A", 8),
                line(&format!("{local}:1F90"), "01", 9),
            ]),
        ];
        let at = |address: &str| listening(&tables, address.parse().unwrap());
        assert_eq!(at("127.0.0.1:8080"), [6, 7]);
        assert_eq!(at("127.0.0.2:8080"), [5]);
        assert_eq!(at("[::1]:8080"), [8]);
        assert_eq!(at("127.0.0.1:8081"), [0; 0]);
        let mapped = line(&format!("{}{}{local}:1F90", "0".repeat(16), word([0, 0, 255, 255])), "0A", 10);
        assert_eq!(listening(&[table(&[wildcard, mapped])], "127.0.0.1:8080".parse().unwrap()), [10]);
    }

    #[test]
    fn lines_that_are_none_are_skipped() {
        for line in ["", "0: zz:1 x 0A", "0: 0100007F 0 0A", "0: 0100007F:1F90 00000000:0000 0A 0 0 0 0 0"] {
            assert_eq!(listener(line), None, "{line}");
        }
    }
}
