//! The other end of the wire: what a peer writes, and what it reads.

use webscale_proto::handshake::{accept_key, head_end};
use webscale_proto::{
    CloseCode, Data, Decoder, DecoderConfig, Inflater, MaskKey, Message, Reserved, Role, Step, encoder,
};

/// The key of RFC 6455 §1.3 is answered with this.
pub(super) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
pub(super) const MASK: MaskKey = [0x37, 0xfa, 0x21, 0x3d];

pub(super) fn request(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

/// The answer that opens what `request` asks for.
pub(super) fn response(request: &[u8]) -> Vec<u8> {
    let request = str::from_utf8(request).expect("a head is ASCII");
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
    let accept = accept_key(key);
    let accept = str::from_utf8(&accept).expect("base64");
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into_bytes()
}

/// Frames of the other role than `ours`, one behind the other.
pub(super) struct Frames {
    bytes: Vec<u8>,
    mask: Option<MaskKey>,
}

impl Frames {
    /// What a client sends.
    pub(super) fn client() -> Self {
        Self { bytes: Vec::new(), mask: Some(MASK) }
    }

    /// What a server sends.
    pub(super) fn server() -> Self {
        Self { bytes: Vec::new(), mask: None }
    }

    pub(super) fn text(mut self, text: &str) -> Self {
        encoder::message(&mut self.bytes, Message::Text(text), self.mask);
        self
    }

    pub(super) fn binary(mut self, bytes: &[u8]) -> Self {
        encoder::message(&mut self.bytes, Message::Binary(bytes), self.mask);
        self
    }

    pub(super) fn fragment(mut self, opcode: Data, fin: bool, payload: &[u8]) -> Self {
        encoder::fragment(&mut self.bytes, opcode, fin, payload, self.mask);
        self
    }

    pub(super) fn ping(mut self, payload: &[u8]) -> Self {
        encoder::ping(&mut self.bytes, payload, self.mask).expect("a short payload");
        self
    }

    pub(super) fn pong(mut self, payload: &[u8]) -> Self {
        encoder::pong(&mut self.bytes, payload, self.mask).expect("a short payload");
        self
    }

    pub(super) fn close(mut self, code: u16, reason: &str) -> Self {
        encoder::close(&mut self.bytes, CloseCode::new(code), reason, self.mask);
        self
    }

    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.bytes
    }
}

/// A frame or message as the peer reads it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Item {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

pub(super) fn text(text: &str) -> Item {
    Item::Text(text.into())
}

pub(super) fn close(code: u16, reason: &str) -> Item {
    Item::Close(Some(code), reason.into())
}

/// Reads frames as an end of this `role` does. All must be whole and right, and nothing may follow a Close frame.
pub(super) fn items(role: Role, bytes: &[u8]) -> Vec<Item> {
    let (items, is_cut) = items_before_cut(role, bytes);
    assert!(!is_cut, "a frame is cut");
    items
}

/// The same of a stream that may end inside a frame, and whether it does.
pub(super) fn items_before_cut(role: Role, bytes: &[u8]) -> (Vec<Item>, bool) {
    items_inflated(role, bytes, None)
}

/// The same where permessage-deflate was agreed on.
pub(super) fn items_inflated(
    role: Role,
    mut bytes: &[u8],
    mut inflater: Option<&mut Inflater>,
) -> (Vec<Item>, bool) {
    let reserved = if inflater.is_some() { Reserved::RSV1 } else { Reserved::NONE };
    let config = DecoderConfig { max_message: usize::MAX / 2, reserved, ..DecoderConfig::new(role) };
    let (mut decoder, mut scratch, mut items) = (Decoder::new(), Vec::new(), Vec::new());
    let mut out = Vec::new();
    while !bytes.is_empty() {
        assert!(!matches!(items.last(), Some(Item::Close(..))), "bytes behind a Close frame: {bytes:x?}");
        let (used, step) = decoder.decode(&config, bytes, &mut scratch).expect("frames by the RFC");
        bytes = &bytes[used..];
        let step = match (step, &mut inflater) {
            (Step::Extended { text, payload, .. }, Some(inflater)) => {
                Step::Message(inflater.message(payload, text, usize::MAX, &mut out).expect("DEFLATE"))
            }
            (step, _) => step,
        };
        items.push(match step {
            Step::Message(Message::Text(text)) => Item::Text(text.into()),
            Step::Message(Message::Binary(bytes)) => Item::Binary(bytes.into()),
            Step::Ping(payload) => Item::Ping(payload.into()),
            Step::Pong(payload) => Item::Pong(payload.into()),
            Step::Close(Some(frame)) => Item::Close(Some(frame.code.get()), frame.reason.into()),
            Step::Close(None) => Item::Close(None, String::new()),
            Step::Fragment | Step::NeedMore | Step::Extended { .. } => continue,
            Step::Chunk(_) | Step::ExtendedPart { .. } => unreachable!("they were not asked for"),
        });
    }
    (items, decoder.is_mid_message())
}

/// Head, as text, and what follows.
pub(super) fn split_head(bytes: &[u8]) -> (&str, &[u8]) {
    let end =
        head_end(bytes, 0).unwrap_or_else(|| panic!("no head in {:?}", bytes.escape_ascii().to_string()));
    (str::from_utf8(&bytes[..end]).expect("a head is ASCII"), &bytes[end..])
}
