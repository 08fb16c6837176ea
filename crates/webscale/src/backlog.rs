//! Frames that wait unsealed, so that the oldest messages among them can still be dropped.
//!
//! Only connections under [`SlowConsumer::DropOldest`](crate::SlowConsumer::DropOldest) have one. What the socket was given
//! is begun, and behind it in `Egress`; a backlog holds whole frames behind that. Its memory is that of the frames.

use webscale_proto::frame::{Data, FrameHeader, OpCode};

use crate::byte_queue::ByteQueue;

#[derive(Default)]
pub(crate) struct Backlog {
    /// What must go out in front of `frames`: it may be cut anywhere.
    kept: ByteQueue,
    /// Whole frames.
    frames: ByteQueue,
    /// Bytes of those that may be dropped.
    droppable: usize,
    /// The peer inflates a message with what it remembers of earlier ones: none that is compressed may be missing.
    keeps_compressed: bool,
}

impl Backlog {
    pub(crate) fn new(keeps_compressed: bool) -> Self {
        Self { keeps_compressed, ..Self::default() }
    }

    /// An empty one by the same rules.
    pub(crate) fn another(&self) -> Self {
        Self::new(self.keeps_compressed)
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len() + self.frames.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.frames.is_empty()
    }

    /// Bytes that [`Backlog::drop_oldest`] can free.
    pub(crate) fn droppable(&self) -> usize {
        self.droppable
    }

    pub(crate) fn capacity(&self) -> usize {
        self.kept.capacity() + self.frames.capacity()
    }

    /// Puts in what stands before the first frame of a connection.
    pub(crate) fn push_head(&mut self, head: &[u8]) {
        debug_assert!(head.is_empty() || self.is_empty(), "a head is the first");
        self.kept.push(head);
    }

    /// Puts whole frames in.
    pub(crate) fn push(&mut self, frames: &[u8]) {
        let mut rest = frames;
        while !rest.is_empty() {
            let (len, is_droppable) = self.first_of(rest);
            self.droppable += if is_droppable { len } else { 0 };
            rest = rest.get(len..).unwrap_or_default();
        }
        self.frames.push(frames);
    }

    /// Drops the oldest message that may be dropped. Gives its bytes.
    pub(crate) fn drop_oldest(&mut self) -> Option<usize> {
        while !self.frames.is_empty() {
            let frames = self.frames.as_slice();
            let (len, is_droppable) = self.first_of(frames);
            if !is_droppable {
                self.kept.push(frames.get(..len).unwrap_or(frames));
            }
            self.frames.consume(len);
            if is_droppable {
                self.droppable -= len;
                return Some(len);
            }
        }
        None
    }

    /// Gives the next bytes to `give`, and forgets them: whole frames of up to `max` bytes together, or one that is longer.
    pub(crate) fn take<T>(&mut self, max: usize, give: impl FnOnce(&[u8]) -> T) -> Option<T> {
        if !self.kept.is_empty() {
            let kept = self.kept.as_slice();
            let kept = kept.get(..max).unwrap_or(kept);
            let (len, given) = (kept.len(), give(kept));
            self.kept.consume(len);
            return Some(given);
        }
        let (mut len, mut droppable) = (0, 0);
        let frames = self.frames.as_slice();
        while let Some(rest) = frames.get(len..).filter(|rest| !rest.is_empty()) {
            let (next, is_droppable) = self.first_of(rest);
            if len > 0 && len + next > max {
                break;
            }
            len += next;
            droppable += if is_droppable { next } else { 0 };
        }
        if len == 0 {
            return None;
        }
        let given = give(frames.get(..len).unwrap_or(frames));
        self.frames.consume(len);
        self.droppable -= droppable;
        Some(given)
    }

    /// The length of the first frame in `frames`, which is not empty, and whether it is a message that may be dropped: one
    /// in a single frame.
    fn first_of(&self, frames: &[u8]) -> (usize, bool) {
        // They are our own, and whole.
        let Ok(Some((header, used))) = FrameHeader::parse(frames) else { return (frames.len(), false) };
        let len = usize::try_from(header.len).unwrap_or(usize::MAX).saturating_add(used).min(frames.len());
        let is_message = header.fin && matches!(header.opcode, OpCode::Data(Data::Text | Data::Binary));
        (len, is_message && !(header.reserved.rsv1 && self.keeps_compressed))
    }
}

#[cfg(test)]
mod tests {
    use webscale_proto::{Message, encoder};

    use super::*;

    fn message(text: &str) -> Vec<u8> {
        let mut frame = Vec::new();
        encoder::message(&mut frame, Message::Text(text), None);
        frame
    }

    fn fragment(opcode: Data, is_last: bool) -> Vec<u8> {
        let mut frame = Vec::new();
        encoder::fragment(&mut frame, opcode, is_last, b"part", None);
        frame
    }

    fn compressed() -> Vec<u8> {
        let mut frame = Vec::new();
        encoder::compressed(&mut frame, true, b"deflated", None);
        frame
    }

    fn all(backlog: &mut Backlog, max: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while backlog.take(max, |bytes| all.extend_from_slice(bytes)).is_some() {}
        all
    }

    #[test]
    fn the_oldest_message_is_dropped_and_what_must_go_keeps_its_place() {
        let mut ping = Vec::new();
        encoder::ping(&mut ping, b"p", None).unwrap();
        let begun = fragment(Data::Text, false);
        let ended = fragment(Data::Continuation, true);
        let mut backlog = Backlog::new(true);
        backlog.push_head(b"head");
        backlog
            .push(&[&begun[..], &ping, &ended, &message("one"), &compressed(), &message("second")].concat());
        backlog.push(&message("3"));
        let freed: Vec<_> = std::iter::from_fn(|| backlog.drop_oldest()).take(2).collect();
        assert_eq!((freed, backlog.droppable()), (vec![5, 8], 3));
        let expected = [b"head", &begun[..], &ping, &ended, &compressed(), &message("3")].concat();
        assert_eq!(backlog.len(), expected.len());
        assert_eq!(all(&mut backlog, 7), expected);
        assert_eq!((backlog.len(), backlog.droppable(), backlog.capacity()), (0, 0, 0));
        assert!(backlog.is_empty() && backlog.drop_oldest().is_none());
    }

    #[test]
    fn where_each_message_is_compressed_by_itself_it_may_be_dropped() {
        let mut backlog = Backlog::new(false);
        backlog.push(&compressed());
        assert_eq!(backlog.drop_oldest(), Some(compressed().len()));
    }

    #[test]
    fn what_is_taken_are_whole_frames() {
        let mut backlog = Backlog::default();
        let long = message(&"x".repeat(300));
        for frame in [&message("a"), &message("b"), &long, &message("c")] {
            backlog.push(frame);
        }
        let mut pieces = Vec::new();
        while backlog.take(6, |bytes| pieces.push(bytes.to_vec())).is_some() {}
        assert_eq!(pieces, [[message("a"), message("b")].concat(), long, message("c")]);
    }
}
