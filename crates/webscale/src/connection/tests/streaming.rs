//! Messages that are longer than what a connection may hold reach the handler in chunks.

use std::time::Duration;

use webscale_proto::{CloseCode, Data, Deflate, Inflater, Role, encoder};

use super::deflate::{Peer, open, takeover};
use super::harness::World;
use super::recorder::{Seen, closed, joined, seen};
use super::wire::{Frames, Item, MASK, close, items_inflated, text};
use super::workers::Shop;
use crate::close::{CloseCause, CloseKind};
use crate::limits::Limits;

fn limits(message_bytes: usize, stream_bytes: u64) -> Limits {
    Limits { message_bytes, stream_bytes, ..Limits::default() }
}

/// A compressed text in frames of `step` bytes, with a ping behind each but the last.
fn fragments(payload: &[u8], step: usize) -> Vec<u8> {
    let last = (payload.len() - 1) / step;
    let mut wire = Frames::client();
    for (index, part) in payload.chunks(step).enumerate() {
        let opcode = if index == 0 { Data::Text } else { Data::Continuation };
        wire = wire.fragment(opcode, index == last, part);
        if index < last {
            wire = wire.ping(b"p");
        }
    }
    let mut wire = wire.done();
    wire[0] |= 0x40;
    wire
}

#[test]
fn a_long_message_comes_in_chunks_and_a_short_one_whole_at_every_split() {
    let long = "zwölf Bäume stehen im Wald";
    let wire = Frames::client()
        .text("short")
        .text(long)
        .fragment(Data::Text, false, "0123456ä".as_bytes())
        .ping(b"p")
        .fragment(Data::Continuation, true, "ö und mehr".as_bytes())
        .binary(&[7; 10])
        .done();
    for cut in 0..=wire.len() {
        let mut world = World::open(limits(10, 40));
        world.receive(&wire[..cut]);
        world.receive(&wire[cut..]);
        let all = [seen("short"), seen(long), seen("0123456äö und mehr"), Seen::Binary(vec![7; 10])];
        assert_eq!(joined(world.seen()), (all.to_vec(), None), "cut at {cut}");
        let echoes = world.items().into_iter().filter(|item| !matches!(item, Item::Pong(_)));
        let echoes: Vec<_> = echoes.collect();
        assert_eq!(
            echoes,
            [text("short"), text(long), text("0123456äö und mehr"), Item::Binary(vec![7; 10])]
        );
        assert_eq!((world.connection.buffered(), world.metrics.messages_in.get()), (0, 4));
        assert_eq!(world.metrics.messages_out.get(), 4);
    }
}

#[test]
fn a_connection_holds_nothing_of_what_it_has_given() {
    let mut world = World::open(limits(1000, 1 << 30));
    world.handler.is_silent = true;
    let frame = Frames::client().binary(&[1; 3_000_000]).done();
    let mut given = 0;
    for piece in frame.chunks(10_000) {
        world.receive(piece);
        assert_eq!(world.connection.buffered(), 0);
        for seen in world.seen() {
            let Seen::Chunk { data, .. } = seen else { panic!("{seen:?}") };
            given += data.len();
        }
    }
    assert_eq!(given, 3_000_000);
}

#[test]
fn the_limit_is_exact_and_one_byte_more_is_1009_without_a_last_chunk() {
    let mut peer = Peer::new(false, Some(MASK));
    for deflate in [false, true] {
        for above in [0, 1] {
            let message = "x".repeat(5000 + above);
            let (mut world, wire) = if deflate {
                (open(limits(1000, 5000), Deflate::default(), ""), peer.text(&message))
            } else {
                (World::open(limits(1000, 5000)), Frames::client().text(&message).done())
            };
            world.handler.is_silent = true;
            world.receive(&wire);
            let (all, rest) = joined(world.seen());
            if above == 0 {
                assert_eq!((all, rest), (vec![seen(&message)], None));
            } else {
                assert_eq!(world.items(), [close(1009, "message too big")]);
                assert_eq!(all, [closed(1009, "message too big", CloseKind::Protocol)]);
                assert!(rest.is_none_or(|rest| rest.len() <= 5000));
            }
        }
    }
}

