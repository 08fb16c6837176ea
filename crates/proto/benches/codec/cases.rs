//! What is measured. A case is one unit of work, the same for each contender: bytes as recv(2) leaves them to a checked
//! message, a message to bytes for send(2), or a part of that.

use std::hint::black_box;

use tungstenite::protocol::Role as RivalRole;
use webscale_proto::{
    Decoder, DecoderConfig, Deflater, Inflater, MaskKey, Message, Role, Step, Utf8Validator, encoder, mask,
};

use crate::rival;

const KEY: MaskKey = [0x37, 0xfa, 0x21, 0x3d];

/// What one recv(2) brings at most.
const RECEIVE_BYTES: usize = 64 * 1024;

pub(crate) struct Case {
    pub(crate) name: String,
    /// Payload of one run, in bytes.
    pub(crate) bytes: usize,
    /// Ours first.
    pub(crate) contenders: Vec<Contender>,
}

pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) run: Box<dyn FnMut()>,
}

impl Case {
    fn new(name: String, bytes: usize, ours: impl FnMut() + 'static) -> Self {
        Self { name, bytes, contenders: Vec::new() }.with("webscale", ours)
    }

    /// The first run is not measured: buffers grow, and features of the processor are looked up.
    fn with(mut self, name: &'static str, mut run: impl FnMut() + 'static) -> Self {
        run();
        self.contenders.push(Contender { name, run: Box::new(run) });
        self
    }
}

/// JSON of the telemetry that the servers are compared by: for the most part ASCII, as such messages are.
fn json() -> String {
    let whole: String = (0..103).map(workload::payload).collect();
    assert!(whole.len() > 1 << 20);
    whole
}

/// The beginning of a text, filled up where a character would be cut.
fn text(json: &str, len: usize) -> String {
    let mut text = json[..json.floor_char_boundary(len)].to_owned();
    text.extend(std::iter::repeat_n(' ', len - text.len()));
    text
}

pub(crate) fn cases() -> Vec<Case> {
    let json = json();
    let sizes = [("16B", 16), ("128B", 128), ("10kB", workload::PAYLOAD_BYTES), ("1MiB", 1 << 20)];
    let texts = sizes.map(|(size, len)| (size, text(&json, len)));
    let mut cases = Vec::new();
    for (size, text) in &texts {
        cases.push(decode(format!("decode-text-{size}"), Message::Text(text)));
        cases.push(decode(format!("decode-binary-{size}"), Message::Binary(text.as_bytes())));
    }
    for (size, text) in &texts {
        cases.push(encode(format!("encode-server-{size}"), text, RivalRole::Server));
        cases.push(encode(format!("encode-client-{size}"), text, RivalRole::Client));
    }
    let ascii: String = texts[2].1.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
    cases.push(decode("decode-ascii-10kB".to_owned(), Message::Text(&ascii)));
    for (size, text) in &texts[2..] {
        cases.push(unmask(format!("unmask-{size}"), text));
        cases.push(utf8(format!("utf8-{size}"), text.clone()));
    }
    cases.extend(deflate(&texts[2].1));
    cases
}

/// A client's frame, read by a server.
fn decode(name: String, message: Message<'_>) -> Case {
    let mut frame = Vec::new();
    encoder::message(&mut frame, message, Some(KEY));
    let mut case = Case::new(name, message.len(), decoder(frame.clone()));
    for (rival, buffer) in rival::BUFFERS {
        case = case.with(rival, rival::decode(&frame, buffer));
    }
    case
}

/// The frame goes into the thread's receive buffer, as recv(2) would bring it, and from there through the decoder.
fn decoder(frame: Vec<u8>) -> impl FnMut() {
    let config = DecoderConfig::new(Role::Server);
    let (mut decoder, mut scratch, mut receive) = (Decoder::new(), Vec::new(), vec![0; RECEIVE_BYTES]);
    move || {
        for part in frame.chunks(RECEIVE_BYTES) {
            receive[..part.len()].copy_from_slice(part);
            let mut rest = &receive[..part.len()];
            loop {
                let (used, step) = decoder.decode(&config, rest, &mut scratch).expect("a right frame");
                if matches!(step, Step::NeedMore) {
                    break;
                }
                black_box(step);
                rest = &rest[used..];
            }
        }
    }
}

/// A message to bytes. The key of a client is drawn by tungstenite itself; to ours it is given.
fn encode(name: String, text: &str, role: RivalRole) -> Case {
    let mask = (role == RivalRole::Client).then_some(KEY);
    let (owned, mut out) = (text.to_owned(), Vec::new());
    let case = Case::new(name, text.len(), move || {
        out.clear();
        encoder::message(&mut out, Message::Text(&owned), black_box(mask));
        black_box(&out);
    });
    let (rival, buffer) = rival::BUFFERS[0];
    case.with(rival, rival::encode(text, role, buffer))
}

fn unmask(name: String, text: &str) -> Case {
    let mut bytes = text.as_bytes().to_vec();
    Case::new(name, bytes.len(), move || {
        mask::apply(&mut bytes, black_box(KEY), 0);
        black_box(&bytes);
    })
}

/// What text in pieces goes through, beside what tungstenite checks text by.
fn utf8(name: String, text: String) -> Case {
    let again = text.clone();
    let ours = move || assert_eq!(Utf8Validator::new().push(black_box(text.as_bytes())), Ok(()));
    let case = Case::new(name, again.len(), ours);
    case.with("std", move || assert!(str::from_utf8(black_box(again.as_bytes())).is_ok()))
}

/// As a server without context takeover: tungstenite has no permessage-deflate.
fn deflate(text: &str) -> [Case; 2] {
    let (mut deflater, mut inflater) = (Deflater::new(1, 15, false), Inflater::new(15, false));
    let (mut out, mut compressed) = (Vec::new(), Vec::new());
    deflater.message(text.as_bytes(), &mut compressed).expect("JSON becomes shorter");
    let (bytes, text) = (text.len(), text.to_owned());
    let mut inflated = Vec::new();
    [
        Case::new("deflate-10kB".to_owned(), bytes, move || {
            black_box(deflater.message(text.as_bytes(), &mut out));
        }),
        Case::new("inflate-10kB".to_owned(), bytes, move || {
            black_box(inflater.message(&compressed, true, 1 << 20, &mut inflated))
                .expect("what was compressed");
        }),
    ]
}
