//! Requests that are refused, and the answer.

use webscale_proto::handshake::UpgradeError::{self, *};
use webscale_proto::handshake::{Answer, HeadLimits, InvalidHeader, check_lines, parse_request, respond};

use crate::{REQUEST, request_and, request_with};

/// Appends an answer to a GET.
fn reject(out: &mut Vec<u8>, status: u16, headers: &[(&str, &str)], body: &str) -> Result<(), InvalidHeader> {
    respond(out, &Answer { status, headers, body: body.as_bytes() }, false)
}

fn refusal(head: impl AsRef<[u8]>) -> UpgradeError {
    let head = head.as_ref();
    match parse_request(head, &HeadLimits::default()) {
        Ok(_) => panic!("accepted: {:?}", String::from_utf8_lossy(head)),
        Err(error) => error,
    }
}

#[test]
fn smuggling() {
    for (part, other, error) in [
        // Lines that readers end in different places.
        ("chat HTTP/1.1\r\n", "chat HTTP/1.1\n", BareLineEnd),
        ("com\r\nUp", "com\nUp", BareLineEnd),
        ("com\r\nUp", "com\rUp", BareLineEnd),
        ("com\r\nUp", "com\r\r\nUp", BareLineEnd),
        ("com\r\nUp", "com\n\r\nUp", BareLineEnd),
        ("Version: 13\r\n", "Version: 13\r\nX: a\rTransfer-Encoding: chunked\r\n", BareLineEnd),
        ("com\r\nUp", "com\r\n folded\r\nUp", FoldedHeader),
        ("com\r\nUp", "com\r\n\tfolded\r\nUp", FoldedHeader),
        ("HTTP/1.1\r\nHost", "HTTP/1.1\r\n Host", FoldedHeader),
        ("GET", " GET", FoldedHeader),
        ("GET", "\r\nGET", Malformed),
        ("GET", "\r\n\r\nGET", Malformed),
        ("GET", "\nGET", BareLineEnd),
        // Bytes that readers skip or cut at.
        ("websocket", "web\0socket", ControlCharacter),
        ("/chat", "/ch\0at", ControlCharacter),
        ("/chat", "/ch\u{7f}at", ControlCharacter),
        ("Origin", "Ori\u{1}gin", ControlCharacter),
        ("http://example.com", "http://exa\u{8}mple.com", ControlCharacter),
        ("http://example.com", "http://ex\u{b}ample.com", ControlCharacter),
        // Names that readers trim.
        ("Host:", "Host :", Malformed),
        ("Host:", "Host\t:", Malformed),
        ("Host:", "Ho st:", Malformed),
        ("Host:", ":", Malformed),
        ("Host: server.example.com", "Host", Malformed),
        ("Origin:", "Ori(gin:", Malformed),
        ("Origin:", "Orißgin:", Malformed),
        // Two that readers choose between.
        ("Host: server.example.com", "Host: server.example.com\r\nhost: other", DuplicateHeader),
        ("Version: 13\r\n", "Version: 13\r\nSec-WebSocket-Version: 13\r\n", DuplicateHeader),
        ("Origin: http://example.com", "Origin: null\r\nOrigin: http://example.com", DuplicateHeader),
        ("Version: 13\r\n", "Version: 13\r\nContent-Length: 0\r\nContent-Length: 0\r\n", DuplicateHeader),
        ("Upgrade: websocket", "Upgrade: h2c\r\nUpgrade: websocket", DuplicateHeader),
        ("Upgrade: websocket", "Upgrade: websocket\r\nupgrade: websocket", DuplicateHeader),
        (
            "Version: 13\r\n",
            "Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            DuplicateHeader,
        ),
        // Bodies.
        ("Version: 13\r\n", "Version: 13\r\nTransfer-Encoding: chunked\r\n", Body),
        ("Version: 13\r\n", "Version: 13\r\ntransfer-encoding: identity\r\n", Body),
        ("Version: 13\r\n", "Version: 13\r\nTransfer-Encoding:\r\n", Body),
        ("Version: 13\r\n", "Version: 13\r\nContent-Length: 1\r\n", Body),
        ("Version: 13\r\n", "Version: 13\r\nContent-Length: +0\r\n", Body),
        ("Version: 13\r\n", "Version: 13\r\nContent-Length: 0, 0\r\n", Body),
        ("Version: 13\r\n", "Version: 13\r\nContent-Length:\r\n", Body),
        // Request lines.
        ("GET /chat", "GET  /chat", Malformed),
        ("GET /chat", "GET\t/chat", Malformed),
        ("/chat HTTP", "/chat  HTTP", HttpVersion),
        ("/chat HTTP", "/ch at HTTP", HttpVersion),
        ("HTTP/1.1", "HTTP/1.1 ", Malformed),
        ("GET /chat HTTP/1.1\r\n", "", Malformed),
        ("GET", "G(T", Malformed),
    ] {
        let found = refusal(request_with(part, other));
        assert_eq!(found, error, "{part:?} -> {other:?}");
        assert_eq!(found.status(), 400);
    }
}

