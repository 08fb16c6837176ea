//! Who may come in: connections in all, and of one address.
//!
//! What a connection takes of these limits is a value that it owns: a [`Place`], and a [`Handshake`] until it is open.
//! Dropping them gives it back, whichever way the connection ends.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::held::Held;
use crate::limits::Limits;

/// Tables among which addresses are spread, so that loops seldom wait for each other.
const SHARDS: usize = 16;
/// Addresses for which an empty table keeps room.
const KEEP: usize = 64;

/// Which limit a connection was refused for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    Connections,
    Address,
    Handshakes,
}

impl Refusal {
    pub(crate) const COUNT: usize = Self::Handshakes as usize + 1;
    pub(crate) const NAMES: [&'static str; Self::COUNT] = ["connections", "address", "handshakes"];
}

/// The counts of a server or client, shared by its loops. They are touched when a connection comes, opens and goes.
pub(crate) struct Admission {
    connections: AtomicUsize,
    connections_max: usize,
    /// `None` while no limit asks for them.
    addresses: Option<Addresses>,
    /// What is held for those who are in.
    pub(crate) held: Arc<Held>,
}

impl Admission {
    pub(crate) fn new(limits: &Limits, loops: usize) -> Arc<Self> {
        Arc::new(Self {
            connections: AtomicUsize::new(0),
            connections_max: limits.connections,
            addresses: Addresses::new(limits),
            held: Held::new(limits.held_bytes, loops),
        })
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    /// A connection that we begin ourselves is not refused.
    pub(crate) fn enter(self: &Arc<Self>) -> Place {
        self.count().0
    }

    /// What a connection takes as it comes. `address` is `None` where a proxy has yet to tell it: then [`Place::settle`]
    /// follows.
    pub(crate) fn admit(
        self: &Arc<Self>,
        address: Option<IpAddr>,
    ) -> Result<(Place, Option<Handshake>), Refusal> {
        let (mut place, others) = self.count();
        if others >= self.connections_max {
            return Err(Refusal::Connections);
        }
        let handshake = address.map(|address| place.settle(address)).transpose()?;
        Ok((place, handshake.flatten()))
    }

    /// One more, and how many there were before.
    fn count(self: &Arc<Self>) -> (Place, usize) {
        let others = self.connections.fetch_add(1, Relaxed);
        (Place { admission: self.clone(), source: None }, others)
    }

    /// Addresses that are counted now.
    #[cfg(test)]
    pub(crate) fn addresses(&self) -> usize {
        let shards = self.addresses.iter().flat_map(|addresses| &addresses.shards);
        shards.map(|shard| shard.lock().expect("no panic").len()).sum()
    }
}

/// A connection's place.
pub(crate) struct Place {
    admission: Arc<Admission>,
    /// Where it is counted.
    source: Option<Source>,
}

impl Place {
    /// The connection is from `address`, and begins its handshake: that counts until the value is dropped. `None` where no
    /// limit looks at addresses.
    pub(crate) fn settle(&mut self, address: IpAddr) -> Result<Option<Handshake>, Refusal> {
        let Some(addresses) = &self.admission.addresses else { return Ok(None) };
        let source = Source::from(address);
        addresses.enter(source)?;
        self.source = Some(source);
        Ok(Some(Handshake { admission: self.admission.clone(), source }))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.connections.fetch_sub(1, Relaxed);
        if let (Some(addresses), Some(source)) = (&self.admission.addresses, self.source) {
            addresses.change(source, |tally| tally.connections -= 1);
        }
    }
}

/// An opening handshake under way.
pub(crate) struct Handshake {
    admission: Arc<Admission>,
    source: Source,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        if let Some(addresses) = &self.admission.addresses {
            addresses.change(self.source, |tally| tally.handshakes -= 1);
        }
    }
}

/// What counts as one address: all of IPv4's, the first 64 bits of IPv6's, since that is the least that one customer gets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Source(NonZeroU64);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        // 0::/8 has no networks in it (RFC 4291 §4), so that no /64 is taken for an IPv4 address, or for ::1.
        let bits = match address.to_canonical() {
            IpAddr::V4(address) => 1 << 32 | u64::from(address.to_bits()),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                [a, b, c, d].into_iter().fold(0, |bits, segment| bits << 16 | u64::from(segment))
            }
        };
        Self(NonZeroU64::new(bits).unwrap_or(NonZeroU64::MIN))
    }
}

/// What one address has. Never zero of both.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Tally {
    connections: usize,
    handshakes: usize,
}

/// The addresses that have connections, and no others: as many as there are connections, at most.
struct Addresses {
    max: Tally,
    hasher: RandomState,
    shards: [Mutex<HashMap<Source, Tally>>; SHARDS],
}

impl Addresses {
    fn new(limits: &Limits) -> Option<Self> {
        let max =
            Tally { connections: limits.connections_per_address, handshakes: limits.handshakes_per_address };
        let is_off = max.connections == usize::MAX && max.handshakes == usize::MAX;
        (!is_off).then(|| Self { max, hasher: RandomState::new(), shards: Default::default() })
    }

