//! What requests and responses share: the shape of an HTTP/1.1 head (RFC 9112) and its fields (RFC 9110 §5).

use core::fmt;

/// Most header fields in a head; they are stored inline.
pub const MAX_HEADERS: usize = 64;

/// How large a peer's head may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeadLimits {
    /// Bytes up to and with the blank line. Default 8192.
    pub bytes: usize,
    /// Header fields. Default and greatest value [`MAX_HEADERS`].
    pub headers: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { bytes: 8192, headers: MAX_HEADERS }
    }
}

/// The position behind the blank line that ends a head, if it is there.
///
/// `from` is the number of bytes that an earlier call has scanned already; they are not scanned again. Lines
/// must end with CRLF: a head with bare LFs has no end.
pub fn head_end(buf: &[u8], from: usize) -> Option<usize> {
    const BLANK_LINE: &[u8] = b"\r\n\r\n";
    // The blank line may have begun in the bytes scanned before.
    let start = from.saturating_sub(BLANK_LINE.len() - 1);
    let at = buf.get(start..)?.windows(BLANK_LINE.len()).position(|window| window == BLANK_LINE)?;
    Some(start + at + BLANK_LINE.len())
}

/// What is wrong with the lines of a head, where httparse would be lenient.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LineFault {
    /// CR or LF alone (RFC 9112 §2.2).
    BareLineEnd,
    /// NUL or another control character (RFC 9110 §5.5).
    ControlCharacter,
    /// A line that begins with white space (RFC 9112 §2.2, §5.2).
    Folded,
}

/// Checks the lines of a head as far as it has come: readers that disagree about where a line ends are how requests
/// are smuggled. What is wrong here does not get better with more bytes.
///
/// `from` is the number of bytes that an earlier call has found right.
///
/// # Errors
///
/// [`LineFault`].
pub fn check_lines(head: &[u8], from: usize) -> Result<(), LineFault> {
    let mut before = from.checked_sub(1).and_then(|last| head.get(last)).copied().unwrap_or(b'\n');
    for &byte in head.get(from..).unwrap_or_default() {
        match (before, byte) {
            (b'\r', b'\n') => {}
            (b'\r', _) | (_, b'\n') => return Err(LineFault::BareLineEnd),
            (b'\n', b' ' | b'\t') => return Err(LineFault::Folded),
            (_, b'\t' | b'\r') => {}
            (_, 0x00..=0x1f | 0x7f) => return Err(LineFault::ControlCharacter),
            _ => {}
        }
        before = byte;
    }
    Ok(())
}

/// Header fields in the order in which they came, without heap.
#[derive(Clone)]
pub(super) struct Fields<'a> {
    stored: [httparse::Header<'a>; MAX_HEADERS],
    len: usize,
}

impl<'a> Fields<'a> {
    pub(super) const EMPTY: Self = Self { stored: [httparse::EMPTY_HEADER; MAX_HEADERS], len: 0 };

    /// Room for `limit` fields, for httparse to fill.
    pub(super) fn room(&mut self, limit: usize) -> &mut [httparse::Header<'a>] {
        self.stored.get_mut(..limit.min(MAX_HEADERS)).unwrap_or_default()
    }

    /// Sets how many of them were filled.
    pub(super) fn set_len(&mut self, len: usize) {
        self.len = len;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.stored.iter().take(self.len).map(|field| (field.name, field.value))
    }

    /// The values of every field called so.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(super) fn first(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    pub(super) fn is_repeated(&self, name: &str) -> bool {
        self.all(name).nth(1).is_some()
    }

    /// The elements of the comma-separated lists in every field called so (RFC 9110 §5.6.1).
    pub(super) fn list(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.all(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .map(trim)
            .filter(|element| !element.is_empty())
    }

    /// Whether one of these elements is `token`, in whatever case.
    pub(super) fn lists(&self, name: &str, token: &str) -> bool {
        self.list(name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.stored.iter().take(self.len)).finish()
    }
}

