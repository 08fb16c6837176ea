//! Times that an open connection keeps.

use std::io::ErrorKind;
use std::time::Duration;

use webscale_proto::Data;

use super::harness::World;
use super::recorder::{Seen, closed, seen};
use super::wire::{Frames, Item, close, text};
use crate::close::CloseKind;
use crate::limits::Limits;
use crate::slots::Token;

const MILLI: Duration = Duration::from_millis(1);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn silence_is_answered_with_a_ping_within_an_eighth() {
    for token in 0..2000 {
        let mut world = World::open(Limits::default());
        world.id.token = Token::from_u64(token);
        let after = world.connection.deadline(&world.config.limits, world.id) - world.now;
        assert!((secs(30)..=Duration::from_millis(33_750)).contains(&after), "{after:?}");
        if token % 500 == 0 {
            world.advance(after - MILLI);
            assert!(world.sent().is_empty());
            world.advance(MILLI);
            assert_eq!(world.items(), [Item::Ping(Vec::new())]);
        }
    }
}

#[test]
fn connections_accepted_together_are_spread() {
    let mut world = World::open(Limits::default());
    let due: std::collections::BTreeSet<_> = (0..256)
        .map(|token| {
            world.id.token = Token::from_u64(token);
            world.connection.deadline(&world.config.limits, world.id)
        })
        .collect();
    assert!(due.len() > 128, "{} times for 256 connections", due.len());
}

#[test]
fn a_pong_or_any_byte_begins_the_silence_anew() {
    for answer in [Frames::client().pong(b"").done(), vec![0x81]] {
        let mut world = World::open(Limits { message_time: Duration::MAX, ..Limits::default() });
        world.advance(secs(34));
        assert_eq!(world.items(), [Item::Ping(Vec::new())]);
        world.advance(secs(25));
        world.receive(&answer);
        world.advance(secs(29));
        assert!(world.sent().is_empty() && !world.is_dead());
        world.advance(secs(5));
        assert_eq!(world.items(), [Item::Ping(Vec::new())]);
    }
}

#[test]
fn what_a_peer_does_not_take_is_not_left_to_the_kernel() {
    for (room, resets) in [(usize::MAX, false), (10, true)] {
        let mut world = World::open(Limits::default());
        world.set_room(room);
        world.send(&"x".repeat(1000));
        world.advance(secs(65));
        assert!(world.is_dead());
        assert_eq!(world.line().resets, resets);
    }
}

#[test]
fn no_pong_ends_it() {
    let mut world = World::open(Limits::default());
    world.advance(secs(34));
    assert_eq!(world.items(), [Item::Ping(Vec::new())]);
    world.advance(secs(25));
    assert!(!world.is_dead());
    world.advance(secs(5));
    assert!(world.is_dead() && world.sent().is_empty());
    assert_eq!(world.seen(), [closed(1006, "", CloseKind::Timeout)]);
    assert_eq!(*world.handler.words.lock().unwrap(), "no answer to a ping");
}

#[test]
fn by_the_defaults_a_peer_that_vanished_is_gone_within_65_seconds_whatever_is_under_way() {
    for token in [0, 57, 255, 4711] {
        // Nothing is under way, or messages that the kernel takes and cannot deliver, or ones that it does not take.
        for (room, interval) in [(usize::MAX, 65), (usize::MAX, 1), (10_000, 1), (0, 7)] {
            let mut world = World::open(Limits::default());
            world.id.token = Token::from_u64(token);
            world.set_room(room);
            for _ in 0..65 / interval {
                world.send(&"x".repeat(1000));
                world.advance(secs(interval));
            }
            world.advance(secs(65 % interval));
            assert!(world.is_dead(), "{token}, room for {room} bytes, a message in {interval} s");
        }
    }
    assert!(Limits::default().user_timeout <= secs(65));
}

#[test]
fn a_peer_that_acknowledges_nothing_timed_out() {
    let mut world = World::open(Limits::default());
    world.line().error = Some(ErrorKind::TimedOut);
    world.pump();
    assert!(world.is_dead());
    assert_eq!(world.seen(), [closed(1006, "", CloseKind::Timeout)]);
    assert_eq!(*world.handler.words.lock().unwrap(), "nothing that was sent is acknowledged");
}

#[test]
fn a_peer_that_takes_bytes_slowly_is_alive_and_one_that_takes_none_is_not() {
    let mut world = World::open(Limits { egress_high_water: 1000, ..Limits::default() });
    world.set_room(0);
    world.send(&"x".repeat(2000));
    for _ in 0..20 {
        world.advance(secs(20));
        world.set_room(10);
        assert!(!world.is_dead());
    }
    world.advance(secs(70));
    assert!(world.is_dead());
    assert_eq!(world.seen(), [closed(1006, "", CloseKind::Timeout)]);
}

