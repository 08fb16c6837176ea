//! permessage-deflate on a whole connection (RFC 7692).

use std::collections::VecDeque;

use webscale_proto::{
    Data, Decoder, DecoderConfig, Deflate, Deflater, Inflater, MaskKey, Message, Reserved, Role, Step,
    encoder,
};

use super::harness::World;
use super::recorder::{Seen, closed, seen};
use super::wire::{Frames, MASK, close, request, response, split_head};
use super::workers::Shop;
use crate::close::CloseKind;
use crate::limits::Limits;
use crate::target::Target;

pub(super) fn takeover() -> Deflate {
    Deflate::default().own_context_takeover(true).peer_context_takeover(true)
}

/// A server's side that agreed on what a client offers with these parameters.
pub(super) fn open(limits: Limits, deflate: Deflate, parameters: &str) -> World {
    let mut world = World::server(limits);
    world.config.deflate = Some(deflate);
    let head = String::from_utf8(request("/")).unwrap();
    let offer = format!("\r\nSec-WebSocket-Extensions: permessage-deflate{parameters}\r\n\r\n");
    world.receive(head.replace("\r\n\r\n", &offer).as_bytes());
    let sent = world.sent();
    assert!(split_head(&sent).0.contains("\r\nSec-WebSocket-Extensions: permessage-deflate"));
    assert_eq!(world.seen(), [Seen::Opened]);
    world
}

/// The peer: compresses, and reads what we send.
pub(super) struct Peer {
    deflater: Deflater,
    inflater: Inflater,
    mask: Option<MaskKey>,
}

impl Peer {
    pub(super) fn new(takeover: bool, mask: Option<MaskKey>) -> Self {
        Self { deflater: Deflater::new(6, 15, takeover), inflater: Inflater::new(15, takeover), mask }
    }

    pub(super) fn payload(&mut self, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.deflater.message(message, &mut out).expect("something that compresses").to_vec()
    }

    pub(super) fn text(&mut self, text: &str) -> Vec<u8> {
        let payload = self.payload(text.as_bytes());
        let mut frame = Vec::new();
        encoder::compressed(&mut frame, true, &payload, self.mask);
        frame
    }

    /// The messages in `bytes`, and how many of them were compressed.
    pub(super) fn read(&mut self, bytes: &[u8]) -> (Vec<String>, usize) {
        let role = if self.mask.is_some() { Role::Client } else { Role::Server };
        let config = DecoderConfig { reserved: Reserved::RSV1, ..DecoderConfig::new(role) };
        let (mut decoder, mut scratch, mut out) = (Decoder::new(), Vec::new(), Vec::new());
        let (mut rest, mut texts, mut compressed) = (bytes, Vec::new(), 0);
        while !rest.is_empty() {
            let (used, step) = decoder.decode(&config, rest, &mut scratch).expect("frames by the RFC");
            rest = &rest[used..];
            let message = match step {
                Step::Message(message) => message,
                Step::Extended { text, payload, .. } => {
                    compressed += 1;
                    self.inflater.message(payload, text, usize::MAX, &mut out).expect("DEFLATE")
                }
                other => panic!("{other:?}"),
            };
            let Message::Text(text) = message else { panic!("{message:?}") };
            texts.push(text.to_owned());
        }
        (texts, compressed)
    }
}

pub(super) fn long(word: &str) -> String {
    format!("{word} ").repeat(200)
}

#[test]
fn messages_are_inflated_and_answers_compressed_at_every_split() {
    let mut peer = Peer::new(false, Some(MASK));
    let frame = peer.text(&long("hello"));
    let short = Frames::client().text("short").done();
    let wire = [frame, short].concat();
    for cut in 0..=wire.len() {
        let mut world = open(Limits::default(), Deflate::default(), "");
        world.receive(&wire[..cut]);
        world.receive(&wire[cut..]);
        assert_eq!(world.seen(), [seen(&long("hello")), seen("short")], "cut at {cut}");
        assert_eq!(peer.read(&world.sent()), (vec![long("hello"), "short".into()], 1));
        assert_eq!(world.connection.buffered(), 0);
    }
}

#[test]
fn compressed_fragments_with_pings_between_are_one_message() {
    let mut world = open(Limits::default(), Deflate::default(), "; server_max_window_bits=9");
    let mut peer = Peer::new(false, Some(MASK));
    let payload = peer.payload(long("hello").as_bytes());
    let mut wire = Frames::client().fragment(Data::Text, false, &payload[..3]).done();
    wire[0] |= 0x40;
    world.receive(&wire);
    world
        .receive(&Frames::client().pong(b"between").fragment(Data::Continuation, true, &payload[3..]).done());
    assert_eq!(world.seen(), [Seen::Pong(b"between".to_vec()), seen(&long("hello"))]);
    assert_eq!(peer.read(&world.sent()), (vec![long("hello")], 1));
}