/// The elements of every Sec-WebSocket-Extensions field (RFC 6455 §9.1).
pub(super) fn extensions<'a>(fields: &Fields<'a>) -> impl Iterator<Item = &'a str> {
    fields
        .all("sec-websocket-extensions")
        .map(|value| core::str::from_utf8(value).unwrap_or("\u{fffd}"))
        .flat_map(|value| split_quoted(value, b','))
        .filter(|element| !element.is_empty())
}

/// What stands between separators, trimmed. One inside a quoted string separates nothing (RFC 9110 §5.6.4).
pub(crate) fn split_quoted(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c: char| {
        let is_escaped = escaped;
        escaped = quoted && c == '\\' && !is_escaped;
        if c == '"' && !is_escaped {
            quoted = !quoted;
        }
        !quoted && c == char::from(separator)
    })
    .map(str::trim_ascii)
}

/// Without white space around it (OWS, RFC 9110 §5.6.3).
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Whether this is a token (RFC 9110 §5.6.2).
pub(super) fn is_token(value: &[u8]) -> bool {
    !value.is_empty()
        && value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// Whether this is a host with or without a port (RFC 3986 §3.2.2). A comma is refused too: it comes from two
/// Host fields that someone has joined.
pub(super) fn is_host(value: &str) -> bool {
    let (name, port) = match value.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (value, ""),
    };
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%".contains(&byte);
    let name_is_valid = match name.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
        Some(literal) => {
            literal.is_some_and(|ip| !ip.is_empty() && ip.bytes().all(|b| in_name(b) || b == b':'))
        }
        None => !name.is_empty() && name.bytes().all(in_name),
    };
    name_is_valid && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether this may stand in a request line: printable ASCII without a fragment (RFC 6455 §3). Browsers leave
/// some characters unescaped which RFC 3986 does not allow, so those pass.
pub(super) fn is_target(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

/// Why a head was not written. Nothing was written then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InvalidHeader {
    /// A field's name is not a token.
    Name,
    /// A field's value holds CR, LF or another control character.
    Value,
    /// A field that the function writes itself, or that would change where the body ends.
    Owned,
    /// The subprotocol is no token, is given twice, or was not offered by the client.
    Protocol,
    /// The status is not one of 200 to 599, or is 204, 205 or 304, which have no body, and there is one.
    Status,
    /// The host is empty or holds a character that no host has.
    Host,
    /// The target does not begin with `/`, or holds a space, a fragment or a byte that is not printable
    /// ASCII.
    Target,
    /// The key is not 16 bytes in base64.
    Key,
}

impl fmt::Display for InvalidHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "header name is not a token",
            Self::Value => "header value holds a control character",
            Self::Owned => "header is written by the handshake itself",
            Self::Protocol => "subprotocol is not a token, is repeated or was not offered",
            Self::Status => "status is no final one, or allows no body",
            Self::Host => "host is not valid",
            Self::Target => "request target is not valid",
            Self::Key => "key is not 16 bytes in base64",
        })
    }
}

impl std::error::Error for InvalidHeader {}

/// Refuses fields that would break the head or contradict what stands in it already.
pub(super) fn check_fields(fields: &[(&str, &str)], owned: &[&str]) -> Result<(), InvalidHeader> {
    for (name, value) in fields {
        if !is_token(name.as_bytes()) {
            return Err(InvalidHeader::Name);
        }
        if owned.iter().any(|owned| owned.eq_ignore_ascii_case(name)) {
            return Err(InvalidHeader::Owned);
        }
        if value.bytes().any(|byte| byte != b'\t' && byte.is_ascii_control()) {
            return Err(InvalidHeader::Value);
        }
    }
    Ok(())
}

/// Appends one field.
pub(super) fn push_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends fields.
pub(super) fn push_fields(out: &mut Vec<u8>, fields: &[(&str, &str)]) {
    for (name, value) in fields {
        push_field(out, name, value.as_bytes());
    }
}