#[test]
fn heads_that_are_not_one_head() {
    for len in 0..REQUEST.len() {
        assert_eq!(refusal(&REQUEST[..len]).status(), 400, "cut at {len}");
    }
    assert_eq!(refusal(format!("{REQUEST}x")), Malformed);
    assert_eq!(refusal(format!("{REQUEST}{REQUEST}")), Malformed);
    assert_eq!(refusal(format!("{REQUEST}\r\n")), Malformed);
    assert_eq!(refusal("\r\n\r\n"), Malformed);
    // A TLS hello on a plain port.
    assert_eq!(refusal(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"), ControlCharacter);
}

#[test]
fn versions_of_http() {
    for version in ["HTTP/1.0", "HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "http/1.1", "HTTP/1", "FTP/1.1"] {
        let found = refusal(request_with("HTTP/1.1", version));
        assert_eq!((found, found.status()), (HttpVersion, 400), "{version}");
    }
    assert_eq!(refusal("PRI * HTTP/2.0\r\n\r\n"), HttpVersion);
}

#[test]
fn targets_and_hosts() {
    for target in [
        "*",
        "chat",
        "server.example.com:443",
        "ftp://other/",
        "http://",
        "http:///x",
        "http://a b/",
        "/a#fragment",
        "/gr\u{fc}n",
        "http://user@other/",
        "ws://other:port/",
    ] {
        let error = if target.contains(' ') { HttpVersion } else { Target };
        assert_eq!(refusal(request_with("/chat", target)), error, "{target}");
    }
    for host in [
        "",
        "a b",
        "a/b",
        "user@a",
        "a,b",
        "a:b",
        "a:1:2",
        "[::1",
        "[]",
        "::1",
        "[::1]x",
        "a?b",
        "b\u{fc}cher",
    ] {
        assert_eq!(refusal(request_with("server.example.com", host)), Host, "{host}");
    }
    assert_eq!(refusal(request_with("Host: server.example.com\r\n", "")), Host);
    assert_eq!(refusal(request_with("http://example.com", "http://b\u{fc}cher")), Origin);
}

#[test]
fn keys() {
    for key in [
        "",
        "x",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZQ===",
        "dGhlIHNhbXBsZSBub25j",
        "dGhlIHNhbXBsZSBub25jZWU=",
        "dGhlIHNhbXBsZSBub25jZWVl",
        "dGhlIHNhbXBsZSBub25jZR==",
        "dGhlIHNhbXBsZSBub25j*Q==",
        "dGhlIHNhbXBs ZSBub25jZQ==",
        "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
    ] {
        let found = refusal(request_with("dGhlIHNhbXBsZSBub25jZQ==", key));
        assert_eq!((found, found.status()), (Key, 400), "{key}");
    }
    assert_eq!(refusal(request_with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "")), Key);
    assert_eq!(refusal(request_with("chat, superchat", "chat, super chat")), Protocol);
    assert_eq!(refusal(request_with("chat, superchat", "chat;x")), Protocol);
}

#[test]
fn methods_are_answered_with_405() {
    let plain = |method: &str| format!("{method} /chat HTTP/1.1\r\nHost: a\r\n\r\n");
    for method in ["POST", "OPTIONS", "get", "Head", "CONNECT", "GETT"] {
        for request in [request_with("GET", method), plain(method)] {
            let found = refusal(request);
            assert_eq!((found, found.status()), (Method, 405), "{method}");
        }
    }
    assert_eq!(refusal(request_with("GET", "HEAD")), Method, "HEAD opens no WebSocket");
    let posted = request_and("Content-Length: 5").replace("GET", "POST");
    assert_eq!(refusal(posted), Method);
}

#[test]
fn half_a_wish_for_a_websocket_is_answered_with_426() {
    for (part, other) in [
        ("Connection: Upgrade\r\n", ""),
        ("Connection: Upgrade", "Connection: keep-alive"),
        ("Connection: Upgrade", "Connection: Upgraded"),
    ] {
        let found = refusal(request_with(part, other));
        assert_eq!((found, found.status()), (NotWebSocket, 426), "{other:?}");
    }
    for version in ["12", "8", "14", "013", "13, 8", "", "x"] {
        let found = refusal(request_with("Version: 13", &format!("Version: {version}")));
        assert_eq!((found, found.status()), (UnsupportedVersion, 426), "{version}");
    }
    assert_eq!(refusal(request_with("Sec-WebSocket-Version: 13\r\n", "")), MissingVersion);
}

#[test]
fn a_fault_shows_as_soon_as_its_byte_is_there() {
    for (part, other, error) in [
        ("com\r\nUp", "com\nUp", BareLineEnd),
        ("com\r\nUp", "com\rUp", BareLineEnd),
        ("com\r\nUp", "com\r\n\tfolded\r\nUp", FoldedHeader),
        ("GET", " GET", FoldedHeader),
        ("websocket", "web\0socket", ControlCharacter),
    ] {
        let head = request_with(part, other);
        let fault_at = (0..head.len()).find(|&at| check_lines(&head.as_bytes()[..=at], at).is_err());
        let at = fault_at.expect("a fault");
        assert!(head[at..].len() > REQUEST.len() / 10, "{other:?}: at byte {at} already");
        for from in 0..=at {
            assert_eq!(check_lines(&head.as_bytes()[..at], from), Ok(()), "{other:?} from {from}");
            let fault = check_lines(&head.as_bytes()[..=at], from).expect_err("the same fault");
            assert_eq!(UpgradeError::from(fault), error, "{other:?} from {from}");
        }
    }
    assert_eq!(check_lines(b"a\r", 100), Ok(()), "more than there is");
}

/// Status line, fields and body of an answer.
fn split_answer(out: &[u8]) -> (String, Vec<(String, String)>, String) {
    let out = std::str::from_utf8(out).unwrap();
    let (head, body) = out.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().to_owned();
    let fields = lines.map(|line| line.split_once(": ").unwrap()).map(|(n, v)| (n.to_owned(), v.to_owned()));
    (status, fields.collect(), body.to_owned())
}

fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut found = fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
    let value = found.next().map(|(_, value)| value.as_str());
    assert_eq!(found.next(), None, "{name} twice");
    value
}