#[test]
fn a_bomb_is_inflated_a_turns_share_at_a_time() {
    let mut world = open(limits(64 << 10, 40 << 20), Deflate::default(), "");
    world.handler.is_silent = true;
    let wire = Peer::new(false, Some(MASK)).text(&"x".repeat(40 << 20));
    world.line().arriving.extend(&wire);
    let (mut given, mut turns) = (0, 0);
    while given < 40 << 20 {
        let ready = world.line().ready();
        world.turn(|connection, turn| {
            if connection.is_ready() {
                connection.on_ready(turn);
            } else {
                connection.on_event(turn, ready);
            }
        });
        assert!(world.connection.buffered() <= wire.len() * 2, "{}", world.connection.buffered());
        let chunks: Vec<_> = world.seen();
        let lens = chunks.iter().map(|seen| match seen {
            Seen::Chunk { data, .. } => data.len(),
            other => panic!("{other:?}"),
        });
        let len: usize = lens.sum();
        assert!(len <= 2 << 20, "{len} bytes in one turn");
        given += len;
        turns += 1;
    }
    assert!(turns >= 20, "{turns}");
    assert_eq!((given, world.connection.buffered()), (40 << 20, 0));
    // The thread's decompressor is back.
    world.receive(&Peer::new(false, Some(MASK)).text(&"y".repeat(1000)));
    assert_eq!(world.seen(), [seen(&"y".repeat(1000))]);
}

#[test]
fn compressed_messages_in_65536_fragments_with_pings_between() {
    // Every word comes once, so that the payload is long.
    let text: String = (0..20_000u32).map(|n| format!("{:x}ä ", n.wrapping_mul(2_654_435_761))).collect();
    for deflate in [Deflate::default(), takeover()] {
        let is_takeover = deflate == takeover();
        for (message_bytes, stream_bytes) in [(1 << 20, 0), (1000, 1 << 20), (200_000, 1 << 20)] {
            let mut world = open(limits(message_bytes, stream_bytes), deflate, "");
            world.handler.is_silent = true;
            let mut peer = Peer::new(is_takeover, Some(MASK));
            let payload = peer.payload(text.as_bytes());
            assert!(payload.len() > 65_536);
            world.receive(&fragments(&payload, 1));
            world.receive(&peer.text(&text));
            assert_eq!(joined(world.seen()), (vec![seen(&text), seen(&text)], None));
            assert_eq!(world.connection.buffered(), 0);
        }
    }
}

#[test]
fn echoes_of_a_compressed_stream_come_back() {
    let message = format!("{}ö", "long and dull ".repeat(5000));
    for deflate in [Deflate::default(), takeover()] {
        let is_takeover = deflate == takeover();
        let mut world = open(limits(1000, 1 << 20), deflate, "");
        let mut peer = Peer::new(is_takeover, Some(MASK));
        for _ in 0..3 {
            let payload = peer.payload(message.as_bytes());
            let wire = fragments(&payload, 50);
            for piece in wire.chunks(37) {
                world.receive(piece);
            }
            world.receive(&peer.text("a short one, a short one, a short one, a short one"));
            let short = "a short one, a short one, a short one, a short one";
            assert_eq!(joined(world.seen()), (vec![seen(&message), seen(short)], None));
            let mut inflater = Inflater::new(15, is_takeover);
            let (items, _) = items_inflated(Role::Client, &world.sent(), Some(&mut inflater));
            let items: Vec<_> = items.into_iter().filter(|item| !matches!(item, Item::Pong(_))).collect();
            assert_eq!(items, [text(&message), text(short)]);
        }
    }
}

#[test]
fn what_turns_out_invalid_has_no_last_chunk() {
    let mut peer = Peer::new(false, Some(MASK));
    let mut bad_text = peer.payload(&[&[b'x'; 3000][..], &[0xff], &[b'x'; 10]].concat());
    let mut cut_text = peer.payload(&[&[b'x'; 3000][..], &[0xc3]].concat());
    // Noise is longer compressed, so that the fault comes in a part of its own.
    let noise: String = (0..2000u32).map(|n| format!("{:x}", n.wrapping_mul(2_654_435_761))).collect();
    let mut bad_deflate = peer.payload(noise.as_bytes());
    let end = bad_deflate.len() - 1;
    bad_deflate.truncate(end);
    let cases = [
        (&mut bad_text, "text is not valid UTF-8"),
        (&mut cut_text, "text is not valid UTF-8"),
        (&mut bad_deflate, "compressed message is not valid DEFLATE"),
    ];
    for (payload, reason) in cases {
        let mut wire = Vec::new();
        encoder::compressed(&mut wire, true, payload, Some(MASK));
        let mut world = open(limits(1000, 1 << 20), Deflate::default(), "");
        world.handler.is_silent = true;
        for byte in wire {
            world.receive(&[byte]);
        }
        let (all, rest) = joined(world.seen());
        assert_eq!(all, [closed(1007, reason, CloseKind::Protocol)]);
        assert!(rest.is_some(), "some of it came");
        assert_eq!(world.items(), [close(1007, reason)]);
    }
    let mut world = World::open(limits(10, 1000));
    world.receive(&Frames::client().fragment(Data::Text, false, &[b'x'; 20]).text("another").done());
    let (all, rest) = joined(world.seen());
    assert_eq!(rest, Some(vec![b'x'; 20]));
    assert_eq!(all, [closed(1002, "new message inside a fragmented message", CloseKind::Protocol)]);
}

