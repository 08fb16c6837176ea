//! What the clients send.

use serde::{Deserialize, Serialize};
use webscale::Message;

use super::template::{Id, Template};

/// Different messages that are held ready: enough that a server cannot learn one by heart.
const VARIANTS: usize = 16;
/// Of messages so large that fewer fit into this, there are fewer, but one at least; in bytes.
const VARIANTS_BYTES: usize = 16 << 20;
/// Length of the mark that tells one message from all others.
const STAMP: usize = 25;

/// The messages of a load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    kind: Kind,
    source: Source,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Source {
    /// One of several texts of one length, which begin with [`STAMP`] ASCII characters.
    Variants(Vec<String>),
    /// Always these bytes, as text.
    Text(String),
    /// Always these bytes, in binary frames.
    Bytes(#[serde(with = "base64")] Vec<u8>),
    /// Put together for each message.
    Template(Template),
}

/// Whether messages go out as text or as binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Text frames: the bytes are UTF-8.
    Text,
    /// Binary frames.
    Binary,
}

impl Payload {
    /// The 10 kB telemetry messages that the servers of the comparison parse.
    pub fn telemetry() -> Payload {
        Payload {
            kind: Kind::Text,
            source: Source::Variants((0..VARIANTS as u64).map(workload::payload).collect()),
        }
    }

    /// Letters and digits without a meaning, `bytes` of them.
    pub fn filler(bytes: usize, kind: Kind) -> Payload {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let variant = |seed: u64| {
            // Any full-period generator will do: the text only must not compress to nothing.
            let mut state = seed.wrapping_mul(2).wrapping_add(1);
            let next = |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                char::from(ALPHABET[(state >> 59) as usize])
            };
            (0..bytes).map(next).collect()
        };
        let count = (VARIANTS_BYTES / bytes.max(1)).clamp(1, VARIANTS);
        Payload { kind, source: Source::Variants((0..count as u64).map(variant).collect()) }
    }

    /// These bytes, always.
    ///
    /// # Errors
    /// When they are to go out as text and are not UTF-8: the position of the first byte that is not.
    pub fn fixed(bytes: Vec<u8>, kind: Kind) -> Result<Payload, usize> {
        let source = match kind {
            Kind::Binary => Source::Bytes(bytes),
            Kind::Text => {
                Source::Text(String::from_utf8(bytes).map_err(|error| error.utf8_error().valid_up_to())?)
            }
        };
        Ok(Payload { kind, source })
    }

    /// A text with fields, put together for each message.
    pub fn template(template: Template, kind: Kind) -> Payload {
        Payload { kind, source: Source::Template(template) }
    }

    /// The same in binary frames.
    #[must_use]
    pub fn into_binary(self) -> Payload {
        let source = match self.source {
            Source::Text(text) => Source::Bytes(text.into_bytes()),
            other => other,
        };
        Payload { kind: Kind::Binary, source }
    }

    /// Text or binary.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Length of each message in bytes; where they differ, of the first one.
    pub fn len(&self) -> usize {
        match &self.source {
            Source::Template(template) => template.for_client(0).len(),
            _ => self.len_max(),
        }
    }

    /// Length of the longest message in bytes, or a little more.
    pub fn len_max(&self) -> usize {
        match &self.source {
            Source::Variants(variants) => variants.first().map_or(0, String::len),
            Source::Text(text) => text.len(),
            Source::Bytes(bytes) => bytes.len(),
            Source::Template(template) => template.len_max(),
        }
    }

    /// Whether the messages have no bytes.
    pub fn is_empty(&self) -> bool {
        self.len_max() == 0
    }

    /// One message. With `stamped`, client and number are written over the beginning of what is ours to change, so that
    /// no two are equal and an echo shows whose it is; what the user gave is sent as it is. `scratch` is where it is put
    /// together if need be.
    pub(crate) fn message<'a>(&'a self, id: Id, stamped: bool, scratch: &'a mut String) -> Message<'a> {
        let text = match &self.source {
            Source::Bytes(bytes) => return Message::Binary(bytes),
            Source::Text(text) => text,
            Source::Variants(variants) if !stamped => variant(variants, id),
            Source::Variants(variants) => {
                stamp(variant(variants, id), id, scratch);
                scratch
            }
            Source::Template(template) => {
                scratch.clear();
                template.render(id, scratch);
                scratch
            }
        };
        match self.kind {
            Kind::Text => Message::Text(text),
            Kind::Binary => Message::Binary(text.as_bytes()),
        }
    }

    /// Whether `echo` has the bytes of the stamped message.
    pub(crate) fn is_echo(&self, id: Id, echo: &[u8], scratch: &mut String) -> bool {
        match &self.source {
            // Its stamp alone tells most that are not: nothing is put together for them.
            Source::Variants(variants) => {
                let (variant, stamp) = (variant(variants, id).as_bytes(), stamp_of(id));
                let length = STAMP.min(variant.len());
                echo.len() == variant.len()
                    && echo[..length] == stamp[STAMP - length..]
                    && echo[length..] == variant[length..]
            }
            _ => self.message(id, true, scratch).as_bytes() == echo,
        }
    }
}

/// The text that this client sends under this number, before it is stamped.
fn variant(variants: &[String], id: Id) -> &str {
    let variant = u64::from(id.client).wrapping_add(id.number) % variants.len().max(1) as u64;
    usize::try_from(variant).ok().and_then(|variant| variants.get(variant)).map_or("", String::as_str)
}

