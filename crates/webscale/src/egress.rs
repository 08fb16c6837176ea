//! Bytes on their way out: what one turn sealed, and what a socket did not take.

/// Ciphertext of one turn, written in place. The memory is the thread's; it is zeroed once, when it grows.
pub(crate) struct Sealed {
    bytes: Vec<u8>,
    len: usize,
}

impl Sealed {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::new(), len: 0 }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// At least `room` writable bytes behind what is there.
    pub(crate) fn spare(&mut self, room: usize) -> &mut [u8] {
        let end = self.len + room;
        if self.bytes.len() < end {
            self.bytes.resize(end.next_multiple_of(4096), 0);
        }
        &mut self.bytes[self.len..]
    }

    /// `written` bytes of the spare room are filled.
    pub(crate) fn advance(&mut self, written: usize) {
        self.len = (self.len + written).min(self.bytes.len());
    }

    /// Forgets what is there, and memory above `keep` bytes.
    pub(crate) fn clear(&mut self, keep: usize) {
        self.len = 0;
        if self.bytes.len() > keep {
            self.bytes.truncate(keep);
            self.bytes.shrink_to_fit();
        }
    }
}

/// What a socket did not take yet. Owns no memory while empty.
#[derive(Default)]
pub(crate) struct Egress {
    bytes: Vec<u8>,
    sent: usize,
}

impl Egress {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        // Moving the rest to the front costs less than the growth it saves, once half of it is gone.
        if self.sent > self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    pub(crate) fn consume(&mut self, taken: usize) {
        self.sent += taken;
        debug_assert!(self.sent <= self.bytes.len());
        if self.sent == self.bytes.len() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn egress_keeps_order_and_gives_its_memory_back() {
        let (mut egress, mut expected) = (Egress::default(), std::collections::VecDeque::new());
        for round in 0..200u8 {
            let bytes = vec![round; usize::from(round)];
            egress.push(&bytes);
            expected.extend(&bytes);
            let taken = egress.len().min(usize::from(round) / 2 + 1);
            assert!(egress.as_slice()[..taken].iter().eq(expected.range(..taken)));
            expected.drain(..taken);
            egress.consume(taken);
        }
        egress.consume(egress.len());
        assert_eq!((egress.bytes.capacity(), egress.is_empty()), (0, true));
    }

    #[test]
    fn sealed_grows_and_shrinks() {
        let mut sealed = Sealed::new();
        sealed.spare(5000)[..5000].fill(1);
        sealed.advance(5000);
        sealed.spare(3)[..3].copy_from_slice(&[2; 3]);
        sealed.advance(3);
        assert_eq!((sealed.as_slice().len(), &sealed.as_slice()[4999..]), (5003, &[1, 2, 2, 2][..]));
        sealed.clear(4096);
        assert!(sealed.as_slice().is_empty() && sealed.bytes.len() == 4096);
    }
}
