//! Arbitrary traffic, whole and damaged, through the decoder and through tungstenite.

use proptest::collection::vec;
use proptest::prelude::*;
use webscale_proto::CloseCode;

use crate::oracle::compare;
use crate::properties::{Wire, role, traffic};

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn good_traffic(
        role in role(),
        key in any::<u32>(),
        traffic in traffic(),
        code in proptest::option::of(1000..5000u16),
        cuts in vec(any::<usize>(), 0..10),
    ) {
        let mut wire = Wire::new(role, key);
        wire.send_all(&traffic, true);
        if let Some(code) = code.and_then(CloseCode::new) {
            wire.close(Some(code), "bye");
        }
        compare(role, &wire.bytes, &cuts);
    }

    #[test]
    fn damaged_traffic(
        role in role(),
        key in any::<u32>(),
        traffic in traffic(),
        damage in vec((any::<usize>(), any::<u8>()), 1..4),
        cuts in vec(any::<usize>(), 0..10),
    ) {
        let mut wire = Wire::new(role, key);
        wire.send_all(&traffic, true);
        let len = wire.bytes.len();
        for (at, byte) in damage.into_iter().filter(|_| len > 0) {
            wire.bytes[at % len] = byte;
        }
        compare(role, &wire.bytes, &cuts);
    }

    /// Frames with every first byte and short payloads, so that the rules of order are hit often.
    #[test]
    fn frames_in_any_order(
        role in role(),
        frames in vec((any::<u8>(), vec(any::<u8>(), 0..6), any::<bool>()), 0..8),
        cuts in vec(any::<usize>(), 0..10),
    ) {
        let mut input = Vec::new();
        for (first, payload, tame) in frames {
            // Mostly no reserved bits, and only known opcodes.
            let first = if tame { first & 0x8b } else { first };
            input.extend(crate::support::sent_to(role, first, &payload));
        }
        compare(role, &input, &cuts);
    }

    #[test]
    fn noise(role in role(), input in vec(any::<u8>(), 0..60), cuts in vec(any::<usize>(), 0..4)) {
        compare(role, &input, &cuts);
    }
}
