//! The closing handshake, in every order, and ends without one.

use std::time::Duration;

use webscale_proto::CloseCode;

use super::harness::World;
use super::recorder::{Seen, closed, seen};
use super::socket::End;
use super::wire::{Frames, Item, close, text};
use crate::close::{CloseCause, CloseKind};
use crate::limits::Limits;
use crate::peer::SendError;

fn open() -> World {
    World::open(Limits::default())
}

#[test]
fn the_peer_closes_and_its_code_is_echoed() {
    let mut world = open();
    world.receive(&Frames::client().text("last").close(3000, "enough").done());
    assert_eq!(world.items(), [text("last"), close(3000, "")]);
    assert_eq!(world.seen(), [seen("last"), closed(3000, "enough", CloseKind::Peer)]);
    assert!(world.is_lingering() && world.connection.is_settled());
    world.end(End::Eof);
    assert!(world.is_dead());
    assert_eq!(world.ended_as(), CloseKind::Peer);
}

#[test]
fn a_close_without_a_code_is_echoed_without_one() {
    let mut world = open();
    world.receive(&Frames::client().raw(&[0x88, 0x80, 1, 2, 3, 4]).done());
    assert_eq!(world.items(), [Item::Close(None, String::new())]);
    assert_eq!(world.seen(), [closed(1005, "", CloseKind::Peer)]);
}

#[test]
fn the_handler_closes_behind_its_replies_and_no_message_follows() {
    let mut world = open();
    world.receive(&Frames::client().text("close 4000 enough").text("ignored").ping(b"ignored").done());
    assert_eq!(world.items(), [text("before"), close(4000, "enough")]);
    let refused = Seen::Sent(Err(SendError::Closed));
    assert_eq!(world.seen(), [seen("close 4000 enough"), refused.clone(), refused]);
    // The answer is awaited: our direction stays open.
    assert!(!world.is_lingering());
    world.send("too late");
    world.close(CloseCode::NORMAL, "again", CloseCause::Local);
    world.receive(&Frames::client().text("ignored").close(4000, "").done());
    assert_eq!((world.items(), world.seen()), (Vec::new(), vec![closed(4000, "enough", CloseKind::Local)]));
    assert!(world.is_lingering());
    assert_eq!(world.metrics.messages_in.get(), 1);
}

#[test]
fn a_code_that_may_not_be_sent_closes_without_a_code() {
    let mut world = open();
    world.receive(&Frames::client().text("close 1006 ").done());
    assert_eq!(world.items(), [text("before"), Item::Close(None, String::new())]);
}

#[test]
fn both_close_at_once() {
    let mut world = open();
    world.line().arriving.extend(Frames::client().close(1000, "theirs").done());
    world.turn(|connection, turn| {
        connection.on_close(turn, CloseCode::GOING_AWAY, "ours", CloseCause::Shutdown);
    });
    world.pump();
    assert_eq!(world.items(), [close(1001, "ours")]);
    assert_eq!(world.seen(), [closed(1001, "ours", CloseKind::Shutdown)]);
    assert!(world.is_lingering() && world.connection.is_settled());
}

#[test]
fn without_an_answer_a_close_ends_in_time() {
    let mut world = open();
    world.close(CloseCode::GOING_AWAY, "", CloseCause::Shutdown);
    assert_eq!(world.items(), [close(1001, "")]);
    // Neither bytes nor messages move that time.
    for _ in 0..4 {
        world.advance(Duration::from_secs(1));
        world.receive(&Frames::client().text("still here").done());
    }
    assert!(!world.is_dead() && world.seen().is_empty());
    world.advance(Duration::from_secs(1));
    assert!(world.is_dead());
    assert_eq!(world.seen(), [closed(1001, "", CloseKind::Timeout)]);
}

#[test]
fn an_end_without_a_close_frame_is_1006() {
    for end in [End::Eof, End::Reset] {
        let mut world = open();
        world.end(end);
        assert!(world.is_dead());
        assert_eq!(world.seen(), [closed(1006, "", CloseKind::Lost)]);
    }
}

#[test]
fn an_end_in_place_of_an_answer_keeps_our_code() {
    for end in [End::Eof, End::Reset] {
        let mut world = open();
        world.close(CloseCode::NORMAL, "done", CloseCause::Local);
        world.end(end);
        assert!(world.is_dead());
        assert_eq!(world.seen(), [closed(1000, "done", CloseKind::Lost)]);
    }
}

#[test]
fn a_fault_in_place_of_an_answer_keeps_our_code() {
    let mut world = open();
    world.close(CloseCode::NORMAL, "done", CloseCause::Local);
    world.receive(&Frames::client().raw(&[0x83, 0x80, 0, 0, 0, 0]).done());
    assert_eq!(world.items(), [close(1000, "done")]);
    assert_eq!(world.seen(), [closed(1000, "done", CloseKind::Protocol)]);
}

