//! Frames of every kind, whole, damaged and cut: any cut gives the same events, and tungstenite the same messages.

use arbitrary::{Arbitrary, Unstructured};
use webscale_proto::{DecoderConfig, MaskKey, Reserved, Role};

use crate::oracle::compare;
use crate::support::{events, frame, joined, pieces};

/// What one connection receives.
#[derive(Arbitrary, Debug)]
struct Input<'a> {
    is_client: bool,
    claims_rsv1: bool,
    max_message: u16,
    cuts: [u16; 4],
    parts: Vec<Part<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Part<'a> {
    /// As it stands.
    Raw(&'a [u8]),
    /// Behind a right header but for its first byte.
    Frame { first: u8, key: MaskKey, payload: &'a [u8] },
    /// The same, with more of one byte than a fuzzer would write.
    Long { first: u8, byte: u8, len: u16 },
}

impl Part<'_> {
    fn bytes(&self, role: Role) -> Vec<u8> {
        let mask = |key| (role == Role::Server).then_some(key);
        match *self {
            Self::Raw(bytes) => bytes.to_owned(),
            Self::Frame { first, key, payload } => frame(first, payload, mask(key)),
            Self::Long { first, byte, len } => {
                frame(first, &vec![byte; usize::from(len % 700)], mask([1, 2, 3, 4]))
            }
        }
    }
}

/// Runs the target.
///
/// # Panics
///
/// There is a fault in the decoder.
pub fn run(data: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let role = if input.is_client { Role::Client } else { Role::Server };
    let reserved = if input.claims_rsv1 { Reserved::RSV1 } else { Reserved::NONE };
    let max_message = (input.max_message % 4096).into();
    let config = DecoderConfig { max_message, reserved, ..DecoderConfig::new(role) };
    let bytes: Vec<u8> = input.parts.iter().flat_map(|part| part.bytes(role)).collect();
    let cuts = input.cuts.map(usize::from);
    let at_once = events(config, [&bytes[..]]);
    assert_eq!(events(config, pieces(&bytes, &cuts)), at_once, "cut at {cuts:?}");
    assert_eq!(events(config, bytes.chunks(1)), at_once, "byte by byte");
    compare(role, &bytes, &cuts);
    let streaming = DecoderConfig { max_streamed: 1 << 20, ..config };
    let at_once = joined(events(streaming, [&bytes[..]]));
    assert_eq!(joined(events(streaming, pieces(&bytes, &cuts))), at_once, "streamed, cut at {cuts:?}");
    assert_eq!(joined(events(streaming, bytes.chunks(1))), at_once, "streamed, byte by byte");
}
