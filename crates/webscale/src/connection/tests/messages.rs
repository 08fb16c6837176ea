//! Messages in and out of an open connection.

use webscale_proto::{CloseCode, Data};

use super::harness::World;
use super::recorder::{Seen, closed, seen};
use super::wire::{Frames, Item, close, request, text};
use crate::close::CloseKind;
use crate::limits::Limits;

/// The handler failed in a message.
const FAILED: &str = "the server failed to handle a message";

#[test]
fn replies_to_all_messages_of_a_turn_leave_in_one_send() {
    let mut world = World::open(Limits::default());
    let sends = world.line().sends;
    let mut frames = Frames::client();
    for n in 0..100 {
        frames = frames.text(&n.to_string()).ping(b"p");
    }
    world.receive(&frames.done());
    assert_eq!(world.items().len(), 200);
    assert_eq!(world.line().sends, sends + 1);
    assert_eq!((world.metrics.messages_in.get(), world.metrics.messages_out.get()), (100, 100));
}

#[test]
fn messages_of_every_length_of_a_header_come_back() {
    let mut world = World::open(Limits::default());
    for length in [0, 1, 125, 126, 127, 65_535, 65_536, 200_000, 1024 * 1024 - 14] {
        let payload: Vec<u8> = (0..=255).cycle().take(length).collect();
        world.receive(&Frames::client().binary(&payload).done());
        assert_eq!(world.seen(), [Seen::Binary(payload.clone())]);
        assert_eq!(world.items(), [Item::Binary(payload)]);
    }
}

#[test]
fn a_message_of_the_greatest_length_passes_and_one_byte_more_is_1009() {
    let limits = Limits { message_bytes: 1000, ..Limits::default() };
    let mut world = World::open(limits.clone());
    world.receive(&Frames::client().binary(&[1; 1000]).done());
    assert_eq!(world.seen().len(), 1);
    // Refused for what its header says: none of it need come.
    let frame = Frames::client().binary(&[1; 1001]).done();
    world.sent();
    world.receive(&frame[..8]);
    assert_eq!(world.items(), [close(1009, "message too big")]);
    assert_eq!(world.seen(), [closed(1009, "message too big", CloseKind::Protocol)]);

    let mut world = World::open(limits);
    let fragments = Frames::client().fragment(Data::Binary, false, &[1; 600]).fragment(
        Data::Continuation,
        true,
        &[1; 401],
    );
    world.receive(&fragments.done());
    assert_eq!(world.items(), [close(1009, "message too big")]);
}

#[test]
fn an_idle_connection_owns_no_buffer() {
    let mut world = World::open(Limits::default());
    assert_eq!(world.connection.buffered(), 0);
    let message = Frames::client().text(&"x".repeat(30_000)).done();
    world.receive(&message[..20_000]);
    assert!(world.connection.buffered() > 19_000);
    world.receive(&message[20_000..]);
    assert_eq!(world.connection.buffered(), 0);
    // What the socket does not take is held, and given back.
    world.set_room(0);
    world.receive(&message);
    assert!(world.connection.buffered() > 30_000);
    world.set_room(usize::MAX);
    assert_eq!(world.connection.buffered(), 0);
    assert_eq!(world.items(), vec![text(&"x".repeat(30_000)); 2]);
}

#[test]
fn what_breaks_the_protocol_is_named_on_the_wire() {
    let text_frame = |payload: &[u8]| Frames::client().fragment(Data::Text, true, payload);
    let cases: [(Frames, u16, &str); 9] = [
        (text_frame(b"\xff"), 1007, "text is not valid UTF-8"),
        (Frames::client().fragment(Data::Text, false, b"\xc3("), 1007, "text is not valid UTF-8"),
        (Frames::server().text("unmasked"), 1002, "unmasked frame from a client"),
        (Frames::client().raw(&[0xc1, 0x80]), 1002, "reserved bit set without an extension that uses it"),
        (Frames::client().raw(&[0x83]), 1002, "unknown opcode"),
        (Frames::client().raw(&[0x09, 0x80]), 1002, "fragmented control frame"),
        (Frames::client().raw(&[0x89, 0xfe]), 1002, "control frame longer than 125 bytes"),
        (
            Frames::client().fragment(Data::Continuation, true, b"x"),
            1002,
            "continuation frame without a message to continue",
        ),
        (Frames::client().raw(&[0x88, 0x81, 0, 0, 0, 0, 3]), 1002, "close frame with a payload of one byte"),
    ];
    for (frames, code, reason) in cases {
        let mut world = World::open(Limits::default());
        // What came before is answered; what comes behind is not looked at.
        world.receive(&Frames::client().text("before").raw(&frames.done()).text("behind").done());
        assert_eq!(world.items(), [text("before"), close(code, reason)]);
        assert_eq!(world.seen(), [seen("before"), closed(code, reason, CloseKind::Protocol)]);
        assert!(world.is_lingering());
        world.receive(&Frames::client().text("later").done());
        assert_eq!((world.seen(), world.items()), (Vec::new(), Vec::new()));
    }
}

