//! Arbitrary traffic, arbitrarily fragmented and cut.

use proptest::collection::vec;
use proptest::prelude::*;
use webscale_proto::{
    CloseCode, Control, Data, DecoderConfig, FrameHeader, MaskKey, Message, OpCode, Reserved, Role, encoder,
    mask,
};

use crate::support::{Event, events, pieces};

/// One thing that a peer sends.
#[derive(Clone, Debug)]
pub(crate) enum Sent {
    Text(String, Vec<usize>),
    Binary(Vec<u8>, Vec<usize>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

/// Traffic: messages cut into fragments at places, and control frames which go between any two frames.
pub(crate) fn traffic() -> impl Strategy<Value = Vec<Sent>> {
    let payload = prop_oneof![4 => vec(any::<u8>(), 0..140), 1 => vec(any::<u8>(), 0..700)];
    let control = || vec(any::<u8>(), 0..=125);
    let cuts = || vec(any::<usize>(), 0..4);
    let sent = prop_oneof![
        3 => ("\\PC{0,60}", cuts()).prop_map(|(text, cuts)| Sent::Text(text, cuts)),
        3 => (payload, cuts()).prop_map(|(bytes, cuts)| Sent::Binary(bytes, cuts)),
        1 => control().prop_map(Sent::Ping),
        1 => control().prop_map(Sent::Pong),
    ];
    vec(sent, 0..8)
}

/// Encodes traffic, with the control frames of the next items between fragments where `interleave` says so,
/// and the events that a decoder must give.
pub(crate) struct Wire {
    pub(crate) bytes: Vec<u8>,
    pub(crate) events: Vec<Event>,
    role: Role,
    key: u32,
}

impl Wire {
    pub(crate) fn new(role: Role, key: u32) -> Self {
        Self { bytes: Vec::new(), events: Vec::new(), role, key }
    }

    pub(crate) fn send_all(&mut self, traffic: &[Sent], interleave: bool) {
        let mut waiting = traffic.iter().peekable();
        while let Some(sent) = waiting.next() {
            let (payload, opcode, cuts) = match sent {
                Sent::Text(text, cuts) => (text.as_bytes(), Data::Text, cuts),
                Sent::Binary(bytes, cuts) => (&bytes[..], Data::Binary, cuts),
                control => {
                    self.control(control);
                    continue;
                }
            };
            let pieces = pieces(payload, cuts);
            for (at, piece) in pieces.iter().enumerate() {
                let fin = at + 1 == pieces.len();
                let opcode = if at == 0 { opcode } else { Data::Continuation };
                let mask = self.mask();
                encoder::fragment(&mut self.bytes, opcode, fin, piece, mask);
                if !fin {
                    self.events.push(Event::Fragment);
                    if let Some(control) =
                        waiting.next_if(|next| interleave && matches!(next, Sent::Ping(_) | Sent::Pong(_)))
                    {
                        self.control(control);
                    }
                }
            }
            self.events.push(match sent {
                Sent::Text(text, _) => Event::text(text),
                _ => Event::Binary(payload.to_vec()),
            });
        }
    }

    fn control(&mut self, control: &Sent) {
        let mask = self.mask();
        match control {
            Sent::Ping(payload) => {
                encoder::ping(&mut self.bytes, payload, mask).unwrap();
                self.events.push(Event::Ping(payload.clone()));
            }
            Sent::Pong(payload) => {
                encoder::pong(&mut self.bytes, payload, mask).unwrap();
                self.events.push(Event::Pong(payload.clone()));
            }
            Sent::Text(..) | Sent::Binary(..) => unreachable!("a message is no control frame"),
        }
    }

    pub(crate) fn close(&mut self, code: Option<CloseCode>, reason: &str) {
        let mask = self.mask();
        encoder::close(&mut self.bytes, code, reason, mask);
        self.events.push(Event::Close(code.map(|code| (code.get(), reason.to_owned()))));
    }

    /// A new key for each frame.
    fn mask(&mut self) -> Option<MaskKey> {
        self.key = self.key.wrapping_mul(0x9e37_79b9).wrapping_add(1);
        (self.role == Role::Server).then(|| self.key.to_be_bytes())
    }
}

pub(crate) fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Server), Just(Role::Client)]
}

fn opcode() -> impl Strategy<Value = OpCode> {
    prop_oneof![
        Just(OpCode::Data(Data::Continuation)),
        Just(OpCode::Data(Data::Text)),
        Just(OpCode::Data(Data::Binary)),
        Just(OpCode::Control(Control::Close)),
        Just(OpCode::Control(Control::Ping)),
        Just(OpCode::Control(Control::Pong)),
    ]
}

