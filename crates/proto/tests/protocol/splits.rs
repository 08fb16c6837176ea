//! Every kind of traffic, cut everywhere.

use webscale_proto::{DecoderConfig, Reserved, Role};

use crate::support::{
    BINARY, CLOSE, CONTINUATION, Driver, Event, FIN, PING, PONG, ROLES, RSV1, TEXT, events_at_every_split,
    sent_to,
};

/// Frames as first byte and payload, and the events that they make.
type Pattern = (Vec<(u8, Vec<u8>)>, Vec<Event>);

fn pattern(frames: &[(u8, &[u8])], events: &[Event]) -> Pattern {
    (frames.iter().map(|(first, payload)| (*first, payload.to_vec())).collect(), events.to_vec())
}

fn patterns() -> Vec<Pattern> {
    let (empty, fragment) = (Vec::new(), Event::Fragment);
    let smile = "😀ß€".as_bytes();
    let long: Vec<u8> = (0..=255).cycle().take(300).collect();
    vec![
        pattern(&[(FIN | TEXT, b"")], &[Event::text("")]),
        pattern(&[(FIN | TEXT, smile)], &[Event::text("😀ß€")]),
        pattern(&[(FIN | BINARY, b"")], &[Event::Binary(empty.clone())]),
        pattern(&[(FIN | BINARY, b"\xff\x00")], &[Event::Binary(vec![0xff, 0])]),
        pattern(&[(FIN | BINARY, &long[..125])], &[Event::Binary(long[..125].to_vec())]),
        pattern(&[(FIN | BINARY, &long[..126])], &[Event::Binary(long[..126].to_vec())]),
        pattern(&[(FIN | BINARY, &long)], &[Event::Binary(long.clone())]),
        pattern(&[(FIN | PING, b"")], &[Event::Ping(empty.clone())]),
        pattern(&[(FIN | PONG, b"\xf0\x9f")], &[Event::Pong(vec![0xf0, 0x9f])]),
        pattern(&[(FIN | PING, &long[..125])], &[Event::Ping(long[..125].to_vec())]),
        pattern(&[(FIN | CLOSE, b"")], &[Event::Close(None)]),
        pattern(&[(FIN | CLOSE, b"\x03\xe8")], &[Event::Close(Some((1000, String::new())))]),
        pattern(&[(FIN | CLOSE, b"\x0f\xa0\xc3\x9f")], &[Event::Close(Some((4000, "ß".into())))]),
        pattern(
            &[(FIN | TEXT, b"a"), (FIN | TEXT, b"b"), (FIN | BINARY, b"c")],
            &[Event::text("a"), Event::text("b"), Event::Binary(vec![b'c'])],
        ),
        // A character cut by the fragments, control frames in between.
        pattern(
            &[
                (TEXT, &smile[..1]),
                (CONTINUATION, &smile[1..2]),
                (FIN | PING, b"p"),
                (CONTINUATION, b""),
                (FIN | PONG, b"q"),
                (FIN | CONTINUATION, &smile[2..]),
                (FIN | TEXT, b"next"),
            ],
            &[
                fragment.clone(),
                fragment.clone(),
                Event::Ping(vec![b'p']),
                fragment.clone(),
                Event::Pong(vec![b'q']),
                Event::text("😀ß€"),
                Event::text("next"),
            ],
        ),
        // Nothing but empty fragments, and memory of a control frame between them.
        pattern(
            &[(BINARY, b""), (FIN | PING, b"ping"), (CONTINUATION, b""), (FIN | CONTINUATION, b"")],
            &[fragment.clone(), Event::Ping(b"ping".to_vec()), fragment.clone(), Event::Binary(empty)],
        ),
        // The closing handshake may begin inside a message; what follows is ignored, whatever it is.
        pattern(
            &[(BINARY, b"begun"), (FIN | CLOSE, b"\x03\xe9"), (FIN | CONTINUATION, b"x"), (0x7f, b"noise")],
            &[fragment, Event::Close(Some((1001, String::new())))],
        ),
    ]
}

#[test]
fn every_pattern_at_every_split_in_both_roles() {
    for role in ROLES {
        for (frames, expected) in patterns() {
            let input: Vec<u8> =
                frames.iter().flat_map(|(first, payload)| sent_to(role, *first, payload)).collect();
            let found = events_at_every_split(DecoderConfig::new(role), &input);
            assert_eq!(found, expected, "{role:?} {frames:02x?}");
        }
    }
}

