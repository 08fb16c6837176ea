//! Bytes on their way out: what one turn sealed.

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
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// At least `room` writable bytes behind what is there.
    pub(crate) fn spare(&mut self, room: usize) -> &mut [u8] {
        let end = self.len + room;
        if self.bytes.len() < end {
            self.bytes.resize(end.next_multiple_of(4096), 0);
        }
        self.bytes.get_mut(self.len..).unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use super::*;

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
