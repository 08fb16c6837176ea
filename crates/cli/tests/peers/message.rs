//! Messages as they stand in a test.

use std::collections::VecDeque;

use webscale::{Message, Peer};
use workload::random::Random;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Owned {
    Text(String),
    Binary(Vec<u8>),
}

impl From<Message<'_>> for Owned {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.to_owned()),
            Message::Binary(bytes) => Self::Binary(bytes.to_vec()),
        }
    }
}

impl Owned {
    /// Text of this many bytes, which compresses well.
    pub(crate) fn text(size: usize) -> Self {
        let words = (0..size.div_ceil(16)).map(|i| format!("{i:.>16}"));
        let mut text: String = words.collect();
        text.truncate(size);
        Self::Text(text)
    }

    /// This many bytes that do not compress.
    pub(crate) fn noise(size: usize) -> Self {
        let mut random = Random::new(0);
        Self::Binary((0..size).map(|_| random.draw().to_le_bytes()[0]).collect())
    }

    pub(crate) fn borrowed(&self) -> Message<'_> {
        match self {
            Self::Text(text) => Message::Text(text),
            Self::Binary(bytes) => Message::Binary(bytes),
        }
    }

    /// An empty piece, and then pieces of at most `size` bytes, four or more; text is cut between
    /// characters.
    pub(crate) fn pieces(self, size: usize) -> VecDeque<Self> {
        match self {
            Self::Text(mut rest) => {
                let mut pieces = VecDeque::from([Self::Text(String::new())]);
                while !rest.is_empty() {
                    let behind = rest.split_off(rest.floor_char_boundary(size));
                    pieces.push_back(Self::Text(std::mem::replace(&mut rest, behind)));
                }
                pieces
            }
            Self::Binary(bytes) => {
                let pieces = bytes.chunks(size).map(|piece| Self::Binary(piece.to_vec()));
                [Self::Binary(Vec::new())].into_iter().chain(pieces).collect()
            }
        }
    }
}

/// Sends the next piece as a fragment, and a ping whose pong calls for the one behind it. True when it was the last.
pub(crate) fn send_next<S>(
    peer: &mut Peer<'_, S>,
    pieces: impl FnOnce(&mut S) -> &mut VecDeque<Owned>,
) -> bool {
    let pieces = pieces(peer.session());
    let Some(piece) = pieces.pop_front() else { return false };
    let is_last = pieces.is_empty();
    peer.send_fragment(piece.borrowed(), is_last).expect("a peer that reads");
    if !is_last {
        peer.ping(b"go on").expect("an open connection");
    }
    is_last
}
