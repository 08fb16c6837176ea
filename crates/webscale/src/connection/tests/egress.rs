//! A peer that reads slowly, or not at all.

use webscale_proto::CloseCode;

use super::harness::World;
use super::recorder::{Seen, closed, seen};
use super::socket::End;
use super::wire::{Frames, Item, close, text};
use crate::close::{CloseCause, CloseKind};
use crate::limits::{Limits, SlowConsumer};
use crate::peer::SendError;

/// Why a slow consumer is closed.
const SLOW: &str = "messages are not read as fast as they are sent";

fn limits() -> Limits {
    Limits { egress_bytes: 4000, egress_high_water: 1000, ..Limits::default() }
}

#[test]
fn what_the_socket_takes_byte_by_byte_arrives_in_order() {
    let mut world = World::open(Limits::default());
    world.line().send_max = 1;
    world.set_room(0);
    for n in 0..10 {
        world.receive(&Frames::client().text(&format!("message {n}")).done());
    }
    let interest = world.connection.interest();
    assert!(interest.write && interest.read);
    world.set_room(usize::MAX);
    let expected: Vec<_> = (0..10).map(|n| text(&format!("message {n}"))).collect();
    assert_eq!(world.items(), expected);
    assert!(!world.connection.interest().write);
    assert_eq!(world.connection.buffered(), 0);
}

#[test]
fn above_the_high_water_mark_nothing_is_read_and_below_half_of_it_it_is() {
    let mut world = World::open(limits());
    world.set_room(0);
    world.receive(&Frames::client().binary(&[1; 996]).done());
    // 1,000 bytes with their header: at the mark.
    assert_eq!(world.connection.buffered(), 1000);
    assert!(world.connection.interest().read);
    world.receive(&Frames::client().text("").done());
    assert!(!world.connection.interest().read);
    world.receive(&Frames::client().text("waits").done());
    assert_eq!(world.seen().len(), 2);
    world.set_room(501);
    assert!(!world.connection.interest().read, "501 bytes are left");
    world.set_room(1);
    assert_eq!(world.seen(), [seen("waits")]);
    assert!(world.connection.interest().read);
    world.set_room(usize::MAX);
    assert_eq!(world.items(), [Item::Binary(vec![1; 996]), text(""), text("waits")]);
}

#[test]
fn frames_that_were_received_wait_while_the_peer_does_not_read() {
    let mut world = World::open(Limits { turn_frames: 2, ..limits() });
    world.set_room(0);
    world.receive(&Frames::client().binary(&[1; 600]).binary(&[2; 600]).binary(&[3; 600]).done());
    assert_eq!(world.seen().len(), 2);
    assert!(!world.connection.is_ready() && !world.connection.interest().read);
    world.set_room(usize::MAX);
    assert_eq!(world.items().len(), 3);
}

#[test]
fn a_peer_that_does_not_read_is_owed_one_pong() {
    let mut world = World::open(limits());
    world.set_room(0);
    world.receive(&Frames::client().text("queued").done());
    let queued = world.connection.buffered();
    for n in 0..100 {
        world.receive(&Frames::client().ping(&[n; 125]).done());
        assert_eq!(world.connection.buffered(), queued + 125);
    }
    world.receive(&Frames::client().ping(b"latest").done());
    // It is still read, and its pong stands behind what was queued before, not behind each part of it.
    assert!(world.connection.interest().read);
    world.set_room(1);
    assert_eq!(world.connection.buffered(), queued + 6);
    world.set_room(usize::MAX);
    assert_eq!(world.items(), [text("queued"), Item::Pong(b"latest".to_vec())]);
    assert_eq!(world.connection.buffered(), 0);
    world.receive(&Frames::client().ping(b"one").ping(b"two").done());
    assert_eq!(world.items(), [Item::Pong(b"one".to_vec()), Item::Pong(b"two".to_vec())]);
}

#[test]
fn a_pong_that_the_socket_does_not_take_is_queued_and_the_next_one_waits_for_it() {
    let mut world = World::open(limits());
    world.set_room(1);
    world.receive(&Frames::client().ping(b"first").done());
    for ping in [b"second", b"third."] {
        world.receive(&Frames::client().ping(ping).done());
    }
    world.set_room(7);
    world.set_room(usize::MAX);
    assert_eq!(world.items(), [Item::Pong(b"first".to_vec()), Item::Pong(b"third.".to_vec())]);
}

