//! Deadlines of all connections of one loop: a hierarchical timer wheel.
//!
//! Four levels of 256 slots; a slot of the lowest level is 65.5 µs wide, a slot of each next level 256 times wider, so that
//! the wheel reaches 78 hours. A timer sits in the level where its due time first differs from now, and moves down as
//! that time comes nearer. Arming and cancelling are O(1); timers are nodes of one vector, linked by index, 32 bytes each.

#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "every index is the wheel's own: bytes for its slots, places of its nodes; no peer chooses one"
)]

use std::num::NonZeroU32;

use crate::clock::Time;

const LEVELS: usize = 4;
const SLOTS: usize = 256;
const TICK_BITS: u32 = 16; // 2^16 ns
const NIL: u32 = u32::MAX;
/// The place of a timer that is due, and not yet given out.
const FIRED: u16 = u16::MAX;
/// The farthest tick that the wheel can tell from now.
const REACH: u64 = 255 << (8 * (LEVELS - 1)); // one slot short of a full turn: a slot at the cursor is always of this turn

/// What a timer is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TimerKind {
    /// A limit of ours: handshake, silence, message, closing.
    Deadline,
    /// Set by the handler.
    User,
}

/// A timer that is armed. Good for one [`Wheel::cancel`], until [`Wheel::next_fired`] has given it out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimerId(NonZeroU32);

impl TimerId {
    /// `index` is no [`NIL`].
    pub(crate) fn of(index: u32) -> Self {
        Self(NonZeroU32::MIN.saturating_add(index))
    }

    fn index(self) -> u32 {
        self.0.get() - 1
    }
}

/// A timer that fired.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fired {
    pub(crate) token: u64,
    pub(crate) kind: TimerKind,
}

struct Node {
    token: u64,
    due: u64,
    next: u32,
    previous: u32,
    /// Counted over all levels, or [`FIRED`].
    slot: u16,
    kind: TimerKind,
}

const _: () = assert!(size_of::<Node>() <= 32);

pub(crate) struct Wheel {
    now: u64,
    nodes: Vec<Node>,
    free: u32,
    /// The list of timers that are due: they stay nodes, so that each can still be cancelled.
    fired_first: u32,
    fired_last: u32,
    heads: [[u32; SLOTS]; LEVELS],
    occupied: [[u64; SLOTS / 64]; LEVELS],
}

/// The first tick at or behind `time`: a timer never fires early.
fn tick_at(time: Time) -> u64 {
    time.nanos().div_ceil(1 << TICK_BITS)
}

fn byte(tick: u64, level: usize) -> usize {
    usize::from(tick.to_le_bytes()[level])
}

impl Wheel {
    pub(crate) fn new() -> Self {
        Self {
            now: 0,
            nodes: Vec::new(),
            free: NIL,
            fired_first: NIL,
            fired_last: NIL,
            heads: [[NIL; SLOTS]; LEVELS],
            occupied: [[0; SLOTS / 64]; LEVELS],
        }
    }

    pub(crate) fn arm(&mut self, due: Time, token: u64, kind: TimerKind) -> TimerId {
        let due = tick_at(due).max(self.now);
        let node = Node { token, due, next: NIL, previous: NIL, slot: 0, kind };
        let index = if self.free == NIL {
            self.nodes.push(node);
            u32::try_from(self.nodes.len() - 1).expect("fewer timers than 2^32")
        } else {
            let index = self.free;
            self.free = self.nodes[index as usize].next;
            self.nodes[index as usize] = node;
            index
        };
        self.link(index);
        TimerId::of(index)
    }

    pub(crate) fn cancel(&mut self, id: TimerId) {
        self.unlink(id.index());
        self.release(id.index());
    }

    /// Moves time on to `now`; what is due by then fires.
    pub(crate) fn advance(&mut self, now: Time) {
        let now = now.nanos() >> TICK_BITS;
        while let Some((level, slot, start)) = self.first_occupied() {
            if start > now {
                break;
            }
            self.now = self.now.max(start);
            self.empty_slot(level, slot);
        }
        self.now = self.now.max(now);
        self.sink();
    }

    /// Gives out a timer that fired, the one that was due first first.
    pub(crate) fn next_fired(&mut self) -> Option<Fired> {
        let index = self.fired_first;
        if index == NIL {
            return None;
        }
        let Node { token, kind, .. } = self.nodes[index as usize];
        self.cancel(TimerId::of(index));
        Some(Fired { token, kind })
    }

    /// No timer fires before this time. (One may fire later: a slot above the lowest level stands for its start.)
    pub(crate) fn next_due(&self) -> Option<Time> {
        let (_, _, start) = self.first_occupied()?;
        Some(Time::from_nanos(start << TICK_BITS))
    }

