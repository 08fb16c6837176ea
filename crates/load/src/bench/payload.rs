//! What the clients send.

use serde::{Deserialize, Serialize};

/// Different messages that are held ready: enough that a server cannot learn one by heart.
const VARIANTS: u64 = 16;

/// The messages of a load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    kind: Kind,
    #[serde(with = "base64")]
    variants: Vec<Vec<u8>>,
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
        let variants = (0..VARIANTS).map(|seed| workload::payload(seed).into_bytes()).collect();
        Payload { kind: Kind::Text, variants }
    }

    /// Letters and digits without a meaning, `bytes` of them.
    pub fn filler(bytes: usize, kind: Kind) -> Payload {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let variant = |seed: u64| {
            // Any full-period generator will do: the text only must not compress to nothing.
            let mut state = seed.wrapping_mul(2).wrapping_add(1);
            let next = |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                ALPHABET[(state >> 59) as usize]
            };
            (0..bytes).map(next).collect()
        };
        Payload { kind, variants: (0..VARIANTS).map(variant).collect() }
    }

    /// These bytes, always.
    ///
    /// # Errors
    /// When they are to go out as text and are not UTF-8: the position of the first byte that is not.
    pub fn fixed(bytes: Vec<u8>, kind: Kind) -> Result<Payload, usize> {
        if kind == Kind::Text {
            std::str::from_utf8(&bytes).map_err(|error| error.valid_up_to())?;
        }
        Ok(Payload { kind, variants: vec![bytes] })
    }

    /// The same in binary frames.
    pub fn into_binary(self) -> Payload {
        Payload { kind: Kind::Binary, ..self }
    }

    /// Text or binary.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Length of each message in bytes.
    pub fn len(&self) -> usize {
        self.variants.first().map_or(0, Vec::len)
    }

    /// Whether the messages have no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What client `client` sends as message `number`.
    pub(crate) fn message(&self, client: u32, number: u64) -> &[u8] {
        let variant = (u64::from(client) + number) % self.variants.len().max(1) as u64;
        usize::try_from(variant)
            .ok()
            .and_then(|variant| self.variants.get(variant))
            .map_or(&[], Vec::as_slice)
    }

    /// The same with client and number written over its beginning, so that no two messages are equal: an echo then
    /// shows whose it is. Shorter messages keep the last digits that fit.
    pub(crate) fn stamp(&self, client: u32, number: u64, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(self.message(client, number));
        let stamp = format_stamp(client, number);
        let length = stamp.len().min(out.len());
        out[..length].copy_from_slice(&stamp[stamp.len() - length..]);
    }

    /// Whether an echo may be checked by its stamp: what the user gave is sent as it is.
    pub(crate) fn may_stamp(&self) -> bool {
        self.variants.len() > 1
    }
}

/// `cccccccc-nnnnnnnnnnnnnnnn` in hexadecimal, without allocating.
fn format_stamp(client: u32, number: u64) -> [u8; 25] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut stamp = [b'-'; 25];
    let (client_at, number_at) = stamp.split_at_mut(8);
    for (at, bytes) in
        [(client_at, &client.to_be_bytes()[..]), (&mut number_at[1..], &number.to_be_bytes()[..])]
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

    pub(super) fn serialize<S: Serializer>(variants: &[Vec<u8>], out: S) -> Result<S::Ok, S::Error> {
        variants.iter().map(|bytes| BASE64.encode(bytes)).collect::<Vec<_>>().serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<Vec<u8>>, D::Error> {
        let texts = Vec::<String>::deserialize(input)?;
        texts.iter().map(|text| BASE64.decode(text.as_bytes()).map_err(D::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn telemetry_is_the_workload() {
        let payload = Payload::telemetry();
        assert_eq!((payload.len(), payload.kind()), (workload::PAYLOAD_BYTES, Kind::Text));
        assert_eq!(payload.message(0, 0), workload::payload(0).as_bytes());
        assert_eq!(payload.message(1, 2), workload::payload(3).as_bytes());
        assert_eq!(payload.message(15, 1), payload.message(0, 0));
    }

    #[test]
    fn filler_is_text_of_the_size_and_varies() {
        for bytes in [0, 1, 128, 5000] {
            let payload = Payload::filler(bytes, Kind::Binary);
            assert_eq!(payload.len(), bytes);
            assert!(payload.message(7, 0).is_ascii());
        }
        let payload = Payload::filler(128, Kind::Text);
        assert_ne!(payload.message(0, 0), payload.message(0, 1));
    }

    #[test]
    fn fixed_text_must_be_utf8() {
        assert_eq!(Payload::fixed(vec![b'a', 0xFF], Kind::Text), Err(1));
        let payload = Payload::fixed(vec![b'a', 0xFF], Kind::Binary).unwrap();
        assert_eq!(payload.message(3, 9), [b'a', 0xFF]);
        assert!(!payload.may_stamp());
    }

    #[test]
    fn stamps_tell_messages_apart() {
        let payload = Payload::filler(40, Kind::Text);
        let mut out = Vec::new();
        payload.stamp(0xAB, 0x1_2345, &mut out);
        assert!(out.starts_with(b"000000ab-0000000000012345"));
        assert_eq!(out.len(), 40);
        assert_eq!(out[25..], payload.message(0xAB, 0x1_2345)[25..]);

        let payload = Payload::filler(3, Kind::Text);
        payload.stamp(0, 0xABCD, &mut out);
        assert_eq!(out, b"bcd");
    }
}
