//! The examples of RFC 6455.

use webscale_proto::{CloseCode, Data, DecoderConfig, Message, Role, encoder};

use crate::support::{Event, KEY, events_at_every_split};

const HELLO: &[u8] = &[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
const HELLO_MASKED: &[u8] = &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
const HELLO_FRAGMENTED: &[u8] = &[0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
const PING: &[u8] = &[0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
const PONG_MASKED: &[u8] = &[0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];

fn client(input: &[u8]) -> Vec<Event> {
    events_at_every_split(DecoderConfig::new(Role::Client), input)
}

fn server(input: &[u8]) -> Vec<Event> {
    events_at_every_split(DecoderConfig::new(Role::Server), input)
}

#[test]
fn section_5_7_decodes() {
    assert_eq!(client(HELLO), [Event::text("Hello")]);
    assert_eq!(server(HELLO_MASKED), [Event::text("Hello")]);
    assert_eq!(client(HELLO_FRAGMENTED), [Event::Fragment, Event::text("Hello")]);
    assert_eq!(client(PING), [Event::Ping(b"Hello".to_vec())]);
    assert_eq!(server(PONG_MASKED), [Event::Pong(b"Hello".to_vec())]);
}

#[test]
fn section_5_7_decodes_long_frames() {
    let payload: Vec<u8> = (0..=255).collect();
    let input = [&[0x82, 0x7e, 0x01, 0x00], &payload[..]].concat();
    assert_eq!(client(&input), [Event::Binary(payload)]);

    let payload = vec![0x5a; 65536];
    let head: &[u8] = &[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0];
    let mut driver = crate::support::Driver::new(DecoderConfig::new(Role::Client));
    driver.feed(head);
    driver.feed(&payload);
    assert_eq!(driver.events, [Event::Binary(payload)]);
}

#[test]
fn section_5_7_encodes() {
    let mut out = Vec::new();
    encoder::message(&mut out, Message::Text("Hello"), None);
    assert_eq!(out, HELLO);

    out.clear();
    encoder::message(&mut out, Message::Text("Hello"), Some(KEY));
    assert_eq!(out, HELLO_MASKED);

    out.clear();
    encoder::fragment(&mut out, Data::Text, false, b"Hel", None);
    encoder::fragment(&mut out, Data::Continuation, true, b"lo", None);
    assert_eq!(out, HELLO_FRAGMENTED);

    out.clear();
    encoder::ping(&mut out, b"Hello", None).unwrap();
    assert_eq!(out, PING);

    out.clear();
    encoder::pong(&mut out, b"Hello", Some(KEY)).unwrap();
    assert_eq!(out, PONG_MASKED);

    out.clear();
    encoder::message(&mut out, Message::Binary(&[0; 256]), None);
    assert_eq!(out[..4], [0x82, 0x7e, 0x01, 0x00]);

    out.clear();
    encoder::message(&mut out, Message::Binary(&[0; 65536]), None);
    assert_eq!(out[..10], [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
}

#[test]
fn frames_go_behind_what_the_buffer_holds() {
    let mut out = b"before".to_vec();
    encoder::message(&mut out, Message::Text("Hello"), Some(KEY));
    assert_eq!(out, [b"before", HELLO_MASKED].concat());
}

#[test]
fn control_payloads_over_125_bytes_are_refused_and_leave_nothing() {
    let mut out = Vec::new();
    assert!(encoder::ping(&mut out, &[0; 126], None).is_err());
    assert!(encoder::pong(&mut out, &[0; 126], Some(KEY)).is_err());
    assert!(out.is_empty());
    encoder::ping(&mut out, &[7; 125], None).unwrap();
    assert_eq!(client(&out), [Event::Ping(vec![7; 125])]);
}

#[test]
fn close_frames_carry_code_and_reason() {
    let mut out = Vec::new();
    encoder::close(&mut out, Some(CloseCode::GOING_AWAY), "bye", None);
    assert_eq!(out, [0x88, 0x05, 0x03, 0xe9, b'b', b'y', b'e']);

    out.clear();
    encoder::close(&mut out, None, "not sent without a code", None);
    assert_eq!(out, [0x88, 0x00]);

    for never_sent in [CloseCode::NO_STATUS, CloseCode::ABNORMAL, CloseCode::TLS_HANDSHAKE] {
        out.clear();
        encoder::close(&mut out, Some(never_sent), "", None);
        assert_eq!(out, [0x88, 0x00]);
    }
}

#[test]
fn close_reasons_are_cut_between_characters() {
    for (reason, kept) in [
        ("x".repeat(123), 123),
        ("x".repeat(124), 123),
        // Two bytes each: 61 fit, the 62nd would end at 124.
        ("ä".repeat(100), 122),
        ("x".repeat(121) + "😀", 121),
        ("x".repeat(119) + "😀", 123),
    ] {
        let mut out = Vec::new();
        encoder::close(&mut out, Some(CloseCode::NORMAL), &reason, Some(KEY));
        assert_eq!(server(&out), [Event::Close(Some((1000, reason[..kept].to_owned())))]);
    }
}

#[test]
fn a_header_alone_stands_before_a_payload_of_the_caller() {
    use webscale_proto::OpCode;
    for (len, expected) in [(125, 2), (126, 4), (0xffff, 4), (0x1_0000, 10), (1 << 40, 10)] {
        assert_eq!(encoder::header(OpCode::Data(Data::Binary), len, None).len(), expected);
        assert_eq!(encoder::header(OpCode::Data(Data::Binary), len, Some(KEY)).len(), expected + 4);
    }
    let mut out = encoder::header(OpCode::Data(Data::Text), 5, None).to_vec();
    out.extend(b"Hello");
    assert_eq!(out, HELLO);
}