    /// The slot whose time comes first, and the tick where that time starts.
    fn first_occupied(&self) -> Option<(usize, usize, u64)> {
        for level in 0..LEVELS {
            if let Some(slot) = self.next_slot(level, byte(self.now, level)) {
                let shift = 8 * level;
                let block = self.now >> shift >> 8 << 8;
                return Some((level, slot, ((block | slot as u64) << shift).max(self.now)));
            }
        }
        // The highest level wraps round: what lies behind the cursor belongs to the next turn.
        let slot = self.next_slot(LEVELS - 1, 0)?;
        let shift = 8 * (LEVELS - 1);
        let block = (self.now >> shift >> 8 << 8) + SLOTS as u64;
        Some((LEVELS - 1, slot, (block | slot as u64) << shift))
    }

    fn next_slot(&self, level: usize, from: usize) -> Option<usize> {
        let mut word = from / 64;
        let mut bits = self.occupied[level][word] & (u64::MAX << (from % 64));
        loop {
            if bits != 0 {
                return Some(word * 64 + bits.trailing_zeros() as usize);
            }
            word += 1;
            bits = *self.occupied[level].get(word)?;
        }
    }

    /// Fires or moves down all timers of one slot.
    fn empty_slot(&mut self, level: usize, slot: usize) {
        let mut index = self.heads[level][slot];
        self.heads[level][slot] = NIL;
        self.occupied[level][slot / 64] &= !(1 << (slot % 64));
        while index != NIL {
            let Node { due, next, .. } = self.nodes[index as usize];
            if due <= self.now {
                self.fire(index);
            } else {
                self.link(index);
            }
            index = next;
        }
    }

    fn fire(&mut self, index: u32) {
        let last = std::mem::replace(&mut self.fired_last, index);
        let node = &mut self.nodes[index as usize];
        (node.slot, node.previous, node.next) = (FIRED, last, NIL);
        match self.nodes.get_mut(last as usize) {
            Some(last) => last.next = index,
            None => self.fired_first = index,
        }
    }

    /// After a jump the slots at the cursor may hold timers that belong further down.
    fn sink(&mut self) {
        for level in (0..LEVELS).rev() {
            let slot = byte(self.now, level);
            if self.heads[level][slot] != NIL {
                self.empty_slot(level, slot);
            }
        }
    }

    /// What is due beyond the wheel's reach waits at its end, and is linked anew there.
    fn link(&mut self, index: u32) {
        let due = self.nodes[index as usize].due.min(self.now.saturating_add(REACH));
        let differs = (due ^ self.now) | 1;
        let level = ((63 - differs.leading_zeros() as usize) / 8).min(LEVELS - 1);
        let slot = byte(due, level);
        let head = self.heads[level][slot];
        let node = &mut self.nodes[index as usize];
        node.slot = u16::try_from(level * SLOTS + slot).expect("four levels of 256 slots");
        node.previous = NIL;
        node.next = head;
        if head != NIL {
            self.nodes[head as usize].previous = index;
        }
        self.heads[level][slot] = index;
        self.occupied[level][slot / 64] |= 1 << (slot % 64);
    }

    fn unlink(&mut self, index: u32) {
        let Node { next, previous, slot, .. } = self.nodes[index as usize];
        if next != NIL {
            self.nodes[next as usize].previous = previous;
        } else if slot == FIRED {
            self.fired_last = previous;
        }
        if previous != NIL {
            self.nodes[previous as usize].next = next;
        } else if slot == FIRED {
            self.fired_first = next;
        } else {
            let (level, slot) = (usize::from(slot) / SLOTS, usize::from(slot) % SLOTS);
            self.heads[level][slot] = next;
            if next == NIL {
                self.occupied[level][slot / 64] &= !(1 << (slot % 64));
            }
        }
    }

