//! Bounded queues into a loop, from any thread.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::kernel::Wake;

/// Items for which an empty list keeps room.
const KEEP: usize = 1024;

/// What other threads have for one loop. The loop takes all of it at once, so that the lock is held for a swap.
pub(crate) struct Mailbox<T> {
    queue: Mutex<Queue<T>>,
    waker: Arc<dyn Wake>,
    items_max: usize,
    bytes_max: usize,
}

struct Queue<T> {
    items: VecDeque<T>,
    bytes: usize,
    closed: bool,
}

/// Why an item was not taken; it comes back.
#[derive(Debug)]
pub(crate) enum Refused<T> {
    Full(T),
    Closed(T),
}

impl<T> Mailbox<T> {
    pub(crate) fn new(waker: Arc<dyn Wake>, items_max: usize, bytes_max: usize) -> Self {
        let queue = Queue { items: VecDeque::new(), bytes: 0, closed: false };
        Self { queue: Mutex::new(queue), waker, items_max, bytes_max }
    }

    /// Queues `item`, which holds `bytes`, and wakes the loop unless it was woken already. One item always fits.
    pub(crate) fn push(&self, item: T, bytes: usize) -> Result<(), Refused<T>> {
        let mut queue = self.lock();
        if queue.closed {
            return Err(Refused::Closed(item));
        }
        let full = queue.items.len() >= self.items_max || queue.bytes.saturating_add(bytes) > self.bytes_max;
        if full && !queue.items.is_empty() {
            return Err(Refused::Full(item));
        }
        queue.put(item, bytes, &*self.waker);
        Ok(())
    }

    /// Queues `item` whatever the limits: for what is bounded elsewhere, such as answers to jobs.
    pub(crate) fn push_unbounded(&self, item: T) -> Result<(), T> {
        let mut queue = self.lock();
        if queue.closed {
            return Err(item);
        }
        queue.put(item, 0, &*self.waker);
        Ok(())
    }

    /// Swaps what is queued for `empty`, whose memory takes what comes next; what a burst has grown is given back.
    pub(crate) fn take(&self, empty: &mut VecDeque<T>) {
        debug_assert!(empty.is_empty());
        empty.shrink_to(KEEP);
        let mut queue = self.lock();
        queue.bytes = 0;
        std::mem::swap(&mut queue.items, empty);
    }

    /// Takes no more; what is queued is dropped.
    pub(crate) fn close(&self) -> VecDeque<T> {
        let mut queue = self.lock();
        queue.closed = true;
        std::mem::take(&mut queue.items)
    }

    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        // Nothing panics while it is held.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Queue<T> {
    fn put(&mut self, item: T, bytes: usize, waker: &dyn Wake) {
        let wake = self.items.is_empty();
        self.items.push_back(item);
        self.bytes = self.bytes.saturating_add(bytes);
        if wake {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use webscale_sys::Waker;

    use super::*;

    fn mailbox(items: usize, bytes: usize) -> Mailbox<u32> {
        Mailbox::new(Arc::new(Waker::new().unwrap()), items, bytes)
    }

    #[test]
    fn both_limits_hold_and_one_item_always_fits() {
        let mailbox = mailbox(2, 10);
        mailbox.push(1, 11).unwrap();
        assert!(matches!(mailbox.push(2, 1), Err(Refused::Full(2))));
        let mut taken = VecDeque::new();
        mailbox.take(&mut taken);
        assert_eq!(taken, [1]);
        mailbox.push(3, 0).unwrap();
        mailbox.push(4, 0).unwrap();
        assert!(matches!(mailbox.push(5, 0), Err(Refused::Full(5))));
        mailbox.push_unbounded(6).unwrap();
        taken.clear();
        mailbox.take(&mut taken);
        assert_eq!(taken, [3, 4, 6]);
    }

    #[test]
    fn a_closed_one_gives_items_back() {
        let mailbox = mailbox(2, 10);
        mailbox.push(1, 0).unwrap();
        assert_eq!(mailbox.close(), [1]);
        assert!(matches!(mailbox.push(2, 0), Err(Refused::Closed(2))));
        assert_eq!(mailbox.push_unbounded(3), Err(3));
    }
}