#[test]
fn a_pong_that_is_owed_goes_out_before_what_arrives_with_the_room_for_it() {
    let mut world = World::open(limits());
    world.set_room(0);
    world.receive(&Frames::client().text("queued").ping(b"not yet").done());
    world.receive(&Frames::client().ping(b"owed").done());
    world.line().arriving.extend(Frames::client().text("last").ping(b"now").done());
    world.set_room(usize::MAX);
    let expected = [
        text("queued"),
        Item::Pong(b"not yet".to_vec()),
        Item::Pong(b"owed".to_vec()),
        text("last"),
        Item::Pong(b"now".to_vec()),
    ];
    assert_eq!(world.items(), expected);
}

#[test]
fn no_pong_follows_a_close_frame() {
    let mut world = World::open(limits());
    world.set_room(0);
    world.receive(&Frames::client().text("queued").done());
    world.receive(&Frames::client().ping(b"owed").done());
    world.close(CloseCode::NORMAL, "", CloseCause::Local);
    world.set_room(usize::MAX);
    assert_eq!(world.items(), [text("queued"), close(1000, "")]);
    assert_eq!(world.connection.buffered(), 0);
}

#[test]
fn at_the_cap_the_connection_is_closed_with_1008() {
    let mut world = World::open(limits());
    world.set_room(0);
    world.receive(&Frames::client().text("bytes 900").text("bytes 3000").text("bytes 300").done());
    let outcomes: Vec<_> = world.seen().into_iter().filter(|seen| !matches!(seen, Seen::Text(_))).collect();
    assert_eq!(
        outcomes,
        [
            Seen::Sent(Ok(())),
            Seen::Sent(Ok(())),
            Seen::Sent(Err(SendError::Full)),
            closed(1008, SLOW, CloseKind::SlowConsumer),
        ]
    );
    // What was queued before is still delivered, should the peer read at last.
    world.set_room(usize::MAX);
    assert_eq!(world.items(), [Item::Binary(vec![7; 900]), Item::Binary(vec![7; 3000]), close(1008, SLOW)]);
    assert!(world.is_lingering());
}

#[test]
fn at_the_cap_a_message_of_another_thread_closes_as_well() {
    let mut world = World::open(limits());
    world.set_room(0);
    world.send(&"x".repeat(3000));
    assert_eq!(world.seen(), []);
    world.send(&"x".repeat(1000));
    assert_eq!(world.seen(), [closed(1008, SLOW, CloseKind::SlowConsumer)]);
}

#[test]
fn under_drop_messages_that_do_not_fit_are_counted_and_the_connection_lives() {
    let mut world = World::open(Limits { slow_consumer: SlowConsumer::DropNewest, ..limits() });
    world.set_room(0);
    world.send(&"x".repeat(3000));
    world.send(&"y".repeat(1000));
    world.send("fits");
    assert_eq!(world.metrics.messages_dropped.get(), 1);
    world.set_room(usize::MAX);
    assert_eq!(world.items(), [text(&"x".repeat(3000)), text("fits")]);
    assert_eq!((world.seen(), world.metrics.messages_out.get()), (vec![Seen::Drained], 2));
}

#[test]
fn a_message_longer_than_the_cap_is_refused_and_the_connection_lives() {
    let mut world = World::open(limits());
    world.receive(&Frames::client().text("bytes 3987").text("bytes 3986").done());
    let sent: Vec<_> = world.seen().into_iter().filter(|seen| matches!(seen, Seen::Sent(_))).collect();
    assert_eq!(sent, [Seen::Sent(Err(SendError::TooLong)), Seen::Sent(Ok(()))]);
    assert_eq!(world.items(), [Item::Binary(vec![7; 3986])]);
    world.send(&"x".repeat(5000));
    assert!(world.items().is_empty() && world.seen().is_empty());
    assert_eq!(world.metrics.messages_dropped.get(), 2);
}

#[test]
fn a_ping_that_does_not_fit_is_no_dropped_message() {
    let mut world = World::open(Limits { slow_consumer: SlowConsumer::DropNewest, ..limits() });
    world.receive(&Frames::client().text("bytes 3970").text("ping 12345").done());
    assert!(world.seen().contains(&Seen::Sent(Err(SendError::Full))));
    assert_eq!(world.metrics.messages_dropped.get(), 0);
}