    fn release(&mut self, index: u32) {
        self.nodes[index as usize].next = self.free;
        self.free = index;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn at(millis: u64) -> Time {
        Time::default() + Duration::from_millis(millis)
    }

    fn fired(wheel: &mut Wheel, now: Time) -> Vec<u64> {
        wheel.advance(now);
        let mut tokens: Vec<u64> = std::iter::from_fn(|| wheel.next_fired()).map(|f| f.token).collect();
        tokens.sort_unstable();
        tokens
    }

    #[test]
    fn fires_in_time_and_never_early() {
        let mut wheel = Wheel::new();
        for (token, millis) in [(1, 0), (2, 10), (3, 1_000), (4, 60_000), (5, 86_400_000)] {
            wheel.arm(at(millis), token, TimerKind::Deadline);
        }
        assert_eq!(fired(&mut wheel, at(0)), [1]);
        assert_eq!(fired(&mut wheel, at(9)), []);
        assert_eq!(fired(&mut wheel, at(11)), [2]);
        assert_eq!(fired(&mut wheel, at(999)), []);
        assert_eq!(fired(&mut wheel, at(60_001)), [3, 4]);
        assert_eq!(fired(&mut wheel, at(86_399_999)), []);
        assert_eq!(fired(&mut wheel, at(86_400_001)), [5]);
        assert!(wheel.next_due().is_none());
    }

    #[test]
    fn a_cancelled_timer_is_silent_and_its_node_is_used_again() {
        let mut wheel = Wheel::new();
        let ids: Vec<_> = (0..100).map(|n| wheel.arm(at(n), n, TimerKind::User)).collect();
        for id in ids {
            wheel.cancel(id);
        }
        assert!(wheel.next_due().is_none());
        assert_eq!(fired(&mut wheel, at(200)), []);
        for n in 0..100 {
            wheel.arm(at(300), n, TimerKind::User);
        }
        assert_eq!(wheel.nodes.len(), 100);
        assert_eq!(fired(&mut wheel, at(301)).len(), 100);
    }

    #[test]
    fn a_timer_that_fired_can_be_cancelled_until_it_is_given_out() {
        for silenced in [[0, 1], [1, 2], [2, 3], [3, 0]] {
            let mut wheel = Wheel::new();
            let ids: Vec<_> = (0..4).map(|n| wheel.arm(at(n), n, TimerKind::User)).collect();
            wheel.advance(at(10));
            // A node that is still spoken for is not handed out.
            wheel.arm(at(20), 9, TimerKind::User);
            for (n, id) in (0..).zip(ids) {
                if silenced.contains(&n) {
                    wheel.cancel(id);
                }
            }
            let expected: Vec<u64> = (0..4).filter(|n| !silenced.contains(n)).collect();
            assert_eq!(fired(&mut wheel, at(10)), expected);
            assert_eq!(fired(&mut wheel, at(30)), [9]);
            let _: Vec<_> = (0..5).map(|n| wheel.arm(at(40), n, TimerKind::User)).collect();
            assert_eq!((fired(&mut wheel, at(50)).len(), wheel.nodes.len()), (5, 5));
        }
    }

    #[test]
    fn what_is_due_first_fires_first() {
        let mut wheel = Wheel::new();
        for n in [3, 1, 2, 300, 200] {
            wheel.arm(at(n), n, TimerKind::User);
        }
        wheel.advance(at(1000));
        let order: Vec<u64> = std::iter::from_fn(|| wheel.next_fired()).map(|f| f.token).collect();
        assert_eq!(order, [1, 2, 3, 200, 300]);
    }

    #[test]
    fn beyond_its_reach_a_timer_waits_at_the_end() {
        let mut wheel = Wheel::new();
        let hours = |hours: u64| at(hours * 3_600_000);
        wheel.arm(Time::from_nanos(u64::MAX), 1, TimerKind::Deadline);
        wheel.arm(hours(1000), 2, TimerKind::User);
        for now in (0..1000).step_by(7) {
            assert_eq!(fired(&mut wheel, hours(now)), [], "hour {now}");
        }
        assert_eq!(fired(&mut wheel, hours(1000)), [2]);
        assert_eq!(fired(&mut wheel, hours(1_000_000)), []);
    }

    /// Up to an hour and a half; now and then up to two weeks, beyond the wheel's reach.
    fn delay() -> impl Strategy<Value = u64> {
        prop_oneof![9 => 0u64..5_000_000_000_000, 1 => 0u64..1_200_000_000_000_000]
    }

    fn jump() -> impl Strategy<Value = u64> {
        prop_oneof![9 => 0u64..600_000_000_000, 1 => 0u64..400_000_000_000_000]
    }

    proptest! {
        /// Against a sorted map: the same timers fire at the same steps, whatever the jumps and cancels.
        #[test]
        fn behaves_as_a_sorted_map(
            steps in prop::collection::vec((delay(), jump(), any::<bool>()), 1..80)
        ) {
            let (mut wheel, mut model) = (Wheel::new(), BTreeMap::<(u64, u64), TimerId>::new());
            let mut now = 0u64;
            for (token, &(delay, jump, cancel)) in steps.iter().enumerate() {
                let token = token as u64;
                let due = now + delay;
                let id = wheel.arm(Time::from_nanos(due), token, TimerKind::Deadline);
                model.insert((due, token), id);
                if cancel && let Some((&key, &id)) = model.iter().next_back() {
                    wheel.cancel(id);
                    model.remove(&key);
                }
                if let Some((&(first, _), _)) = model.iter().next() {
                    prop_assert!(wheel.next_due().unwrap().nanos() <= first.next_multiple_of(1 << TICK_BITS));
                }
                now += jump;
                let reached = now >> TICK_BITS;
                let mut expected: Vec<u64> =
                    model.keys().filter(|(due, _)| due.div_ceil(1 << TICK_BITS) <= reached).map(|&(_, t)| t).collect();
                model.retain(|(due, _), _| due.div_ceil(1 << TICK_BITS) > reached);
                expected.sort_unstable();
                prop_assert_eq!(fired(&mut wheel, Time::from_nanos(now)), expected);
            }
        }
    }
}
