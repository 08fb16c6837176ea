//! Messages inflated piece by piece (RFC 7692 §7.2.2).

use proptest::collection::vec;
use proptest::prelude::*;
use webscale_proto::deflate::{Piece, Progress};
use webscale_proto::{Deflater, Inflater, ProtocolError};

/// Feeds `payload` in parts of `part` bytes, takes pieces of `piece_max`, and joins them.
fn joined(
    inflater: &mut Inflater,
    payload: &[u8],
    text: bool,
    (part, piece_max, max): (usize, usize, u64),
) -> (Vec<u8>, Result<(), ProtocolError>) {
    let (mut all, mut out) = (Vec::new(), Vec::new());
    let mut parts = payload.chunks(part).peekable();
    let mut input = parts.next().unwrap_or_default();
    loop {
        let piece = inflater.piece(input, parts.peek().is_none(), text, piece_max, max, &mut out);
        let Piece { used, data, progress } = match piece {
            Ok(piece) => piece,
            Err(error) => return (all, Err(error)),
        };
        assert_eq!(data.is_text(), text);
        assert!(data.len() <= piece_max + 1 + 3);
        all.extend_from_slice(data.as_bytes());
        match progress {
            Progress::Full => input = &input[used..],
            Progress::Hungry => {
                assert_eq!(used, input.len());
                input = parts.next().expect("it was told that more comes");
            }
            Progress::Complete => return (all, Ok(())),
        }
    }
}

fn compressed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Deflater::new(6, 15, false).message(message, &mut out).expect("something that compresses").to_vec()
}

#[test]
fn the_limits_are_exact_in_every_step() {
    let message = "añ".repeat(400);
    let payload = compressed(message.as_bytes());
    let mut inflater = Inflater::new(15, false);
    for part in [1, 2, 3, 1000] {
        for piece in [1, 2, 3, 7, 1199, 1200, 1201, 5000] {
            for text in [false, true] {
                let exact = joined(&mut inflater, &payload, text, (part, piece, 1200));
                assert_eq!(exact, (message.as_bytes().to_vec(), Ok(())), "{part} {piece} {text}");
                let (given, result) = joined(&mut inflater, &payload, text, (part, piece, 1199));
                assert_eq!(result, Err(ProtocolError::MessageTooBig));
                assert!(message.as_bytes().starts_with(&given) && given.len() < 1200);
            }
        }
    }
}

#[test]
fn a_message_that_ends_in_a_last_block() {
    // RFC 7692 §7.2.3.4, without and with the byte that ends it.
    for payload in
        [&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..], &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]]
    {
        for piece in 1..8 {
            let mut inflater = Inflater::new(15, false);
            let found = joined(&mut inflater, payload, true, (1, piece, 100));
            assert_eq!(found, (b"Hello".to_vec(), Ok(())), "{piece}");
        }
    }
}

#[test]
fn what_is_invalid_is_never_complete_and_leaves_no_trace() {
    let mut inflater = Inflater::new(15, false);
    let good = compressed(&[b'x'; 500]);
    let cut = &good[..good.len() - 2];
    let bad_text = compressed(&[&[b'x'; 500][..], &[0xc3]].concat());
    for (payload, text, expected) in [
        (cut, false, ProtocolError::InvalidDeflate),
        (&bad_text[..], true, ProtocolError::InvalidUtf8),
        (&[0xff; 30][..], false, ProtocolError::InvalidDeflate),
    ] {
        for piece in [1, 100, 499, 500, 501, 1000] {
            assert_eq!(joined(&mut inflater, payload, text, (3, piece, 1000)).1, Err(expected), "{piece}");
            assert_eq!(joined(&mut inflater, &good, false, (3, piece, 500)), (vec![b'x'; 500], Ok(())));
        }
    }
}

proptest! {
    #[test]
    fn pieces_are_the_message(
        words in vec("[a-zé世𝄞]{0,9}", 1..200),
        part in 1usize..300,
        piece in 1usize..3000,
        takeover in any::<bool>(),
    ) {
        let message = words.join(" ") + &" ".repeat(600);
        let (mut deflater, mut inflater) = (Deflater::new(6, 15, takeover), Inflater::new(15, takeover));
        let mut out = Vec::new();
        for _ in 0..3 {
            let payload = deflater.message(message.as_bytes(), &mut out).expect("it compresses").to_vec();
            let found = joined(&mut inflater, &payload, true, (part, piece, 1 << 20));
            prop_assert_eq!(&found, &(message.as_bytes().to_vec(), Ok(())));
        }
    }
}