    #[expect(clippy::indexing_slicing, reason = "the rest of a division by their number")]
    fn shard(&self, source: Source) -> MutexGuard<'_, HashMap<Source, Tally>> {
        let [byte, ..] = self.hasher.hash_one(source).to_ne_bytes();
        // Nothing panics while it is held.
        self.shards[usize::from(byte) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, source: Source) -> Result<(), Refusal> {
        match self.shard(source).entry(source) {
            Entry::Vacant(place) => {
                place.insert(Tally { connections: 1, handshakes: 1 });
            }
            Entry::Occupied(mut place) => {
                let tally = place.get_mut();
                if tally.connections >= self.max.connections {
                    return Err(Refusal::Address);
                }
                if tally.handshakes >= self.max.handshakes {
                    return Err(Refusal::Handshakes);
                }
                tally.connections += 1;
                tally.handshakes += 1;
            }
        }
        Ok(())
    }

    fn change(&self, source: Source, change: impl FnOnce(&mut Tally)) {
        let mut shard = self.shard(source);
        let Entry::Occupied(mut place) = shard.entry(source) else { return };
        change(place.get_mut());
        if *place.get() == Tally::default() {
            place.remove();
            if shard.capacity() > KEEP && shard.len() < shard.capacity() / 4 {
                let room = shard.len() * 2;
                shard.shrink_to(room.max(KEEP));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(connections: usize, per_address: usize, handshakes: usize) -> Arc<Admission> {
        let limits = Limits {
            connections,
            connections_per_address: per_address,
            handshakes_per_address: handshakes,
            ..Limits::default()
        };
        Admission::new(&limits, 1)
    }

    /// One more connection from `address`.
    fn come(admission: &Arc<Admission>, address: &str) -> Result<(Place, Option<Handshake>), Refusal> {
        admission.admit(Some(address.parse().expect("an address")))
    }

    fn refusal(admission: &Arc<Admission>, address: &str) -> Option<Refusal> {
        come(admission, address).err()
    }

    #[test]
    fn connections_in_all() {
        let admission = admission(2, usize::MAX, usize::MAX);
        let (first, second) = (come(&admission, "192.0.2.1").unwrap(), admission.enter());
        assert!(first.1.is_none(), "nobody asks for addresses");
        assert_eq!(refusal(&admission, "192.0.2.2"), Some(Refusal::Connections));
        drop(second);
        assert_eq!(refusal(&admission, "192.0.2.2"), None);
        // Our own are never refused, but count.
        let _ours = [admission.enter(), admission.enter()];
        drop(first);
        assert_eq!(refusal(&admission, "192.0.2.2"), Some(Refusal::Connections));
    }

    #[test]
    fn one_address_has_its_share_and_others_theirs() {
        let admission = admission(usize::MAX, 2, usize::MAX);
        let first = come(&admission, "192.0.2.1").unwrap();
        let _second = come(&admission, "::ffff:192.0.2.1").unwrap();
        for mapped in ["192.0.2.1", "::ffff:192.0.2.1"] {
            assert_eq!(refusal(&admission, mapped), Some(Refusal::Address));
        }
        assert_eq!(refusal(&admission, "192.0.2.2"), None);
        drop(first);
        assert_eq!(refusal(&admission, "192.0.2.1"), None);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let admission = admission(usize::MAX, 1, usize::MAX);
        let _first = come(&admission, "2001:db8:1:2::1").unwrap();
        assert_eq!(refusal(&admission, "2001:db8:1:2:ffff::7"), Some(Refusal::Address));
        assert_eq!(refusal(&admission, "2001:db8:1:3::1"), None);
        let _loopback = come(&admission, "::1").unwrap();
        assert_eq!(refusal(&admission, "::1"), Some(Refusal::Address));
        assert_eq!(refusal(&admission, "127.0.0.1"), None);
    }

    #[test]
    fn handshakes_count_until_they_are_done() {
        let admission = admission(usize::MAX, 3, 1);
        let (_first, handshake) = come(&admission, "192.0.2.1").unwrap();
        assert_eq!(refusal(&admission, "192.0.2.1"), Some(Refusal::Handshakes));
        drop(handshake);
        let (_second, handshake) = come(&admission, "192.0.2.1").unwrap();
        drop(handshake);
        let _third = come(&admission, "192.0.2.1").unwrap();
        assert_eq!(refusal(&admission, "192.0.2.1"), Some(Refusal::Address));
    }

    #[test]
    fn what_is_gone_leaves_nothing() {
        let admission = admission(usize::MAX, 2, 2);
        let mut all = Vec::new();
        for host in 0..10_000_u32 {
            all.push(come(&admission, &format!("10.{}.{}.1", host >> 8, host & 255)).unwrap());
            assert_eq!(admission.addresses(), all.len());
        }
        // Whichever of the two goes first.
        for (index, (place, handshake)) in all.drain(..).enumerate() {
            if index % 2 == 0 {
                drop(place);
                drop(handshake);
            } else {
                drop(handshake);
                drop(place);
            }
        }
        assert_eq!(admission.addresses(), 0);
        let shards = &admission.addresses.as_ref().unwrap().shards;
        assert!(shards.iter().all(|shard| shard.lock().unwrap().capacity() <= 2 * KEEP));
    }

    #[test]
    fn loops_that_count_at_once_lose_nothing() {
        let admission = admission(usize::MAX, 3, 3);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        drop(come(&admission, "192.0.2.1"));
                    }
                });
            }
        });
        let _all: Vec<_> = (0..3).map(|_| come(&admission, "192.0.2.1").unwrap()).collect();
        assert_eq!(refusal(&admission, "192.0.2.1"), Some(Refusal::Address));
        assert_eq!(admission.connections.load(Relaxed), 3);
    }
}
