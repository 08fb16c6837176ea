//! Plain HTTP on the port of WebSockets.

use std::time::Duration;

use super::harness::World;
use super::opening::refusal;
use super::socket::End;
use super::wire::split_head;
use crate::close::CloseKind;
use crate::limits::Limits;

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: example.com\r\n\r\n").into_bytes()
}

fn asked(bytes: &[u8]) -> World {
    let mut world = World::server(Limits::default());
    world.receive(bytes);
    assert_eq!((world.metrics.http.get(), world.ended_as()), (1, CloseKind::Http));
    world
}

fn answer(bytes: &[u8]) -> (u16, String) {
    refusal(&asked(bytes))
}

#[test]
fn requests_are_answered_by_the_handler_at_every_split() {
    let bytes = get("/healthz");
    for cut in 0..bytes.len() {
        let mut world = World::server(Limits::default());
        world.receive(&bytes[..cut]);
        world.receive(&bytes[cut..]);
        let sent = world.line().sent.clone();
        let (head, _) = split_head(&sent);
        assert!(head.contains("\r\nConnection: close\r\n") && head.contains("\r\nX-Up: yes\r\n"), "{head}");
        assert_eq!(refusal(&world), (200, "up\n".into()), "cut at {cut}");
        world.end(End::Eof);
        assert!(world.is_dead() && world.seen().is_empty());
        assert_eq!((world.metrics.http.get(), world.ended_as()), (1, CloseKind::Http));
    }
}

#[test]
fn another_upgrade_is_ignored() {
    let bytes = get("/healthz");
    let head = String::from_utf8(bytes).unwrap();
    let more = "\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
    assert_eq!(answer(head.replace("\r\n\r\n", more).as_bytes()).0, 200);
}

#[test]
fn head_has_the_length_and_not_the_body() {
    let bytes = String::from_utf8(get("/healthz")).unwrap().replace("GET", "HEAD");
    let world = asked(bytes.as_bytes());
    let sent = world.line().sent.clone();
    assert!(split_head(&sent).0.contains("\r\nContent-Length: 3\r\n"));
    assert_eq!(refusal(&world), (200, String::new()));
}

#[test]
fn answers_without_a_body() {
    assert_eq!(answer(&get("/nothing")), (204, String::new()));
    assert_eq!(answer(&get("/elsewhere")).0, 404);
}

#[test]
fn what_the_handler_does_wrong_is_500() {
    assert_eq!(answer(&get("/panic")), (500, "the server failed to handle the request\n".into()));
    for path in ["/split", "/odd", "/long?1048577"] {
        let (status, body) = answer(&get(path));
        assert_eq!((status, &*body), (500, "the server's answer was invalid\n"), "{path}");
    }
}

#[test]
fn bodies_and_other_methods_do_not_reach_the_handler() {
    let head = String::from_utf8(get("/healthz")).unwrap();
    for (bytes, status) in [
        (head.replace("GET", "POST"), 405),
        (head.replace("\r\n\r\n", "\r\nContent-Length: 2\r\n\r\nhi"), 400),
        (head.replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400),
        (head.clone() + &head, 400),
        (head.replace("Host: example.com\r\n", ""), 400),
        (head.replace("HTTP/1.1", "HTTP/1.0"), 400),
    ] {
        let mut world = World::server(Limits::default());
        world.receive(bytes.as_bytes());
        assert_eq!((refusal(&world).0, world.metrics.http.get()), (status, 0), "{bytes:?}");
    }
}

/// What the client takes of a body of a megabyte, in steps of so many bytes a second.
fn taken(step: usize) -> usize {
    let mut world = World::server(Limits::default());
    world.set_room(step);
    world.receive(&get("/long?1048576"));
    let mut taken = 0;
    for _ in 0..100 {
        taken += world.sent().len();
        if world.is_lingering() || world.is_dead() {
            break;
        }
        world.advance(Duration::from_secs(1));
        let is_alive = !world.is_dead();
        world.set_room(if is_alive { step } else { 0 });
    }
    taken
}

#[test]
fn a_long_body_arrives_whole() {
    let mut world = World::server(Limits::default());
    world.receive(&get("/long?1048576"));
    assert_eq!(refusal(&world).1.len(), 1024 * 1024);
    // Longer than a close may take, while it goes on.
    let whole = taken(100_000);
    assert!(whole > 1024 * 1024, "{whole}");
    // Not for ever.
    let part = taken(1000);
    assert!((60_000..80_000).contains(&part), "{part}");
}

#[test]
fn a_body_that_nobody_takes_ends_with_the_time_to_close() {
    let mut world = World::server(Limits::default());
    world.set_room(1000);
    world.receive(&get("/long?1048576"));
    world.advance(Duration::from_millis(4999));
    assert!(!world.is_dead());
    world.advance(Duration::from_millis(1));
    assert!(world.is_dead());
}
