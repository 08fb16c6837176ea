//! What breaks the protocol, the close code that RFC 6455 has for it, and the words that say what was wrong.

use webscale_proto::{Data, Deflate, Role, encoder};

use super::deflate::{Peer, answered, asked, open};
use super::harness::World;
use super::recorder::{Seen, closed};
use super::wire::{Frames, Item, MASK, close, response};
use crate::close::CloseKind;
use crate::limits::Limits;
use crate::target::Target;

const RESERVED: &str = "reserved bit set without an extension that uses it";
const OPCODE: &str = "unknown opcode";
const FRAGMENTED: &str = "fragmented control frame";
const LONG_CONTROL: &str = "control frame longer than 125 bytes";
const LENGTH: &str = "payload length not in its shortest form";
const OVERFLOW: &str = "payload length above 63 bits";
const BIG: &str = "message too big";
const UTF8: &str = "text is not valid UTF-8";
const DEFLATE: &str = "compressed message is not valid DEFLATE";

/// Frames of the peer of this role, their code and the reason.
type Case = (Vec<u8>, u16, &'static str);

/// A frame with this first byte and payload, and the mask that a peer has to set.
fn frame(role: Role, first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mask = (role == Role::Server).then_some(MASK);
    encoder::fragment(&mut out, Data::Binary, true, payload, mask);
    out[0] = first;
    out
}

/// A frame whose length is written as it stands in `length`.
fn with_length(role: Role, first: u8, length: &[u8]) -> Vec<u8> {
    let mut out = [&[first], length, &MASK].concat();
    out[1] |= if role == Role::Server { 0x80 } else { 0 };
    out
}

/// What is wrong whether messages are compressed or not.
fn cases(role: Role) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        cases.push((frame(role, 0x80 | opcode, b""), 1002, OPCODE));
    }
    // RSV2 and RSV3 are nobody's, and RSV1 stands on the first frame of a message alone.
    for opcode in [1, 2, 8, 9, 10] {
        cases.push((frame(role, 0x80 | 0x20 | opcode, b""), 1002, RESERVED));
        cases.push((frame(role, 0x80 | 0x10 | opcode, b""), 1002, RESERVED));
    }
    for opcode in [8, 9, 10] {
        cases.push((frame(role, 0x80 | 0x40 | opcode, b""), 1002, RESERVED));
        cases.push((frame(role, opcode, b""), 1002, FRAGMENTED));
        cases.push((frame(role, 0x80 | opcode, &[0; 126]), 1002, LONG_CONTROL));
    }
    for length in [&[126, 0, 125][..], &[127, 0, 0, 0, 0, 0, 0, 0xff, 0xff]] {
        cases.push((with_length(role, 0x82, length), 1002, LENGTH));
    }
    cases.push((with_length(role, 0x82, &[127, 0x80, 0, 0, 0, 0, 0, 0, 0]), 1002, OVERFLOW));
    cases.push((with_length(role, 0x82, &[127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), 1009, BIG));
    cases.push((frame(role, 0x82, &[0; 2001]), 1009, BIG));
    let begun = frame(role, 0x01, b"begun");
    for opcode in [1, 2] {
        let input = [&begun[..], &frame(role, 0x80 | opcode, b"new")].concat();
        cases.push((input, 1002, "new message inside a fragmented message"));
    }
    for first in [0x00, 0x80] {
        let reason = "continuation frame without a message to continue";
        cases.push((frame(role, first, b"x"), 1002, reason));
    }
    for text in [&b"\xff"[..], b"ok \xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"cut \xe2\x82"] {
        cases.push((frame(role, 0x81, text), 1007, UTF8));
        cases.push((frame(role, 0x88, &[&[0x03, 0xe8], text].concat()), 1007, UTF8));
    }
    cases.push(([&begun[..], &frame(role, 0x00, b"\xff")].concat(), 1007, UTF8));
    cases.push((frame(role, 0x88, &[3]), 1002, "close frame with a payload of one byte"));
    // `webscale-proto` tries them all.
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 9999, u16::MAX] {
        cases.push((frame(role, 0x88, &code.to_be_bytes()), 1002, "close code that may not be sent"));
    }
    match role {
        Role::Server => cases.push((Frames::server().text("x").done(), 1002, "unmasked frame from a client")),
        Role::Client => cases.push((Frames::client().text("x").done(), 1002, "masked frame from a server")),
    }
    cases
}

/// What is wrong with compressed messages.
fn compressed_cases(role: Role) -> Vec<Case> {
    let mut peer = Peer::new(false, None);
    let mut cases: Vec<Case> = vec![
        (frame(role, 0xc2, &[0xff; 20]), 1007, DEFLATE),
        // Ends inside a block.
        (frame(role, 0xc2, &[0x00, 0x05]), 1007, DEFLATE),
        (frame(role, 0xc1, &peer.payload(&[&[b'x'; 200][..], &[0xff]].concat())), 1007, UTF8),
        (frame(role, 0xc2, &peer.payload(&[b'x'; 2001])), 1009, BIG),
    ];
    let begun = frame(role, 0x42, b"x");
    cases.push(([&begun[..], &frame(role, 0xc0, b"x")].concat(), 1002, RESERVED));
    cases
}

fn limits() -> Limits {
    Limits { message_bytes: 2000, ..Limits::default() }
}

/// A connection of this role, open and out of sight.
fn opened(role: Role, is_compressed: bool) -> World {
    match (role, is_compressed) {
        (Role::Server, false) => World::open(limits()),
        (Role::Server, true) => open(limits(), Deflate::default(), ""),
        (Role::Client, _) => {
            let (mut world, request) = if is_compressed {
                asked(limits(), Deflate::default())
            } else {
                let target = Target::from_url("ws://127.0.0.1:9/").expect("a URL");
                let mut world = World::connecting(limits(), None, target);
                world.pump();
                let request = String::from_utf8(world.sent()).expect("a head");
                (world, request)
            };
            let both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
            let plain = response(request.as_bytes());
            world.receive(&if is_compressed { answered(&request, both) } else { plain });
            assert_eq!(world.seen(), [Seen::Opened]);
            world
        }
    }
}

#[test]
fn everything_malformed_gets_its_code_and_the_reason() {
    for role in [Role::Server, Role::Client] {
        for is_compressed in [false, true] {
            let mut all = cases(role);
            if is_compressed {
                all.extend(compressed_cases(role));
            } else {
                all.extend([1, 2].map(|opcode| (frame(role, 0xc0 | opcode, b""), 1002, RESERVED)));
            }
            for (input, code, reason) in all {
                let mut world = opened(role, is_compressed);
                world.receive(&input);
                let shown = &input[..input.len().min(20)];
                assert_eq!(world.items(), [close(code, reason)], "{role:?} {shown:02x?}");
                // Nothing of it reached the handler.
                assert_eq!(
                    world.seen(),
                    [closed(code, reason, CloseKind::Protocol)],
                    "{role:?} {shown:02x?}"
                );
            }
        }
    }
}

#[test]
fn the_codes_that_may_be_sent_are_taken() {
    for code in [1000, 1003, 1007, 1014, 3000, 4999] {
        let mut world = World::open(limits());
        world.receive(&frame(Role::Server, 0x88, &u16::to_be_bytes(code)));
        assert!(matches!(&world.items()[..], [Item::Close(Some(echoed), _)] if *echoed == code));
    }
}
