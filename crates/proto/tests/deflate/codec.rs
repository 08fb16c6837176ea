//! Whole messages through DEFLATE (RFC 7692 §7.2).

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use proptest::collection::vec;
use proptest::prelude::*;
use webscale_proto::{Deflater, Inflater, Message, ProtocolError};

const MAX: usize = 1 << 20;

/// The messages that payloads inflate to, as bytes.
fn inflated(inflater: &mut Inflater, payload: &[u8], max: usize) -> Result<Vec<u8>, ProtocolError> {
    let mut out = Vec::new();
    inflater.message(payload, false, max, &mut out).map(|message| message.as_bytes().to_vec())
}

#[test]
fn the_vectors_of_rfc_7692() {
    let vectors: [&[u8]; 5] = [
        // §7.2.3.1
        &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
        // §7.2.3.2: the second message of a context.
        &[0xf2, 0x00, 0x11, 0x00, 0x00],
        // §7.2.3.3: a block without compression.
        &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
        // §7.2.3.4: BFINAL.
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
        // §7.2.3.5: two blocks.
        &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
    ];
    let mut own = Inflater::new(15, true);
    for vector in vectors {
        let mut out = Vec::new();
        assert_eq!(own.message(vector, true, MAX, &mut out), Ok(Message::Text("Hello")), "{vector:x?}");
    }
    let mut shared = Inflater::new(15, false);
    for (index, vector) in vectors.into_iter().enumerate() {
        let expected = if index == 1 { Err(ProtocolError::InvalidDeflate) } else { Ok(b"Hello".to_vec()) };
        assert_eq!(inflated(&mut shared, vector, MAX), expected, "{vector:x?}");
    }
    // §7.2.3.6: the empty message.
    assert_eq!(inflated(&mut shared, &[0], MAX), Ok(Vec::new()));
    assert_eq!(inflated(&mut own, &[0], MAX), Ok(Vec::new()));
}

#[test]
fn a_compressor_with_context_refers_to_earlier_messages() {
    let text = br#"{"device":"a7","temperature":21.5,"humidity":40.25,"pressure":1013.25}"#;
    let (mut own, mut shared) = (Deflater::new(6, 15, true), Deflater::new(6, 15, false));
    let mut out = Vec::new();
    let first = own.message(text, &mut out).unwrap().to_vec();
    let second = own.message(text, &mut out).unwrap().to_vec();
    assert!(second.len() < 12 && second.len() * 4 < first.len(), "{} {}", first.len(), second.len());
    assert_eq!(shared.message(text, &mut out).unwrap(), first);
    assert_eq!(shared.message(text, &mut out).unwrap(), first);
}

#[test]
fn what_does_not_become_shorter_is_not_compressed_nor_remembered() {
    // No byte pair comes twice.
    let noise: Vec<u8> = (0..=255u8).map(|n| n.wrapping_mul(167).wrapping_add(n >> 3)).collect();
    for takeover in [false, true] {
        let (mut deflater, mut inflater) = (Deflater::new(6, 15, takeover), Inflater::new(15, takeover));
        let mut out = Vec::new();
        for short in [&noise[..], b"", b"a", b"ab"] {
            assert_eq!(deflater.message(short, &mut out), None);
        }
        // The peer never saw the noise compressed, so that this must not refer to it.
        let twice = [&noise[..], &noise[..]].concat();
        let compressed = deflater.message(&twice, &mut out).unwrap();
        assert_eq!(inflated(&mut inflater, compressed, MAX), Ok(twice));
    }
}

#[test]
fn noise_of_any_length_leaves_the_compressor_in_order() {
    let mut state = 1u32;
    let mut noise = |length: usize| -> Vec<u8> {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        (0..length).map(|_| next()).collect()
    };
    for (level, takeover) in (1..=9).flat_map(|level| [(level, false), (level, true)]) {
        let (mut deflater, mut inflater) = (Deflater::new(level, 15, takeover), Inflater::new(15, takeover));
        let mut out = Vec::new();
        for length in [10, 200, 3000, 20_000, 50_000, 100_000, 300_000] {
            assert_eq!(deflater.message(&noise(length), &mut out), None);
            let text = b"telemetry ".repeat(length / 5);
            let compressed = deflater.message(&text, &mut out).unwrap();
            assert_eq!(inflated(&mut inflater, compressed, MAX), Ok(text));
        }
    }
}

#[test]
fn the_limit_is_exact_and_bounds_the_memory() {
    let bomb = {
        let mut out = Vec::new();
        Deflater::new(9, 15, false).message(&vec![0; 64 << 20], &mut out).unwrap().to_vec()
    };
    assert!(bomb.len() < 70_000);
    for max in [0, 1, 1000, 32 * 1024, 100_000, 1 << 20] {
        let mut out = Vec::new();
        let mut inflater = Inflater::new(15, false);
        let result = inflater.message(&bomb, false, max, &mut out);
        assert_eq!(result, Err(ProtocolError::MessageTooBig));
        assert!(out.capacity() <= max + 1, "{} bytes for {max}", out.capacity());
        for (length, fits) in [(max, true), (max + 1, false)] {
            let mut compressed = Vec::new();
            let payload = vec![b'x'; length];
            let raw: &[u8] = Deflater::new(6, 15, false).message(&payload, &mut compressed).unwrap_or(&[]);
            if raw.is_empty() {
                continue;
            }
            let expected = if fits { Ok(payload) } else { Err(ProtocolError::MessageTooBig) };
            assert_eq!(inflated(&mut inflater, raw, max), expected);
        }
    }
}

