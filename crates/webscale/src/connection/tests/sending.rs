//! Messages in fragments, messages for many, and a codec that fails.

use webscale_proto::{CloseCode, Deflate, Inflater, Message, Role};

use super::deflate::{Peer, long, open, takeover};
use super::harness::World;
use super::recorder::{Seen, closed, seen};
use super::wire::{Frames, Item, MASK, close, items_inflated, text};
use super::workers::Shop;
use crate::close::{CloseCause, CloseKind};
use crate::deflate::fault;
use crate::limits::{Limits, SlowConsumer};
use crate::peer::SendError;
use crate::prepared::Prepared;
use crate::sender::Parcel;

/// Little may wait for the peer.
fn limits(slow_consumer: SlowConsumer) -> Limits {
    Limits { egress_bytes: 2000, egress_high_water: 1000, slow_consumer, ..Limits::default() }
}

fn say(text: &str) -> Vec<u8> {
    Frames::client().text(text).done()
}

/// What the handler's sends came to.
fn results(world: &World) -> Vec<Result<(), SendError>> {
    let results = world.seen().into_iter().filter_map(|seen| match seen {
        Seen::Sent(result) => Some(result),
        _ => None,
    });
    results.collect()
}

#[test]
fn fragments_of_several_calls_are_one_message_with_control_frames_between() {
    let mut world = World::open(Limits::default());
    world.receive(&say("begin a"));
    let first = world.sent();
    assert_eq!(first, [0x01, 1, b'a']);
    world.receive(&Frames::client().ping(b"p").text("ping q").text("more b").done());
    let second = world.sent();
    assert_eq!(second[..], [&[0x8a, 1, b'p'], &[0x89, 1, b'q'], &[0x00u8, 1, b'b'][..]].concat());
    world.receive(&say("finish "));
    let third = world.sent();
    assert_eq!(third, [0x80, 0]);
    assert_eq!(results(&world), [Ok(()); 4]);
    assert_eq!(world.metrics.messages_out.get(), 1);
    world.receive(&say("finish alone"));
    assert_eq!(world.items(), [text("alone")]);
}

#[test]
fn nothing_else_stands_in_a_message_and_other_threads_wait() {
    let mut world = World::open(Limits::default());
    world.receive(&Frames::client().text("begin a").text("send x").text("share x").text("other x").done());
    let unfinished = Err(SendError::Unfinished);
    assert_eq!(results(&world), [Ok(()), unfinished, unfinished, unfinished]);
    assert_eq!(world.sent(), [0x01, 1, b'a']);
    world.send("pushed");
    world.parcel(Parcel::Prepared(Prepared::new(Message::Text("for all"))));
    assert!(world.sent().is_empty() && world.connection.buffered() > 0);
    world.receive(&Frames::client().text("finish b").text("send c").done());
    assert_eq!(world.sent()[..3], [0x80, 1, b'b']);
    world.receive(&say("send d"));
    assert_eq!(world.items(), [text("d")]);
    assert_eq!((world.connection.buffered(), world.metrics.messages_out.get()), (0, 5));
    assert_eq!(world.metrics.messages_dropped.get(), 0);
}

#[test]
fn what_waits_behind_a_message_that_is_never_finished_has_a_limit() {
    for policy in [SlowConsumer::Close, SlowConsumer::DropNewest] {
        let mut world = World::open(limits(policy));
        world.receive(&say("begin a"));
        for _ in 0..30 {
            world.send(&"x".repeat(100));
            assert!(world.connection.buffered() <= 2000);
        }
        assert!(world.metrics.messages_dropped.get() > 0);
        let mut sent = world.sent();
        if policy == SlowConsumer::Close {
            sent = sent.split_off(3);
            assert_eq!(sent[..4], [0x88, 2 + 46, 0x03, 0xf0]);
        } else {
            world.receive(&say("finish b"));
            assert!(world.sent().len() > 1000);
        }
    }
}

