//! The server's half of the handshake (RFC 6455 §4.2).

use core::fmt;
use core::str;

use data_encoding::BASE64;

use super::answer::{Answer, push_display, write};
use super::head::{
    Fields, HeadLimits, InvalidHeader, LineFault, check_fields, check_lines, extensions, is_host, is_target,
    is_token, push_field, push_fields,
};
use crate::deflate::Agreed;

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Purpose<'a> {
    WebSocket { key: &'a str },
    Get,
    Head,
}

/// A well-formed request: it opens a WebSocket, or is a plain GET or HEAD. Borrows from the bytes it came in.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    purpose: Purpose<'a>,
    target: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    host: &'a str,
    origin: Option<&'a str>,
    fields: Fields<'a>,
}

impl<'a> Request<'a> {
    /// `GET` or `HEAD`; what opens a WebSocket is a `GET` (RFC 6455 §4.2.1).
    pub fn method(&self) -> &'static str {
        match self.purpose {
            Purpose::WebSocket { .. } | Purpose::Get => "GET",
            Purpose::Head => "HEAD",
        }
    }

    /// The request target as it stands in the request line.
    pub fn target(&self) -> &'a str {
        self.target
    }

    /// The target's path, up to a `?`. Not percent-decoded. Begins with `/`.
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// What stands behind the `?` of the target.
    pub fn query(&self) -> Option<&'a str> {
        self.query
    }

    /// The host that the client wants, with its port if it gave one. From the target if that names one, else
    /// from the Host field (RFC 9112 §3.2.2).
    pub fn host(&self) -> &'a str {
        self.host
    }

    /// The page that opened the WebSocket, from a browser (RFC 6455 §10.2).
    pub fn origin(&self) -> Option<&'a str> {
        self.origin
    }

    /// The Sec-WebSocket-Key, 16 bytes in base64, of a request that opens a WebSocket; `None` for a plain HTTP
    /// request.
    pub fn key(&self) -> Option<&'a str> {
        match self.purpose {
            Purpose::WebSocket { key } => Some(key),
            Purpose::Get | Purpose::Head => None,
        }
    }

    /// The subprotocols that the client offers, as it prefers them (RFC 6455 §1.9).
    pub fn protocols(&self) -> impl Iterator<Item = &'a str> {
        self.fields.list("sec-websocket-protocol").filter_map(|element| str::from_utf8(element).ok())
    }

    /// The extensions that the client offers, each with its parameters (RFC 6455 §9.1).
    pub fn extensions(&self) -> impl Iterator<Item = &'a str> {
        extensions(&self.fields)
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

/// Why a request is refused. [`write`](Self::write) answers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UpgradeError {
    /// 400: not a complete head, or more than one.
    Malformed,
    /// 400: a CR or LF alone (RFC 9112 §2.2).
    BareLineEnd,
    /// 400: NUL or another control character (RFC 9110 §5.5).
    ControlCharacter,
    /// 400: a header over several lines (RFC 9112 §5.2).
    FoldedHeader,
    /// 400: not HTTP/1.1 (RFC 6455 §4.2.1).
    HttpVersion,
    /// 400: the request target is no path and no URL of a server, or has a fragment (RFC 9112 §3.2, RFC 6455
    /// §3).
    Target,
    /// 400: no Host, or one that is not valid (RFC 9112 §3.2).
    Host,
    /// 400: a header twice that may come once.
    DuplicateHeader,
    /// 400: the request has a body.
    Body,
    /// 400: no Sec-WebSocket-Key, or not 16 bytes in base64 (RFC 6455 §4.2.1).
    Key,
    /// 400: no Sec-WebSocket-Version (RFC 6455 §4.2.1).
    MissingVersion,
    /// 400: a subprotocol that is no token (RFC 6455 §4.1).
    Protocol,
    /// 400: an Origin that is not printable ASCII (RFC 6454 §7).
    Origin,
    /// 405: a method other than GET, or than HEAD where no WebSocket is asked for.
    Method,
    /// 426: a request that does not ask for a WebSocket, or does so without `Connection: Upgrade`.
    NotWebSocket,
    /// 426: a version other than 13 (RFC 6455 §4.4).
    UnsupportedVersion,
    /// 431: longer than [`HeadLimits::bytes`].
    HeadTooLong,
    /// 431: more fields than [`HeadLimits::headers`].
    TooManyHeaders,
}

