//! Compressed messages through the decoder: fragments, splits, reserved bits.

use proptest::collection::vec;
use proptest::prelude::*;
use webscale_proto::{
    Control, Data, Decoder, DecoderConfig, Deflater, FrameHeader, Inflater, MaskKey, Message, OpCode,
    ProtocolError, Reserved, Role, Step, encoder, mask,
};

const KEY: MaskKey = [0x37, 0xfa, 0x21, 0x3d];

fn config(role: Role) -> DecoderConfig {
    DecoderConfig { reserved: Reserved::RSV1, ..DecoderConfig::new(role) }
}

/// One frame with any header.
fn frame(
    out: &mut Vec<u8>,
    fin: bool,
    reserved: Reserved,
    opcode: OpCode,
    payload: &[u8],
    mask: Option<MaskKey>,
) {
    out.extend_from_slice(&FrameHeader { fin, reserved, opcode, mask, len: payload.len() as u64 }.encode());
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = mask {
        mask::apply(&mut out[start..], key, 0);
    }
}

/// Reads the messages of a stream that comes in these pieces.
fn read(role: Role, inflater: &mut Inflater, pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, ProtocolError> {
    let config = config(role);
    let (mut decoder, mut scratch, mut out, mut messages) =
        (Decoder::new(), Vec::new(), Vec::new(), Vec::new());
    for mut piece in pieces.iter().copied() {
        loop {
            let (used, step) = decoder.decode(&config, piece, &mut scratch)?;
            piece = &piece[used..];
            match step {
                Step::NeedMore => break,
                Step::Message(message) => messages.push(message.as_bytes().to_vec()),
                Step::Extended { text, reserved, payload } => {
                    assert_eq!(reserved, Reserved::RSV1);
                    let message = inflater.message(payload, text, config.max_message, &mut out)?;
                    assert_eq!(message.is_text(), text);
                    messages.push(message.as_bytes().to_vec());
                }
                Step::Fragment | Step::Ping(_) | Step::Pong(_) | Step::Close(_) => {}
                Step::Chunk(_) | Step::ExtendedPart { .. } => panic!("not asked for"),
            }
        }
    }
    Ok(messages)
}

#[test]
fn a_compressed_frame_has_rsv1_and_comes_back_at_every_split() {
    let text = "telemetry, telemetry, telemetry ".repeat(10);
    let (mut deflater, mut compressed) = (Deflater::new(6, 15, false), Vec::new());
    let payload = deflater.message(text.as_bytes(), &mut compressed).unwrap();
    for (role, mask) in [(Role::Server, Some(KEY)), (Role::Client, None)] {
        let mut wire = Vec::new();
        encoder::compressed(&mut wire, true, payload, mask);
        assert_eq!(wire[0], 0xc1);
        encoder::message(&mut wire, Message::Text("plain"), mask);
        let expected = vec![text.clone().into_bytes(), b"plain".to_vec()];
        for cut in 0..=wire.len() {
            let mut inflater = Inflater::new(15, false);
            let (first, second) = wire.split_at(cut);
            assert_eq!(read(role, &mut inflater, &[first, second]).as_ref(), Ok(&expected), "cut at {cut}");
        }
    }
}

#[test]
fn rsv1_stands_on_the_first_frame_of_a_data_message_only() {
    let bad: [&[(bool, Reserved, OpCode)]; 5] = [
        &[(true, Reserved::RSV1, OpCode::Control(Control::Ping))],
        &[(true, Reserved::RSV1, OpCode::Control(Control::Pong))],
        &[(true, Reserved::RSV1, OpCode::Control(Control::Close))],
        &[
            (false, Reserved::RSV1, OpCode::Data(Data::Text)),
            (true, Reserved::RSV1, OpCode::Data(Data::Continuation)),
        ],
        &[
            (false, Reserved::NONE, OpCode::Data(Data::Binary)),
            (true, Reserved::RSV1, OpCode::Data(Data::Continuation)),
        ],
    ];
    let rsv2 = Reserved { rsv2: true, ..Reserved::RSV1 };
    let rsv2 = [(true, rsv2, OpCode::Data(Data::Text))];
    for frames in bad.into_iter().chain([&rsv2[..]]) {
        let mut wire = Vec::new();
        for &(fin, reserved, opcode) in frames {
            frame(&mut wire, fin, reserved, opcode, b"", Some(KEY));
        }
        let result = read(Role::Server, &mut Inflater::new(15, false), &[&wire]);
        assert_eq!(result, Err(ProtocolError::ReservedBits), "{frames:?}");
    }
    // Where nothing was agreed on, it stands nowhere.
    let mut wire = Vec::new();
    encoder::compressed(&mut wire, true, &[0], Some(KEY));
    let (mut decoder, mut scratch) = (Decoder::new(), Vec::new());
    let result = decoder.decode(&DecoderConfig::new(Role::Server), &wire, &mut scratch);
    assert_eq!(result, Err(ProtocolError::ReservedBits));
}

#[test]
fn a_message_of_the_greatest_length_may_be_longer_while_compressed() {
    let max = 1000;
    let config = DecoderConfig { max_message: max, ..config(Role::Client) };
    // A thousand bytes in stored blocks of ten.
    let mut payload = Vec::new();
    for _ in 0..max / 10 {
        payload.extend_from_slice(&[0, 10, 0, !10, 0xff]);
        payload.extend_from_slice(&[b'x'; 10]);
    }
    payload.push(0);
    for (blocks, fits) in [(max / 10, false), (max / 50, true)] {
        let payload = if fits { [&payload[..blocks * 15], &[0]].concat() } else { payload.clone() };
        let mut wire = Vec::new();
        encoder::compressed(&mut wire, false, &payload, None);
        let (mut decoder, mut scratch) = (Decoder::new(), Vec::new());
        assert_eq!(decoder.decode(&config, &wire, &mut scratch).is_ok(), fits);
    }
    let most = max + max / 8 + 64;
    for (length, marked, fits) in
        [(most, true, true), (most + 1, true, false), (max, false, true), (max + 1, false, false)]
    {
        let mut wire = Vec::new();
        if marked {
            encoder::compressed(&mut wire, false, &vec![0; length], None);
        } else {
            encoder::message(&mut wire, Message::Binary(&vec![0; length]), None);
        }
        let (mut decoder, mut scratch) = (Decoder::new(), Vec::new());
        let result = decoder.decode(&config, &wire, &mut scratch).map(|_| ());
        assert_eq!(result, if fits { Ok(()) } else { Err(ProtocolError::MessageTooBig) }, "{length}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn messages_come_back_from_fragments_and_splits(
        messages in vec((vec(0..6u8, 0..2000), vec(0..2000usize, 0..4)), 1..5),
        (takeover, bits, as_server) in (any::<bool>(), 9..=15u8, any::<bool>()),
        cuts in vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let (role, mask) = if as_server { (Role::Server, Some(KEY)) } else { (Role::Client, None) };
        let (mut deflater, mut out, mut wire) = (Deflater::new(6, bits, takeover), Vec::new(), Vec::new());
        for (message, fragments) in &messages {
            let (reserved, payload) = match deflater.message(message, &mut out) {
                Some(compressed) => (Reserved::RSV1, compressed),
                None => (Reserved::NONE, &message[..]),
            };
            let mut at: Vec<_> = fragments.iter().map(|&at| at.min(payload.len())).collect();
            at.sort_unstable();
            let (mut start, mut first) = (0, true);
            for end in at.into_iter().chain([payload.len()]) {
                let opcode = OpCode::Data(if first { Data::Binary } else { Data::Continuation });
                let reserved = if first { reserved } else { Reserved::NONE };
                let is_last = end == payload.len();
                frame(&mut wire, is_last, reserved, opcode, &payload[start..end], mask);
                encoder::ping(&mut wire, b"between", mask).unwrap();
                (start, first) = (end, false);
                if is_last {
                    break;
                }
            }
        }
        let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
        at.sort_unstable();
        at.push(wire.len());
        let mut start = 0;
        let pieces: Vec<_> = at.into_iter().map(|end| &wire[std::mem::replace(&mut start, end)..end]).collect();
        let expected: Vec<_> = messages.into_iter().map(|(message, _)| message).collect();
        prop_assert_eq!(read(role, &mut Inflater::new(bits, takeover), &pieces), Ok(expected));
    }
}