#[test]
fn text_fails_at_its_first_wrong_byte() {
    let mut bytes = vec![b'x'; 10 << 20];
    bytes[100] = 0xff;
    let mut compressed = Vec::new();
    Deflater::new(6, 15, false).message(&bytes, &mut compressed).unwrap();
    let (mut inflater, mut out) = (Inflater::new(15, false), Vec::new());
    assert_eq!(inflater.message(&compressed, true, usize::MAX, &mut out), Err(ProtocolError::InvalidUtf8));
    assert!(out.len() < 1 << 20, "the rest was not inflated");
    // A character that the end cuts.
    let cut = "x".repeat(1000) + "ä";
    Deflater::new(6, 15, false).message(&cut.as_bytes()[..1001], &mut compressed).unwrap();
    let result = inflater.message(&compressed, true, usize::MAX, &mut out);
    assert_eq!(result, Err(ProtocolError::InvalidUtf8));
    assert!(inflater.message(&compressed, false, usize::MAX, &mut out).is_ok());
}

#[test]
fn a_message_that_is_cut_is_invalid_and_harms_no_other() {
    let text = "some text, some text, some other text ".repeat(20);
    let mut compressed = Vec::new();
    Deflater::new(6, 15, false).message(text.as_bytes(), &mut compressed).unwrap();
    let mut inflater = Inflater::new(15, false);
    for cut in 0..compressed.len() - 1 {
        assert_eq!(
            inflated(&mut inflater, &compressed[..cut], MAX),
            Err(ProtocolError::InvalidDeflate),
            "cut at {cut}"
        );
        assert_eq!(inflated(&mut inflater, &compressed, MAX), Ok(text.clone().into_bytes()));
    }
}

#[test]
fn many_last_blocks_are_read() {
    let mut payload = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00].repeat(1000);
    let mut inflater = Inflater::new(15, false);
    assert_eq!(inflated(&mut inflater, &payload, MAX), Ok(b"Hello".repeat(1000)));
    payload.push(0);
    assert_eq!(inflated(&mut inflater, &payload, MAX), Ok(b"Hello".repeat(1000)));
    assert_eq!(inflated(&mut inflater, &payload, 4999), Err(ProtocolError::MessageTooBig));
}

/// Compresses by flate2 alone, without the tail.
fn raw_compressed(compress: &mut Compress, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() * 2 + 1000);
    compress.compress_vec(payload, &mut out, FlushCompress::Sync).unwrap();
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]) && out.len() < out.capacity());
    out.truncate(out.len() - 4);
    out
}

fn raw_inflated(decompress: &mut Decompress, payload: &[u8], length: usize) -> Vec<u8> {
    let input = [payload, &[0, 0, 0xff, 0xff]].concat();
    let mut out = Vec::with_capacity(length + 1000);
    decompress.decompress_vec(&input, &mut out, FlushDecompress::Sync).unwrap();
    out
}

/// Payloads that compress and that do not, long and short.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..2000),
        vec(0..4u8, 0..5000),
        (vec(any::<u8>(), 1..50), 1..3000usize).prop_map(|(unit, times)| unit.repeat(times)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn ours_and_a_raw_stream_read_each_other(
        payloads in vec(payload(), 1..6),
        (level, bits, takeover) in (1..=9u8, 9..=15u8, any::<bool>()),
    ) {
        let mut ours = (Deflater::new(level, bits, takeover), Inflater::new(bits, takeover));
        let mut raw = (
            Compress::new_with_window_bits(Compression::new(level.into()), false, bits),
            Decompress::new_with_window_bits(false, bits),
        );
        let mut out = Vec::new();
        for payload in payloads {
            if let Some(compressed) = ours.0.message(&payload, &mut out) {
                prop_assert!(compressed.len() < payload.len());
                prop_assert_eq!(raw_inflated(&mut raw.1, compressed, payload.len()), &payload[..]);
            }
            if !payload.is_empty() {
                let compressed = raw_compressed(&mut raw.0, &payload);
                prop_assert_eq!(inflated(&mut ours.1, &compressed, payload.len()), Ok(payload));
            }
            if !takeover {
                raw.0.reset();
                raw.1.reset(false);
            }
        }
    }

    #[test]
    fn noise_gives_an_error_or_a_message_within_the_limit(
        noise in vec(any::<u8>(), 0..300),
        takeover in any::<bool>(),
    ) {
        let (mut inflater, mut out) = (Inflater::new(15, takeover), Vec::new());
        for text in [false, true] {
            let _ = inflater.message(&noise, text, 1000, &mut out);
            prop_assert!(out.capacity() <= 1001);
        }
    }
}
