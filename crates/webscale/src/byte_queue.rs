//! Bytes that wait.

/// Bytes in order: put in behind, taken from the front without moving the rest. Owns no memory while empty.
#[derive(Default)]
pub(crate) struct ByteQueue {
    bytes: Vec<u8>,
    start: usize,
}

impl ByteQueue {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        // Moving the rest to the front costs less than the growth it saves, once half of it is gone.
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        // `start` never passes the end.
        self.bytes.get(self.start..).unwrap_or_default()
    }

    pub(crate) fn consume(&mut self, taken: usize) {
        debug_assert!(taken <= self.len());
        self.start = self.start.saturating_add(taken).min(self.bytes.len());
        if self.start == self.bytes.len() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_order_and_gives_its_memory_back() {
        let (mut queue, mut expected) = (ByteQueue::default(), std::collections::VecDeque::new());
        for round in 0..200u8 {
            let bytes = vec![round; usize::from(round)];
            queue.push(&bytes);
            expected.extend(&bytes);
            let taken = queue.len().min(usize::from(round) / 2 + 1);
            assert!(queue.as_slice()[..taken].iter().eq(expected.range(..taken)));
            expected.drain(..taken);
            queue.consume(taken);
        }
        queue.consume(queue.len());
        assert_eq!((queue.capacity(), queue.is_empty()), (0, true));
    }
}
