//! A client's way to a host that has several addresses.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::Socket;
use crate::clock::Time;
use crate::target::Target;

/// The addresses of a target, tried in turn: a name such as `localhost` stands for two, and the server may listen on one.
pub(crate) struct Dial {
    pub(super) target: Arc<Target>,
    source: Option<IpAddr>,
    /// How many were tried.
    tried: usize,
    /// The end of the opening handshake, whichever address it is with.
    until: Time,
}

impl Dial {
    pub(crate) fn new(target: Arc<Target>, source: Option<IpAddr>, until: Time) -> Self {
        Self { target, source, tried: 0, until }
    }

    pub(super) fn until(&self) -> Time {
        self.until
    }

    /// Begins to connect to the next address: the socket, and when to try another one. `None`: there is no other. An error is
    /// the last one's.
    pub(crate) fn next<K: Socket>(&mut self, now: Time) -> Option<io::Result<(K, Time)>> {
        let mut fault = None;
        while let Some(&address) = self.target.addresses.get(self.tried) {
            let share = self.share(now);
            self.tried += 1;
            if self.source.is_some_and(|source| !is_reached_from(address, source)) {
                continue;
            }
            match K::connect(address, self.source) {
                Ok(socket) => return Some(Ok((socket, share))),
                Err(error) => fault = Some(Err(error)),
            }
        }
        fault
    }

    /// When the next address has had its share of the time that is left: one that never answers must leave some to the others.
    fn share(&self, now: Time) -> Time {
        let reached =
            |address: &&SocketAddr| self.source.is_none_or(|source| is_reached_from(**address, source));
        let left = self.target.addresses.iter().skip(self.tried).filter(reached).count();
        now + (self.until - now) / u32::try_from(left).unwrap_or(u32::MAX).max(1)
    }
}

/// A source address reaches its own family alone.
fn is_reached_from(address: SocketAddr, source: IpAddr) -> bool {
    address.is_ipv4() == source.is_ipv4()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use webscale_sys::TcpSocket;

    use super::*;

    fn dial(addresses: &[&str], source: Option<IpAddr>, until: Time) -> Dial {
        let addresses = addresses.iter().map(|address| address.parse().expect("an address"));
        let target = Target::from_url("ws://127.0.0.1:9/").expect("a URL").with_addresses(addresses);
        Dial::new(Arc::new(target), source, until)
    }

    #[test]
    fn each_address_gets_its_share_of_the_time() {
        let (start, second) = (Time::default(), Duration::from_secs(1));
        let mut dial = dial(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"], None, start + 9 * second);
        let mut give_up = |now| dial.next::<TcpSocket>(now).map(|next| next.expect("a socket").1);
        assert_eq!(give_up(start), Some(start + 3 * second));
        assert_eq!(give_up(start + second), Some(start + 5 * second), "what the first did not need");
        assert_eq!(give_up(start + 5 * second), Some(start + 9 * second));
        assert_eq!(give_up(start + 5 * second), None);
    }

    #[test]
    fn a_source_is_used_for_its_own_family() {
        let (until, source) = (Time::default() + Duration::from_secs(1), "127.0.0.1".parse().ok());
        let mut dial = dial(&["[::1]:1", "127.0.0.1:1", "[::1]:2"], source, until);
        assert!(matches!(dial.next::<TcpSocket>(Time::default()), Some(Ok(_))));
        assert!(dial.next::<TcpSocket>(Time::default()).is_none());
    }
}
