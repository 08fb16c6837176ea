//! The client role.

use std::io::ErrorKind;
use std::time::Duration;

use webscale_proto::{CloseCode, Role};

use super::harness::World;
use super::recorder::{Seen, closed, seen};
use super::socket::End;
use super::wire::{Frames, close, items, response, split_head, text};
use crate::close::{CloseCause, CloseKind};
use crate::limits::Limits;
use crate::target::Target;

fn connecting() -> World {
    let target = Target::from_url("ws://127.0.0.1:9/chat?room=1").expect("a URL");
    World::connecting(Limits::default(), None, target.protocol("chat").header("Origin", "https://a"))
}

/// A client whose TCP connection stands, and what it asked for.
fn asked() -> (World, Vec<u8>) {
    let mut world = connecting();
    let interest = world.connection.interest();
    assert!(interest.write && !interest.read);
    world.pump();
    let request = world.sent();
    (world, request)
}

fn open() -> World {
    let (mut world, request) = asked();
    world.receive(&response(&request));
    assert_eq!(world.seen(), [Seen::Opened]);
    world
}

/// What the session is told when the server answers with this.
fn failure(answer: &[u8]) -> String {
    let (mut world, _) = asked();
    world.receive(answer);
    assert!(world.is_dead());
    assert_eq!(world.seen(), [closed(1006, "", CloseKind::Upgrade)]);
    assert_eq!(world.ended_as(), CloseKind::Upgrade);
    world.handler.words.lock().unwrap().clone()
}

#[test]
fn the_request_says_what_the_target_says() {
    let (_, request) = asked();
    let (head, rest) = split_head(&request);
    assert!(head.starts_with("GET /chat?room=1 HTTP/1.1\r\nHost: 127.0.0.1:9\r\n"), "{head}");
    assert!(head.contains("\r\nSec-WebSocket-Protocol: chat\r\nOrigin: https://a\r\n"), "{head}");
    assert!(rest.is_empty());
    assert_ne!(request, asked().1, "the key is fresh");
}

#[test]
fn its_socket_gets_what_a_servers_inherits() {
    let (world, _) = asked();
    assert_eq!(world.line().options, Limits::default().tcp_options());
}

#[test]
fn frames_behind_the_101_are_read_at_every_split() {
    let frames = Frames::server().text("early").ping(b"p").done();
    let length = response(&asked().1).len() + frames.len();
    for cut in 0..=length {
        let (mut world, request) = asked();
        let bytes = [response(&request), frames.clone()].concat();
        world.receive(&bytes[..cut]);
        world.receive(&bytes[cut..]);
        assert_eq!(world.seen(), [Seen::Opened, seen("early")], "cut at {cut}");
        let sent = world.sent();
        assert!(sent.iter().any(|&byte| byte != 0) && sent[1] & 0x80 != 0, "a client masks");
        assert_eq!(items(Role::Server, &sent), [text("early"), super::wire::Item::Pong(b"p".to_vec())]);
    }
}

#[test]
fn frames_are_masked_each_with_a_key_of_its_own() {
    let mut world = open();
    world.send("same");
    world.send("same");
    let sent = world.sent();
    let (first, second) = sent.split_at(sent.len() / 2);
    assert_ne!(first[2..6], second[2..6]);
    assert_eq!(items(Role::Server, &sent), [text("same"), text("same")]);
}

