//! The client's request and the answers it gets.

use webscale_proto::handshake::client::{ClientRequest, ResponseError, key, verify_response, write_request};
use webscale_proto::handshake::{
    Answer, HeadLimits, InvalidHeader, accept, head_end, parse_request, respond,
};

use crate::{ACCEPT, KEY};

const REQUEST: ClientRequest<'_> = ClientRequest {
    host: "example.com:9001",
    target: "/chat?a=b",
    key: KEY,
    protocols: &[],
    deflate: None,
    headers: &[],
};

fn answer_with(part: &str, other: &str) -> String {
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    );
    assert_eq!(answer.matches(part).count(), 1, "{part:?}");
    answer.replace(part, other)
}

fn verify(answer: &str) -> Result<Option<String>, ResponseError> {
    verify_response(answer.as_bytes(), KEY, &["chat", "superchat"], None)
        .map(|response| response.protocol().map(str::to_owned))
}

#[test]
fn keys_are_the_random_bytes_in_base64() {
    assert_eq!(&*key(*b"the sample nonce"), KEY);
}

#[test]
fn requests_as_they_stand_on_the_wire() {
    let mut out = b"before".to_vec();
    write_request(&mut out, &REQUEST).unwrap();
    let expected = "beforeGET /chat?a=b HTTP/1.1\r\nHost: example.com:9001\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn client_and_server_agree() {
    let key = key([0xff; 16]);
    let request = ClientRequest {
        key: &key,
        protocols: &["mqtt", "v2.chat"],
        headers: &[("Origin", "https://example.com"), ("Authorization", "Bearer x")],
        ..REQUEST
    };
    let mut sent = Vec::new();
    write_request(&mut sent, &request).unwrap();
    assert_eq!(head_end(&sent, 0), Some(sent.len()));
    let received = parse_request(&sent, &HeadLimits::default()).unwrap();
    assert_eq!(received.host(), "example.com:9001");
    assert_eq!((received.path(), received.query()), ("/chat", Some("a=b")));
    assert_eq!(received.origin(), Some("https://example.com"));
    assert_eq!(received.header("authorization"), Some(&b"Bearer x"[..]));
    assert_eq!(received.protocols().collect::<Vec<_>>(), ["mqtt", "v2.chat"]);

    for chosen in [None, Some("v2.chat")] {
        let mut answer = Vec::new();
        accept(&mut answer, &received, chosen, None, &[("X-Server", "1")]).unwrap();
        let response = verify_response(&answer, &key, request.protocols, None).unwrap();
        assert_eq!(response.protocol(), chosen);
        assert_eq!(response.header("x-server"), Some(&b"1"[..]));
        assert_eq!(response.headers().count(), if chosen.is_some() { 5 } else { 4 });
    }

    let mut answer = Vec::new();
    respond(&mut answer, &Answer { status: 503, headers: &[], body: b"full" }, false).unwrap();
    let end = head_end(&answer, 0).unwrap();
    assert_eq!(verify_response(&answer[..end], &key, &[], None).unwrap_err(), ResponseError::Status(503));
}

#[test]
fn requests_cannot_be_injected_into() {
    let mut out = Vec::new();
    let mut refuse = |request: ClientRequest<'_>, error| {
        assert_eq!(write_request(&mut out, &request), Err(error), "{request:?}");
        assert!(out.is_empty());
    };
    for host in ["", "a b", "a\r\nX: y", "user@a", "a/b"] {
        refuse(ClientRequest { host, ..REQUEST }, InvalidHeader::Host);
    }
    for target in ["", "chat", "/a b", "/a\r\nX: y", "/a#b", "/\u{fc}", "http://a/"] {
        refuse(ClientRequest { target, ..REQUEST }, InvalidHeader::Target);
    }
    for key in ["", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ==\r\nX: y"] {
        refuse(ClientRequest { key, ..REQUEST }, InvalidHeader::Key);
    }
    for protocols in [&["a", "a"][..], &["a", ""], &["a b"], &["a,b"], &["a\r\nX: y"]] {
        refuse(ClientRequest { protocols, ..REQUEST }, InvalidHeader::Protocol);
    }
    for (field, error) in [
        (("X", "a\r\nY: b"), InvalidHeader::Value),
        (("X:", "a"), InvalidHeader::Name),
        (("host", "other"), InvalidHeader::Owned),
        (("Sec-WebSocket-Version", "12"), InvalidHeader::Owned),
        (("Sec-WebSocket-Extensions", "permessage-deflate"), InvalidHeader::Owned),
        (("Content-Length", "1"), InvalidHeader::Owned),
    ] {
        refuse(ClientRequest { headers: &[field], ..REQUEST }, error);
    }
}

