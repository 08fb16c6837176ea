//! permessage-deflate of a connection, and what the connections of a thread share of it (RFC 7692).

use webscale_proto::deflate::{Direction, Progress};
use webscale_proto::{Agreed, Chunk, Deflate, Deflater, Inflater, ProtocolError, Role, Step};

use crate::byte_queue::ByteQueue;
use crate::limits::Limits;
use crate::panics::{Panicked, caught};

/// What a thread's buffers keep between turns, in bytes.
const KEEP: usize = 64 * 1024;

/// What a chunk behind the first is inflated to at most, in bytes.
const CHUNK: usize = 64 * 1024;

/// Has the codec work. What panicked is dropped, and not used again.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    caught(|| {
        #[cfg(test)]
        fault::strike();
        work()
    })
}

/// Panics of the codec, which cannot be had otherwise.
#[cfg(test)]
pub(crate) mod fault {
    use std::cell::Cell;

    thread_local! {
        static ARMED: Cell<bool> = const { Cell::new(false) };
        static CALLS: Cell<usize> = const { Cell::new(0) };
    }

    /// How often the codec of this thread was used.
    pub(crate) fn calls() -> usize {
        CALLS.get()
    }

    /// The codec of this thread panics when it is next used.
    pub(crate) fn arm() {
        ARMED.set(true);
    }

    pub(super) fn strike() {
        CALLS.set(CALLS.get() + 1);
        if ARMED.replace(false) {
            std::panic::resume_unwind(Box::new("as the test asked"));
        }
    }
}

/// Why a compressed message did not become one.
#[derive(Debug)]
pub(crate) enum Fault {
    Peer(ProtocolError),
    Codec(Panicked),
}

impl From<ProtocolError> for Fault {
    fn from(error: ProtocolError) -> Self {
        Self::Peer(error)
    }
}

impl From<Panicked> for Fault {
    fn from(panicked: Panicked) -> Self {
        Self::Codec(panicked)
    }
}

/// What went through a codec, for the counters.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Coded {
    pub(crate) messages: u64,
    /// Bytes before.
    pub(crate) from: u64,
    /// Bytes after.
    pub(crate) to: u64,
}

impl Coded {
    pub(crate) fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.from += other.from;
        self.to += other.to;
    }
}

/// What a codec of a connection's own takes, in bytes, with the largest window.
const DEFLATER_BYTES: usize = 380_000;
const INFLATER_BYTES: usize = 50_000;

/// How this end's messages to one connection are compressed. It is the connection's, lent to the turn, and goes with its
/// session to a worker.
#[derive(Default)]
pub(crate) enum Compression {
    /// Not at all: nothing was agreed on, or a worker has it.
    #[default]
    Off,
    /// By the thread's compressor.
    Shared(Settings),
    /// By one that remembers earlier messages.
    Own(Box<Own>),
}

#[derive(Clone, Copy)]
pub(crate) struct Settings {
    threshold: u32,
    level: u8,
    pub(crate) window_bits: u8,
}

impl Settings {
    /// Whether a message of this length is worth it.
    pub(crate) fn wants(&self, len: usize) -> bool {
        len >= usize::try_from(self.threshold).unwrap_or(usize::MAX)
    }

    fn fits(&self, deflater: &Deflater) -> bool {
        deflater.level() == self.level && deflater.window_bits() == self.window_bits
    }
}

pub(crate) struct Own {
    settings: Settings,
    /// `None` once it has panicked.
    deflater: Option<Deflater>,
}

impl Compression {
    fn new(deflate: &Deflate, direction: Direction) -> Self {
        let (level, threshold) = (deflate.get_level(), deflate.get_threshold());
        if direction.context_takeover {
            let settings = Settings { threshold, level, window_bits: direction.window_bits };
            let deflater = Some(Deflater::new(level, settings.window_bits, true));
            return Self::Own(Box::new(Own { settings, deflater }));
        }
        // A peer may ask for any of seven windows, and may be given a smaller one. So a thread has two compressors, and
        // not as many as its peers like.
        let window_bits = match direction.window_bits {
            bits if bits == deflate.get_own_window_bits() => bits,
            _ => Deflate::MIN_WINDOW_BITS,
        };
        Self::Shared(Settings { threshold, level, window_bits })
    }

    /// A message is compressed with what its peer remembers of earlier ones.
    pub(crate) fn remembers(&self) -> bool {
        matches!(self, Self::Own(_))
    }

    /// For a worker: what remembers goes there, so that nobody else compresses meanwhile.
    pub(crate) fn hand_over(&mut self) -> Self {
        match self {
            Self::Shared(settings) => Self::Shared(*settings),
            Self::Own(_) | Self::Off => std::mem::take(self),
        }
    }