#[test]
fn context_taken_over_makes_the_next_message_small() {
    let mut world = open(Limits::default(), takeover(), "");
    let mut peer = Peer::new(true, Some(MASK));
    // Every word comes once.
    let text: String = (0..100u32).map(|n| format!("{:x}", n.wrapping_mul(2_654_435_761))).collect();
    let mut lengths = Vec::new();
    for _ in 0..3 {
        let frame = peer.text(&text);
        world.receive(&frame);
        assert_eq!(world.seen(), [seen(&text)]);
        let sent = world.sent();
        assert_eq!(peer.read(&sent), (vec![text.clone()], 1));
        lengths.push((frame.len(), sent.len()));
    }
    assert!(lengths[1].0 * 4 < lengths[0].0 && lengths[1].1 * 4 < lengths[0].1, "{lengths:?}");
}

#[test]
fn one_threads_codec_serves_connections_in_turn() {
    // Without context takeover nothing of one message shows in the next, also after a broken one.
    let mut world = open(Limits::default(), Deflate::default(), "");
    let mut peer = Peer::new(false, Some(MASK));
    for word in ["one", "two", "three"] {
        world.receive(&peer.text(&long(word)));
        assert_eq!(peer.read(&world.sent()), (vec![long(word)], 1));
    }
    let mut broken = Vec::new();
    encoder::compressed(&mut broken, true, &[0xff; 20], Some(MASK));
    world.receive(&broken);
    assert_eq!(world.items(), [close(1007, "compressed message is not valid DEFLATE")]);
}

fn fails(limits: Limits, frame: &[u8], code: u16, reason: &str) {
    let mut world = open(limits, Deflate::default(), "");
    world.receive(frame);
    assert_eq!(world.items(), [close(code, reason)]);
    assert_eq!(world.seen(), [closed(code, reason, CloseKind::Protocol)]);
}

#[test]
fn the_limit_counts_inflated_bytes_and_is_exact() {
    let limits = || Limits { message_bytes: 1000, ..Limits::default() };
    let mut peer = Peer::new(false, Some(MASK));
    let mut world = open(limits(), Deflate::default(), "");
    world.receive(&peer.text(&"x".repeat(1000)));
    assert_eq!(world.seen(), [seen(&"x".repeat(1000))]);
    fails(limits(), &peer.text(&"x".repeat(1001)), 1009, "message too big");
    fails(Limits::default(), &peer.text(&"x".repeat(50 << 20)), 1009, "message too big");
}

#[test]
fn bad_frames_get_the_code_that_the_rfc_names() {
    let reserved = "reserved bit set without an extension that uses it";
    let mut frame = Vec::new();
    for byte in [0x89, 0x8a, 0x88] {
        frame.clear();
        frame.extend_from_slice(&[byte | 0x40, 0x80, 1, 2, 3, 4]);
        fails(Limits::default(), &frame, 1002, reserved);
    }
    let mut peer = Peer::new(false, Some(MASK));
    let payload = peer.payload(&[&[b'x'; 200][..], &[0xff]].concat());
    frame.clear();
    encoder::compressed(&mut frame, true, &payload, Some(MASK));
    fails(Limits::default(), &frame, 1007, "text is not valid UTF-8");
    // Where it was not agreed on.
    for world in [World::open(Limits::default()), open_without_offer()] {
        let mut world = world;
        world.receive(&peer.text(&long("hello")));
        assert_eq!(world.items(), [close(1002, reserved)]);
    }
}

/// A server that would compress, and a client that did not offer it.
fn open_without_offer() -> World {
    let mut world = World::server(Limits::default());
    world.config.deflate = Some(Deflate::default());
    world.receive(&request("/"));
    assert!(!String::from_utf8(world.sent()).unwrap().contains("Extensions"));
    world.seen();
    world
}

#[test]
fn what_few_bytes_inflate_to_counts_against_the_turn() {
    let mut world = open(Limits::default(), Deflate::default(), "");
    let frame = Peer::new(false, Some(MASK)).text(&"x".repeat(1 << 20));
    assert!(frame.len() < 10_000);
    world.handler.is_silent = true;
    world.line().arriving.extend(frame.repeat(4));
    let ready = world.line().ready();
    world.turn(|connection, turn| connection.on_event(turn, ready));
    assert_eq!(world.seen().len(), 1);
    world.turn(|connection, turn| connection.on_ready(turn));
    assert_eq!(world.seen().len(), 1);
    world.pump();
    assert_eq!(world.seen().len(), 2);
    assert_eq!(world.connection.buffered(), 0);
}

