//! Messages through DEFLATE (RFC 7692 §7.2).

use core::fmt;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::{Deflate, Piece, Progress};
use crate::error::ProtocolError;
use crate::message::Message;
use crate::utf8::Utf8Validator;

/// Ends every flushed stream; the wire goes without it (§7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// An empty last block. Where it ends the stream at once, the message did not end inside a block.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// How much the output grows at a time, in bytes.
const STEP: usize = 32 * 1024;

/// Room for what DEFLATE adds to a short message, in bytes.
const STEP_MIN: usize = 64;

/// Compresses messages of one connection with context takeover, or of many without.
pub struct Deflater {
    compress: Compress,
    level: u8,
    window_bits: u8,
    context_takeover: bool,
}

impl Deflater {
    /// A compressor. `level` is 1 to 9 and `window_bits` 9 to 15; what lies outside is moved to the nearer.
    #[must_use]
    pub fn new(level: u8, window_bits: u8, context_takeover: bool) -> Self {
        let window_bits = window_bits.clamp(Deflate::MIN_WINDOW_BITS, Deflate::MAX_WINDOW_BITS);
        let level = level.clamp(1, 9);
        let compress = Compress::new_with_window_bits(Compression::new(level.into()), false, window_bits);
        Self { compress, level, window_bits, context_takeover }
    }

    /// The level in force.
    #[must_use]
    pub fn level(&self) -> u8 {
        self.level
    }

    /// The window in force, as a power of two in bytes.
    #[must_use]
    pub fn window_bits(&self) -> u8 {
        self.window_bits
    }

    /// Puts the compressed message into `out`, in place of what is there, and gives it back. `None` if it would
    /// not be shorter: send the message as it is.
    pub fn message<'o>(&mut self, payload: &[u8], out: &'o mut Vec<u8>) -> Option<&'o [u8]> {
        out.clear();
        let is_flushed = self.compress(payload, out).is_some();
        let is_shorter = is_flushed && out.len() < payload.len();
        if !is_flushed {
            *self = Self::new(self.level, self.window_bits, self.context_takeover);
        } else if !is_shorter || !self.context_takeover {
            // The peer has not seen a message that is sent as it is: no later one may refer to it.
            self.compress.reset();
        }
        is_shorter.then_some(&**out)
    }

    /// Compresses and flushes to the end, also what is not worth it: zlib-rs resets only a stream that has nothing
    /// pending.
    fn compress(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let (begin, mut used) = (self.compress.total_in(), 0);
        loop {
            out.reserve(STEP.min(payload.len() + STEP_MIN));
            self.compress.compress_vec(payload.get(used..)?, out, FlushCompress::Sync).ok()?;
            used = usize::try_from(self.compress.total_in() - begin).ok()?;
            // Room that is left says that the flush is complete.
            if out.len() < out.capacity() {
                break;
            }
        }
        out.truncate(out.strip_suffix(&TAIL)?.len());
        (used == payload.len()).then_some(())
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater").field("level", &self.level).finish_non_exhaustive()
    }
}

/// Decompresses messages of one connection with context takeover, or of many without.
pub struct Inflater {
    decompress: Decompress,
    context_takeover: bool,
    under_way: UnderWay,
}

/// How far a message has come.
#[derive(Default)]
struct UnderWay {
    phase: Phase,
    /// The last thing that was taken is a last block.
    ended: bool,
    /// Bytes given.
    given: u64,
    /// For text, the character that is cut between two pieces.
    utf8: Utf8Validator,
}

/// What is fed.
#[derive(Clone, Copy, Default)]
enum Phase {
    #[default]
    Payload,
    /// [`TAIL`] behind so many bytes of it.
    Tail(usize),
    LastBlock,
}

impl Inflater {
    /// A decompressor. It reads what was compressed with at most `window_bits`, 8 to 15.
    #[must_use]
    pub fn new(window_bits: u8, context_takeover: bool) -> Self {
        let window_bits = window_bits.clamp(Deflate::MIN_WINDOW_BITS, Deflate::MAX_WINDOW_BITS);
        let decompress = Decompress::new_with_window_bits(false, window_bits);
        Self { decompress, context_takeover, under_way: UnderWay::default() }
    }