    /// From a worker.
    pub(crate) fn take_back(&mut self, from_worker: Self) {
        if matches!(self, Self::Off) {
            *self = from_worker;
        }
    }
}

/// What a connection keeps of permessage-deflate once it is agreed on.
pub(crate) struct Extension {
    pub(crate) compression: Compression,
    /// For a peer whose messages refer to earlier ones, and for a message that is inflated chunk by chunk.
    inflation: Option<Box<Inflation>>,
}

const _: () = assert!(size_of::<Option<Extension>>() <= 24);

struct Inflation {
    inflater: Inflater,
    /// It remembers earlier messages; otherwise it is the thread's, here until its message ends.
    is_own: bool,
    stream: Option<Stream>,
}

/// A message on its way to the handler in chunks.
struct Stream {
    text: bool,
    /// What came of it and is not inflated.
    input: ByteQueue,
    /// Its end came.
    is_all: bool,
    /// There is more to inflate without further input.
    has_more: bool,
    is_first: bool,
}

impl Extension {
    pub(crate) fn new(deflate: &Deflate, agreed: &Agreed, role: Role) -> Self {
        let peer = match role {
            Role::Server => agreed.direction(Role::Client),
            Role::Client => agreed.direction(Role::Server),
        };
        let own = || {
            let inflater = Inflater::new(peer.window_bits, true);
            Box::new(Inflation { inflater, is_own: true, stream: None })
        };
        let inflation = peer.context_takeover.then(own);
        Self { compression: Compression::new(deflate, agreed.direction(role)), inflation }
    }

    /// Chunks of a message can be had without further input.
    pub(crate) fn has_chunks(&self) -> bool {
        let stream = self.inflation.as_ref().and_then(|inflation| inflation.stream.as_ref());
        stream.is_some_and(|stream| stream.has_more)
    }

    /// Nobody wants the rest of a message.
    pub(crate) fn drop_chunks(&mut self) {
        self.inflation = None;
    }

    /// Heap bytes of what came and is not inflated.
    pub(crate) fn buffered(&self) -> usize {
        let stream = self.inflation.as_ref().and_then(|inflation| inflation.stream.as_ref());
        stream.map_or(0, |stream| stream.input.capacity())
    }

    /// Those of its codecs.
    pub(crate) fn codecs(&self) -> usize {
        let deflater = if self.compression.remembers() { DEFLATER_BYTES } else { 0 };
        deflater + if self.inflation.is_some() { INFLATER_BYTES } else { 0 }
    }

    fn begin_stream(&mut self, text: bool, is_first: bool, shared: &mut Option<Inflater>) -> &mut Inflation {
        let inflation = self.inflation.get_or_insert_with(|| {
            let inflater = shared.take().unwrap_or_else(shared_inflater);
            Box::new(Inflation { inflater, is_own: false, stream: None })
        });
        let input = ByteQueue::default();
        inflation.stream.get_or_insert(Stream { text, input, is_all: false, has_more: false, is_first });
        inflation
    }
}

impl Inflation {
    /// Further input of the message under way.
    fn push(&mut self, payload: &[u8], is_last: bool) {
        if let Some(stream) = &mut self.stream {
            stream.input.push(payload);
            (stream.is_all, stream.has_more) = (is_last, true);
        }
    }
}

fn shared_inflater() -> Inflater {
    Inflater::new(Deflate::MAX_WINDOW_BITS, false)
}

/// A thread's compressors, each made when it is first needed: one of the window that this end wants, and one of the least
/// window for all peers that cannot have that one.
#[derive(Default)]
pub(crate) struct Compressors {
    wanted: Option<Deflater>,
    least: Option<Deflater>,
    out: Vec<u8>,
}

impl Compressors {
    /// The compressed payload of a message; `None` where it should go as it is.
    pub(crate) fn compress(
        &mut self,
        payload: &[u8],
        how: &mut Compression,
    ) -> Result<Option<&[u8]>, Panicked> {
        match how {
            Compression::Off => Ok(None),
            Compression::Shared(settings) => self.compress_alone(payload, *settings),
            Compression::Own(own) if !own.settings.wants(payload.len()) => Ok(None),
            Compression::Own(own) => run(&mut own.deflater, payload, &mut self.out),
        }
    }

    /// The same by the thread's compressor: the peer may read it without any other message.
    pub(crate) fn compress_alone(
        &mut self,
        payload: &[u8],
        settings: Settings,
    ) -> Result<Option<&[u8]>, Panicked> {
        if !settings.wants(payload.len()) {
            return Ok(None);
        }
        let is_least = settings.window_bits == Deflate::MIN_WINDOW_BITS;
        let slot = if is_least { &mut self.least } else { &mut self.wanted };
        if !slot.as_ref().is_some_and(|deflater| settings.fits(deflater)) {
            *slot = Some(Deflater::new(settings.level, settings.window_bits, false));
        }
        run(slot, payload, &mut self.out)
    }