#[test]
fn a_panic_closes_its_connection_with_1011() {
    let mut world = World::open(Limits::default());
    world.receive(&Frames::client().text("first").text("panic").text("behind").done());
    assert_eq!(world.items(), [text("first"), close(1011, FAILED)]);
    assert_eq!(world.seen(), [seen("first"), seen("panic"), closed(1011, FAILED, CloseKind::Panic)]);
    assert!(world.is_lingering());
}

#[test]
fn a_panic_in_opened_closes_behind_the_101() {
    let mut world = World::server(Limits::default());
    world.receive(&request("/poisoned"));
    let sent = world.sent();
    let (head, rest) = super::wire::split_head(&sent);
    assert!(head.starts_with("HTTP/1.1 101"));
    assert_eq!(super::wire::items(webscale_proto::Role::Client, rest), [close(1011, FAILED)]);
    assert_eq!(world.seen(), [Seen::Opened, closed(1011, FAILED, CloseKind::Panic)]);
}

#[test]
fn frames_beyond_the_budget_wait_for_the_next_turn() {
    let limits = Limits { turn_frames: 10, ..Limits::default() };
    let mut world = World::open(limits);
    let mut frames = Frames::client();
    for n in 0..25 {
        frames = frames.text(&n.to_string());
    }
    let turns = world.turns;
    world.line().arriving.extend(frames.done());
    let ready = world.line().ready();
    world.turn(|connection, turn| connection.on_event(turn, ready));
    assert_eq!(world.items().len(), 10);
    assert!(world.connection.is_ready() && !world.connection.interest().read);
    world.turn(|connection, turn| connection.on_ready(turn));
    assert_eq!(world.items().len(), 10);
    world.pump();
    assert_eq!(world.items().len(), 5);
    assert!(!world.connection.is_ready() && world.connection.interest().read);
    assert_eq!(world.connection.buffered(), 0);
    assert_eq!(world.turns, turns + 3);
    let order: Vec<_> = (0..25).map(|n: u32| seen(&n.to_string())).collect();
    assert_eq!(world.seen(), order);
}

#[test]
fn bytes_beyond_the_budget_wait_for_the_next_turn() {
    let limits = Limits { turn_bytes: 100_000, ..Limits::default() };
    let mut world = World::open(limits);
    let frames = Frames::client().binary(&[1; 300_000]).done();
    world.line().arriving.extend(&frames);
    let ready = world.line().ready();
    world.turn(|connection, turn| connection.on_event(turn, ready));
    let left = world.line().arriving.len();
    assert_eq!(left, frames.len() - 100_000);
    world.pump();
    assert_eq!(world.seen(), [Seen::Binary(vec![1; 300_000])]);
}

#[test]
fn other_threads_send_between_the_messages() {
    let mut world = World::open(Limits::default());
    world.send("pushed");
    world.receive(&Frames::client().fragment(Data::Text, false, b"a").done());
    world.send("pushed again");
    world.receive(&Frames::client().fragment(Data::Continuation, true, b"b").done());
    assert_eq!(world.items(), [text("pushed"), text("pushed again"), text("ab")]);
}

#[test]
fn the_users_timer_is_asked_for_and_called() {
    let mut world = World::open(Limits::default());
    world.receive(&Frames::client().text("timer 50").done());
    assert!(matches!(world.timer, Some(crate::peer::TimerRequest::At(_))));
    world.user_timer();
    assert_eq!(world.items(), [text("timer")]);
    world.close(CloseCode::NORMAL, "", crate::close::CloseCause::Local);
    world.user_timer();
    assert_eq!(world.seen(), [seen("timer 50"), Seen::Timer]);
}

#[test]
fn a_ping_of_the_handler_is_checked_for_its_length() {
    use crate::peer::SendError;
    let mut world = World::open(Limits::default());
    let long = "p".repeat(126);
    world.receive(&Frames::client().text(&format!("ping {long}")).text("ping abc").done());
    assert_eq!(world.items(), [Item::Ping(b"abc".to_vec())]);
    let sent: Vec<_> = world.seen().into_iter().filter(|seen| matches!(seen, Seen::Sent(_))).collect();
    assert_eq!(sent, [Seen::Sent(Err(SendError::PingTooLong)), Seen::Sent(Ok(()))]);
}