fn frame_header() -> impl Strategy<Value = FrameHeader> {
    let len = prop_oneof![0..=125u64, 126..=0xffffu64, 0x1_0000..=u64::MAX >> 1];
    (any::<[bool; 4]>(), opcode(), any::<Option<[u8; 4]>>(), len).prop_map(|(bits, opcode, mask, len)| {
        let control = opcode.is_control();
        FrameHeader {
            fin: bits[0] || control,
            reserved: Reserved { rsv1: bits[1], rsv2: bits[2], rsv3: bits[3] },
            opcode,
            mask,
            len: if control { len.min(125) } else { len },
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_sent_arrives_however_it_is_cut(
        role in role(),
        key in any::<u32>(),
        traffic in traffic(),
        interleave in any::<bool>(),
        closes in any::<bool>(),
        cuts in vec(any::<usize>(), 0..40),
    ) {
        let mut wire = Wire::new(role, key);
        wire.send_all(&traffic, interleave);
        if closes {
            wire.close(Some(CloseCode::NORMAL), "done");
        }
        let config = DecoderConfig::new(role);
        prop_assert_eq!(&events(config, pieces(&wire.bytes, &cuts)), &wire.events);
        prop_assert_eq!(&events(config, wire.bytes.chunks(1)), &wire.events);
        prop_assert_eq!(&events(config, [&wire.bytes[..]]), &wire.events);
    }

    #[test]
    fn bytes_of_any_kind_mean_the_same_however_they_are_cut(
        role in role(),
        max_message in 0..300usize,
        noise in vec(any::<u8>(), 0..200),
        cuts in vec(any::<usize>(), 0..20),
    ) {
        let config = DecoderConfig { max_message, ..DecoderConfig::new(role) };
        let at_once = events(config, [&noise[..]]);
        prop_assert_eq!(&events(config, pieces(&noise, &cuts)), &at_once);
        prop_assert_eq!(&events(config, noise.chunks(1)), &at_once);
    }

    #[test]
    fn damaged_traffic_means_the_same_however_it_is_cut(
        role in role(),
        key in any::<u32>(),
        traffic in traffic(),
        damage in vec((any::<usize>(), any::<u8>()), 1..4),
        cuts in vec(any::<usize>(), 0..20),
    ) {
        let mut wire = Wire::new(role, key);
        wire.send_all(&traffic, true);
        let len = wire.bytes.len();
        for (at, byte) in damage.into_iter().filter(|_| len > 0) {
            wire.bytes[at % len] = byte;
        }
        let config = DecoderConfig { max_message: 400, ..DecoderConfig::new(role) };
        let at_once = events(config, [&wire.bytes[..]]);
        prop_assert_eq!(&events(config, pieces(&wire.bytes, &cuts)), &at_once);
        prop_assert_eq!(&events(config, wire.bytes.chunks(1)), &at_once);
    }

    #[test]
    fn headers_come_back_and_need_every_byte(header in frame_header()) {
        let bytes = header.encode();
        prop_assert_eq!(FrameHeader::parse(&bytes), Ok(Some((header, bytes.len()))));
        for len in 0..bytes.len() {
            prop_assert_eq!(FrameHeader::parse(&bytes[..len]), Ok(None));
        }
        let longer = [&bytes[..], b"payload"].concat();
        prop_assert_eq!(FrameHeader::parse(&longer), Ok(Some((header, bytes.len()))));
    }

    #[test]
    fn headers_that_parse_are_in_their_only_form(bytes in vec(any::<u8>(), 0..20)) {
        if let Ok(Some((header, used))) = FrameHeader::parse(&bytes) {
            let encoded = header.encode();
            prop_assert_eq!(&encoded[..], &bytes[..used]);
        }
    }

    #[test]
    fn masking_twice_is_not_masking(data in vec(any::<u8>(), 0..300), key in any::<[u8; 4]>(), offset in any::<usize>()) {
        let mut masked = data.clone();
        mask::apply(&mut masked, key, offset);
        mask::apply(&mut masked, key, offset);
        prop_assert_eq!(masked, data);
    }

    #[test]
    fn messages_of_the_encoder_come_back(bytes in vec(any::<u8>(), 0..2000), key in any::<[u8; 4]>()) {
        let mut out = Vec::new();
        encoder::message(&mut out, Message::Binary(&bytes), Some(key));
        prop_assert_eq!(events(DecoderConfig::new(Role::Server), [&out[..]]), [Event::Binary(bytes)]);
    }
}
