//! The opening handshake of a server.

use std::time::Duration;

use super::harness::World;
use super::recorder::{Seen, closed, seen};
use super::socket::End;
use super::wire::{ACCEPT, Frames, close, request, split_head, text};
use crate::close::CloseKind;
use crate::limits::Limits;
use crate::metrics::Snapshot;
use crate::origin::Origins;

/// Status and body of the answer, behind which our direction has ended.
pub(super) fn refusal(world: &World) -> (u16, String) {
    let sent = world.sent();
    let (head, body) = split_head(&sent);
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).expect("a status line");
    assert!(world.is_lingering());
    assert_eq!(world.metrics.opened.get(), 0);
    (status.parse().expect("a number"), String::from_utf8(body.to_vec()).expect("text"))
}

fn refused(bytes: &[u8]) -> (u16, String) {
    let mut world = World::server(Limits::default());
    world.receive(bytes);
    let refusal = refusal(&world);
    assert_eq!(world.ended_as(), CloseKind::Upgrade);
    assert_eq!(rejections(&world), [(class_of(refusal.0), 1)]);
    world.end(End::Eof);
    assert!(world.is_dead());
    refusal
}

/// The classes of status that were counted.
fn rejections(world: &World) -> Vec<(&'static str, u64)> {
    let mut counted = Snapshot::default();
    counted.add(&world.metrics);
    assert_eq!(counted.rejected, counted.rejections().map(|(_, count)| count).sum());
    counted.rejections().filter(|(_, count)| *count > 0).collect()
}

fn class_of(status: u16) -> &'static str {
    if status < 500 { "4xx" } else { "5xx" }
}

/// What a client says in one whole conversation, behind its request.
fn conversation() -> Vec<u8> {
    Frames::client()
        .text("hello")
        .ping(b"are you there")
        .fragment(webscale_proto::Data::Text, false, "gr\u{fc}\u{df}".as_bytes())
        .ping(b"")
        .fragment(webscale_proto::Data::Continuation, true, "e \u{1f600}".as_bytes())
        .binary(&[0, 1, 2])
        .pong(b"unasked")
        .close(1000, "bye")
        .done()
}

fn check_conversation(world: &mut World) {
    use super::wire::Item::{Binary, Pong};
    let sent = world.sent();
    let (head, rest) = split_head(&sent);
    assert!(head.contains(&format!("Sec-WebSocket-Accept: {ACCEPT}\r\n")), "{head}");
    assert_eq!(
        super::wire::items(webscale_proto::Role::Client, rest),
        [
            text("hello"),
            Pong(b"are you there".to_vec()),
            Pong(Vec::new()),
            text("gr\u{fc}\u{df}e \u{1f600}"),
            Binary(vec![0, 1, 2]),
            close(1000, ""),
        ]
    );
    assert_eq!(
        world.seen(),
        [
            Seen::Opened,
            seen("hello"),
            seen("gr\u{fc}\u{df}e \u{1f600}"),
            Seen::Binary(vec![0, 1, 2]),
            Seen::Pong(b"unasked".to_vec()),
            closed(1000, "bye", CloseKind::Peer),
        ]
    );
    assert!(world.is_lingering());
    world.end(End::Eof);
    assert!(world.is_dead());
}

#[test]
fn a_whole_conversation_at_every_split() {
    let (head, frames) = (request("/"), conversation());
    for cut in 0..=head.len() {
        let mut world = World::server(Limits::default());
        world.receive(&head[..cut]);
        world.receive(&head[cut..]);
        world.receive(&frames);
        check_conversation(&mut world);
    }
    for cut in 0..=frames.len() {
        let mut world = World::server(Limits::default());
        world.receive(&head);
        world.receive(&frames[..cut]);
        world.receive(&frames[cut..]);
        check_conversation(&mut world);
    }
}

#[test]
fn a_whole_conversation_in_pieces_of_every_size_both_ways() {
    for piece in 1..=64 {
        let mut world = World::server(Limits::default());
        {
            let mut line = world.line();
            (line.recv_max, line.send_max) = (piece, piece);
        }
        world.receive(&request("/"));
        world.receive(&conversation());
        check_conversation(&mut world);
    }
}

#[test]
fn a_whole_conversation_that_is_lost_at_every_byte_tells_the_handler_once() {
    let bytes: Vec<u8> = request("/").into_iter().chain(conversation()).collect();
    for end in [End::Eof, End::Reset] {
        for cut in 0..bytes.len() {
            let mut world = World::server(Limits::default());
            let head = cut.min(request("/").len());
            world.receive(&bytes[..head]);
            world.receive(&bytes[head..cut]);
            world.end(end);
            assert!(world.is_dead());
            let last = world.seen().pop();
            let lost = closed(1006, "", CloseKind::Lost);
            assert_eq!(last, (head == request("/").len()).then_some(lost), "{end:?} behind {cut} bytes");
        }
    }
}