    /// Puts the message that `payload` was made of into `out`, in place of what is there, and gives it back. A
    /// `text` is checked as it is inflated; `out` grows in steps, and never beyond `max` and one byte.
    ///
    /// A block that says that it is the last one of the stream (§7.2.3.5) ends the window: what follows does
    /// not refer to what stands before.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::InvalidDeflate`], [`ProtocolError::MessageTooBig`] for more than `max` bytes,
    /// [`ProtocolError::InvalidUtf8`]. The connection cannot go on; without context takeover, others can.
    pub fn message<'o>(
        &mut self,
        payload: &[u8],
        text: bool,
        max: usize,
        out: &'o mut Vec<u8>,
    ) -> Result<Message<'o>, ProtocolError> {
        let piece = self.piece(payload, true, text, max, max as u64, out)?;
        // What is more than the limit is told from what is full.
        debug_assert_eq!(piece.progress, Progress::Complete);
        Ok(piece.data)
    }

    /// Inflates from the front of `input`, the part of a message that is there (`is_all`: to its end), until `out`
    /// has one byte more than `piece_max` or nothing more is to come of it. Of the message, `max` bytes are let
    /// through. Memory is bounded by `piece_max`, however long the message is.
    ///
    /// # Errors
    ///
    /// As [`message`](Self::message). What was given before is not to be trusted.
    pub fn piece<'o>(
        &mut self,
        input: &[u8],
        is_all: bool,
        text: bool,
        piece_max: usize,
        max: u64,
        out: &'o mut Vec<u8>,
    ) -> Result<Piece<'o>, ProtocolError> {
        out.clear();
        out.extend_from_slice(self.under_way.utf8.carried());
        let carried = out.len();
        let left = max - self.under_way.given.min(max);
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(piece_max).saturating_add(carried);
        let mut sink = Sink { out, max: room, utf8: text.then_some(self.under_way.utf8) };
        let inflated = self.inflate(input, is_all, &mut sink);
        let out: &'o [u8] = out;
        let given = (out.len() - carried) as u64;
        let result = inflated.and_then(|(used, progress)| {
            if given > left {
                return Err(ProtocolError::MessageTooBig);
            }
            let (data, utf8) = checked(out, text, progress)?;
            Ok((Piece { used, data, progress }, utf8))
        });
        match &result {
            Ok((piece, utf8)) if piece.progress != Progress::Complete => {
                self.under_way.given += given;
                self.under_way.utf8 = *utf8;
            }
            _ => {
                self.under_way = UnderWay::default();
                if result.is_err() || !self.context_takeover {
                    self.decompress.reset(false);
                }
            }
        }
        result.map(|(piece, _)| piece)
    }

    fn inflate(
        &mut self,
        input: &[u8],
        is_all: bool,
        sink: &mut Sink<'_>,
    ) -> Result<(usize, Progress), ProtocolError> {
        let mut taken = 0;
        loop {
            let phase = self.under_way.phase;
            let feed = match phase {
                Phase::Payload => input,
                Phase::Tail(at) => TAIL.get(at..).unwrap_or_default(),
                Phase::LastBlock => &LAST_BLOCK,
            };
            let used = self.feed(feed, sink)?;
            if let Phase::Payload = phase {
                taken = used;
            }
            if sink.is_full() {
                if let Phase::Tail(at) = phase {
                    self.under_way.phase = Phase::Tail(at + used);
                }
                return Ok((taken, Progress::Full));
            }
            self.under_way.phase = match phase {
                Phase::Payload if !is_all => return Ok((taken, Progress::Hungry)),
                // Behind a last block nothing is missing.
                Phase::Payload if self.under_way.ended => return Ok((taken, Progress::Complete)),
                Phase::Payload => Phase::Tail(0),
                Phase::Tail(_) if self.context_takeover => return Ok((taken, Progress::Complete)),
                Phase::Tail(_) => Phase::LastBlock,
                Phase::LastBlock if self.under_way.ended => return Ok((taken, Progress::Complete)),
                Phase::LastBlock => return Err(ProtocolError::InvalidDeflate),
            };
        }
    }

    /// Takes `input` until it is used up or the sink is full; says how much it took.
    fn feed(&mut self, input: &[u8], sink: &mut Sink<'_>) -> Result<usize, ProtocolError> {
        let mut taken = 0;
        while !sink.is_full() {
            let before = (self.decompress.total_in(), sink.out.len());
            sink.reserve();
            let rest = input.get(taken..).unwrap_or_default();
            let status = self
                .decompress
                .decompress_vec(rest, sink.out, FlushDecompress::Sync)
                .map_err(|_| ProtocolError::InvalidDeflate)?;
            let used = usize::try_from(self.decompress.total_in() - before.0).unwrap_or(rest.len());
            let is_stuck = used == 0 && sink.out.len() == before.1 && status != Status::StreamEnd;
            taken += used;
            sink.check(before.1)?;
            if status == Status::StreamEnd {
                self.decompress.reset(false);
            }
            if !is_stuck {
                self.under_way.ended = status == Status::StreamEnd;
            }
            let is_used_up = taken >= input.len();
            // Room that is left says that there is nothing more to come of this input.
            if is_used_up && (is_stuck || self.under_way.ended || sink.has_room()) {
                break;
            }
            if is_stuck {
                return Err(ProtocolError::InvalidDeflate);
            }
        }
        Ok(taken)
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").field("context_takeover", &self.context_takeover).finish_non_exhaustive()
    }
}

/// What inflated bytes are, and the character that is cut at their end.
fn checked(
    bytes: &[u8],
    text: bool,
    progress: Progress,
) -> Result<(Message<'_>, Utf8Validator), ProtocolError> {
    let mut utf8 = Utf8Validator::new();
    if !text {
        return Ok((Message::Binary(bytes), utf8));
    }
    let is_last = progress == Progress::Complete;
    let text = utf8.split(bytes, is_last).map_err(|_| ProtocolError::InvalidUtf8)?;
    Ok((Message::Text(text), utf8))
}

/// Where inflated bytes go.
struct Sink<'a> {
    out: &'a mut Vec<u8>,
    max: usize,
    /// For text.
    utf8: Option<Utf8Validator>,
}

impl Sink<'_> {
    /// Makes room for a step, and for no more than one byte too many.
    fn reserve(&mut self) {
        if self.out.len() == self.out.capacity() {
            let left = self.max.saturating_add(1).saturating_sub(self.out.len());
            self.out.reserve_exact(left.clamp(1, STEP.max(self.out.len())));
        }
    }

    fn is_full(&self) -> bool {
        self.out.len() > self.max
    }

    fn has_room(&self) -> bool {
        self.out.len() < self.out.capacity()
    }

    /// Looks at what came behind `start`, early; what is too much may be cut, and is looked at as a whole.
    fn check(&mut self, start: usize) -> Result<(), ProtocolError> {
        match &mut self.utf8 {
            Some(utf8) if self.out.len() <= self.max => {
                utf8.push(self.out.get(start..).unwrap_or_default()).map_err(|_| ProtocolError::InvalidUtf8)
            }
            _ => Ok(()),
        }
    }
}
