//! permessage-deflate: bytes that claim to be compressed, messages there and back, offers and answers.

use arbitrary::{Arbitrary, Unstructured};
use flate2::{Decompress, FlushDecompress, Status};
use webscale_proto::deflate::Progress;
use webscale_proto::{Agreed, Deflate, Deflater, Inflater, Message, ProtocolError, Role};

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Inflate { window_bits: u8, context_takeover: bool, text: bool, max: u16, payloads: Vec<&'a [u8]> },
    RoundTrip { level: u8, window_bits: u8, context_takeover: bool, messages: Vec<Pieces<'a>> },
    Negotiate { server: Wishes, client: Wishes, text: &'a str },
}

/// A message with repetitions, as compressible as a fuzzer likes.
type Pieces<'a> = Vec<(u8, &'a [u8])>;

#[derive(Arbitrary, Debug)]
struct Wishes {
    own_takeover: bool,
    peer_takeover: bool,
    own_bits: u8,
    peer_bits: u8,
}

impl Wishes {
    fn deflate(&self) -> Deflate {
        Deflate::default()
            .own_context_takeover(self.own_takeover)
            .peer_context_takeover(self.peer_takeover)
            .own_window_bits(self.own_bits % 20)
            .peer_window_bits(self.peer_bits % 20)
    }
}

/// Runs the target.
///
/// # Panics
///
/// There is a fault in permessage-deflate.
pub fn run(data: &[u8]) {
    match Input::arbitrary_take_rest(Unstructured::new(data)) {
        Ok(Input::Inflate { window_bits, context_takeover, text, max, payloads }) => {
            // With less, whether a reference reaches too far depends on how much is inflated at a time.
            let window_bits = if context_takeover { window_bits % 20 } else { 15 };
            let inflater = Inflater::new(window_bits, context_takeover);
            inflate(inflater, context_takeover, text, max.into(), &payloads);
        }
        Ok(Input::RoundTrip { level, window_bits, context_takeover, messages }) => {
            round_trip(level % 12, window_bits % 20, context_takeover, &messages);
        }
        Ok(Input::Negotiate { server, client, text }) => {
            negotiate(&server.deflate(), &client.deflate(), text);
        }
        Err(_) => {}
    }
}

fn inflate(mut inflater: Inflater, takeover: bool, text: bool, max: usize, payloads: &[&[u8]]) {
    for payload in payloads {
        let mut out = b"left by another message".to_vec();
        let result = inflater.message(payload, text, max, &mut out);
        let inflated = result.map(|message| {
            assert_eq!(message.is_text(), text);
            message.as_bytes().to_vec()
        });
        // It grows by doubling, up to one byte more than may come.
        assert!(out.capacity() <= (max + 1).max(64), "{} bytes for {max}", out.capacity());
        if takeover {
            if inflated.is_err() {
                return;
            }
            continue;
        }
        let piece_max = 16 + payload.len() % 500;
        assert_eq!(in_pieces(payload, text, piece_max, max).ok(), inflated.clone().ok());
        let expected = reference(payload, max);
        match inflated {
            Ok(bytes) => assert_eq!(expected, Some(bytes)),
            Err(ProtocolError::InvalidUtf8) => {
                assert!(text && expected.is_none_or(|bytes| str::from_utf8(&bytes).is_err()));
            }
            Err(error) => assert_eq!(expected, None, "{error:?}"),
        }
    }
}

/// The message given away piece by piece, after its first half and after its second.
fn in_pieces(payload: &[u8], text: bool, piece_max: usize, max: usize) -> Result<Vec<u8>, ProtocolError> {
    let mut inflater = Inflater::new(15, false);
    let (mut all, mut out) = (Vec::new(), Vec::new());
    let (first, second) = payload.split_at(payload.len() / 2);
    for (mut rest, is_all) in [(first, false), (second, true)] {
        loop {
            let piece = inflater.piece(rest, is_all, text, piece_max, max as u64, &mut out)?;
            assert!(piece.data.len() <= piece_max + 4, "one byte more, and a character that was cut");
            all.extend_from_slice(piece.data.as_bytes());
            rest = &rest[piece.used..];
            if piece.progress != Progress::Full {
                assert_eq!((piece.progress == Progress::Complete, rest.len()), (is_all, 0));
                break;
            }
        }
    }
    Ok(all)
}

/// The message by RFC 7692 §7.2.2, with all the room that it may need at once. `None` if it is too long, or if it is
/// not a row of whole blocks.
fn reference(payload: &[u8], max: usize) -> Option<Vec<u8>> {
    const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
    const LAST_BLOCK: [u8; 2] = [3, 0];
    let input = [payload, &TAIL].concat();
    let mut rest = &input[..];
    let mut decompress = Decompress::new_with_window_bits(false, 15);
    let mut out = Vec::with_capacity(max + 1);
    loop {
        let before = decompress.total_in();
        let status = decompress.decompress_vec(rest, &mut out, FlushDecompress::Sync).ok()?;
        rest = &rest[usize::try_from(decompress.total_in() - before).ok()?..];
        match status {
            _ if out.len() > max => return None,
            Status::StreamEnd if rest == TAIL || rest.is_empty() => return Some(out),
            // Another stream behind the last block.
            Status::StreamEnd => decompress.reset(false),
            Status::Ok | Status::BufError => break,
        }
    }
    let status = decompress.decompress_vec(&LAST_BLOCK, &mut out, FlushDecompress::Sync).ok()?;
    (status == Status::StreamEnd && out.len() <= max).then_some(out)
}

fn round_trip(level: u8, window_bits: u8, takeover: bool, messages: &[Pieces<'_>]) {
    let mut deflater = Deflater::new(level, window_bits, takeover);
    let mut inflater = Inflater::new(window_bits, takeover);
    let (mut compressed, mut inflated) = (Vec::new(), Vec::new());
    for pieces in messages {
        let message: Vec<u8> =
            pieces.iter().flat_map(|(times, bytes)| bytes.repeat(usize::from(times % 64) + 1)).collect();
        let Some(payload) = deflater.message(&message, &mut compressed) else { continue };
        assert!(payload.len() < message.len());
        let there = inflater.message(payload, false, message.len(), &mut inflated);
        assert_eq!(there, Ok(Message::Binary(&message)));
    }
}

/// What a server answers to anything, its clients take; and what is agreed on is what both wished.
fn negotiate(server: &Deflate, client: &Deflate, text: &str) {
    let offer = client.offer().to_string();
    let agreed = server.answer([offer.as_str()]).expect("an offer of ours is fine");
    let answer = agreed.to_string();
    let confirmed = client.confirm([answer.as_str()]);
    let confirmed = confirmed.expect("an answer to our offer is fine").expect("it was taken up");
    check_directions(&confirmed, Some(&agreed));

    let _ = client.confirm(text.split(','));
    if let Some(agreed) = server.answer(text.split(',')) {
        check_directions(&agreed, None);
        let again = server.answer([agreed.to_string().as_str()]);
        assert!(again.is_some(), "{agreed} is no offer");
    }
}

/// `theirs`: what the server makes of the same agreement. The client may do less than it could.
fn check_directions(ours: &Agreed, theirs: Option<&Agreed>) {
    for role in [Role::Server, Role::Client] {
        let direction = ours.direction(role);
        assert!((8..=15).contains(&direction.window_bits), "{ours}");
        if let Some(theirs) = theirs.map(|theirs| theirs.direction(role)) {
            assert!(direction.window_bits <= theirs.window_bits, "{ours}");
            assert!(!direction.context_takeover || theirs.context_takeover, "{ours}");
        }
    }
}
