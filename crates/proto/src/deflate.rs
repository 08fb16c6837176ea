//! permessage-deflate (RFC 7692): what is agreed on in the opening handshake, and the messages' way through
//! DEFLATE.
//!
//! - [`Deflate`] says what this end wants; its [`answer`](Deflate::answer) and
//!   [`confirm`](Deflate::confirm) make an [`Agreed`] of what the other end wants.
//! - [`Deflater`] and [`Inflater`] work on whole messages, an inflater on long ones [`Piece`] by piece. Without context
//!   takeover one of each serves all connections of a thread; with it, a connection has its own.

#[cfg_attr(not(feature = "deflate"), path = "deflate/absent.rs")]
mod codec;
mod negotiation;

pub use codec::{Deflater, Inflater};
pub use negotiation::{Agreed, Direction, Offer};

use crate::message::Message;

/// The name of the extension (RFC 7692 §7).
pub const NAME: &str = "permessage-deflate";

/// What one end wants of permessage-deflate. *Own* is the direction in which this end sends.
///
/// The default takes no context over in either direction: a compressor and a decompressor of the thread serve
/// all its connections, and a connection costs nothing more while it is idle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deflate {
    level: u8,
    threshold: u32,
    own: Direction,
    peer: Direction,
}

// The one way to a `Deflate`: without the feature there is none, and `absent.rs` stands on that.
#[cfg(feature = "deflate")]
impl Default for Deflate {
    fn default() -> Self {
        let direction = Direction { context_takeover: false, window_bits: Self::MAX_WINDOW_BITS };
        Self { level: Self::LEVEL, threshold: Self::THRESHOLD, own: direction, peer: direction }
    }
}

impl Deflate {
    /// Default of [`level`](Self::level).
    pub const LEVEL: u8 = 1;
    /// Default of [`threshold`](Self::threshold), in bytes.
    pub const THRESHOLD: u32 = 512;
    /// Least window, as a power of two in bytes. RFC 7692 §7.1.2 allows 8 too, zlib does not.
    pub const MIN_WINDOW_BITS: u8 = 9;
    /// Greatest window, as a power of two in bytes.
    pub const MAX_WINDOW_BITS: u8 = 15;

    /// How hard to compress: 1 is fast, 9 is small; what lies outside is moved to the nearer. Default 1,
    /// which takes half the time of 2 and a fifth of 6 for 10 kB of JSON, and makes it 37 % as long, not 29 % or
    /// 26 %. Level 1 makes repetitions shorter and nothing else: random base64 stays as long, and is 75 % with 2.
    #[must_use]
    pub fn level(mut self, level: u8) -> Self {
        self.level = level.clamp(1, 9);
        self
    }

    /// Messages shorter than this many bytes are sent as they are. Default 512: without context takeover, JSON of
    /// that length becomes a tenth shorter, one of 128 bytes hardly at all, and of 10 kB two thirds. With it
    /// ([`own_context_takeover`](Self::own_context_takeover)) short messages are where it pays: set it lower.
    /// What would not become shorter is sent as it is, too.
    #[must_use]
    pub fn threshold(mut self, bytes: u32) -> Self {
        self.threshold = bytes;
        self
    }

    /// Lets messages that this end sends refer to earlier ones of the same connection, which makes short
    /// similar messages much smaller. Each connection then has a compressor of its own: 380 kB with 15 window
    /// bits, 250 kB with 9. Default no.
    #[must_use]
    pub fn own_context_takeover(mut self, takeover: bool) -> Self {
        self.own.context_takeover = takeover;
        self
    }

    /// Lets the peer do the same. Each connection then has a decompressor of its own: 50 kB. Default no.
    #[must_use]
    pub fn peer_context_takeover(mut self, takeover: bool) -> Self {
        self.peer.context_takeover = takeover;
        self
    }

    /// How far back this end may refer, as a power of two in bytes: 9 to 15; what lies outside is moved to
    /// the nearer. Default 15. The peer may ask for less.
    #[must_use]
    pub fn own_window_bits(mut self, bits: u8) -> Self {
        self.own.window_bits = bits.clamp(Self::MIN_WINDOW_BITS, Self::MAX_WINDOW_BITS);
        self
    }

    /// The same for the peer. A server can only ask it of clients that say they can: others keep 15.
    #[must_use]
    pub fn peer_window_bits(mut self, bits: u8) -> Self {
        self.peer.window_bits = bits.clamp(Self::MIN_WINDOW_BITS, Self::MAX_WINDOW_BITS);
        self
    }

    /// The greatest window of this end in force, as a power of two in bytes.
    #[must_use]
    pub fn get_own_window_bits(&self) -> u8 {
        self.own.window_bits
    }

    /// The level in force, 1 to 9.
    #[must_use]
    pub fn get_level(&self) -> u8 {
        self.level
    }

    /// The threshold in force, in bytes.
    #[must_use]
    pub fn get_threshold(&self) -> u32 {
        self.threshold
    }
}

/// Some of a message, inflated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece<'o> {
    /// Bytes of the input that were taken.
    pub used: usize,
    /// What they made; text is cut between characters.
    pub data: Message<'o>,
    /// What there is to do next.
    pub progress: Progress,
}

/// What an [`Inflater`] wants behind a [`Piece`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// To go on with the rest of the input: the piece is full.
    Full,
    /// More input.
    Hungry,
    /// Nothing: the message is complete, and valid.
    Complete,
}