#[test]
fn a_subprotocol_and_header_fields_are_answered() {
    let mut world = World::server(Limits::default());
    let head = String::from_utf8(request("/chat")).unwrap();
    world.receive(head.replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: superchat, chat\r\n\r\n").as_bytes());
    let sent = world.sent();
    let (head, rest) = split_head(&sent);
    assert!(
        head.contains("\r\nSec-WebSocket-Protocol: chat\r\n") && head.contains("\r\nX-A: b\r\n"),
        "{head}"
    );
    assert!(rest.is_empty());
}

#[test]
fn a_rejection_reaches_the_client_with_its_fields() {
    let mut world = World::server(Limits::default());
    world.receive(&request("/forbidden"));
    let sent = world.line().sent.clone();
    assert!(split_head(&sent).0.contains("\r\nX-Why: because\r\n"));
    assert_eq!(refusal(&world), (403, "not you\n".into()));
    assert_eq!(world.seen(), []);
}

#[test]
fn what_the_handler_does_wrong_is_500() {
    assert_eq!(refused(&request("/panic")).0, 500);
    assert_eq!(refused(&request("/broken")).0, 500);
    // A subprotocol that was not offered.
    assert_eq!(refused(&request("/chat")).0, 500);
}

#[test]
fn a_session_whose_answer_was_invalid_is_closed() {
    let mut world = World::server(Limits::default());
    world.receive(&request("/split"));
    assert_eq!(refusal(&world).0, 500);
    assert_eq!(world.seen(), [closed(1006, "", CloseKind::Upgrade)]);
    let words = world.handler.words.lock().unwrap().clone();
    assert!(
        words.ends_with("the handler's answer is invalid: header value holds a control character"),
        "{words}"
    );
}

#[test]
fn a_subprotocol_that_was_not_offered_is_never_sent() {
    for offered in ["", "Sec-WebSocket-Protocol: Chat, chats\r\n"] {
        let mut world = World::server(Limits::default());
        let head = String::from_utf8(request("/chat")).unwrap();
        world.receive(head.replace("\r\n\r\n", &format!("\r\n{offered}\r\n")).as_bytes());
        assert!(!String::from_utf8(world.line().sent.clone()).unwrap().contains("Sec-WebSocket-Protocol"));
        assert_eq!(refusal(&world).0, 500);
        assert_eq!(world.seen(), [closed(1006, "", CloseKind::Upgrade)]);
        assert!(world.handler.words.lock().unwrap().contains("was not offered"));
    }
}

/// [`request`] with one part exchanged. The part must be there.
fn with(part: &str, other: &str) -> Vec<u8> {
    let head = String::from_utf8(request("/")).unwrap();
    assert_eq!(head.matches(part).count(), 1, "{part:?}");
    head.replace(part, other).into_bytes()
}

#[test]
fn smuggling_is_refused_at_every_split() {
    let version = "Sec-WebSocket-Version: 13\r\n";
    let more = |field: &str| with(version, &format!("{version}{field}\r\n"));
    let cases = [
        (with("HTTP/1.1\r\n", "HTTP/1.1\n"), 400),
        (with("com\r\nUp", "com\nUp"), 400),
        (with("com\r\nUp", "com\rUp"), 400),
        (String::from_utf8(request("/")).unwrap().replace("\r\n", "\n").into_bytes(), 400),
        (with("websocket", "web\0socket"), 400),
        (with("GET / ", "GET /\0 "), 400),
        (with("com\r\nUp", "com\r\n folded\r\nUp"), 400),
        (with("Host:", "Host :"), 400),
        (with("HTTP/1.1", "HTTP/1.0"), 400),
        (with("Host: example.com\r\n", ""), 400),
        (more("Host: example.com"), 400),
        (more("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400),
        (more("Sec-WebSocket-Version: 13"), 400),
        (more("Upgrade: websocket"), 400),
        (more("Origin: http://example.com\r\nOrigin: http://example.com"), 400),
        (more("Transfer-Encoding: chunked"), 400),
        (more("Content-Length: 5"), 400),
        (with("ZQ==", "Z==="), 400),
        (with("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub24="), 400),
        (with(version, ""), 400),
        (with("Version: 13", "Version: 8"), 426),
        (with("GET", "POST"), 405),
        (more("Origin: http://evil.com"), 403),
    ];
    for (bytes, status) in &cases {
        for cut in 0..bytes.len() {
            let mut world = World::server(Limits::default());
            world.receive(&bytes[..cut]);
            world.receive(&bytes[cut..]);
            let head = bytes.escape_ascii();
            assert!(String::from_utf8(world.line().sent.clone()).unwrap().contains("\r\nConnection: close"));
            assert_eq!(refusal(&world).0, *status, "{head} cut at {cut}");
            assert_eq!(rejections(&world), [("4xx", 1)], "{head} cut at {cut}");
            assert_eq!(world.seen(), []);
        }
    }
}

#[test]
fn pages_of_other_origins_are_refused_before_the_handler_is_asked() {
    let from = |origin: &str| with("\r\n\r\n", &format!("\r\nOrigin: {origin}\r\n\r\n"));
    let ask = |origins: Origins, origin: &str| {
        let mut world = World::server(Limits::default());
        world.config.origins = origins;
        world.receive(&from(origin));
        if world.line().sent.starts_with(b"HTTP/1.1 101") {
            assert_eq!(world.seen(), [Seen::Opened]);
            return true;
        }
        assert_eq!(refusal(&world), (403, "pages of this Origin may not connect\n".into()));
        assert_eq!(world.handler.sessions.load(std::sync::atomic::Ordering::Relaxed), 0);
        false
    };
    assert!(ask(Origins::same(), "http://example.com") && ask(Origins::same(), "http://EXAMPLE.com:80"));
    for origin in [
        "https://example.com",
        "http://example.com:81",
        "http://example.com.evil.com",
        "http://evil.example.com",
        "null",
    ] {
        assert!(!ask(Origins::same(), origin), "{origin}");
        assert!(ask(Origins::list([origin]), origin), "{origin}");
        assert!(ask(Origins::any(), origin), "{origin}");
    }
    assert!(!ask(Origins::list(["https://app.example"]), "http://example.com"));
}

#[test]
fn what_the_client_does_wrong_is_told_to_it() {
    let head = String::from_utf8(request("/")).unwrap();
    assert_eq!(refused(b"GET / HTTP/1.0\r\n\r\n").0, 400);
    assert_eq!(refused(head.replace("GET", "PUT").as_bytes()).0, 405);
    assert_eq!(refused(head.replace("Version: 13", "Version: 8").as_bytes()).0, 426);
    assert_eq!(refused(head.replace("Connection: Upgrade\r\n", "").as_bytes()).0, 426);
    assert_eq!(refused(head.replace("GET", "HEAD").as_bytes()), (405, String::new()));
    assert_eq!(refused(&[request("/"), b"!".to_vec()].concat()).0, 400);
    // The beginning of TLS, whose end is not awaited.
    assert_eq!(refused(&[22, 3, 1, 2]).0, 400);
    let many = "X: y\r\n".repeat(65);
    assert_eq!(refused(head.replace("\r\n\r\n", &format!("\r\n{many}\r\n")).as_bytes()).0, 431);
}

#[test]
fn a_head_of_the_greatest_length_passes_and_one_byte_more_is_431() {
    let limits = Limits { head_bytes: 512, ..Limits::default() };
    let padded = |length: usize| {
        let head = String::from_utf8(request("/")).unwrap();
        let fill = length - head.len() - "\r\nX: ".len();
        head.replace("\r\n\r\n", &format!("\r\nX: {}\r\n\r\n", "x".repeat(fill))).into_bytes()
    };
    for piece in [1, 100, usize::MAX] {
        let mut world = World::server(limits.clone());
        world.line().recv_max = piece;
        world.receive(&padded(512));
        assert!(world.sent().starts_with(b"HTTP/1.1 101"));
        let mut world = World::server(limits.clone());
        world.line().recv_max = piece;
        world.receive(&padded(513));
        assert_eq!(refusal(&world).0, 431);
        // It is not awaited that such a head ends.
        let mut world = World::server(limits.clone());
        world.line().recv_max = piece;
        world.receive(&padded(2000)[..600]);
        assert_eq!(refusal(&world).0, 431);
    }
}

#[test]
fn no_byte_resets_the_deadline_of_the_handshake() {
    let mut world = World::server(Limits::default());
    let head = request("/");
    for &byte in &head[..9] {
        world.receive(&[byte]);
        world.advance(Duration::from_secs(1));
    }
    assert!(world.sent().is_empty() && !world.is_dead());
    world.advance(Duration::from_secs(1));
    assert_eq!(refusal(&world).0, 408);
    assert_eq!((world.ended_as(), rejections(&world)), (CloseKind::Timeout, vec![("4xx", 1)]));
    // It never ends its own direction.
    world.advance(Duration::from_millis(4999));
    assert!(!world.is_dead());
    world.advance(Duration::from_millis(1));
    assert!(world.is_dead());
    assert_eq!(world.seen(), []);
}

#[test]
fn an_open_connection_is_past_that_deadline() {
    let mut world = World::server(Limits::default());
    world.receive(&request("/"));
    world.advance(Duration::from_secs(20));
    assert!(!world.is_dead() && world.seen() == [Seen::Opened]);
}

#[test]
fn a_shutdown_during_the_handshake_ends_it_without_words() {
    let mut world = World::server(Limits::default());
    world.receive(b"GET / HT");
    world.close(webscale_proto::CloseCode::GOING_AWAY, "", crate::close::CloseCause::Shutdown);
    assert!(world.is_dead() && world.sent().is_empty());
    assert_eq!(world.ended_as(), CloseKind::Shutdown);
}

#[test]
fn a_head_without_a_limit_may_come_in_pieces() {
    let mut world = World::server(Limits { head_bytes: usize::MAX, ..Limits::default() });
    let request = request("/");
    for piece in request.chunks(7) {
        world.receive(piece);
    }
    assert!(world.sent().starts_with(b"HTTP/1.1 101"));
    assert_eq!(world.seen(), [Seen::Opened]);
}
