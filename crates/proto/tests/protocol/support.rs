//! Frames written byte by byte, apart from the encoder, and a decoder driven over pieces of input.

use webscale_proto::ProtocolError::{InvalidCloseCode, InvalidUtf8, TruncatedCloseCode};
use webscale_proto::{Chunk, Decoder, DecoderConfig, MaskKey, Message, ProtocolError, Reserved, Role, Step};

pub(crate) const FIN: u8 = 0x80;
pub(crate) const RSV1: u8 = 0x40;
pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;

pub(crate) const KEY: MaskKey = [0x37, 0xfa, 0x21, 0x3d];
pub(crate) const ROLES: [Role; 2] = [Role::Server, Role::Client];

/// What a step said, owned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    Fragment,
    Text(String),
    Binary(Vec<u8>),
    Extended { text: bool, reserved: Reserved, payload: Vec<u8> },
    Chunk { is_text: bool, payload: Vec<u8>, is_first: bool, is_last: bool },
    ExtendedPart { text: bool, payload: Vec<u8>, is_last: bool },
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
    Failed(ProtocolError),
}

impl Event {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    fn of(step: Step<'_>) -> Option<Self> {
        Some(match step {
            Step::NeedMore => return None,
            Step::Fragment => Self::Fragment,
            Step::Message(Message::Text(text)) => Self::Text(text.to_owned()),
            Step::Message(Message::Binary(bytes)) => Self::Binary(bytes.to_owned()),
            Step::Extended { text, reserved, payload } => {
                Self::Extended { text, reserved, payload: payload.to_owned() }
            }
            Step::Chunk(Chunk { data, is_first, is_last }) => Self::Chunk {
                is_text: data.is_text(),
                payload: data.as_bytes().to_owned(),
                is_first,
                is_last,
            },
            Step::ExtendedPart { text, payload, is_last } => {
                Self::ExtendedPart { text, payload: payload.to_owned(), is_last }
            }
            Step::Ping(payload) => Self::Ping(payload.to_owned()),
            Step::Pong(payload) => Self::Pong(payload.to_owned()),
            Step::Close(frame) => Self::Close(frame.map(|frame| (frame.code.get(), frame.reason.to_owned()))),
        })
    }
}

/// The mask that a peer of `role` puts on its frames.
pub(crate) fn peer_mask(role: Role) -> Option<MaskKey> {
    match role {
        Role::Server => Some(KEY),
        Role::Client => None,
    }
}

/// One frame with the length in its shortest form.
pub(crate) fn frame(first: u8, payload: &[u8], mask: Option<MaskKey>) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut out = vec![first];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(len @ 0..=125), _) => out.push(masked | len),
        (_, Ok(len)) => {
            out.push(masked | 126);
            out.extend(len.to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend((payload.len() as u64).to_be_bytes());
        }
    }
    out.extend(mask.iter().flatten());
    let key = mask.unwrap_or_default();
    out.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]));
    out
}

/// A frame as the peer of `role` sends it.
pub(crate) fn sent_to(role: Role, first: u8, payload: &[u8]) -> Vec<u8> {
    frame(first, payload, peer_mask(role))
}

/// A connection's decoder with all its events so far.
pub(crate) struct Driver {
    pub(crate) config: DecoderConfig,
    pub(crate) decoder: Decoder,
    pub(crate) events: Vec<Event>,
    scratch: Vec<u8>,
    arrived: usize,
}

impl Driver {
    pub(crate) fn new(config: DecoderConfig) -> Self {
        Self { config, decoder: Decoder::new(), events: Vec::new(), scratch: Vec::new(), arrived: 0 }
    }