#[test]
fn a_connection_closes_over_an_unfinished_message() {
    let mut world = World::open(Limits::default());
    world.receive(&Frames::client().text("begin a").text("close 1000 bye").text("finish b").done());
    assert_eq!(world.sent(), [&[0x01, 1, b'a', 0x88, 5, 0x03, 0xe8][..], b"bye"].concat());
    world.receive(&Frames::client().close(1000, "").done());
    assert_eq!(world.seen().last(), Some(&closed(1000, "bye", CloseKind::Local)));

    let mut world = World::open(Limits::default());
    world.receive(&say("begin a"));
    world.send("waits");
    world.close(CloseCode::GOING_AWAY, "", CloseCause::Shutdown);
    assert_eq!(world.sent(), [0x01, 1, b'a', 0x88, 2, 0x03, 0xe9]);
}

#[test]
fn a_handler_can_send_as_much_as_there_is_room_for() {
    let mut world = World::open(limits(SlowConsumer::DropNewest));
    world.receive(&say("fill"));
    assert_eq!(results(&world), [Ok(()), Err(SendError::Full)]);
    world.receive(&say("finish !"));
    let items = world.items();
    assert!(matches!(&items[..], [Item::Text(text)] if text.len() == 2000 - 14 + 1), "{items:?}");
}

#[test]
fn what_waits_behind_a_message_has_its_room() {
    let mut world = World::open(limits(SlowConsumer::DropNewest));
    world.receive(&say("begin a"));
    world.send("waits");
    world.send(&"too long to be sent ever".repeat(100));
    world.receive(&say(&format!("finish {}", "x".repeat(2000 - 14))));
    assert_eq!(results(&world), [Ok(()), Err(SendError::Full)]);
    world.receive(&say("finish !"));
    assert_eq!(world.items(), [text("a!"), text("waits")]);
    assert_eq!(world.metrics.messages_dropped.get(), 1);
}

#[test]
fn workers_send_fragments_and_what_is_pushed_meanwhile_waits() {
    let mut shop = Shop::open(10);
    shop.world.receive(&Frames::client().text("begin a").text("more b").text("finish c").done());
    assert!(shop.work());
    shop.collect();
    assert_eq!(shop.world.sent(), [0x01, 1, b'a']);
    // The second is with a worker, inside the message.
    shop.world.send("pushed");
    assert!(shop.world.sent().is_empty());
    shop.work_all();
    assert_eq!(shop.world.sent()[..6], [0x00, 1, b'b', 0x80, 1, b'c']);
    shop.world.receive(&say("begin d"));
    // Not begun yet on the wire: it may go before.
    shop.world.send("pushed");
    assert_eq!(shop.world.items(), [text("pushed")]);
    shop.work_all();
    assert_eq!(shop.world.sent(), [0x01, 1, b'd']);
    shop.check();
}

#[test]
fn fragments_are_not_compressed_and_leave_the_compressors_memory_alone() {
    for deflate in [Deflate::default(), takeover()] {
        let mut world = open(Limits::default(), deflate, "");
        let mut inflater = Inflater::new(15, deflate == takeover());
        let word = long("hello");
        for _ in 0..3 {
            let wire = Frames::client().text(&format!("begin {word}")).text("finish .").text(&word).done();
            world.receive(&wire);
            let (items, _) = items_inflated(Role::Client, &world.sent(), Some(&mut inflater));
            assert_eq!(items, [text(&format!("{word}.")), text(&word)]);
        }
        assert_eq!(world.metrics.messages_out.get(), 6);
    }
}

#[test]
fn a_prepared_message_is_compressed_once_for_all() {
    let prepared = Prepared::new(Message::Text(&long("news")));
    let before = fault::calls();
    for _ in 0..5 {
        // Each connection is of a thread of its own, with compressors of its own.
        let mut world = open(Limits::default(), Deflate::default(), "");
        world.parcel(Parcel::Prepared(prepared.clone()));
        let (texts, compressed) = Peer::new(false, Some(MASK)).read(&world.sent());
        assert_eq!((texts, compressed), (vec![long("news")], 1));
    }
    assert_eq!(fault::calls() - before, 1);
    // Another window is another payload, and all of them that are smaller are the same one.
    for bits in 9..15 {
        let mut world =
            open(Limits::default(), Deflate::default(), &format!("; server_max_window_bits={bits}"));
        world.parcel(Parcel::Prepared(prepared.clone()));
        let (items, _) = items_inflated(Role::Client, &world.sent(), Some(&mut Inflater::new(9, false)));
        assert_eq!(items, [text(&long("news"))]);
    }
    assert_eq!(fault::calls() - before, 2);
    // What is short, or to one who remembers, or to one who agreed on nothing, goes as it is.
    for mut world in [open(Limits::default(), takeover(), ""), World::open(Limits::default())] {
        world.parcel(Parcel::Prepared(prepared.clone()));
        assert_eq!(world.items(), [text(&long("news"))]);
    }
    let mut world = open(Limits::default(), Deflate::default(), "");
    world.parcel(Parcel::Prepared(Prepared::new(Message::Text("short"))));
    assert_eq!(world.items(), [text("short")]);
    assert_eq!(fault::calls() - before, 2);
}