impl UpgradeError {
    /// The status to answer with.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Method => 405,
            Self::NotWebSocket | Self::UnsupportedVersion => 426,
            Self::HeadTooLong | Self::TooManyHeaders => 431,
            _ => 400,
        }
    }

    /// What was wrong, in one line.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed request",
            Self::BareLineEnd => "line that does not end with CRLF",
            Self::ControlCharacter => "control character in the request",
            Self::FoldedHeader => "header over several lines",
            Self::HttpVersion => "HTTP/1.1 is required",
            Self::Target => "invalid request target",
            Self::Host => "missing or invalid Host",
            Self::DuplicateHeader => "header that may come only once is repeated",
            Self::Body => "request with a body",
            Self::Key => "missing or invalid Sec-WebSocket-Key",
            Self::MissingVersion => "missing Sec-WebSocket-Version",
            Self::Protocol => "invalid Sec-WebSocket-Protocol",
            Self::Origin => "invalid Origin",
            Self::Method => "method not allowed; GET opens a WebSocket",
            Self::NotWebSocket => "this is a WebSocket endpoint",
            Self::UnsupportedVersion => "only WebSocket version 13 is supported",
            Self::HeadTooLong => "request head too long",
            Self::TooManyHeaders => "too many header fields",
        }
    }

    /// Appends the answer to `head`, which is what there is of the request: one that begins as HEAD gets no body.
    pub fn write(&self, out: &mut Vec<u8>, head: &[u8]) {
        let answer = Answer { status: self.status(), headers: &[], body: self.reason().as_bytes() };
        write(out, &answer, head.starts_with(b"HEAD "));
    }
}

impl fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for UpgradeError {}

impl From<LineFault> for UpgradeError {
    fn from(fault: LineFault) -> Self {
        match fault {
            LineFault::BareLineEnd => Self::BareLineEnd,
            LineFault::ControlCharacter => Self::ControlCharacter,
            LineFault::Folded => Self::FoldedHeader,
        }
    }
}

impl From<httparse::Error> for UpgradeError {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::TooManyHeaders,
            httparse::Error::Version => Self::HttpVersion,
            _ => Self::Malformed,
        }
    }
}

/// Reads one whole head, up to and with the blank line (see [`head_end`](super::head_end)).
///
/// A request that does not list `websocket` in an Upgrade field is a plain one: other protocols offered there are
/// ignored (RFC 9110 §7.8).
///
/// # Errors
///
/// The request is not well-formed, asks for a WebSocket otherwise than RFC 6455 §4.2.1 says, or exceeds a limit.
pub fn parse_request<'a>(head: &'a [u8], limits: &HeadLimits) -> Result<Request<'a>, UpgradeError> {
    if head.len() > limits.bytes {
        return Err(UpgradeError::HeadTooLong);
    }
    check_lines(head, 0)?;
    let mut fields = Fields::EMPTY;
    let mut parsed = httparse::Request::new(fields.room(limits.headers));
    let used = parsed.parse(head)?;
    let starts_at_once = head.first().is_some_and(|&byte| byte != b'\r');
    if used != httparse::Status::Complete(head.len()) || !starts_at_once {
        return Err(UpgradeError::Malformed);
    }
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(UpgradeError::Malformed);
    };
    let len = parsed.headers.len();
    fields.set_len(len);
    if version != 1 {
        return Err(UpgradeError::HttpVersion);
    }
    let wants_websocket = fields.lists("upgrade", "websocket");
    if method != "GET" && (method != "HEAD" || wants_websocket) {
        return Err(UpgradeError::Method);
    }
    check_framing(&fields)?;
    let host = host(&fields)?;
    let (authority, path, query) = split_target(target).ok_or(UpgradeError::Target)?;
    let purpose = match method {
        _ if wants_websocket => Purpose::WebSocket { key: check_websocket(&fields)? },
        "GET" => Purpose::Get,
        _ => Purpose::Head,
    };
    let origin = origin(&fields)?;
    Ok(Request { purpose, target, path, query, host: authority.unwrap_or(host), origin, fields })
}

/// Fields that decide where the request ends, or whose first and last value readers might choose between.
fn check_framing(fields: &Fields<'_>) -> Result<(), UpgradeError> {
    let single =
        ["host", "content-length", "origin", "upgrade", "sec-websocket-key", "sec-websocket-version"];
    if single.iter().any(|name| fields.is_repeated(name)) {
        return Err(UpgradeError::DuplicateHeader);
    }
    let has_length = fields.first("content-length").is_some_and(|value| value != b"0");
    if has_length || fields.first("transfer-encoding").is_some() {
        return Err(UpgradeError::Body);
    }
    Ok(())
}