#[test]
fn a_reset_behind_the_closing_handshake_changes_nothing() {
    let mut world = open();
    world.receive(&Frames::client().close(1000, "").done());
    world.seen();
    world.end(End::Reset);
    assert!(world.is_dead() && world.seen().is_empty());
    assert_eq!(world.ended_as(), CloseKind::Peer);
}

#[test]
fn a_peer_that_does_not_end_its_direction_is_dropped_in_time() {
    let mut world = open();
    world.receive(&Frames::client().close(1000, "").done());
    world.advance(Duration::from_millis(4000));
    world.receive(b"anything at all");
    assert!(world.is_lingering());
    world.advance(Duration::from_millis(1000));
    assert!(world.is_dead());
}

#[test]
fn what_is_queued_reaches_a_peer_that_has_ended_its_direction() {
    let mut world = open();
    world.set_room(100);
    let long = "x".repeat(5000);
    world.line().end = Some(End::Eof);
    world.receive(&Frames::client().text(&long).close(1000, "").done());
    assert!(!world.is_dead());
    world.set_room(usize::MAX);
    assert!(world.is_dead() && world.line().shut);
    assert_eq!(world.items(), [text(&long), close(1000, "")]);
}

#[test]
fn a_peer_that_ended_its_direction_and_does_not_read_is_dropped_in_time() {
    let mut world = open();
    world.set_room(100);
    world.line().end = Some(End::Eof);
    world.receive(&Frames::client().text(&"x".repeat(5000)).close(1000, "").done());
    world.advance(Duration::from_secs(5));
    assert!(world.is_dead() && !world.line().shut);
}

#[test]
fn a_close_frame_is_let_in_beyond_a_full_queue() {
    let mut world = World::open(Limits { egress_bytes: 1024, egress_high_water: 1024, ..Limits::default() });
    world.handler.is_silent = true;
    world.set_room(0);
    world.send(&"x".repeat(1000));
    world.close(CloseCode::NORMAL, "full", CloseCause::Local);
    world.set_room(usize::MAX);
    assert_eq!(world.items(), [text(&"x".repeat(1000)), close(1000, "full")]);
}

#[test]
fn a_long_reason_is_cut_to_fit() {
    let mut world = open();
    let reason = "\u{e4}".repeat(100);
    world.close(CloseCode::NORMAL, &reason, CloseCause::Local);
    assert_eq!(world.items(), [close(1000, &reason[..122])]);
}

#[test]
fn a_shutdown_is_said_behind_the_answers_to_what_was_received() {
    let mut world = World::open(Limits { turn_frames: 2, ..Limits::default() });
    world.line().arriving.extend(Frames::client().text("1").text("2").text("3").text("4").text("5").done());
    let ready = crate::connection::Ready { readable: true, writable: false, hung_up: false };
    world.turn(|connection, turn| connection.on_event(turn, ready));
    assert_eq!(world.seen().len(), 2);
    world.close(CloseCode::GOING_AWAY, "", CloseCause::Shutdown);
    let answers = ["1", "2", "3", "4", "5"].map(text);
    assert_eq!(world.items(), [&answers[..], &[close(1001, "")]].concat());
    world.receive(&Frames::client().close(1001, "").done());
    assert_eq!(world.seen().last(), Some(&closed(1001, "", CloseKind::Shutdown)));
}

#[test]
fn a_peer_that_goes_while_a_shutdown_waits_for_its_messages_is_told_once() {
    let behind = Frames::client().text("2").close(1000, "theirs").done();
    for (bytes, end) in [(&behind[..], None), (&[][..], Some(End::Eof)), (&[][..], Some(End::Reset))] {
        let mut world = World::open(Limits { turn_frames: 1, ..Limits::default() });
        world.line().arriving.extend(Frames::client().text("1").raw(bytes).text("3").done());
        let ready = crate::connection::Ready { readable: true, writable: false, hung_up: false };
        world.turn(|connection, turn| connection.on_event(turn, ready));
        world.line().end = end;
        world.close(CloseCode::GOING_AWAY, "", CloseCause::Shutdown);
        world.advance(Duration::from_secs(100));
        assert!(world.is_dead());
        assert_eq!(world.closes(), 1);
    }
}

#[test]
fn the_end_of_the_loop_tells_the_handler() {
    let mut world = open();
    world.turn(|connection, turn| connection.abandon(turn, CloseCause::Shutdown));
    assert!(world.is_dead());
    assert_eq!(world.seen(), [closed(1006, "", CloseKind::Shutdown)]);
}
