//! Messages through DEFLATE (RFC 7692 §7.2).

use core::fmt;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::Deflate;
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
}

impl Inflater {
    /// A decompressor. It reads what was compressed with at most `window_bits`, 8 to 15.
    #[must_use]
    pub fn new(window_bits: u8, context_takeover: bool) -> Self {
        let window_bits = window_bits.clamp(Deflate::MIN_WINDOW_BITS, Deflate::MAX_WINDOW_BITS);
        Self { decompress: Decompress::new_with_window_bits(false, window_bits), context_takeover }
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
        out.clear();
        let mut sink = Sink { out, max, utf8: text.then(Utf8Validator::new) };
        let result = self.inflate(payload, &mut sink);
        if result.is_err() || !self.context_takeover {
            self.decompress.reset(false);
        }
        result?;
        if !text {
            return Ok(Message::Binary(out));
        }
        let text = simdutf8::basic::from_utf8(out).map_err(|_| ProtocolError::InvalidUtf8)?;
        Ok(Message::Text(text))
    }

    fn inflate(&mut self, payload: &[u8], sink: &mut Sink<'_>) -> Result<(), ProtocolError> {
        // Behind a last block nothing is missing.
        if self.feed(payload, sink)? && !payload.is_empty() {
            return Ok(());
        }
        self.feed(&TAIL, sink)?;
        if self.context_takeover || self.feed(&LAST_BLOCK, sink)? {
            return Ok(());
        }
        Err(ProtocolError::InvalidDeflate)
    }

    /// Takes all of `input`. Says whether a last block ended with it.
    fn feed(&mut self, mut input: &[u8], sink: &mut Sink<'_>) -> Result<bool, ProtocolError> {
        loop {
            let before = (self.decompress.total_in(), sink.out.len());
            sink.reserve();
            let status = self
                .decompress
                .decompress_vec(input, sink.out, FlushDecompress::Sync)
                .map_err(|_| ProtocolError::InvalidDeflate)?;
            let used = usize::try_from(self.decompress.total_in() - before.0).unwrap_or(input.len());
            input = &input[used.min(input.len())..];
            sink.check(before.1)?;
            if status == Status::StreamEnd {
                self.decompress.reset(false);
                if input.is_empty() {
                    return Ok(true);
                }
                continue;
            }
            let is_stuck = used == 0 && sink.out.len() == before.1;
            // Room that is left says that there is nothing more to come of this input.
            if input.is_empty() && (is_stuck || sink.out.len() < sink.out.capacity()) {
                return Ok(false);
            }
            if is_stuck {
                return Err(ProtocolError::InvalidDeflate);
            }
        }
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").field("context_takeover", &self.context_takeover).finish_non_exhaustive()
    }
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

    /// Looks at what came behind `start`.
    fn check(&mut self, start: usize) -> Result<(), ProtocolError> {
        if self.out.len() > self.max {
            return Err(ProtocolError::MessageTooBig);
        }
        match &mut self.utf8 {
            Some(utf8) => utf8.push(&self.out[start..]).map_err(|_| ProtocolError::InvalidUtf8),
            None => Ok(()),
        }
    }
}
