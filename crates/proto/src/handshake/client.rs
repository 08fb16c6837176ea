//! The client's half of the handshake (RFC 6455 §4.1).

use core::fmt;
use core::ops::Deref;

use data_encoding::BASE64;

use super::answer::push_display;
use super::head::{
    Fields, InvalidHeader, LineFault, MAX_HEADERS, check_fields, check_lines, extensions, is_host, is_target,
    is_token, push_field, push_fields,
};
use super::server::{accept_key, is_key};
use crate::deflate::{Agreed, Deflate};

/// A Sec-WebSocket-Key: 16 bytes in base64. Derefs to `str`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key([u8; 24]);

impl Deref for Key {
    type Target = str;

    fn deref(&self) -> &str {
        core::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The key for one request. `random` must be fresh and unpredictable for each (RFC 6455 §4.1).
pub fn key(random: [u8; 16]) -> Key {
    let mut key = [0; 24];
    BASE64.encode_mut(&random, &mut key);
    Key(key)
}

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub struct ClientRequest<'a> {
    /// The server's name or address, with the port where it is not the scheme's default.
    pub host: &'a str,
    /// Path and query, from the `/` on.
    pub target: &'a str,
    /// A fresh [`key`].
    pub key: &'a str,
    /// Subprotocols, the preferred first.
    pub protocols: &'a [&'a str],
    /// permessage-deflate, where it is offered (RFC 7692).
    pub deflate: Option<&'a Deflate>,
    /// Further header fields, as Authorization or Origin.
    pub headers: &'a [(&'a str, &'a str)],
}

/// Appends the request.
///
/// # Errors
///
/// A part of the request is not valid, or a field is one of the handshake's own.
pub fn write_request(out: &mut Vec<u8>, request: &ClientRequest<'_>) -> Result<(), InvalidHeader> {
    check_request(request)?;
    out.extend_from_slice(b"GET ");
    out.extend_from_slice(request.target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    push_field(out, "Host", request.host.as_bytes());
    push_fields(out, &[("Upgrade", "websocket"), ("Connection", "Upgrade")]);
    push_fields(out, &[("Sec-WebSocket-Key", request.key), ("Sec-WebSocket-Version", "13")]);
    if let Some((first, others)) = request.protocols.split_first() {
        out.extend_from_slice(b"Sec-WebSocket-Protocol: ");
        out.extend_from_slice(first.as_bytes());
        for protocol in others {
            out.extend_from_slice(b", ");
            out.extend_from_slice(protocol.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
    if let Some(deflate) = request.deflate {
        push_display(out, format_args!("Sec-WebSocket-Extensions: {}\r\n", deflate.offer()));
    }
    push_fields(out, request.headers);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Header fields that a request has of its own, or that would give it a body, in small letters.
pub const OWN_FIELDS: &[&str] = &[
    "host",
    "upgrade",
    "connection",
    "content-length",
    "transfer-encoding",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
];

fn check_request(request: &ClientRequest<'_>) -> Result<(), InvalidHeader> {
    if !is_host(request.host) {
        return Err(InvalidHeader::Host);
    }
    if !request.target.starts_with('/') || !is_target(request.target) {
        return Err(InvalidHeader::Target);
    }
    if !is_key(request.key) {
        return Err(InvalidHeader::Key);
    }
    for (at, protocol) in request.protocols.iter().enumerate() {
        if !is_token(protocol.as_bytes()) || request.protocols.iter().take(at).any(|other| other == protocol)
        {
            return Err(InvalidHeader::Protocol);
        }
    }
    check_fields(request.headers, OWN_FIELDS)
}

/// An answer that opened the WebSocket, checked. Borrows from the bytes it came in.
#[derive(Clone, Debug)]
pub struct Response<'a> {
    protocol: Option<&'a str>,
    deflate: Option<Agreed>,
    fields: Fields<'a>,
}

impl<'a> Response<'a> {
    /// The subprotocol that the server chose.
    pub fn protocol(&self) -> Option<&'a str> {
        self.protocol
    }

    /// What was agreed on, where the server takes permessage-deflate up.
    pub fn deflate(&self) -> Option<Agreed> {
        self.deflate
    }

    /// The first header field of this name, in whatever case.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.fields.first(name)
    }

    /// All header fields in the order in which they came.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.fields.iter()
    }
}

/// Why an answer did not open the WebSocket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResponseError {
    /// Not the head of an HTTP/1.1 response.
    Malformed,
    /// More than [`MAX_HEADERS`] fields.
    TooManyHeaders,
    /// The server answered with this status instead of 101.
    Status(u16),
    /// No `Upgrade: websocket`.
    Upgrade,
    /// No `Connection: Upgrade`.
    Connection,
    /// The Sec-WebSocket-Accept is missing, or answers another key: a cache, or no WebSocket server.
    Accept,
    /// A subprotocol that was not asked for.
    Protocol,
    /// An extension that was not asked for, or not so.
    Extension,
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the answer is not HTTP/1.1",
            Self::TooManyHeaders => return write!(f, "the answer has more than {MAX_HEADERS} header fields"),
            Self::Status(status) => return write!(f, "the server answered {status} instead of 101"),
            Self::Upgrade => "the answer has no `Upgrade: websocket`",
            Self::Connection => "the answer has no `Connection: Upgrade`",
            Self::Accept => "the answer has a missing or wrong Sec-WebSocket-Accept",
            Self::Protocol => "the server chose a subprotocol that was not offered",
            Self::Extension => "the server chose an extension that was not offered, or not so",
        })
    }
}

