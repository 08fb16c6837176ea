//! Messages that are too long to be gathered come in pieces, the same ones joined wherever the input is cut.

use proptest::collection::vec;
use proptest::prelude::*;
use webscale_proto::ProtocolError::{InvalidUtf8, MessageTooBig};
use webscale_proto::{DecoderConfig, Reserved, Role};

use crate::support::{
    BINARY, CONTINUATION, Driver, Event, FIN, PING, ROLES, RSV1, TEXT, events, events_at_every_split, joined,
    sent_to,
};

fn config(role: Role) -> DecoderConfig {
    DecoderConfig { max_message: 10, max_streamed: 30, ..DecoderConfig::new(role) }
}

/// The joined events, at once and cut at every byte and pair of bytes.
fn at_every_split(config: DecoderConfig, input: &[u8]) -> Vec<Event> {
    let at_once = joined(events(config, [input]));
    assert_eq!(joined(events(config, input.chunks(1))), at_once, "byte by byte");
    for cut in 0..=input.len() {
        for next in cut..=input.len() {
            let pieces = [&input[..cut], &input[cut..next], &input[next..]];
            assert_eq!(joined(events(config, pieces)), at_once, "cut at {cut} and {next}");
        }
    }
    at_once
}

#[test]
fn one_long_frame() {
    for role in ROLES {
        let text = "zwölf Bäume, 世界 𝄞";
        let input =
            [sent_to(role, FIN | TEXT, text.as_bytes()), sent_to(role, FIN | BINARY, &[7; 11])].concat();
        let expected = [Event::text(text), Event::Binary(vec![7; 11])];
        assert_eq!(at_every_split(config(role), &input), expected);
    }
}

#[test]
fn a_message_of_the_greatest_length_is_gathered() {
    for role in ROLES {
        let input = [sent_to(role, TEXT, b"12345"), sent_to(role, FIN | CONTINUATION, b"67890")].concat();
        assert_eq!(events_at_every_split(config(role), &input), [Event::Fragment, Event::text("1234567890")]);
    }
}

#[test]
fn fragments_that_become_long_with_pings_between_also_inside_a_character() {
    for role in ROLES {
        let (first, second) = "123456789ä…………".as_bytes().split_at(10);
        let (second, third) = second.split_at(3);
        let input = [
            sent_to(role, TEXT, first),
            sent_to(role, FIN | PING, b"1"),
            sent_to(role, CONTINUATION, second),
            sent_to(role, FIN | PING, b"2"),
            sent_to(role, CONTINUATION, b""),
            sent_to(role, CONTINUATION, third),
            sent_to(role, FIN | CONTINUATION, b""),
            sent_to(role, FIN | TEXT, b"short"),
        ];
        let expected = [
            Event::Ping(b"1".to_vec()),
            Event::Ping(b"2".to_vec()),
            Event::text("123456789ä…………"),
            Event::text("short"),
        ];
        assert_eq!(at_every_split(config(role), &input.concat()), expected);
    }
}

#[test]
fn the_limit_of_streamed_messages_is_exact() {
    for role in ROLES {
        let exact = sent_to(role, FIN | BINARY, &[1; 30]);
        assert_eq!(at_every_split(config(role), &exact), [Event::Binary(vec![1; 30])]);
        let above = sent_to(role, FIN | BINARY, &[1; 31]);
        assert_eq!(at_every_split(config(role), &above), [Event::Failed(MessageTooBig)]);
        let fragments = [sent_to(role, BINARY, &[1; 30]), sent_to(role, FIN | CONTINUATION, &[1])].concat();
        assert_eq!(at_every_split(config(role), &fragments), [Event::Failed(MessageTooBig)]);
    }
}

#[test]
fn a_message_that_turns_out_invalid_has_no_last_chunk() {
    for role in ROLES {
        for text in [&b"123456789012\xff4567"[..], b"1234567890123\xe4"] {
            let input = sent_to(role, FIN | TEXT, text);
            for pieces in [vec![&input[..]], input.chunks(1).collect()] {
                let found = events(config(role), pieces);
                assert_eq!(found.last(), Some(&Event::Failed(InvalidUtf8)));
                assert!(found.iter().all(|event| !matches!(event, Event::Chunk { is_last: true, .. })));
            }
        }
    }
}

#[test]
fn what_an_extension_marked_comes_as_it_is() {
    for role in ROLES {
        let config = DecoderConfig { reserved: Reserved::RSV1, max_streamed: 200, ..config(role) };
        let payload = vec![0xff; 100];
        let (first, second) = payload.split_at(40);
        let input = [sent_to(role, RSV1 | TEXT, first), sent_to(role, FIN | CONTINUATION, second)].concat();
        let expected = Event::Extended { text: true, reserved: Reserved::RSV1, payload: payload.clone() };
        assert_eq!(at_every_split(config, &input), [expected]);
        let found = events(config, [&input[..]]);
        assert!(
            matches!(found[..], [Event::Fragment, Event::ExtendedPart { is_last: true, .. }]),
            "{found:?}"
        );
    }
}

#[test]
fn nothing_is_held_of_a_message_that_is_streamed() {
    let mut driver = Driver::new(DecoderConfig { max_streamed: 1 << 30, ..config(Role::Server) });
    let input =
        [sent_to(Role::Server, BINARY, &[1; 50_000]), sent_to(Role::Server, CONTINUATION, &[2; 50_000])];
    for piece in input.concat().chunks(999) {
        driver.feed(piece);
        assert_eq!(driver.decoder.buffered(), 0);
    }
}

proptest! {
    #[test]
    fn pieces_join_to_what_is_gathered_without_a_limit(
        is_client in any::<bool>(),
        fragments in vec(("[a-zé世𝄞]{0,12}", any::<bool>()), 1..8),
        cuts in vec(1usize..20, 1..40),
    ) {
        let role = if is_client { Role::Client } else { Role::Server };
        let mut input = Vec::new();
        for (index, (text, pinged)) in fragments.iter().enumerate() {
            let opcode = if index == 0 { TEXT } else { CONTINUATION };
            let fin = if index + 1 == fragments.len() { FIN } else { 0 };
            if *pinged {
                input.extend(sent_to(role, FIN | PING, b"p"));
            }
            input.extend(sent_to(role, fin | opcode, text.as_bytes()));
        }
        let (mut pieces, mut rest, mut next) = (Vec::new(), &input[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(*next.next().expect("a cycle")));
            pieces.push(piece);
            rest = behind;
        }
        let streaming = DecoderConfig { max_streamed: 1 << 20, ..config(role) };
        prop_assert_eq!(
            joined(events(streaming, pieces)),
            joined(events(DecoderConfig::new(role), [&input[..]]))
        );
    }
}