#[test]
fn good_answers() {
    for (part, other, protocol) in [
        ("Upgrade: websocket", "upgrade: WebSocket", Some("chat")),
        ("Connection: Upgrade", "connection: keep-alive, UPGRADE", Some("chat")),
        ("101 Switching Protocols", "101 Whatever", Some("chat")),
        ("101 Switching Protocols", "101 ", Some("chat")),
        ("Sec-WebSocket-Protocol: chat\r\n", "", None),
        ("Protocol: chat", "Protocol: superchat", Some("superchat")),
        ("Protocol: chat\r\n", "Protocol: chat\r\nSec-WebSocket-Extensions:\r\n", Some("chat")),
    ] {
        assert_eq!(verify(&answer_with(part, other)), Ok(protocol.map(str::to_owned)), "{other:?}");
    }
}

#[test]
fn bad_answers() {
    let many: String = (0..65).map(|n| format!("X-{n}: v\r\n")).collect();
    for (part, other, error) in [
        ("101 Switching Protocols", "200 OK", ResponseError::Status(200)),
        ("101 Switching Protocols", "404", ResponseError::Status(404)),
        ("HTTP/1.1 101 Switching Protocols", "HTTP/1.0 400 Bad Request", ResponseError::Status(400)),
        ("HTTP/1.1", "HTTP/1.0", ResponseError::Malformed),
        ("HTTP/1.1", "SSH-2.0", ResponseError::Malformed),
        ("HTTP/1.1", "\r\nHTTP/1.1", ResponseError::Malformed),
        ("101", "1x1", ResponseError::Malformed),
        ("Upgrade: websocket\r\n", "", ResponseError::Upgrade),
        ("Upgrade: websocket", "Upgrade: websocket, h2c", ResponseError::Upgrade),
        ("Upgrade: websocket\r\n", "Upgrade: websocket\r\nUpgrade: h2c\r\n", ResponseError::Upgrade),
        ("Connection: Upgrade\r\n", "", ResponseError::Connection),
        ("Connection: Upgrade", "Connection: close", ResponseError::Connection),
        ("s3pP", "S3pP", ResponseError::Accept),
        ("xOo=\r\n", "xOo=x\r\n", ResponseError::Accept),
        ("xOo=\r\n", "xOo=\r\nSec-WebSocket-Accept: x\r\n", ResponseError::Accept),
        ("Sec-WebSocket-Accept: ", "X-Accept: ", ResponseError::Accept),
        ("Protocol: chat", "Protocol: other", ResponseError::Protocol),
        ("Protocol: chat", "Protocol: Chat", ResponseError::Protocol),
        ("Protocol: chat", "Protocol: chat, superchat", ResponseError::Protocol),
        ("Protocol: chat", "Protocol:", ResponseError::Protocol),
        ("Protocol: chat", "Protocol: chat\r\nSec-WebSocket-Protocol: chat", ResponseError::Protocol),
        ("Protocol: chat\r\n", "Protocol: chat\r\nSec-WebSocket-Extensions: x\r\n", ResponseError::Extension),
        ("websocket\r\n", "websocket\n", ResponseError::Malformed),
        ("websocket\r\n", "websocket\r\n folded\r\n", ResponseError::Malformed),
        ("websocket\r\n", "websocket\r\nX: a\0b\r\n", ResponseError::Malformed),
        ("websocket\r\n", &format!("websocket\r\n{many}"), ResponseError::TooManyHeaders),
    ] {
        assert_eq!(verify(&answer_with(part, other)), Err(error), "{part:?} -> {other:?}");
    }
    let answer = answer_with("chat", "chat");
    for len in 0..answer.len() {
        assert_eq!(verify(&answer[..len]), Err(ResponseError::Malformed), "cut at {len}");
    }
    assert_eq!(verify(&format!("{answer}x")), Err(ResponseError::Malformed));
}

#[test]
fn nothing_was_offered_so_nothing_may_be_chosen() {
    let answer = answer_with("chat", "chat");
    assert_eq!(verify_response(answer.as_bytes(), KEY, &[], None).unwrap_err(), ResponseError::Protocol);
}

#[test]
fn errors_name_what_was_wrong() {
    assert_eq!(ResponseError::Status(404).to_string(), "the server answered 404 instead of 101");
    assert!(ResponseError::Accept.to_string().contains("Sec-WebSocket-Accept"));
    assert!(ResponseError::TooManyHeaders.to_string().contains("64"));
}