impl std::error::Error for ResponseError {}

impl From<LineFault> for ResponseError {
    fn from(_: LineFault) -> Self {
        Self::Malformed
    }
}

impl From<httparse::Error> for ResponseError {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::TooManyHeaders,
            _ => Self::Malformed,
        }
    }
}

/// Reads one whole head, up to and with the blank line (see [`head_end`](super::head_end)), and checks that
/// it answers the request with this `key`, which offered the subprotocols `offered` and, where it is given, `deflate`.
///
/// # Errors
///
/// The answer does not open the WebSocket.
pub fn verify_response<'a>(
    head: &'a [u8],
    key: &str,
    offered: &[&str],
    deflate: Option<&Deflate>,
) -> Result<Response<'a>, ResponseError> {
    check_lines(head, 0)?;
    let mut fields = Fields::EMPTY;
    let mut parsed = httparse::Response::new(fields.room(MAX_HEADERS));
    let used = parsed.parse(head)?;
    let starts_at_once = head.first().is_some_and(|&byte| byte != b'\r');
    if used != httparse::Status::Complete(head.len()) || !starts_at_once {
        return Err(ResponseError::Malformed);
    }
    let (version, code, len) = (parsed.version, parsed.code, parsed.headers.len());
    fields.set_len(len);
    match code {
        Some(101) if version == Some(1) => {}
        Some(101) | None => return Err(ResponseError::Malformed),
        Some(code) => return Err(ResponseError::Status(code)),
    }
    check_upgrade(&fields, key)?;
    let deflate = check_extensions(&fields, deflate)?;
    let protocol = check_protocol(&fields, offered)?;
    Ok(Response { protocol, deflate, fields })
}

/// The checks of RFC 6455 §4.1, in its order.
fn check_upgrade(fields: &Fields<'_>, key: &str) -> Result<(), ResponseError> {
    let is_websocket = |value: &[u8]| value.eq_ignore_ascii_case(b"websocket");
    if !fields.first("upgrade").is_some_and(is_websocket) || fields.is_repeated("upgrade") {
        return Err(ResponseError::Upgrade);
    }
    if !fields.lists("connection", "upgrade") {
        return Err(ResponseError::Connection);
    }
    let accept = fields.first("sec-websocket-accept");
    if accept != Some(&accept_key(key)) || fields.is_repeated("sec-websocket-accept") {
        return Err(ResponseError::Accept);
    }
    Ok(())
}

fn check_extensions(fields: &Fields<'_>, offered: Option<&Deflate>) -> Result<Option<Agreed>, ResponseError> {
    match offered {
        Some(deflate) => deflate.confirm(extensions(fields)).map_err(|()| ResponseError::Extension),
        None if extensions(fields).next().is_some() => Err(ResponseError::Extension),
        None => Ok(None),
    }
}

fn check_protocol<'a>(fields: &Fields<'a>, offered: &[&str]) -> Result<Option<&'a str>, ResponseError> {
    let Some(protocol) = fields.first("sec-websocket-protocol") else { return Ok(None) };
    let chosen = core::str::from_utf8(protocol).ok().filter(|chosen| offered.contains(chosen));
    if fields.is_repeated("sec-websocket-protocol") {
        return Err(ResponseError::Protocol);
    }
    chosen.map(Some).ok_or(ResponseError::Protocol)
}
