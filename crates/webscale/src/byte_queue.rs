//! Bytes that wait.

/// Bytes in order: put in behind, taken from the front without moving the rest. While empty it is a pointer and owns no
/// memory.
#[derive(Default)]
pub(crate) struct ByteQueue(Option<Box<Filled>>);

/// Never empty, but while it is filled.
#[derive(Default)]
struct Filled {
    bytes: Vec<u8>,
    start: usize,
}

impl ByteQueue {
    pub(crate) fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.0.as_ref().map_or(0, |filled| filled.bytes.capacity())
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let Filled { bytes: held, start } = &mut **self.0.get_or_insert_default();
        // Moving the rest to the front costs less than the growth it saves, once half of it is gone.
        if *start > held.len() / 2 {
            held.drain(..*start);
            *start = 0;
        }
        held.extend_from_slice(bytes);
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        // `start` never passes the end.
        self.0.as_ref().and_then(|filled| filled.bytes.get(filled.start..)).unwrap_or_default()
    }

    pub(crate) fn consume(&mut self, taken: usize) {
        debug_assert!(taken <= self.len());
        if let Some(filled) = &mut self.0 {
            filled.start = filled.start.saturating_add(taken);
            if filled.start >= filled.bytes.len() {
                self.0 = None;
            }
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
