//! Everything that a peer can do wrong, found at the first byte that shows it.

use webscale_proto::ProtocolError::{self, *};
use webscale_proto::{DecoderConfig, Reserved, Role};

use crate::support::{
    BINARY, CLOSE, CONTINUATION, Driver, Event, FIN, PING, PONG, ROLES, TEXT, events_at_every_split, sent_to,
};

/// Feeds byte by byte; gives the number of bytes after which it failed, and how.
fn first_failure(config: DecoderConfig, input: &[u8]) -> Option<(usize, ProtocolError)> {
    let mut driver = Driver::new(config);
    for (at, byte) in input.iter().enumerate() {
        driver.feed(&[*byte]);
        if let Some(Event::Failed(error)) = driver.events.last() {
            return Some((at + 1, *error));
        }
    }
    None
}

/// `input` fails with `error` as soon as `at` bytes are there, and so at every split, behind a good message
/// too.
fn assert_fails(role: Role, input: &[u8], at: usize, error: ProtocolError) {
    let config = DecoderConfig::new(role);
    assert_eq!(first_failure(config, input), Some((at, error)), "{role:?} {input:02x?}");
    let good = sent_to(role, FIN | TEXT, b"ok");
    let found = events_at_every_split(config, &[&good, input].concat());
    assert_eq!(found.first(), Some(&Event::text("ok")));
    assert_eq!(found.last(), Some(&Event::Failed(error)), "{role:?} {input:02x?}");
    assert_eq!(found.iter().filter(|event| matches!(event, Event::Failed(_))).count(), 1);
}

fn assert_fails_in_both_roles(frame: &[u8], at: usize, error: ProtocolError) {
    for role in ROLES {
        let mut frame = frame.to_vec();
        if let (Role::Server, Some(second)) = (role, frame.get_mut(1)) {
            *second |= 0x80;
        }
        assert_fails(role, &frame, at, error);
    }
}

#[test]
fn reserved_opcodes() {
    for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        assert_fails_in_both_roles(&[FIN | opcode, 0], 1, UnknownOpCode);
        assert_fails_in_both_roles(&[opcode, 0], 1, UnknownOpCode);
    }
}

#[test]
fn reserved_bits_without_an_extension() {
    for bits in 1..8 {
        for first in [FIN | TEXT, BINARY, FIN | PING, FIN | CLOSE] {
            assert_fails_in_both_roles(&[bits << 4 | first, 0], 1, ReservedBits);
        }
    }
}

#[test]
fn a_claimed_bit_stands_only_on_the_first_frame_of_a_message() {
    for role in ROLES {
        let reserved = Reserved { rsv2: true, ..Reserved::NONE };
        let config = DecoderConfig { reserved, ..DecoderConfig::new(role) };
        let rsv2 = 0x20;
        for opcode in [CLOSE, PING, PONG] {
            let control = sent_to(role, FIN | rsv2 | opcode, b"");
            assert_eq!(events_at_every_split(config, &control), [Event::Failed(ReservedBits)]);
        }
        let continued =
            [sent_to(role, rsv2 | TEXT, b"a"), sent_to(role, FIN | rsv2 | CONTINUATION, b"b")].concat();
        let expected = [Event::Fragment, Event::Failed(ReservedBits)];
        assert_eq!(events_at_every_split(config, &continued), expected);
        let other_bit = sent_to(role, FIN | 0x10 | TEXT, b"");
        assert_eq!(events_at_every_split(config, &other_bit), [Event::Failed(ReservedBits)]);
    }
}

#[test]
fn fragmented_or_long_control_frames() {
    for opcode in [CLOSE, PING, PONG] {
        assert_fails_in_both_roles(&[opcode, 0], 1, FragmentedControl);
        for long in [126, 127] {
            assert_fails_in_both_roles(&[FIN | opcode, long], 2, ControlTooLong);
        }
    }
}

#[test]
fn masks_on_the_wrong_side() {
    for first in [FIN | TEXT, BINARY, FIN | PING, FIN | CLOSE] {
        assert_fails(Role::Server, &[first, 0], 2, Unmasked);
        assert_fails(Role::Server, &[first, 5, b'H'], 2, Unmasked);
        assert_fails(Role::Client, &[first, 0x80, 1, 2, 3, 4], 2, Masked);
    }
}

#[test]
fn lengths_in_more_bytes_than_they_need() {
    for len in [0u16, 1, 125] {
        let [high, low] = len.to_be_bytes();
        assert_fails_in_both_roles(&[FIN | BINARY, 126, high, low], 4, NonMinimalLength);
    }
    for len in [0u64, 125, 126, 0xffff] {
        let frame = [&[FIN | BINARY, 127], &len.to_be_bytes()[..]].concat();
        assert_fails_in_both_roles(&frame, 8, NonMinimalLength);
    }
}

#[test]
fn lengths_above_63_bits() {
    assert_fails_in_both_roles(&[FIN | BINARY, 127, 0x80], 3, LengthOverflow);
    assert_fails_in_both_roles(&[[FIN | BINARY, 127].as_slice(), &[0xff; 8]].concat(), 3, LengthOverflow);
}

#[test]
fn fragments_out_of_order() {
    for first in [CONTINUATION, FIN | CONTINUATION] {
        assert_fails_in_both_roles(&[first, 0], 1, UnexpectedContinuation);
    }
    for role in ROLES {
        let begun = sent_to(role, TEXT, b"begun");
        for opcode in [TEXT, BINARY, FIN | TEXT, FIN | BINARY] {
            let input = [&begun[..], &sent_to(role, opcode, b"x")].concat();
            assert_fails(role, &input, begun.len() + 1, ExpectedContinuation);
        }
        let ended = [sent_to(role, BINARY, b"a"), sent_to(role, FIN | CONTINUATION, b"b")].concat();
        let input = [&ended[..], &sent_to(role, FIN | CONTINUATION, b"c")].concat();
        assert_fails(role, &input, ended.len() + 1, UnexpectedContinuation);
    }
}

#[test]
fn close_payloads() {
    for role in ROLES {
        for (payload, error) in [
            (&b"\x03"[..], TruncatedCloseCode),
            (b"\x03\xed", InvalidCloseCode),
            (b"\x03\xed\xff", InvalidCloseCode),
            (b"\x03\xe8\xff", InvalidUtf8),
            (b"\x03\xe8\xe2\x82", InvalidUtf8),
        ] {
            let input = sent_to(role, FIN | CLOSE, payload);
            assert_fails(role, &input, input.len(), error);
        }
    }
}

#[test]
fn errors_tell_the_close_code_and_fit_a_close_frame() {
    let all = [
        ReservedBits,
        UnknownOpCode,
        FragmentedControl,
        ControlTooLong,
        NonMinimalLength,
        LengthOverflow,
        Unmasked,
        Masked,
        UnexpectedContinuation,
        ExpectedContinuation,
        MessageTooBig,
        InvalidUtf8,
        TruncatedCloseCode,
        InvalidCloseCode,
    ];
    for error in all {
        let expected = match error {
            InvalidUtf8 => 1007,
            MessageTooBig => 1009,
            _ => 1002,
        };
        assert_eq!(error.close_code().get(), expected, "{error}");
        assert!(error.close_code().may_be_sent());
        assert!((1..=123).contains(&error.reason().len()));
        assert_eq!(error.to_string(), error.reason());
    }
}
