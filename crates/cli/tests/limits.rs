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
    upgrade(connect(address))
}

fn upgrade(mut stream: TcpStream) -> Option<TcpStream> {
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

#[test]
fn clients_behind_a_proxy_have_their_own_addresses() {
    let flags = ["--proxy-protocol", "127.0.0.0/8", "--max-per-address", "1"];
    for processes in ["1", "2"] {
        let server =
            Server::start(&[&["--plain", "--threads", "1", "--processes", processes], &flags[..]].concat());
        let behind = |client: usize| {
            let mut stream = connect(address(&server));
            write!(stream, "PROXY TCP4 192.0.2.{client} 127.0.0.1 4711 80\r\n").unwrap();
            upgrade(stream)
        };
        let all: Vec<_> = (1..=5).map(behind).collect();
        assert!(all.iter().all(Option::is_some));
        // Each process has its own limit, and so one of them is left at most.
        let again: Vec<_> = (0..20).filter_map(|_| behind(1)).collect();
        assert_eq!(again.len() + 1, processes.parse().unwrap());
        assert!(open(address(&server)).is_none(), "a proxy without a header");
    }
    assert_fails(&["serve", "--proxy-protocol", "10.1.2.3/8"], 2, &["10.0.0.0/8"]);
    assert_fails(&["serve", "--proxy-protocol", "nowhere"], 2, &["--proxy-protocol", "IP address"]);
}

/// What the process `pid` has held in memory at most, in kB.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// All but the last byte of a binary message of 1 MiB.
fn most_of_a_message() -> Vec<u8> {
    let mut frame = vec![0x82, 0x80 | 127, 0, 0, 0, 0, 0, 0x10, 0, 0];
    frame.resize(frame.len() + 4 + (1 << 20) - 1, 0);
    frame
}

#[test]
fn a_server_keeps_within_its_memory_and_serves_who_holds_little() {
    let server = Server::start(&["--plain", "--threads", "1", "--memory", "64MiB", "--max-message", "1MiB"]);
    let mut honest = open(address(&server)).unwrap();
    let frame = most_of_a_message();
    let mut greedy = Vec::new();
    let mut refused = 0;
    // Four times what the server may have in all.
    for _ in 0..256 {
        let Some(mut stream) = open(address(&server)) else { continue };
        // It may be closed before all is said.
        refused += usize::from(stream.write_all(&frame).is_err());
        greedy.push(stream);
        honest.write_all(b"\x81\x82\0\0\0\0hi").unwrap();
        let mut echo = [0; 4];
        honest.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"\x81\x02hi");
    }
    let mut codes = Vec::new();
    for stream in &mut greedy {
        stream.set_nonblocking(true).unwrap();
        let mut close = [0; 4];
        if stream.read_exact(&mut close).is_ok() {
            codes.push((close[0], u16::from_be_bytes([close[2], close[3]])));
        }
    }
    assert!(codes.len() + refused > 200, "{} {refused}", codes.len());
    assert!(!codes.is_empty() && codes.iter().all(|&code| code == (0x88, 1013)), "{codes:?}");
    let peak = peak(server.child.id());
    assert!(peak < 64 << 10, "{peak} kB");
}

#[test]
fn memory_that_does_not_suffice_for_a_message_is_refused() {
    assert_fails(&["serve", "--memory", "32MiB"], 2, &["--memory", "--max-message"]);
    assert_fails(&["serve", "--memory", "64MiB", "--processes", "2"], 2, &["--memory", "each process"]);
}