#[test]
fn answers_say_what_their_status_demands() {
    for error in [
        Malformed,
        BareLineEnd,
        ControlCharacter,
        FoldedHeader,
        HttpVersion,
        Target,
        Host,
        DuplicateHeader,
        Body,
        Key,
        MissingVersion,
        Protocol,
        Origin,
        Method,
        NotWebSocket,
        UnsupportedVersion,
        HeadTooLong,
        TooManyHeaders,
    ] {
        let mut out = Vec::new();
        error.write(&mut out, b"GET / HT");
        let (status, fields, body) = split_answer(&out);
        let line = match error.status() {
            400 => "HTTP/1.1 400 Bad Request",
            405 => "HTTP/1.1 405 Method Not Allowed",
            426 => "HTTP/1.1 426 Upgrade Required",
            _ => "HTTP/1.1 431 Request Header Fields Too Large",
        };
        assert_eq!(status, line, "{error:?}");
        assert_eq!(body, error.reason());
        assert_eq!(error.to_string(), error.reason());
        assert_eq!(field(&fields, "Content-Length"), Some(&*body.len().to_string()));
        assert!(field(&fields, "Connection").unwrap().split(", ").any(|option| option == "close"));
        assert_eq!(field(&fields, "Allow"), (error.status() == 405).then_some("GET, HEAD"));
        assert_eq!(field(&fields, "Sec-WebSocket-Version"), (error.status() == 426).then_some("13"));
        assert_eq!(field(&fields, "Upgrade"), (error.status() == 426).then_some("websocket"));

        let mut to_head = Vec::new();
        error.write(&mut to_head, b"HEAD / HT");
        assert_eq!(to_head, out[..out.len() - body.len()], "no body for HEAD");
    }
}