#[test]
fn a_thread_has_two_compressors_whatever_its_peers_ask_for() {
    // Something that a window of 512 bytes does not see.
    let noise: String = (0..300u32).map(|n| format!("{:x}", n.wrapping_mul(2_654_435_761))).collect();
    let message = noise.repeat(2);
    let lens = (9..=15).map(|bits| {
        let parameters = format!("; server_max_window_bits={bits}");
        let mut world = open(Limits::default(), Deflate::default(), &parameters);
        world.receive(&say(&message));
        let sent = world.sent();
        let inflater = &mut Inflater::new(bits, false);
        assert_eq!(items_inflated(Role::Client, &sent, Some(inflater)).0, [text(&message)]);
        sent.len()
    });
    let lens: Vec<_> = lens.collect();
    assert!(lens[..6].iter().all(|len| *len == lens[0]) && lens[6] < lens[0], "{lens:?}");
}

#[test]
fn compression_is_counted_both_ways() {
    let mut world = open(Limits::default(), Deflate::default(), "");
    let payload = Peer::new(false, Some(MASK)).payload(long("hello").as_bytes());
    world.receive(&Peer::new(false, Some(MASK)).text(&long("hello")));
    world.receive(&say("uncompressed"));
    let mut snapshot = crate::metrics::Snapshot::default();
    snapshot.add(&world.metrics);
    assert_eq!((snapshot.inflated_messages, snapshot.deflated_messages), (1, 1));
    assert_eq!(snapshot.inflated_from_bytes, payload.len() as u64);
    assert_eq!((snapshot.inflated_to_bytes, snapshot.deflated_from_bytes), (1200, 1200));
    assert!((1..1200).contains(&snapshot.deflated_to_bytes));
}

/// A codec that panics, as what the peer said or we said went through it.
fn fails(mut world: World, act: impl FnOnce(&mut World)) -> World {
    world.seen();
    fault::arm();
    act(&mut world);
    let reason = "the server failed to handle a message";
    assert_eq!(world.items(), [close(1011, reason)]);
    assert_eq!(world.seen().last(), Some(&closed(1011, reason, CloseKind::Fault)));
    world
}

#[test]
fn a_panic_of_the_codec_closes_its_connection_with_1011_and_harms_no_other() {
    for deflate in [Deflate::default(), takeover()] {
        let new =
            || open(Limits { message_bytes: 2000, stream_bytes: 1 << 20, ..Limits::default() }, deflate, "");
        let mut peer = Peer::new(deflate == takeover(), Some(MASK));
        let frame = peer.text(&long("hello"));
        let mut next = new();
        for mut failed in [
            fails(new(), |world| world.receive(&frame)),
            fails(new(), |world| world.receive(&say(&long("echoed")))),
            fails(new(), |world| world.send(&long("pushed"))),
        ] {
            failed.swap_thread(&mut next);
        }
        // The next connection of the thread has a codec that works.
        next.receive(&frame);
        assert_eq!(next.seen(), [seen(&long("hello"))]);
        let (items, _) = items_inflated(Role::Client, &next.sent(), Some(&mut Inflater::new(15, false)));
        assert_eq!(items, [text(&long("hello"))]);
    }
    let prepared = Prepared::new(Message::Text(&long("news")));
    fails(open(Limits::default(), Deflate::default(), ""), |world| {
        world.parcel(Parcel::Prepared(prepared.clone()));
    });
    let mut shop = Shop::over(open(Limits::default(), Deflate::default(), ""), 10);
    shop.world.receive(&say(&long("hello")));
    fault::arm();
    shop.work_all();
    assert_eq!(shop.world.items(), [close(1011, "the server failed to handle a message")]);
    shop.check();
}
