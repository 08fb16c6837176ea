//! permessage-deflate of a connection, and what the connections of a thread share of it (RFC 7692).

use std::collections::BTreeMap;

use webscale_proto::deflate::Direction;
use webscale_proto::{Agreed, Deflate, Deflater, Inflater, Message, ProtocolError, Role};

/// What a thread's buffers keep between turns, in bytes.
const KEEP: usize = 64 * 1024;

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
    window_bits: u8,
}

pub(crate) struct Own {
    settings: Settings,
    deflater: Deflater,
}

impl Compression {
    fn new(deflate: &Deflate, direction: Direction) -> Self {
        let settings = Settings {
            threshold: deflate.get_threshold(),
            level: deflate.get_level(),
            window_bits: direction.window_bits,
        };
        if direction.context_takeover {
            let deflater = Deflater::new(settings.level, settings.window_bits, true);
            Self::Own(Box::new(Own { settings, deflater }))
        } else {
            Self::Shared(settings)
        }
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
    /// For a peer whose messages refer to earlier ones.
    inflater: Option<Box<Inflater>>,
}

const _: () = assert!(size_of::<Option<Extension>>() <= 24);

impl Extension {
    pub(crate) fn new(deflate: &Deflate, agreed: &Agreed, role: Role) -> Self {
        let peer = match role {
            Role::Server => agreed.direction(Role::Client),
            Role::Client => agreed.direction(Role::Server),
        };
        let inflater = peer.context_takeover.then(|| Box::new(Inflater::new(peer.window_bits, true)));
        Self { compression: Compression::new(deflate, agreed.direction(role)), inflater }
    }
}

/// A thread's compressors: one for each window that was agreed on, made when it is first needed.
#[derive(Default)]
pub(crate) struct Compressors {
    by_window_bits: BTreeMap<u8, Deflater>,
    out: Vec<u8>,
}

impl Compressors {
    /// The compressed payload of a message; `None` where it should go as it is.
    pub(crate) fn compress(&mut self, payload: &[u8], how: &mut Compression) -> Option<&[u8]> {
        let settings = match how {
            Compression::Off => return None,
            Compression::Shared(settings) => *settings,
            Compression::Own(own) => own.settings,
        };
        if payload.len() < usize::try_from(settings.threshold).unwrap_or(usize::MAX) {
            return None;
        }
        let Settings { level, window_bits, .. } = settings;
        let deflater = match how {
            Compression::Own(own) => &mut own.deflater,
            Compression::Off | Compression::Shared(_) => {
                let new = || Deflater::new(level, window_bits, false);
                let shared = self.by_window_bits.entry(window_bits).or_insert_with(new);
                if shared.level() != level {
                    *shared = new();
                }
                shared
            }
        };
        deflater.message(payload, &mut self.out)
    }

    /// Gives back what a long message has grown.
    pub(crate) fn shrink(&mut self) {
        self.out.clear();
        self.out.shrink_to(KEEP);
    }
}

/// A thread's decompressor, and the message that it made last.
#[derive(Default)]
pub(crate) struct Decompression {
    shared: Option<Inflater>,
    out: Vec<u8>,
}

impl Decompression {
    /// The message of at most `max` bytes that `payload` was made of.
    pub(crate) fn message(
        &mut self,
        extension: Option<&mut Extension>,
        text: bool,
        payload: &[u8],
        max: usize,
    ) -> Result<Message<'_>, ProtocolError> {
        let own = extension.and_then(|extension| extension.inflater.as_deref_mut());
        let inflater = match own {
            Some(own) => own,
            None => self.shared.get_or_insert_with(|| Inflater::new(Deflate::MAX_WINDOW_BITS, false)),
        };
        inflater.message(payload, text, max, &mut self.out)
    }

    /// Gives back what a long message has grown.
    pub(crate) fn shrink(&mut self) {
        self.out.clear();
        self.out.shrink_to(KEEP);
    }
}