#[test]
fn an_answer_as_it_stands_on_the_wire() {
    let mut out = b"before".to_vec();
    reject(&mut out, 401, &[("WWW-Authenticate", "Bearer")], "who are you?").unwrap();
    let expected = "beforeHTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\
        Content-Type: text/plain; charset=utf-8\r\nWWW-Authenticate: Bearer\r\nContent-Length: 12\r\n\r\nwho are you?";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn answers_with_another_type_or_without_a_body() {
    let mut out = Vec::new();
    reject(&mut out, 403, &[("content-type", "application/json")], "{}").unwrap();
    let (_, fields, body) = split_answer(&out);
    assert_eq!((field(&fields, "Content-Type"), &*body), (Some("application/json"), "{}"));

    out.clear();
    reject(&mut out, 599, &[], "").unwrap();
    let (status, fields, body) = split_answer(&out);
    assert_eq!((&*status, &*body), ("HTTP/1.1 599 ", ""));
    assert_eq!((field(&fields, "Content-Length"), field(&fields, "Content-Type")), (Some("0"), None));
}

#[test]
fn answers_that_have_no_body() {
    for (status, length) in [(204, None), (205, Some("0")), (304, None)] {
        let mut out = Vec::new();
        reject(&mut out, status, &[], "").unwrap();
        let (_, fields, body) = split_answer(&out);
        assert_eq!((field(&fields, "Content-Length"), &*body), (length, ""), "{status}");
    }
    let mut out = Vec::new();
    respond(&mut out, &Answer { status: 200, headers: &[], body: b"hello" }, true).unwrap();
    let (_, fields, body) = split_answer(&out);
    assert_eq!((field(&fields, "Content-Length"), &*body), (Some("5"), ""), "HEAD");
}

#[test]
fn lengths_count_bytes() {
    let mut out = Vec::new();
    reject(&mut out, 503, &[("Retry-After", "1")], "später").unwrap();
    let (_, fields, _) = split_answer(&out);
    assert_eq!(field(&fields, "Content-Length"), Some("7"));
}

#[test]
fn answers_that_would_not_be_one_are_not_written() {
    let mut out = Vec::new();
    for status in [0, 99, 100, 101, 199, 600, 65535] {
        assert_eq!(reject(&mut out, status, &[], ""), Err(InvalidHeader::Status), "{status}");
    }
    for status in [204, 205, 304] {
        assert_eq!(reject(&mut out, status, &[], "x"), Err(InvalidHeader::Status), "{status}");
    }
    for (status, name, value, error) in [
        (400, "X", "a\r\n\r\n<script>", InvalidHeader::Value),
        (400, "X\r\n", "a", InvalidHeader::Name),
        (400, "Content-Length", "9", InvalidHeader::Owned),
        (400, "Connection", "keep-alive", InvalidHeader::Owned),
        (400, "Transfer-Encoding", "chunked", InvalidHeader::Owned),
        (405, "Allow", "POST", InvalidHeader::Owned),
        (426, "Upgrade", "h2c", InvalidHeader::Owned),
    ] {
        assert_eq!(reject(&mut out, status, &[(name, value)], "x"), Err(error), "{name:?}");
    }
    assert!(out.is_empty());
}