#[test]
fn an_answer_that_opens_nothing_is_told_in_words() {
    let (_, request) = asked();
    let good = String::from_utf8(response(&request)).unwrap();
    let cases = [
        ("HTTP/1.1 404 Not Found\r\n\r\n".to_owned(), "the server answered 404 instead of 101"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(), "answered 200 instead of 101"),
        ("HTTP/1.0 101 Odd\r\n\r\n".to_owned(), "the answer is not HTTP/1.1"),
        // The key of another request.
        (good.clone(), "missing or wrong Sec-WebSocket-Accept"),
        (good.replace("Upgrade: websocket", "Upgrade: h2c"), "no `Upgrade: websocket`"),
    ];
    for (answer, words) in cases {
        let failure = failure(answer.as_bytes());
        assert!(failure.starts_with("opening handshake failed: ") && failure.contains(words), "{failure}");
    }
    let (mut world, request) = asked();
    let head = String::from_utf8(response(&request)).unwrap();
    world.receive(head.replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: other\r\n\r\n").as_bytes());
    assert!(world.is_dead());
    assert!(world.handler.words.lock().unwrap().contains("subprotocol that was not offered"));
}

#[test]
fn an_answer_that_is_no_http_is_not_awaited_to_its_end() {
    let not_http = "opening handshake failed: the answer is not HTTP/1.1";
    assert_eq!(failure(b"SSH-2.0-OpenSSH\r\n"), not_http);
    assert_eq!(failure(&[0x15, 3, 3, 0, 2, 2, 50]), not_http);
    assert_eq!(failure(b"h"), not_http);
}

#[test]
fn a_head_without_end_is_refused() {
    let long = format!("HTTP/1.1 101 Odd\r\nX: {}", "x".repeat(9000));
    assert!(failure(long.as_bytes()).contains("the answer's head is too long"));
    let whole = format!("{long}\r\n\r\n");
    assert!(failure(whole.as_bytes()).contains("the answer's head is too long"));
}

#[test]
fn a_connect_that_fails_is_told() {
    let mut world = connecting();
    world.line().error = Some(ErrorKind::ConnectionRefused);
    world.pump();
    assert!(world.is_dead() && world.sent().is_empty());
    assert_eq!(world.seen(), [closed(1006, "", CloseKind::Connect)]);
    assert_eq!(*world.handler.words.lock().unwrap(), "no connection: connection refused");
}

#[test]
fn a_connect_and_an_answer_that_do_not_come_end_in_time() {
    let mut world = connecting();
    world.line().room = 0;
    world.advance(Duration::from_secs(10));
    assert!(world.is_dead());
    assert_eq!(world.seen(), [closed(1006, "", CloseKind::Timeout)]);

    let (mut world, request) = asked();
    world.receive(&response(&request)[..50]);
    world.advance(Duration::from_secs(10));
    assert!(world.is_dead() && world.sent().is_empty());
    assert_eq!(world.seen(), [closed(1006, "", CloseKind::Timeout)]);
    assert_eq!(*world.handler.words.lock().unwrap(), "the handshake took too long");
}

#[test]
fn a_server_that_hangs_up_in_the_handshake_is_told() {
    for end in [End::Eof, End::Reset] {
        let (mut world, request) = asked();
        world.receive(&response(&request)[..50]);
        world.end(end);
        assert!(world.is_dead());
        assert_eq!(world.seen(), [closed(1006, "", CloseKind::Lost)]);
    }
}

#[test]
fn a_masked_frame_from_a_server_is_1002() {
    let mut world = open();
    world.receive(&Frames::client().text("masked").done());
    assert_eq!(world.items(), [close(1002, "masked frame from a server")]);
    assert_eq!(world.seen(), [closed(1002, "masked frame from a server", CloseKind::Protocol)]);
}

#[test]
fn both_closing_orders() {
    let mut world = open();
    world.close(CloseCode::NORMAL, "done", CloseCause::Local);
    assert_eq!(world.items(), [close(1000, "done")]);
    world.receive(&Frames::server().close(1000, "").done());
    assert_eq!(world.seen(), [closed(1000, "done", CloseKind::Local)]);
    assert!(world.is_lingering());
    world.end(End::Eof);
    assert!(world.is_dead());

    let mut world = open();
    world.receive(&Frames::server().close(1001, "restart").done());
    assert_eq!(world.items(), [close(1001, "")]);
    assert_eq!(world.seen(), [closed(1001, "restart", CloseKind::Peer)]);
}

#[test]
fn a_shutdown_before_the_answer_tells_the_session() {
    let (mut world, _) = asked();
    world.close(CloseCode::GOING_AWAY, "shutting down", CloseCause::Shutdown);
    assert!(world.is_dead());
    assert_eq!(world.seen(), [closed(1001, "shutting down", CloseKind::Shutdown)]);
}
