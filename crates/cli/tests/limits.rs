//! `serve`: how much it lets clients have.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

mod common;
use common::{Server, assert_fails};

fn address(server: &Server) -> SocketAddr {
    server.url.strip_prefix("ws://").expect("no TLS").parse().expect("an address")
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// A WebSocket, or `None` where the server closed the connection instead.
fn open(address: SocketAddr) -> Option<TcpStream> {
    let mut stream = connect(address);
    let request = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    stream.write_all(request.as_bytes()).ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", head.escape_ascii());
    Some(stream)
}

/// How many of `wanted` connections at once are let in.
fn let_in(flags: &[&str], wanted: usize) -> usize {
    let server = Server::start(&[&["--plain"], flags].concat());
    let open: Vec<_> = (0..wanted).filter_map(|_| open(address(&server))).collect();
    open.len()
}

#[test]
fn connections_beyond_a_limit_are_closed() {
    assert_eq!(let_in(&["--max-connections", "3"], 5), 3);
    assert_eq!(let_in(&["--max-per-address", "2"], 5), 2);
    // Each handshake is done before the next begins.
    assert_eq!(let_in(&["--max-handshakes-per-address", "1"], 5), 5);
    // Whichever process the kernel chooses, neither has more than half.
    assert_eq!(let_in(&["--processes", "2", "--threads", "1", "--max-connections", "2"], 20), 2);
}

#[test]
fn handshakes_beyond_the_limit_are_closed() {
    let server = Server::start(&["--plain", "--threads", "1", "--max-handshakes-per-address", "1"]);
    let mut silent = connect(address(&server));
    silent.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    assert!(open(address(&server)).is_none());
    // Its end makes room; nobody says when the server has seen it.
    drop(silent);
    let mut tries = 0..10_000;
    assert!(tries.any(|_| open(address(&server)).is_some()));
}

#[test]
fn limits_that_let_nobody_in_are_refused() {
    for flag in ["--max-connections", "--max-per-address", "--max-handshakes-per-address"] {
        assert_fails(&["serve", flag, "0"], 2, &[flag]);
    }
}