#[test]
fn a_compressor_goes_with_the_session_to_a_worker() {
    for deflate in [Deflate::default(), takeover()] {
        let is_takeover = deflate == takeover();
        let world = open(Limits::default(), deflate, "");
        let mut peer = Peer::new(is_takeover, Some(MASK));
        let mut shop = Shop::over(world, 100);
        for word in ["one", "two", "three"] {
            shop.world.receive(&peer.text(&long(word)));
            // The loop sends while the worker has the compressor.
            shop.world.send(&long("pushed"));
            let (texts, compressed) = peer.read(&shop.world.sent());
            assert_eq!((texts, compressed), (vec![long("pushed")], usize::from(!is_takeover)));
            shop.work_all();
            assert_eq!(peer.read(&shop.world.sent()), (vec![long(word)], 1));
            shop.world.send(&long("pushed again"));
            assert_eq!(peer.read(&shop.world.sent()), (vec![long("pushed again")], 1));
        }
        shop.check();
    }
}

#[test]
fn a_full_queue_gives_the_compressor_back() {
    let mut shop = Shop::over(open(Limits::default(), takeover(), ""), 1);
    let mut peer = Peer::new(true, Some(MASK));
    let mut other = World::open(Limits::default());
    other.pool = Some(shop.workers.pool(shop.done.clone()));
    other.receive(&Frames::client().text("in the way").done());
    shop.world.receive(&peer.text(&long("waits")));
    shop.world.send(&long("pushed"));
    assert_eq!(peer.read(&shop.world.sent()), (vec![long("pushed")], 1));
    assert!(shop.work());
    let mut done = VecDeque::new();
    shop.done.take(&mut done);
    let back = done.pop_front().expect("the job of the other connection");
    other.turn(|connection, turn| connection.on_done(turn, back));
    shop.world.turn(|connection, turn| connection.on_room(turn));
    shop.work_all();
    assert_eq!(peer.read(&shop.world.sent()), (vec![long("waits")], 1));
    other.pool = None;
    shop.check();
}

/// A client that offers this, and what it asked for.
pub(super) fn asked(limits: Limits, deflate: Deflate) -> (World, String) {
    let target = Target::from_url("ws://127.0.0.1:9/").expect("a URL").deflate(deflate);
    let mut world = World::connecting(limits, None, target);
    world.pump();
    let request = String::from_utf8(world.sent()).unwrap();
    (world, request)
}

pub(super) fn answered(request: &str, extensions: &str) -> Vec<u8> {
    let head = String::from_utf8(response(request.as_bytes())).unwrap();
    head.replace("\r\n\r\n", &format!("\r\nSec-WebSocket-Extensions: {extensions}\r\n\r\n")).into_bytes()
}

#[test]
fn a_client_offers_masks_and_inflates() {
    let plain = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    for (deflate, extensions) in [
        (Deflate::default(), plain),
        (takeover(), "permessage-deflate"),
        (takeover(), "permessage-deflate; client_max_window_bits=9; server_max_window_bits=15"),
    ] {
        let (mut world, request) = asked(Limits::default(), deflate);
        assert!(request.contains("\r\nSec-WebSocket-Extensions: permessage-deflate; "), "{request}");
        world.receive(&answered(&request, extensions));
        assert_eq!(world.seen(), [Seen::Opened]);
        let mut peer = Peer::new(deflate == takeover(), None);
        for _ in 0..3 {
            world.receive(&peer.text(&long("hello")));
            assert_eq!(world.seen(), [seen(&long("hello"))]);
            let sent = world.sent();
            assert_eq!(sent[0] & 0xf0, 0xc0);
            assert_eq!(peer.read(&sent), (vec![long("hello")], 1));
        }
    }
}

#[test]
fn a_client_takes_a_server_that_declines_and_none_that_does_otherwise() {
    let (mut world, request) = asked(Limits::default(), Deflate::default());
    world.receive(&response(request.as_bytes()));
    assert_eq!(world.seen(), [Seen::Opened]);
    world.send(&long("hello"));
    assert_eq!(Peer::new(false, None).read(&world.sent()), (vec![long("hello")], 0));

    for extensions in
        ["permessage-deflate", "permessage-bzip2", "permessage-deflate; server_max_window_bits=99"]
    {
        let (mut world, request) = asked(Limits::default(), Deflate::default());
        world.receive(&answered(&request, extensions));
        assert!(world.is_dead());
        assert_eq!(world.seen(), [closed(1006, "", CloseKind::Upgrade)], "{extensions}");
    }
}
