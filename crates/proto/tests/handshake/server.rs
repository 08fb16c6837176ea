//! Requests that open a WebSocket, and the answer.

use webscale_proto::handshake::{HeadLimits, InvalidHeader, Request, accept, accept_key, parse_request};

use crate::{ACCEPT, KEY, REQUEST, request_and, request_with};

fn parse(head: &str) -> Request<'_> {
    match parse_request(head.as_bytes(), &HeadLimits::default()) {
        Ok(request) => request,
        Err(error) => panic!("{error} in {head:?}"),
    }
}

#[test]
fn the_request_of_the_rfc() {
    let request = parse(REQUEST);
    assert_eq!(request.method(), "GET");
    assert_eq!(request.target(), "/chat");
    assert_eq!((request.path(), request.query()), ("/chat", None));
    assert_eq!(request.host(), "server.example.com");
    assert_eq!(request.origin(), Some("http://example.com"));
    assert_eq!(request.key(), Some(KEY));
    assert_eq!(request.protocols().collect::<Vec<_>>(), ["chat", "superchat"]);
    assert_eq!(request.extensions().count(), 0);
    assert_eq!(request.header("UPGRADE"), Some(&b"websocket"[..]));
    assert_eq!(request.header("x-missing"), None);
    let names: Vec<&str> = request.headers().map(|(name, _)| name).collect();
    assert_eq!(names[..3], ["Host", "Upgrade", "Connection"]);
    assert_eq!(names.len(), 7);
}