#[test]
fn a_handler_may_close_or_fail_in_a_chunk() {
    for deflate in [false, true] {
        for (word, code) in [("close", 1000), ("panic", 1011)] {
            let mut peer = Peer::new(false, Some(MASK));
            // The first chunk ends with the word.
            let message = "x".repeat(if deflate { 96 } else { 95 }) + word + &"y".repeat(500_000);
            let (mut world, wire) = if deflate {
                (open(limits(100, 1 << 20), Deflate::default(), ""), peer.text(&message))
            } else {
                (World::open(limits(100, 1 << 20)), Frames::client().text(&message).done())
            };
            if deflate {
                world.receive(&wire);
            } else {
                let head = wire.len() - 500_000;
                world.receive(&wire[..head]);
                world.receive(&wire[head..]);
            }
            let items = world.items();
            assert!(matches!(&items[..], [Item::Close(Some(sent), _)] if *sent == code), "{items:?}");
            world.receive(&Frames::client().close(code, "").done());
            let (all, rest) = joined(world.seen());
            assert!(matches!(&all[..], [Seen::Closed(closed, ..)] if *closed == code), "{all:?}");
            assert!(rest.is_some_and(|rest| rest.ends_with(word.as_bytes())));
        }
    }
}

#[test]
fn chunks_go_to_workers_in_order_and_one_at_a_time() {
    let message = "0123456789".repeat(500);
    for deflate in [false, true] {
        let (world, wire) = if deflate {
            let wire = Peer::new(false, Some(MASK)).text(&message);
            (open(limits(100, 1 << 20), Deflate::default(), ""), wire)
        } else {
            (World::open(limits(100, 1 << 20)), Frames::client().text(&message).done())
        };
        let mut shop = Shop::over(world, 10);
        for piece in wire.chunks(20) {
            shop.world.line().arriving.extend(piece);
            shop.world.pump();
        }
        shop.world.line().arriving.extend(Frames::client().text("behind").done());
        shop.world.pump();
        assert!(!shop.world.connection.interest().read, "one is away, one waits");
        // It is we who are slow: no time of the peer's runs out.
        shop.world.advance(Duration::from_secs(1000));
        assert!(!shop.world.is_dead());
        shop.work_all();
        shop.world.pump();
        shop.work_all();
        let (all, rest) = joined(shop.world.seen());
        assert_eq!((all, rest), (vec![seen(&message), seen("behind")], None));
        let (items, _) =
            items_inflated(Role::Client, &shop.world.sent(), Some(&mut Inflater::new(15, false)));
        assert_eq!(items, [text(&message), text("behind")]);
        assert_eq!(shop.world.metrics.messages_in.get(), 2);
        shop.check();
    }
}

#[test]
fn a_stream_that_is_cut_off_ends_with_one_close() {
    let mut peer = Peer::new(true, Some(MASK));
    let wire = peer.text(&"x".repeat(1 << 20));
    let mut world = open(limits(1000, 1 << 30), takeover(), "");
    world.handler.is_silent = true;
    world.line().arriving.extend(&wire);
    let ready = world.line().ready();
    world.turn(|connection, turn| connection.on_event(turn, ready));
    world.close(CloseCode::NORMAL, "ours", CloseCause::Local);
    world.receive(&Frames::client().close(1000, "").done());
    let (all, rest) = joined(world.seen());
    assert_eq!(all, [closed(1000, "ours", CloseKind::Local)]);
    assert!(rest.is_some());
}

#[test]
fn a_shutdown_waits_for_the_chunks_of_a_message_that_was_received() {
    let mut peer = Peer::new(true, Some(MASK));
    let message = "x".repeat(1 << 20);
    let mut world = open(limits(1000, 1 << 30), takeover(), "");
    world.handler.is_silent = true;
    world.line().arriving.extend(&peer.text(&message));
    let ready = world.line().ready();
    world.turn(|connection, turn| connection.on_event(turn, ready));
    world.close(CloseCode::GOING_AWAY, "ours", CloseCause::Shutdown);
    world.receive(&Frames::client().close(1001, "").done());
    let (all, rest) = joined(world.seen());
    assert_eq!(all, [seen(&message), closed(1001, "ours", CloseKind::Shutdown)]);
    assert!(rest.is_none());
}