    /// Gives back what a long message has grown.
    pub(crate) fn shrink(&mut self) {
        self.out.clear();
        self.out.shrink_to(KEEP);
    }
}

/// Compresses with what stands in `slot`; a panic leaves it empty.
fn run<'o>(
    slot: &mut Option<Deflater>,
    payload: &[u8],
    out: &'o mut Vec<u8>,
) -> Result<Option<&'o [u8]>, Panicked> {
    let Some(mut deflater) = slot.take() else { return Ok(None) };
    let is_shorter = guarded(|| deflater.message(payload, out).is_some())?;
    *slot = Some(deflater);
    Ok(is_shorter.then_some(&**out))
}

/// A thread's decompressor, and what it made last.
#[derive(Default)]
pub(crate) struct Decompression {
    shared: Option<Inflater>,
    out: Vec<u8>,
    /// Since this was last taken.
    pub(crate) coded: Coded,
}

impl Decompression {
    /// The message that `payload` was made of, or the first chunk of one that is too long to be held.
    pub(crate) fn message(
        &mut self,
        extension: &mut Extension,
        text: bool,
        payload: &[u8],
        limits: &Limits,
    ) -> Result<Step<'_>, Fault> {
        let Self { shared, out, coded } = self;
        let own = extension.inflation.as_mut().map(|inflation| &mut inflation.inflater);
        let (piece_max, max) = (limits.message_bytes, limits.longest_message());
        let piece = match own {
            Some(inflater) => guarded(|| inflater.piece(payload, true, text, piece_max, max, out))??,
            None => {
                let mut inflater = shared.take().unwrap_or_else(shared_inflater);
                let piece = guarded(|| inflater.piece(payload, true, text, piece_max, max, out))?;
                *shared = Some(inflater);
                piece?
            }
        };
        let is_whole = piece.progress == Progress::Complete;
        let (from, to) = (payload.len() as u64, piece.data.len() as u64);
        coded.add(Coded { messages: u64::from(is_whole), from, to });
        if is_whole {
            return Ok(Step::Message(piece.data));
        }
        let rest = payload.get(piece.used..).unwrap_or_default();
        extension.begin_stream(text, false, shared).push(rest, true);
        Ok(Step::Chunk(Chunk { data: piece.data, is_first: true, is_last: false }))
    }

    /// What can be had once a part has come of a message that is too long to be held even as it came.
    pub(crate) fn part(
        &mut self,
        extension: &mut Extension,
        text: bool,
        (payload, is_last): (&[u8], bool),
        limits: &Limits,
    ) -> Result<Step<'_>, Fault> {
        self.coded.from += payload.len() as u64;
        extension.begin_stream(text, true, &mut self.shared).push(payload, is_last);
        self.next_chunk(extension, limits)
    }

    /// The next chunk of a message of which more is here.
    pub(crate) fn next_chunk(
        &mut self,
        extension: &mut Extension,
        limits: &Limits,
    ) -> Result<Step<'_>, Fault> {
        let Self { shared, out, coded } = self;
        let Some(mut inflation) = extension.inflation.take() else { return Ok(Step::Fragment) };
        let Inflation { inflater, stream: Some(stream), .. } = &mut *inflation else {
            extension.inflation = Some(inflation);
            return Ok(Step::Fragment);
        };
        let piece_max = if stream.is_first { limits.message_bytes } else { CHUNK.min(limits.message_bytes) };
        let (input, max) = (stream.input.as_slice(), limits.longest_message());
        let piece = guarded(|| inflater.piece(input, stream.is_all, stream.text, piece_max, max, out))??;
        stream.input.consume(piece.used);
        stream.has_more = piece.progress == Progress::Full;
        let (data, is_last) = (piece.data, piece.progress == Progress::Complete);
        coded.add(Coded { messages: u64::from(is_last), from: 0, to: data.len() as u64 });
        let is_nothing = data.is_empty() && !is_last;
        let is_first = stream.is_first;
        stream.is_first &= is_nothing;
        if is_last {
            inflation.stream = None;
        }
        if is_last && !inflation.is_own {
            *shared = Some(inflation.inflater);
        } else {
            extension.inflation = Some(inflation);
        }
        Ok(match (is_first, is_last) {
            _ if is_nothing => Step::Fragment,
            // Long only as it came.
            (true, true) if data.len() <= limits.message_bytes => Step::Message(data),
            _ => Step::Chunk(Chunk { data, is_first, is_last }),
        })
    }

    /// Gives back what a long message has grown.
    pub(crate) fn shrink(&mut self) {
        self.out.clear();
        self.out.shrink_to(KEEP);
    }
}