#[test]
fn who_speaks_and_does_not_read_is_closed_with_1008() {
    let reason = "messages are not read as fast as they are sent";
    let mut world = World::open(Limits::default());
    world.set_room(0);
    let ended = (1..=100).find_map(|seconds| {
        world.advance(secs(1));
        world.receive(&Frames::client().ping(b"are you there?").done());
        world.seen().pop().map(|seen| (seconds, seen))
    });
    let (seconds, seen) = ended.expect("it is ended");
    assert_eq!(seen, closed(1008, reason, CloseKind::SlowConsumer));
    // A ping within an eighth of half a minute, and half a minute for its answer.
    assert!((60..=65).contains(&seconds), "{seconds}");
    world.advance(secs(65));
    assert!(world.is_dead());
}

#[test]
fn who_speaks_and_reads_a_little_lives_on() {
    let mut world = World::open(Limits::default());
    world.set_room(0);
    world.send(&"x".repeat(2000));
    for _ in 0..100 {
        world.advance(secs(2));
        world.receive(&Frames::client().ping(b"are you there?").done());
        world.set_room(10);
    }
    assert!(world.seen().is_empty() && !world.is_dead());
}

#[test]
fn the_longest_times_switch_a_limit_off() {
    let limits = Limits {
        ping_after: Duration::MAX,
        pong_time: Duration::MAX,
        message_time: Duration::MAX,
        close_time: Duration::MAX,
        handshake_time: Duration::MAX,
        ..Limits::default()
    };
    let mut world = World::open(limits);
    world.receive(&Frames::client().fragment(Data::Text, false, b"a").done());
    world.advance(secs(1_000_000_000));
    assert!(world.sent().is_empty() && !world.is_dead());
}

#[test]
fn a_message_has_its_time_from_its_first_byte() {
    let reason = "the message took too long";
    // The first byte of a header, a frame without its end, a message without its last fragment.
    let beginnings = [
        vec![0x81],
        Frames::client().text("hello").done()[..7].to_vec(),
        Frames::client().fragment(Data::Text, false, b"hello").done(),
    ];
    for beginning in beginnings {
        let mut world = World::open(Limits::default());
        world.advance(secs(20));
        world.receive(&beginning);
        for _ in 0..59 {
            world.advance(secs(1));
            // Pings between the fragments are answered, and are not the message.
            if beginning.len() > 7 {
                world.receive(&Frames::client().ping(b"").done());
            }
        }
        assert!(!world.is_lingering());
        world.sent();
        world.advance(secs(1));
        assert_eq!(world.items(), [close(1008, reason)]);
        assert_eq!(world.seen(), [closed(1008, reason, CloseKind::Timeout)]);
    }
}

#[test]
fn a_message_that_is_not_read_since_its_client_takes_nothing_is_not_called_slow() {
    let limits = Limits { ping_after: Duration::MAX, egress_high_water: 1000, ..Limits::default() };
    let mut world = World::open(limits);
    world.receive(&Frames::client().text("hello").done()[..4]);
    world.set_room(0);
    world.send(&"x".repeat(2000));
    world.advance(secs(60));
    let reason = "messages are not read as fast as they are sent";
    assert_eq!(world.seen(), [closed(1008, reason, CloseKind::SlowConsumer)]);
}

#[test]
fn each_message_has_its_own_time() {
    let mut world = World::open(Limits::default());
    let frame = Frames::client().text("hello").done();
    world.receive(&frame[..4]);
    // Every turn ends one message and begins the next.
    let turn = [&frame[4..], &frame[..4]].concat();
    for _ in 0..10 {
        world.advance(secs(20));
        world.receive(&turn);
    }
    assert_eq!((world.items(), world.seen()), (vec![text("hello"); 10], vec![seen("hello"); 10]));
    world.advance(secs(60));
    assert_eq!(world.seen(), [closed(1008, "the message took too long", CloseKind::Timeout)]);
}

#[test]
fn fragments_of_messages_that_overlap_turns_have_their_own_time_too() {
    let mut world = World::open(Limits::default());
    world.receive(&Frames::client().fragment(Data::Text, false, b"a").done());
    let turn = Frames::client()
        .fragment(Data::Continuation, true, b"b")
        .fragment(Data::Text, false, b"a")
        .ping(b"")
        .done();
    for _ in 0..10 {
        world.advance(secs(20));
        world.receive(&turn);
    }
    assert_eq!(world.seen(), vec![seen("ab"); 10]);
}

#[test]
fn a_pong_is_told_to_the_handler_also_the_one_to_our_own_ping() {
    let mut world = World::open(Limits::default());
    world.receive(&Frames::client().pong(b"mine").pong(b"").done());
    assert_eq!(world.seen(), [Seen::Pong(b"mine".to_vec()), Seen::Pong(Vec::new())]);
}