/// The variant with the stamp over its beginning. Shorter ones keep the last digits that fit.
fn stamp(variant: &str, id: Id, out: &mut String) {
    let length = STAMP.min(variant.len());
    out.clear();
    out.extend(stamp_of(id)[STAMP - length..].iter().copied().map(char::from));
    out.push_str(variant.get(length..).unwrap_or_default());
}

/// `cccccccc-nnnnnnnnnnnnnnnn` in hexadecimal, without allocating.
fn stamp_of(id: Id) -> [u8; STAMP] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut stamp = [b'-'; STAMP];
    let (client_at, number_at) = stamp.split_at_mut(8);
    for (at, bytes) in
        [(client_at, &id.client.to_be_bytes()[..]), (&mut number_at[1..], &id.number.to_be_bytes()[..])]
    {
        for (pair, byte) in at.chunks_exact_mut(2).zip(bytes) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
    stamp
}

/// Bytes in JSON, for the processes of a load.
mod base64 {
    use data_encoding::BASE64;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], out: S) -> Result<S::Ok, S::Error> {
        BASE64.encode(bytes).serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<u8>, D::Error> {
        BASE64.decode(String::deserialize(input)?.as_bytes()).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(client: u32, number: u64) -> Id {
        Id { client, number, ..Id::default() }
    }

    fn bytes(payload: &Payload, id: Id, stamped: bool) -> Vec<u8> {
        payload.message(id, stamped, &mut String::new()).as_bytes().to_vec()
    }

    #[test]
    fn telemetry_is_the_workload() {
        let payload = Payload::telemetry();
        assert_eq!((payload.len(), payload.kind()), (workload::PAYLOAD_BYTES, Kind::Text));
        assert_eq!(bytes(&payload, id(0, 0), false), workload::payload(0).as_bytes());
        assert_eq!(bytes(&payload, id(1, 2), false), workload::payload(3).as_bytes());
        assert_eq!(bytes(&payload, id(15, 1), false), bytes(&payload, id(0, 0), false));
        // Stamps are written over bytes: no character may be cut.
        assert!((0..VARIANTS as u64).all(|seed| workload::payload(seed).is_char_boundary(STAMP)));
    }

    #[test]
    fn filler_is_text_of_the_size_and_varies() {
        for size in [0, 1, 128, 5000] {
            let payload = Payload::filler(size, Kind::Binary);
            assert_eq!((payload.len(), payload.is_empty()), (size, size == 0));
            assert!(bytes(&payload, id(7, 0), false).is_ascii());
        }
        let payload = Payload::filler(128, Kind::Text);
        assert_ne!(bytes(&payload, id(0, 0), false), bytes(&payload, id(0, 1), false));
        let Source::Variants(large) = Payload::filler(VARIANTS_BYTES / 3, Kind::Text).source else {
            panic!("variants")
        };
        assert_eq!(large.len(), 3);
    }

    #[test]
    fn fixed_text_must_be_utf8() {
        assert_eq!(Payload::fixed(vec![b'a', 0xFF], Kind::Text), Err(1));
        let payload = Payload::fixed(vec![b'a', 0xFF], Kind::Binary).unwrap();
        assert_eq!(bytes(&payload, id(3, 9), true), [b'a', 0xFF]);
        let text = Payload::fixed(b"text".to_vec(), Kind::Text).unwrap();
        assert!(matches!(text.message(id(0, 0), false, &mut String::new()), Message::Text("text")));
        assert!(matches!(
            text.into_binary().message(id(0, 0), false, &mut String::new()),
            Message::Binary(b"text")
        ));
    }

    #[test]
    fn stamps_tell_messages_apart() {
        let payload = Payload::filler(40, Kind::Text);
        let some = id(0xAB, 0x1_2345);
        let stamped = bytes(&payload, some, true);
        assert!(stamped.starts_with(b"000000ab-0000000000012345"));
        assert_eq!(stamped.len(), 40);
        assert_eq!(stamped[25..], bytes(&payload, some, false)[25..]);
        assert_eq!(bytes(&Payload::filler(3, Kind::Text), id(0, 0xABCD), true), b"bcd");
    }

    #[test]
    fn an_echo_is_the_message_and_no_other() {
        let template = Template::parse("{client}:{seq}:{random:5}:{timestamp:ns}").unwrap();
        let payloads =
            [Payload::filler(60, Kind::Text), Payload::filler(3, Kind::Binary), Payload::telemetry()];
        for payload in payloads.into_iter().chain([Payload::template(template, Kind::Text)]) {
            let mut scratch = String::new();
            let echo = bytes(&payload, id(5, 6), true);
            assert!(payload.is_echo(id(5, 6), &echo, &mut scratch));
            assert!(!payload.is_echo(id(5, 7), &echo, &mut scratch));
            assert!(!payload.is_echo(id(5, 6), &echo[1..], &mut scratch));
            let mut changed = echo.clone();
            *changed.last_mut().unwrap() ^= 1;
            assert!(!payload.is_echo(id(5, 6), &changed, &mut scratch));
        }
    }

    #[test]
    fn a_template_keeps_its_kind() {
        let payload = Payload::template(Template::parse("n{seq}").unwrap(), Kind::Binary);
        let mut scratch = String::from("left over");
        assert!(matches!(payload.message(id(0, 41), false, &mut scratch), Message::Binary(b"n41")));
        assert_eq!(payload.len(), 2);
    }
}
