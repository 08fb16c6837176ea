//! Heads of requests and answers: what passes is checked by other means, and what we write ourselves is read back.

use arbitrary::{Arbitrary, Unstructured};
use webscale_proto::handshake::client::{self, ClientRequest, ResponseError, verify_response};
use webscale_proto::handshake::{
    Answer, HeadLimits, accept, accept_key, check_lines, head_end, parse_request, respond,
};
use webscale_proto::{Deflate, Role};

/// The key of RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

#[derive(Arbitrary, Debug)]
struct Written<'a> {
    host: &'a str,
    target: &'a str,
    protocols: Vec<&'a str>,
    headers: Vec<(&'a str, &'a str)>,
    deflates: bool,
    status: u16,
    body: &'a str,
}

/// Runs the target. The first byte says what the others are, so that a corpus of heads stays readable: `q` for a
/// request, `a` for an answer, anything else for what we are asked to write.
///
/// # Panics
///
/// There is a fault in the opening handshake.
pub fn run(data: &[u8]) {
    match data {
        [b'q', head @ ..] => request(head),
        [b'a', head @ ..] => answer(head),
        [_, rest @ ..] => {
            if let Ok(written) = Written::arbitrary_take_rest(Unstructured::new(rest)) {
                write(&written);
            }
        }
        [] => {}
    }
}

/// The head in `bytes`, found at once and byte by byte.
fn head(bytes: &[u8]) -> Option<&[u8]> {
    let at_once = head_end(bytes, 0);
    let by_bytes = (1..=bytes.len()).find_map(|len| head_end(&bytes[..len], len - 1));
    assert_eq!(at_once, by_bytes);
    at_once.map(|end| &bytes[..end])
}

fn request(bytes: &[u8]) {
    let Some(head) = head(bytes) else { return };
    let request = match parse_request(head, &HeadLimits::default()) {
        Ok(request) => request,
        Err(error) => {
            let mut refusal = Vec::new();
            error.write(&mut refusal, head);
            let body = if head.starts_with(b"HEAD ") { 0 } else { error.reason().len() };
            assert_eq!(head_end(&refusal, 0), Some(refusal.len() - body));
            return;
        }
    };
    assert_eq!(check_lines(head, 0), Ok(()));
    let fields = fields(head);
    check_request(head, &fields, request.method());
    check_purpose(&fields, request.key());
    assert_eq!(request.headers().count(), fields.len());
    for (ours, theirs) in request.headers().zip(&fields) {
        assert_eq!((ours.0.as_bytes(), ours.1), *theirs);
    }
    let Some(key) = request.key() else {
        assert!(accept(&mut Vec::new(), &request, None, None, &[]).is_err(), "it opens no WebSocket");
        return;
    };
    let agreed = Deflate::default().answer(request.extensions());
    let protocol = request.protocols().next();
    let mut out = Vec::new();
    accept(&mut out, &request, protocol, agreed.as_ref(), &[]).expect("what was offered may be chosen");
    let offered: Vec<&str> = protocol.into_iter().collect();
    let wishes = Deflate::default().peer_context_takeover(true).own_context_takeover(true);
    let response = verify_response(&out, key, &offered, Some(&wishes));
    let response = response.expect("our client takes what our server answers");
    assert_eq!((response.protocol(), response.deflate().is_some()), (protocol, agreed.is_some()));
}

/// Name and value of each field of a head that was accepted, found without httparse.
fn fields(head: &[u8]) -> Vec<(&[u8], &[u8])> {
    let text = head.strip_suffix(b"\r\n\r\n").expect("a blank line ends a head");
    let mut lines = text.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.next().expect("a first line");
    lines
        .map(|line| {
            let colon = line.iter().position(|&byte| byte == b':').expect("a colon");
            (&line[..colon], line[colon + 1..].trim_ascii())
        })
        .collect()
}

/// The values of the fields called so.
fn all<'a>(fields: &[(&'a [u8], &'a [u8])], name: &str) -> Vec<&'a [u8]> {
    let named = fields.iter().filter(|field| field.0.eq_ignore_ascii_case(name.as_bytes()));
    named.map(|field| field.1).collect()
}

/// Whether one of the fields called so lists this token.
fn lists(fields: &[(&[u8], &[u8])], name: &str, token: &str) -> bool {
    let values = all(fields, name).join(&b',').to_ascii_lowercase();
    values.split(|&byte| byte == b',').any(|value| value.trim_ascii() == token.as_bytes())
}

