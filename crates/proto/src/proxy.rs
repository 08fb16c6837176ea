//! The PROXY protocol, versions 1 and 2: what a load balancer says of its client, in front of the client's first byte.
//! Its specification is HAProxy's `proxy-protocol.txt`; sections are those of its 2020 edition.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header that is taken, in bytes. A line of version 1 has at most 107 (§2.1); version 2 allows 65,551, of which
/// addresses take 36 and TLVs that are in use some hundred.
pub const MAX_LEN: usize = 4096;

/// Longest line of version 1, with CRLF.
const LINE_MAX: usize = 107;
const NAME: &[u8] = b"PROXY ";

/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The bytes of version 2 in front of the addresses: signature, version and command, family and protocol, length.
const FIXED: usize = 16;

/// A whole header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Its length in bytes; what follows is the client's.
    pub len: usize,
    /// Where the client connects from. `None`: the connection is the proxy's own, such as a health check (`LOCAL`), or the
    /// proxy does not know (`UNKNOWN`, UNSPEC), or the client came by something else than TCP over IP.
    pub client: Option<SocketAddr>,
}

/// Why bytes are no header. The connection is to be ended without an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ProxyError {
    /// They begin like neither version: the sender does not speak the PROXY protocol. It must, where it is a proxy from
    /// which that is expected.
    NoHeader,
    /// A line of version 1 that is not as it must be.
    Line,
    /// A line of version 1 without CRLF in its first 107 bytes.
    LineTooLong,
    /// Version or command of version 2 are none that there is.
    Command,
    /// Address family or protocol of version 2 are none that there is.
    Family,
    /// Version 2 with fewer bytes than its addresses have.
    TooShort,
    /// Version 2 with more than [`MAX_LEN`] bytes.
    TooLong,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoHeader => "no header of the PROXY protocol, which this proxy must send",
            Self::Line => "a malformed line of the PROXY protocol",
            Self::LineTooLong => "a line of the PROXY protocol that does not end",
            Self::Command => "an unknown version or command of the PROXY protocol",
            Self::Family => "an unknown address family of the PROXY protocol",
            Self::TooShort => "a header of the PROXY protocol without room for its addresses",
            Self::TooLong => "a header of the PROXY protocol above 4096 bytes",
        })
    }
}

impl std::error::Error for ProxyError {}

/// Reads the header at the start of `bytes`; `None` while it is not whole. A fault is told at the first byte that shows
/// it. The values behind the addresses of version 2 (TLVs) are skipped.
///
/// ```
/// use webscale_proto::proxy;
/// let header = proxy::parse(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n\x16\x03\x01")?.expect("a whole line");
/// assert_eq!((header.len, header.client), (44, Some("192.0.2.7:4711".parse().unwrap())));
/// # Ok::<(), webscale_proto::proxy::ProxyError>(())
/// ```
///
/// # Errors
/// [`ProxyError`].
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    if begins(bytes, NAME) {
        parse_line(bytes)
    } else if begins(bytes, SIGNATURE) {
        parse_binary(bytes)
    } else {
        Err(ProxyError::NoHeader)
    }
}

/// Whether `bytes` begin with `start`, as far as there are any.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(byte, expected)| byte == expected)
}

/// Version 1: `PROXY TCP4 source destination port port`, CRLF (§2.1).
fn parse_line(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    let seen = bytes.get(..LINE_MAX).unwrap_or(bytes);
    let is_cut = seen.len() == LINE_MAX;
    let Some(end) = seen.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if is_cut { Err(ProxyError::LineTooLong) } else { Ok(None) };
    };
    let (line, behind) = seen.split_at(end);
    match behind {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if is_cut => return Err(ProxyError::LineTooLong),
        [b'\r'] => return Ok(None),
        _ => return Err(ProxyError::Line),
    }
    let text = str::from_utf8(line).map_err(|_| ProxyError::Line)?;
    let rest = text.strip_prefix("PROXY ").ok_or(ProxyError::Line)?;
    let client = if rest == "UNKNOWN" || rest.starts_with("UNKNOWN ") {
        None
    } else {
        Some(client_of_line(rest).ok_or(ProxyError::Line)?)
    };
    Ok(Some(Header { len: end + 2, client }))
}

fn client_of_line(fields: &str) -> Option<SocketAddr> {
    let mut fields = fields.split(' ');
    let address: fn(&str) -> Option<IpAddr> = match fields.next()? {
        "TCP4" => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return None,
    };
    let (source, _) = (address(fields.next()?)?, address(fields.next()?)?);
    let (port, _) = (port(fields.next()?)?, port(fields.next()?)?);
    fields.next().is_none().then(|| SocketAddr::new(source, port))
}

/// Decimal, without a sign or zeros in front.
fn port(text: &str) -> Option<u16> {
    let is_canonical = text == "0" || matches!(text.as_bytes(), [b'1'..=b'9', ..]);
    if is_canonical { text.parse().ok() } else { None }
}

/// Version 2 (§2.2).
fn parse_binary(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    let is_local = match bytes.get(SIGNATURE.len()) {
        None => return Ok(None),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Err(ProxyError::Command),
    };
    let Some(&family) = bytes.get(SIGNATURE.len() + 1) else { return Ok(None) };
    // What stands beside `LOCAL` is ignored, whatever it is.
    if !is_local && (family >> 4 > 3 || family & 0xf > 2) {
        return Err(ProxyError::Family);
    }
    let &[high, low] = bytes.get(FIXED - 2..FIXED).unwrap_or_default() else { return Ok(None) };
    let len = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if len > MAX_LEN {
        return Err(ProxyError::TooLong);
    }
    let needed = match family {
        0x11 if !is_local => 12,
        0x21 if !is_local => 36,
        _ => 0,
    };
    if len - FIXED < needed {
        return Err(ProxyError::TooShort);
    }
    let Some(addresses) = bytes.get(FIXED..len) else { return Ok(None) };
    Ok(Some(Header { len, client: addresses.get(..needed).and_then(client_of_block) }))
}

/// Source and destination, then their ports.
fn client_of_block(block: &[u8]) -> Option<SocketAddr> {
    match *block {
        [a, b, c, d, _, _, _, _, high, low, _, _] => {
            Some(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low])))
        }
        [.., high, low, _, _] => {
            let source: [u8; 16] = block.get(..16)?.try_into().ok()?;
            Some(SocketAddr::new(Ipv6Addr::from(source).into(), u16::from_be_bytes([high, low])))
        }
        _ => None,
    }
}