#[test]
fn mid_message_is_told_from_the_first_byte_to_the_last() {
    for role in ROLES {
        let mut driver = Driver::new(DecoderConfig::new(role));
        let input: Vec<u8> = [
            sent_to(role, BINARY, b"abc"),
            sent_to(role, FIN | PING, b"ping"),
            sent_to(role, FIN | CONTINUATION, b"d"),
        ]
        .concat();
        assert!(!driver.decoder.is_mid_message());
        for byte in &input[..input.len() - 1] {
            driver.feed(&[*byte]);
            assert!(driver.decoder.is_mid_message());
        }
        driver.feed(&input[input.len() - 1..]);
        assert!(!driver.decoder.is_mid_message());
        assert_eq!(driver.events.last(), Some(&Event::Binary(b"abcd".to_vec())));
    }
}

#[test]
fn extended_messages_are_handed_over_as_they_are() {
    let reserved = Reserved { rsv1: true, ..Reserved::NONE };
    for role in ROLES {
        let config = DecoderConfig { reserved, ..DecoderConfig::new(role) };
        let input: Vec<u8> = [
            sent_to(role, FIN | RSV1 | TEXT, b"\xff\xfe"),
            sent_to(role, RSV1 | TEXT, b"\xff"),
            sent_to(role, FIN | PING, b""),
            sent_to(role, FIN | CONTINUATION, b"\xfe"),
            sent_to(role, FIN | RSV1 | BINARY, b"b"),
            sent_to(role, FIN | TEXT, b"plain"),
        ]
        .concat();
        let text = Event::Extended { text: true, reserved, payload: vec![0xff, 0xfe] };
        let binary = Event::Extended { text: false, reserved, payload: vec![b'b'] };
        let expected =
            [text.clone(), Event::Fragment, Event::Ping(vec![]), text, binary, Event::text("plain")];
        assert_eq!(events_at_every_split(config, &input), expected);
    }
}

#[test]
fn memory_is_given_back_after_delivery() {
    let config = DecoderConfig::new(Role::Server);
    let mut driver = Driver::new(config);
    let input = sent_to(Role::Server, FIN | BINARY, &[7; 5000]);
    driver.feed(&input[..3000]);
    assert!(driver.decoder.buffered() >= 3000 - 8);
    driver.feed(&input[3000..]);
    assert_eq!(driver.events, [Event::Binary(vec![7; 5000])]);
    // `feed` ends with a call without input.
    assert_eq!(driver.decoder.buffered(), 0);
}

#[test]
fn release_gives_back_what_was_delivered_and_nothing_else() {
    let config = DecoderConfig::new(Role::Client);
    let (mut decoder, mut scratch) = (webscale_proto::Decoder::new(), Vec::new());
    let mut decode = |input: &[u8], decoder: &mut webscale_proto::Decoder| {
        decoder.decode(&config, input, &mut scratch).map(|(used, _)| used)
    };
    assert_eq!(decode(b"\x02\x03abc", &mut decoder), Ok(5));
    decoder.release();
    assert!(decoder.buffered() >= 3, "the first fragment is kept");
    assert_eq!(decode(b"\x89\x02p", &mut decoder), Ok(3));
    decoder.release();
    assert_eq!(decode(b"q", &mut decoder), Ok(1));
    decoder.release();
    assert_eq!(decode(b"\x80\x01d", &mut decoder), Ok(3));
    assert!(decoder.buffered() >= 4);
    decoder.release();
    assert_eq!(decoder.buffered(), 0);
}

#[test]
fn one_call_takes_one_frame() {
    let config = DecoderConfig::new(Role::Client);
    let (mut decoder, mut scratch) = (webscale_proto::Decoder::new(), Vec::new());
    let input = b"\x81\x01a\x82\x02bc\x89\x00";
    let mut taken = Vec::new();
    let mut rest: &[u8] = input;
    while !rest.is_empty() {
        let (used, _) = decoder.decode(&config, rest, &mut scratch).unwrap();
        taken.push(used);
        rest = &rest[used..];
    }
    assert_eq!(taken, [3, 4, 2]);
}

#[test]
fn scratch_holds_nothing_of_the_message_before() {
    let config = DecoderConfig::new(Role::Client);
    let (mut decoder, mut scratch) = (webscale_proto::Decoder::new(), b"left by another connection".to_vec());
    let (_, step) = decoder.decode(&config, b"\x81\x01a", &mut scratch).unwrap();
    assert_eq!(step, webscale_proto::Step::Message("a".into()));
}