#[test]
fn a_reset_while_bytes_are_queued_ends_it() {
    let mut world = World::open(limits());
    world.set_room(0);
    world.receive(&Frames::client().binary(&[1; 600]).done());
    world.end(End::Reset);
    assert!(world.is_dead());
    assert_eq!(world.seen().last(), Some(&closed(1006, "", CloseKind::Lost)));
}

#[test]
fn a_reset_while_reading_is_paused_ends_it_without_reading_on() {
    let mut world = World::open(limits());
    world.set_room(0);
    world.receive(&Frames::client().binary(&[1; 2000]).done());
    assert!(!world.connection.interest().read);
    world.seen();
    let turns = world.turns;
    world.line().arriving.extend(Frames::client().text("never read").done());
    world.end(End::Reset);
    assert!(world.is_dead());
    assert_eq!(world.turns, turns + 1);
    assert_eq!(world.seen(), [closed(1006, "", CloseKind::Lost)]);
    assert_eq!(*world.handler.words.lock().unwrap(), "connection lost: connection reset");
}

#[test]
fn a_send_that_fails_tells_the_handler() {
    let mut world = World::open(Limits::default());
    world.line().arriving.extend(Frames::client().text("hello").done());
    world.line().end = Some(End::Reset);
    world.pump();
    assert!(world.is_dead());
    assert_eq!(world.seen(), [seen("hello"), closed(1006, "", CloseKind::Lost)]);
}

#[test]
fn a_shutdown_waits_for_what_is_queued() {
    let mut world = World::open(limits());
    world.set_room(10);
    world.send(&"x".repeat(2000));
    world.close(CloseCode::GOING_AWAY, "", CloseCause::Shutdown);
    world.set_room(usize::MAX);
    world.receive(&Frames::client().close(1001, "").done());
    assert_eq!(world.items(), [text(&"x".repeat(2000)), close(1001, "")]);
    assert_eq!(world.seen(), [closed(1001, "", CloseKind::Shutdown)]);
}

#[test]
fn what_the_socket_takes_makes_room_in_the_same_turn() {
    let mut world = World::open(Limits { turn_frames: 2, ..limits() });
    world.set_room(0);
    let frames = Frames::client().text("bytes 1900").text("bytes 1901").text("bytes 1902");
    world.receive(&frames.done());
    // All that was queued goes out, and then the third message finds room.
    world.set_room(usize::MAX);
    let refused =
        world.seen().into_iter().filter(|seen| matches!(seen, Seen::Closed(..) | Seen::Sent(Err(_))));
    assert_eq!(refused.count(), 0);
    assert_eq!(world.items(), [1900, 1901, 1902].map(|length| Item::Binary(vec![7; length])));
}

#[test]
fn while_too_much_is_held_for_all_the_queue_of_a_slow_peer_is_shorter() {
    let mut world = World::open(Limits { slow_consumer: SlowConsumer::DropNewest, ..limits() });
    world.set_room(0);
    world.set_share(500);
    // Who keeps up may be sent anything.
    world.send(&"a".repeat(1000));
    assert_eq!(world.metrics.messages_dropped.get(), 0);
    world.send("b");
    assert_eq!(world.metrics.messages_dropped.get(), 1);
    world.set_share(usize::MAX);
    world.send("c");
    world.set_room(usize::MAX);
    assert_eq!(world.items(), [text(&"a".repeat(1000)), text("c")]);
    assert_eq!(world.metrics.messages_dropped.get(), 1);
}

#[test]
fn who_is_shed_hears_1013_unless_bytes_wait_for_its_socket() {
    let mut world = World::open(limits());
    world.receive(&Frames::client().text("whole").done()[..5]);
    world.turn(|connection, turn| connection.shed(turn));
    let reason = "the server holds too much for its clients";
    assert_eq!(world.items(), [close(1013, reason)]);
    assert_eq!(world.seen(), [closed(1013, reason, CloseKind::Overload)]);
    assert_eq!(world.connection.held(), 0);
    let mut world = World::open(limits());
    world.set_room(0);
    world.send(&"a".repeat(1000));
    world.turn(|connection, turn| connection.shed(turn));
    assert!(world.is_dead());
    assert_eq!(world.seen(), [closed(1006, "", CloseKind::Overload)]);
}
