//! The upgrade: what is accepted, what is refused and how, and what is written.

mod client;
mod head;
mod refusals;
mod server;

/// The key of RFC 6455 §1.3 and its answer.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The request of RFC 6455 §1.2.
const REQUEST: &str = "GET /chat HTTP/1.1\r\n\
    Host: server.example.com\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Origin: http://example.com\r\n\
    Sec-WebSocket-Protocol: chat, superchat\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// [`REQUEST`] with one part exchanged. The part must be there.
fn request_with(part: &str, other: &str) -> String {
    assert_eq!(REQUEST.matches(part).count(), 1, "{part:?}");
    REQUEST.replace(part, other)
}

/// [`REQUEST`] with more fields.
fn request_and(fields: &str) -> String {
    request_with("Version: 13\r\n", &format!("Version: 13\r\n{fields}\r\n"))
}
