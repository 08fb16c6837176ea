//! Bytes that are held for clients, over all loops, against [`Limits::held_bytes`](crate::Limits::held_bytes).
//!
//! A loop counts for itself, and tells the others in steps: a message that comes and goes touches nothing shared. What the
//! loops have told is off by less than a step each, a sixteenth of the limit in all.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::admission::Admission;
use crate::kernel::Wake;

/// A loop tells the others at least this seldom.
const STEP_MAX: usize = 64 * 1024;

/// What the loops have told each other.
pub(crate) struct Held {
    max: usize,
    step: usize,
    total: AtomicUsize,
    /// There was too much, and it is not yet clearly less. All loops see the same: one that did not would keep what the
    /// others wait for.
    pressed: AtomicBool,
    loops: Mutex<Vec<Arc<dyn Wake>>>,
}

impl Held {
    pub(crate) fn new(max: usize, loops: usize) -> Arc<Self> {
        let step = (max / 16 / loops.max(1)).clamp(1, STEP_MAX);
        let (total, pressed, loops) = Default::default();
        Arc::new(Self { max, step, total, pressed, loops })
    }

    /// A loop is to be woken when too much is held: what has to go may be with clients of it that do nothing.
    pub(crate) fn join(&self, waker: Arc<dyn Wake>) {
        self.loops().push(waker);
    }

    fn loops(&self) -> MutexGuard<'_, Vec<Arc<dyn Wake>>> {
        self.loops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether too much is held.
    fn is_pressed(&self) -> bool {
        let was_pressed = self.pressed.load(Relaxed);
        let enough = if was_pressed { self.relieved() } else { self.max };
        let is_pressed = self.total.load(Relaxed) > enough;
        if is_pressed != was_pressed && self.pressed.swap(is_pressed, Relaxed) != is_pressed && is_pressed {
            self.loops().iter().for_each(|waker| waker.wake());
        }
        is_pressed
    }

    /// Below this it is enough again.
    fn relieved(&self) -> usize {
        self.max - self.max / 8
    }
}

/// The books of one loop.
pub(crate) struct Account {
    held: Arc<Held>,
    own: usize,
    /// What the others know of it.
    told: usize,
    /// As it was when last looked at.
    pressed: bool,
    /// Once `own` is this much, somebody has to go.
    due: usize,
}

impl Account {
    pub(crate) fn new(held: Arc<Held>) -> Self {
        Self { held, own: 0, told: 0, pressed: false, due: 0 }
    }

    /// Bytes that this loop holds.
    pub(crate) fn own(&self) -> usize {
        self.own
    }

    /// What was held of something, `entry`, is now `bytes`.
    pub(crate) fn settle(&mut self, entry: &mut usize, bytes: usize) {
        if *entry != bytes {
            self.own = (self.own + bytes).saturating_sub(*entry);
            *entry = bytes;
            if self.own.abs_diff(self.told) >= self.held.step {
                self.tell();
            }
        }
    }

    fn tell(&mut self) {
        let change = self.own.wrapping_sub(self.told);
        self.held.total.fetch_add(change, Relaxed);
        self.told = self.own;
        self.look();
    }

    /// Whether too much is held, by the others' books too.
    pub(crate) fn look(&mut self) -> bool {
        self.pressed = self.held.is_pressed();
        if !self.pressed {
            self.due = 0;
        }
        self.pressed
    }

    /// Too much is held, and this loop has to do something about it.
    pub(crate) fn is_due(&self) -> bool {
        self.pressed && self.own >= self.due
    }

    /// This loop has done what it could; it is due again once it holds more.
    pub(crate) fn put_off(&mut self) {
        self.due = self.own + self.held.step;
    }

    /// Time has passed: it may have found reasons to do something, and the others hear exactly what it holds. Where
    /// everybody is within its share, that ends the pressure.
    pub(crate) fn call_in(&mut self) {
        self.due = 0;
        self.tell();
    }

    /// What may wait for one client's socket now.
    pub(crate) fn share_now(&self, admission: &Admission) -> usize {
        if self.pressed { self.share(admission.connections()) } else { usize::MAX }
    }

    /// What each of so many connections may hold, so that all of them together hold not too much.
    pub(crate) fn share(&self, connections: usize) -> usize {
        self.held.relieved() / connections.max(1)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.own = 0;
        self.tell();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_begins_above_the_limit_and_ends_below_seven_eighths_of_it() {
        let mut account = Account::new(Held::new(1600, 1));
        let mut entry = 0;
        for (bytes, is_pressed) in [(1600, false), (1701, true), (1500, true), (1400, false), (1599, false)] {
            account.settle(&mut entry, bytes);
            assert_eq!((entry, account.own(), account.look()), (bytes, bytes, is_pressed));
        }
    }

    #[test]
    fn what_the_loops_know_of_each_other_is_off_by_a_sixteenth_at_most() {
        const LOOPS: usize = 8;
        let held = Held::new(1 << 20, LOOPS);
        let mut accounts: Vec<_> = (0..LOOPS).map(|_| Account::new(held.clone())).collect();
        let mut entries = [0; LOOPS];
        let mut random = 1_u64;
        for _ in 0..100_000 {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let (index, bytes) = ((random >> 32) as usize % LOOPS, (random >> 40) as usize % 200_000);
            accounts[index].settle(&mut entries[index], bytes);
            let (told, real) = (held.total.load(Relaxed), entries.iter().sum::<usize>());
            assert!(told.abs_diff(real) < held.max / 16, "{told} {real}");
        }
        drop(accounts);
        assert_eq!(held.total.load(Relaxed), 0);
    }

    #[test]
    fn others_see_the_pressure_and_whoever_did_what_it_could_is_left_alone() {
        let held = Held::new(1600, 2);
        let (mut hog, mut other) = (Account::new(held.clone()), Account::new(held));
        let (mut much, mut little) = (0, 0);
        hog.settle(&mut much, 2000);
        assert!(hog.is_due() && !other.is_due());
        assert!(other.look() && other.is_due());
        other.put_off();
        assert!(!other.is_due());
        other.settle(&mut little, 100);
        assert!(other.is_due());
        other.put_off();
        other.call_in();
        assert!(other.is_due());
        hog.settle(&mut much, 0);
        assert!(!other.look() && !other.is_due());
    }

    #[test]
    fn a_limit_that_is_none() {
        let mut account = Account::new(Held::new(usize::MAX, 64));
        account.settle(&mut 0, 1 << 40);
        assert!(!account.look());
        assert!(account.share(1 << 20) > 1 << 40);
    }
}
