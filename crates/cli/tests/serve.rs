//! `serve`: what it refuses, and several processes on one port.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

mod common;
use common::{Directory, Server, assert_fails, children, signal, webscale};

#[test]
fn a_port_that_is_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    assert_fails(&["serve", "--listen", &address], 1, &[&address, "another program"]);
    assert_fails(&["serve", "--listen", &address, "--processes", "2"], 1, &[&address]);
}

#[test]
fn certificates_that_cannot_be_used() {
    let directory = Directory::new("serve-cert");
    for below in ["one", "other"] {
        assert!(webscale(&["cert", "--directory", &directory.file(below)]).status.success());
    }
    let (cert, key) = (directory.file("one/cert.pem"), directory.file("one/key.pem"));
    let stranger = directory.file("other/key.pem");
    let garbage = directory.write("garbage", b"not PEM at all\n");
    let with = |cert: &str, key: &str, needles: &[&str]| {
        assert_fails(&["serve", "--listen", "127.0.0.1:0", "--cert", cert, "--key", key], 2, needles);
    };
    with("/nonexistent", &key, &["/nonexistent", "No such file"]);
    with(&cert, "/nonexistent", &["/nonexistent", "No such file"]);
    with(&garbage, &key, &["garbage", "PEM"]);
    with(&cert, &garbage, &["garbage", "PEM"]);
    with(&cert, &stranger, &["does not match"]);
}

#[test]
fn flags_that_do_not_go_together() {
    assert_fails(&["serve", "--cert", "a"], 2, &["--key"]);
    assert_fails(&["serve", "--key", "a"], 2, &["--cert"]);
    assert_fails(&["serve", "--plain", "--cert", "a", "--key", "b"], 2, &["--plain"]);
    assert_fails(&["serve", "--listen", "nowhere"], 2, &["--listen", "nowhere"]);
    assert_fails(&["serve", "--listen", "127.0.0.1"], 2, &["--listen"]);
    assert_fails(&["serve", "--threads", "0"], 2, &["--threads"]);
    assert_fails(&["serve", "--processes", "0"], 2, &["--processes"]);
    assert_fails(&["serve", "--max-message", "huge"], 2, &["--max-message"]);
    assert_fails(&["serve", "--mode", "chat"], 2, &["chat", "echo"]);
    let wildcard = ["serve", "--plain", "--listen", "127.0.0.1:0", "--origin", "https://*.example.com"];
    assert_fails(&wildcard, 2, &["https://*.example.com", "no wildcards"]);
}

/// What a server with these flags answers to a client with these fields in its request.
fn answer_to(field: &str, flags: &[&str]) -> String {
    upgraded(field, flags).2
}

/// The same with the server and the client.
fn upgraded(field: &str, flags: &[&str]) -> (Server, TcpStream, String) {
    let server = Server::start(&[&["--plain"], flags].concat());
    let mut stream = TcpStream::connect(server.url.strip_prefix("ws://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{field}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    (server, stream, String::from_utf8(head).unwrap())
}

#[test]
fn messages_are_compressed_where_that_was_asked_for() {
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits";
    assert!(!answer_to(offer, &[]).contains("Extensions"));
    for flags in [&["--deflate"][..], &["--deflate", "--processes", "2", "--threads", "1"]] {
        let answer = answer_to(offer, flags);
        assert!(answer.contains("\r\nSec-WebSocket-Extensions: permessage-deflate; "), "{answer}");
    }
}

#[test]
fn pages_connect_from_the_origins_that_were_named() {
    let status = |origin: &str, flags: &[&str]| {
        let answer = answer_to(&format!("Origin: {origin}"), flags);
        answer["HTTP/1.1 ".len()..][..3].to_owned()
    };
    assert_eq!((status("http://a", &[]), status("https://b.example", &[])), ("101".into(), "403".into()));
    let named = ["--origin", "https://b.example", "--origin", "null"];
    for origin in ["https://b.example", "null"] {
        assert_eq!(status(origin, &named), "101", "{origin}");
    }
    assert_eq!(status("http://a", &named), "403");
    let processes = ["--processes", "2", "--threads", "1", "--origin", "any"];
    assert_eq!(status("https://whoever.example", &processes), "101");
}

#[test]
fn all_that_was_typed_reaches_each_process() {
    // A flag that appears nowhere in the code that starts them: handlers panic when they are told to.
    let flags = ["--wilful", "--processes", "2", "--threads", "1", "--"];
    let (_server, mut stream, _) = upgraded("Origin: http://a", &flags);
    let panic = [&[0x81, 0x80 | 5, 0, 0, 0, 0], &b"panic"[..]].concat();
    stream.write_all(&panic).unwrap();
    let mut frame = [0; 4];
    stream.read_exact(&mut frame).unwrap();
    assert_eq!((frame[0], u16::from_be_bytes([frame[2], frame[3]])), (0x88, 1011));
}

#[test]
fn several_processes_share_a_port_and_add_up() {
    let server = Server::start(&["--processes", "2", "--threads", "1"]);
    assert_eq!(children(server.child.id()).len(), 2);
    let args = ["--clients", "20", "--interval", "50ms", "--warmup", "0s", "--duration", "200ms"];
    let load =
        [&["bench", &server.url], &args[..], &["--probe", "echo", "--size", "64", "--latency-limit", "60s"]];
    let output = webscale(&load.concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (code, last) = server.finish();
    assert_eq!((code, last.as_str()), (Some(0), "echoed 80 messages, 0 failed, 20 connections"));
}

#[test]
fn a_process_that_dies_takes_the_others_along() {
    let mut server = Server::start(&["--processes", "2", "--threads", "1", "--plain"]);
    let members = children(server.child.id());
    signal(members[0], "KILL");
    assert_eq!(server.child.wait().unwrap().code(), Some(1));
    for pid in members {
        assert!(!fs::exists(format!("/proc/{pid}")).unwrap(), "{pid} lives on");
    }
}
