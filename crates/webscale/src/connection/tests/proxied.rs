//! Connections that a proxy brings.

use std::time::Duration;

use super::harness::World;
use super::recorder::{Seen, seen};
use super::socket::End;
use super::wire::{Frames, Item, request, split_head, text};
use crate::admission::Admission;
use crate::close::CloseKind;
use crate::limits::Limits;

const LINE: &[u8] = b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n";
const BLOCK: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13\xcb\0\x71\x09\xc6\x33\x64\x01\x12\x67\x01\xbb\x04\0\x04skip";

/// A server's side of a TCP connection from a proxy.
fn world(limits: Limits) -> World {
    let mut world = World::server(limits);
    world.connection.await_proxy();
    world
}

/// Who the client is, as the handler saw it.
fn whoami(world: &World) -> String {
    let sent = world.sent();
    let (head, _) = split_head(&sent);
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    head.lines().find_map(|line| line.strip_prefix("X-Peer: ")).expect("its address").to_owned()
}

#[test]
fn a_client_is_who_the_proxy_says_it_is_however_the_bytes_are_cut() {
    for header in [LINE, BLOCK] {
        let bytes = [header, &request("/whoami")].concat();
        for cut in 0..=bytes.len() {
            let mut world = world(Limits::default());
            world.receive(&bytes[..cut]);
            world.receive(&bytes[cut..]);
            assert_eq!(whoami(&world), "203.0.113.9:4711", "{cut}");
            world.receive(&Frames::client().text("hello").done());
            assert_eq!(world.seen(), [Seen::Opened, seen("hello")]);
        }
    }
}

#[test]
fn byte_by_byte() {
    let mut world = world(Limits::default());
    world.line().recv_max = 1;
    world.receive(&[BLOCK, &request("/")].concat());
    assert!(world.sent().starts_with(b"HTTP/1.1 101"));
    assert_eq!(world.connection.buffered(), 0);
    world.receive(&Frames::client().text("hello").done());
    assert_eq!(world.items(), [text("hello")]);
}

#[test]
fn of_a_connection_of_its_own_the_proxy_is_the_client() {
    for header in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        let mut world = world(Limits::default());
        world.receive(&[header, &request("/whoami")].concat());
        assert_eq!(whoami(&world), "192.0.2.1:4711");
    }
}

#[test]
fn without_a_right_header_it_ends_without_a_word() {
    for bytes in [&request("/")[..], b"PROXY TCP4 nowhere\r\n", b"\x16\x03\x01\x02\0", &[b'\r'; 20]] {
        let mut world = world(Limits::default());
        world.receive(bytes);
        assert!(world.is_dead() && world.sent().is_empty());
        assert_eq!(world.ended_as(), CloseKind::Proxy);
        assert_eq!(world.connection.held(), 0);
    }
    let mut world = world(Limits::default());
    world.receive(&LINE[..9]);
    world.end(End::Eof);
    assert_eq!((world.is_dead(), world.ended_as()), (true, CloseKind::Lost));
}

#[test]
fn a_header_where_none_is_expected_is_not_believed() {
    let mut world = World::server(Limits::default());
    world.receive(&[LINE, &request("/")].concat());
    assert!(world.sent().starts_with(b"HTTP/1.1 400"));
    let mut world = World::server(Limits::default());
    world.receive(&[BLOCK, &request("/")].concat());
    assert!(world.sent().starts_with(b"HTTP/1.1 400"));
}

#[test]
fn the_header_has_the_time_of_the_handshake() {
    let limits = Limits { handshake_time: Duration::from_secs(10), ..Limits::default() };
    let mut late = world(limits.clone());
    late.receive(&LINE[..9]);
    late.advance(Duration::from_secs(9));
    late.receive(&LINE[9..20]);
    late.advance(Duration::from_secs(1));
    assert!(late.is_dead() && late.sent().is_empty());
    assert_eq!(late.ended_as(), CloseKind::Timeout);
    // What is left of it is the client's.
    let mut slow = world(limits);
    slow.advance(Duration::from_secs(9));
    slow.receive(&[LINE, b"GET / HTTP/1.1\r\n"].concat());
    slow.advance(Duration::from_secs(1));
    assert!(slow.sent().starts_with(b"HTTP/1.1 408"));
}

#[test]
fn silence_begins_with_the_bytes_that_end_the_header() {
    let mut world = world(Limits::default());
    world.advance(Duration::from_secs(6));
    world.receive(&[LINE, &request("/")].concat());
    assert!(world.sent().starts_with(b"HTTP/1.1 101"));
    world.advance(world.config.limits.ping_after - Duration::from_millis(1));
    assert!(world.sent().is_empty(), "a ping too early");
    world.advance(Duration::from_secs(5));
    assert_eq!(world.items(), [Item::Ping(Vec::new())]);
}

#[test]
fn the_limits_of_an_address_are_those_of_the_client() {
    let limits = Limits { connections_per_address: 2, handshakes_per_address: 1, ..Limits::default() };
    let admission = Admission::new(&limits, 1);
    let come = |head: &[u8]| {
        let mut world = world(limits.clone());
        let (place, handshake) = admission.admit(None).expect("nobody knows from where yet");
        assert!(handshake.is_none());
        world.connection.registered.place = Some(place);
        world.receive(head);
        world
    };
    let whole = [LINE, &request("/")].concat();
    let mut first = come(&LINE[..20]);
    // The first has said nothing yet that counts.
    let second = come(&whole);
    first.receive(&LINE[20..]);
    let refused = come(LINE);
    assert_eq!((refused.is_dead(), refused.ended_as()), (true, CloseKind::Refused));
    assert_eq!(
        refused.metrics.refused.iter().map(crate::metrics::Counter::get).collect::<Vec<_>>(),
        [0, 1, 0]
    );
    first.receive(&request("/"));
    assert_eq!(come(&whole).ended_as(), CloseKind::Refused);
    drop(second);
    let third = come(&whole);
    assert!(!third.is_dead() && !first.is_dead());
    let other = come(b"PROXY TCP4 203.0.113.10 198.51.100.1 4711 443\r\n");
    assert!(!other.is_dead());
}