    /// Feeds one piece as a connection does, and checks what holds after any call.
    pub(crate) fn feed(&mut self, mut input: &[u8]) {
        self.arrived += input.len();
        loop {
            let before = self.decoder.is_mid_message();
            match self.decoder.decode(&self.config, input, &mut self.scratch) {
                Ok((used, step)) => {
                    let event = Event::of(step);
                    assert!(event.is_none() || used > 0 || before, "an event out of nothing");
                    input = &input[used..];
                    self.check_memory();
                    let Some(event) = event else {
                        assert!(input.is_empty(), "NeedMore with {} bytes left", input.len());
                        return;
                    };
                    self.events.push(event);
                }
                Err(error) => {
                    // What shows in the last byte of a payload may borrow from the memory until the next
                    // call.
                    let in_payload = [InvalidUtf8, InvalidCloseCode, TruncatedCloseCode].contains(&error);
                    assert!(in_payload || self.decoder.buffered() == 0);
                    self.check_latched(error);
                    if self.events.last() != Some(&Event::Failed(error)) {
                        self.events.push(Event::Failed(error));
                    }
                    return;
                }
            }
        }
    }

    /// Never more than a vector's growth over what arrived.
    fn check_memory(&self) {
        assert!(self.decoder.buffered() <= 2 * self.arrived + 16);
    }

    fn check_latched(&mut self, error: ProtocolError) {
        assert_eq!(self.decoder.decode(&self.config, b"", &mut self.scratch), Err(error));
        let fine = sent_to(self.config.role, FIN | TEXT, b"fine");
        assert_eq!(self.decoder.decode(&self.config, &fine, &mut self.scratch), Err(error));
        assert_eq!(self.decoder.buffered(), 0);
        assert!(!self.decoder.is_mid_message());
    }
}

/// The events of `pieces`, in order.
pub(crate) fn events<'a>(config: DecoderConfig, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event> {
    let mut driver = Driver::new(config);
    for piece in pieces {
        driver.feed(piece);
    }
    driver.events
}

/// Cuts at places taken modulo the length, also inside characters.
pub(crate) fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.sort_unstable();
    let mut pieces = Vec::new();
    let mut start = 0;
    for cut in cuts {
        pieces.push(&bytes[start..cut]);
        start = cut;
    }
    pieces.push(&bytes[start..]);
    pieces
}

/// Decodes `input` at once, byte by byte, cut once at every place, and, where it is short, at every pair of
/// places: the events must be the same. Gives them.
pub(crate) fn events_at_every_split(config: DecoderConfig, input: &[u8]) -> Vec<Event> {
    let at_once = events(config, [input]);
    assert_eq!(events(config, input.chunks(1)), at_once, "byte by byte");
    for cut in 0..=input.len() {
        let (first, second) = input.split_at(cut);
        assert_eq!(events(config, [first, second]), at_once, "cut at {cut}");
        if input.len() <= 80 {
            for next in 0..=second.len() {
                let (second, third) = second.split_at(next);
                assert_eq!(
                    events(config, [first, second, third]),
                    at_once,
                    "cut at {cut} and {}",
                    cut + next
                );
            }
        }
    }
    at_once
}

/// Joins the pieces of each message, and checks that they follow one another as they should.
pub(crate) fn joined(events: Vec<Event>) -> Vec<Event> {
    let mut joined: Vec<Event> = Vec::new();
    let mut whole: Option<(bool, Vec<u8>)> = None;
    for event in events {
        match event {
            Event::Fragment => {}
            Event::Chunk { is_text, payload, is_first, is_last } => {
                assert_eq!(is_first, whole.is_none(), "the first chunk, and no other, says so");
                assert!(is_last || !payload.is_empty());
                assert!(!is_text || std::str::from_utf8(&payload).is_ok(), "a character is cut");
                let (_, bytes) = whole.get_or_insert((is_text, Vec::new()));
                bytes.extend(payload);
                if is_last && let Some((is_text, bytes)) = whole.take() {
                    joined.push(if is_text { Event::Text(utf8(bytes)) } else { Event::Binary(bytes) });
                }
            }
            Event::ExtendedPart { text, payload, is_last } => {
                let (_, bytes) = whole.get_or_insert((text, Vec::new()));
                bytes.extend(payload);
                if is_last && let Some((text, payload)) = whole.take() {
                    joined.push(Event::Extended { text, reserved: Reserved::RSV1, payload });
                }
            }
            other => joined.push(other),
        }
    }
    joined
}

fn utf8(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("checked in pieces")
}