#[test]
fn what_does_not_ask_for_a_websocket_is_plain_http() {
    for (part, other) in [
        ("Upgrade: websocket\r\n", ""),
        ("Upgrade: websocket", "Upgrade: h2c"),
        ("Upgrade: websocket", "Upgrade: websocket2"),
        ("Upgrade: websocket", "Upgrade:"),
    ] {
        for method in ["GET", "HEAD"] {
            let head = request_with(part, other).replace("GET", method);
            let request = parse(&head);
            assert_eq!((request.method(), request.key()), (method, None), "{other:?}");
            assert_eq!(accept(&mut Vec::new(), &request, None, None, &[]), Err(InvalidHeader::Key));
        }
    }
    let request = parse("GET /healthz?full HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((request.key(), request.path(), request.query()), (None, "/healthz", Some("full")));
}

#[test]
fn the_key_of_the_rfc() {
    assert_eq!(accept_key(KEY), *ACCEPT.as_bytes().first_chunk::<28>().unwrap());
}

#[test]
fn the_answer_of_the_rfc() {
    let mut out = b"before".to_vec();
    accept(&mut out, &parse(REQUEST), Some("chat"), None, &[]).unwrap();
    let expected = "beforeHTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn more_fields_go_into_the_answer() {
    let mut out = Vec::new();
    accept(&mut out, &parse(REQUEST), None, None, &[("Set-Cookie", "id=1"), ("X-Tab", "a\tb")]).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert!(out.ends_with("=\r\nSet-Cookie: id=1\r\nX-Tab: a\tb\r\n\r\n"), "{out}");
    assert!(!out.contains("Sec-WebSocket-Protocol"));
}

#[test]
fn answers_cannot_be_injected_into() {
    let request = parse(REQUEST);
    let mut out = Vec::new();
    for (name, value, error) in [
        ("X", "a\r\nSet-Cookie: b", InvalidHeader::Value),
        ("X", "a\rb", InvalidHeader::Value),
        ("X", "a\nb", InvalidHeader::Value),
        ("X", "a\0b", InvalidHeader::Value),
        ("X", "a\u{7f}b", InvalidHeader::Value),
        ("X\r\nY", "a", InvalidHeader::Name),
        ("X: Y", "a", InvalidHeader::Name),
        ("X Y", "a", InvalidHeader::Name),
        ("Xß", "a", InvalidHeader::Name),
        ("", "a", InvalidHeader::Name),
        ("Connection", "close", InvalidHeader::Owned),
        ("UPGRADE", "h2c", InvalidHeader::Owned),
        ("content-length", "5", InvalidHeader::Owned),
        ("Transfer-Encoding", "chunked", InvalidHeader::Owned),
        ("Sec-WebSocket-Accept", "mine", InvalidHeader::Owned),
        ("Sec-WebSocket-Protocol", "chat", InvalidHeader::Owned),
    ] {
        let fields = [("X-Good", "good"), (name, value)];
        assert_eq!(accept(&mut out, &request, None, None, &fields), Err(error), "{name:?}: {value:?}");
    }
    for protocol in ["other", "Chat", "", "chat\r\nX: y", "chat, superchat"] {
        assert_eq!(accept(&mut out, &request, Some(protocol), None, &[]), Err(InvalidHeader::Protocol));
    }
    assert!(out.is_empty(), "nothing was written");
}

#[test]
fn targets() {
    for (target, host, path, query) in [
        ("/", "server.example.com", "/", None),
        ("/?", "server.example.com", "/", Some("")),
        ("/a/b?c=d&e={f}|g?h", "server.example.com", "/a/b", Some("c=d&e={f}|g?h")),
        ("//double", "server.example.com", "//double", None),
        ("/%2e%2e/", "server.example.com", "/%2e%2e/", None),
        ("/go/http://other/", "server.example.com", "/go/http://other/", None),
        // A whole URL names the host itself (RFC 9112 §3.2.2).
        ("ws://other:9001/x?y", "other:9001", "/x", Some("y")),
        ("HTTPS://other", "other", "/", None),
        ("http://other?y", "other", "/", Some("y")),
        ("wss://[::1]:443/", "[::1]:443", "/", None),
    ] {
        let head = request_with("/chat", target);
        let request = parse(&head);
        assert_eq!(request.target(), target);
        assert_eq!((request.host(), request.path(), request.query()), (host, path, query));
    }
}

#[test]
fn hosts() {
    for host in ["a", "a:1", "a:", "127.0.0.1:9001", "[::1]", "[::1]:443", "xn--bcher-kva.example", "a_b"] {
        assert_eq!(parse(&request_with("server.example.com", host)).host(), host);
    }
}

#[test]
fn tokens_may_come_in_any_case_list_and_place() {
    for (part, other) in [
        ("Upgrade: websocket", "upgrade: WebSocket"),
        ("Upgrade: websocket", "UPGRADE:websocket"),
        ("Upgrade: websocket", "Upgrade: h2c, websocket"),
        ("Connection: Upgrade", "connection: upgrade"),
        ("Connection: Upgrade", "Connection: keep-alive, Upgrade"),
        ("Connection: Upgrade", "Connection: keep-alive ,\tUPGRADE , "),
        ("Connection: Upgrade", "Connection: keep-alive\r\nConnection: Upgrade"),
        ("Version: 13", "Version:  13  "),
        ("Host: server.example.com\r\n", "X-First: 1\r\nHost: server.example.com\r\n"),
        ("http://example.com", "null"),
    ] {
        assert_eq!(parse(&request_with(part, other)).key(), Some(KEY));
    }
    for field in ["Content-Length: 0", "X-Empty:", "X-Latin: caf\u{e9}", "Cookie: a=b; c=\"d\""] {
        assert_eq!(parse(&request_and(field)).key(), Some(KEY));
    }
}

#[test]
fn protocols_and_extensions_are_lists() {
    let head = request_with("chat, superchat\r\n", "a,b ,,\t c\r\nsec-websocket-protocol: d\r\n");
    assert_eq!(parse(&head).protocols().collect::<Vec<_>>(), ["a", "b", "c", "d"]);

    let head = request_and(
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x\r\nSec-WebSocket-Extensions: y",
    );
    let extensions: Vec<&str> = parse(&head).extensions().collect();
    assert_eq!(extensions, ["permessage-deflate; client_max_window_bits", "x", "y"]);

    let head = request_with("Sec-WebSocket-Protocol: chat, superchat\r\n", "");
    assert_eq!(parse(&head).protocols().count(), 0);
}

#[test]
fn origin_may_be_missing() {
    assert_eq!(parse(&request_with("Origin: http://example.com\r\n", "")).origin(), None);
}