fn host<'a>(fields: &Fields<'a>) -> Result<&'a str, UpgradeError> {
    let value = fields.first("host").ok_or(UpgradeError::Host)?;
    str::from_utf8(value).ok().filter(|host| is_host(host)).ok_or(UpgradeError::Host)
}

fn origin<'a>(fields: &Fields<'a>) -> Result<Option<&'a str>, UpgradeError> {
    let Some(value) = fields.first("origin") else { return Ok(None) };
    if !value.iter().all(|&byte| byte == b' ' || byte.is_ascii_graphic()) {
        return Err(UpgradeError::Origin);
    }
    str::from_utf8(value).map(Some).map_err(|_| UpgradeError::Origin)
}

/// Authority if the target is a whole URL, path, query (RFC 9112 §3.2.1, §3.2.2).
fn split_target(target: &str) -> Option<(Option<&str>, &str, Option<&str>)> {
    if !is_target(target) {
        return None;
    }
    let (authority, rest) = if target.starts_with('/') {
        (None, target)
    } else {
        let (scheme, rest) = target.split_once("://")?;
        if !["http", "https", "ws", "wss"].iter().any(|known| known.eq_ignore_ascii_case(scheme)) {
            return None;
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end)?;
        (Some(authority).filter(|authority| is_host(authority)), rest)
    };
    if !target.starts_with('/') && authority.is_none() {
        return None;
    }
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    Some((authority, if path.is_empty() { "/" } else { path }, query))
}

/// What a request with `Upgrade: websocket` must have besides (RFC 6455 §4.2.1). Gives the key.
fn check_websocket<'a>(fields: &Fields<'a>) -> Result<&'a str, UpgradeError> {
    if !fields.lists("connection", "upgrade") {
        return Err(UpgradeError::NotWebSocket);
    }
    match fields.first("sec-websocket-version") {
        Some(b"13") => {}
        Some(_) => return Err(UpgradeError::UnsupportedVersion),
        None => return Err(UpgradeError::MissingVersion),
    }
    if !fields.list("sec-websocket-protocol").all(is_token) {
        return Err(UpgradeError::Protocol);
    }
    let key = fields.first("sec-websocket-key").ok_or(UpgradeError::Key)?;
    str::from_utf8(key).ok().filter(|key| is_key(key)).ok_or(UpgradeError::Key)
}

/// Whether this is 16 bytes in base64.
pub(super) fn is_key(key: &str) -> bool {
    // 24 characters decode to 18 bytes at most, less one for each `=`.
    let mut decoded = [0; 18];
    key.len() == 24 && BASE64.decode_mut(key.as_bytes(), &mut decoded) == Ok(16)
}

/// The Sec-WebSocket-Accept that answers a key (RFC 6455 §4.2.2): 28 bytes of ASCII.
pub fn accept_key(key: &str) -> [u8; 28] {
    let mut hash = sha1_smol::Sha1::new();
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let mut accept = [0; 28];
    BASE64.encode_mut(&hash.digest().bytes(), &mut accept);
    accept
}

/// Appends the answer that opens the WebSocket: status 101. `protocol` is the chosen one of
/// [`Request::protocols`]; `deflate` what [`Deflate::answer`](crate::Deflate::answer) made of
/// [`Request::extensions`]; `extra` are further fields, as Set-Cookie.
///
/// # Errors
///
/// The request opens no WebSocket, the client did not offer `protocol`, or a field of `extra` is not valid or is one of
/// the handshake's own.
pub fn accept(
    out: &mut Vec<u8>,
    request: &Request<'_>,
    protocol: Option<&str>,
    deflate: Option<&Agreed>,
    extra: &[(&str, &str)],
) -> Result<(), InvalidHeader> {
    const OWNED: &[&str] = &[
        "upgrade",
        "connection",
        "content-length",
        "transfer-encoding",
        "sec-websocket-accept",
        "sec-websocket-protocol",
        "sec-websocket-extensions",
    ];
    let key = request.key().ok_or(InvalidHeader::Key)?;
    check_fields(extra, OWNED)?;
    if protocol.is_some_and(|chosen| !request.protocols().any(|offered| offered == chosen)) {
        return Err(InvalidHeader::Protocol);
    }
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    );
    push_field(out, "Sec-WebSocket-Accept", &accept_key(key));
    if let Some(protocol) = protocol {
        push_field(out, "Sec-WebSocket-Protocol", protocol.as_bytes());
    }
    if let Some(agreed) = deflate {
        push_display(out, format_args!("Sec-WebSocket-Extensions: {agreed}\r\n"));
    }
    push_fields(out, extra);
    out.extend_from_slice(b"\r\n");
    Ok(())
}