/// What two readers of a request could disagree about must not be there (RFC 9112 §11.2).
fn check_request(head: &[u8], fields: &[(&[u8], &[u8])], method: &str) {
    check_bytes(head);
    let line = head.split(|&byte| byte == b'\r').next().expect("a first line");
    let parts: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    assert!(matches!(parts[..], [b"GET" | b"HEAD", [_, ..], b"HTTP/1.1"]), "{}", line.escape_ascii());
    assert_eq!(parts[0], method.as_bytes());
    assert_eq!(all(fields, "host").len(), 1);
    assert!(all(fields, "transfer-encoding").is_empty());
    assert!(all(fields, "content-length").iter().all(|value| *value == b"0"));
    for name in ["content-length", "origin", "upgrade", "sec-websocket-key", "sec-websocket-version"] {
        assert!(all(fields, name).len() <= 1, "{name} twice");
    }
}

/// A request opens a WebSocket if it asks for one, with all that belongs to it (RFC 6455 §4.2.1).
fn check_purpose(fields: &[(&[u8], &[u8])], key: Option<&str>) {
    assert_eq!(lists(fields, "upgrade", "websocket"), key.is_some());
    if let Some(key) = key {
        assert!(lists(fields, "connection", "upgrade"));
        assert_eq!(all(fields, "sec-websocket-version"), [b"13"]);
        assert_eq!(all(fields, "sec-websocket-key"), [key.as_bytes()]);
    }
}

/// Line ends are CRLF, nothing is folded, names are tokens, nothing else is a control character.
fn check_bytes(head: &[u8]) {
    let text = head.strip_suffix(b"\r\n\r\n").expect("a blank line ends a head");
    for (number, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        assert!(
            line.iter().all(|&byte| byte == b'\t' || !byte.is_ascii_control()),
            "{}",
            line.escape_ascii()
        );
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        let is_token = !name.is_empty() && name.iter().all(|byte| byte.is_ascii_graphic());
        assert!(number == 0 || is_token, "{}", line.escape_ascii());
    }
    let line_ends = head.iter().filter(|&&byte| byte == b'\n').count();
    assert_eq!(line_ends, head.windows(2).filter(|pair| pair == b"\r\n").count(), "a line feed alone");
}

fn answer(bytes: &[u8]) {
    let Some(head) = head(bytes) else { return };
    let wishes = Deflate::default();
    for deflate in [None, Some(&wishes)] {
        match verify_response(head, KEY, &["chat", "superchat"], deflate) {
            Ok(response) => {
                check_bytes(head);
                assert!(head.starts_with(b"HTTP/1.1 101"));
                assert_eq!(response.header("sec-websocket-accept"), Some(&accept_key(KEY)[..]));
                assert!(response.protocol().is_none_or(|chosen| ["chat", "superchat"].contains(&chosen)));
                let extends =
                    response.header("sec-websocket-extensions").is_some_and(|value| !value.is_empty());
                assert!(response.deflate().is_none() || (extends && deflate.is_some()));
                if let Some(agreed) = response.deflate() {
                    assert!(!agreed.direction(Role::Server).context_takeover, "we did not offer it");
                }
            }
            Err(ResponseError::Status(status)) => assert_ne!(status, 101),
            Err(_) => {}
        }
    }
}

/// What we write has the fields that we were given and no others, however they look.
fn write(written: &Written<'_>) {
    let Written { host, target, ref protocols, ref headers, deflates, status, body } = *written;
    let wishes = Deflate::default();
    let deflate = deflates.then_some(&wishes);
    let request = ClientRequest { host, target, key: KEY, protocols, headers, deflate };
    let mut out = Vec::new();
    if client::write_request(&mut out, &request).is_ok() {
        let own = 5 + usize::from(!protocols.is_empty()) + usize::from(deflates);
        assert_eq!(head_end(&out, 0), Some(out.len()));
        check_bytes(&out);
        assert_eq!(fields(&out).len(), own + headers.len());
    } else {
        assert!(out.is_empty(), "a part was written");
    }
    for is_head in [false, true] {
        out.clear();
        if respond(&mut out, &Answer { status, headers, body: body.as_bytes() }, is_head).is_ok() {
            let head = &out[..head_end(&out, 0).expect("a head")];
            assert_eq!(&out[head.len()..], if is_head { b"" } else { body.as_bytes() });
            check_bytes(head);
            assert!(fields(head).len() > headers.len());
        } else {
            assert!(out.is_empty(), "a part was written");
        }
    }
}
