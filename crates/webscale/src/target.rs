//! Where a client connects to.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use rustls::pki_types::ServerName;
use webscale_proto::Deflate;
use webscale_proto::handshake::client::OWN_FIELDS;

use crate::tls::{ClientTls, TlsConfigError, TlsStream, server_name};

/// An endpoint: a `ws://` or `wss://` URL with its address looked up, and what to say there.
#[derive(Clone, Debug)]
pub struct Target {
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) protocols: Vec<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) deflate: Option<Deflate>,
    pub(crate) security: Option<(ClientTls, ServerName<'static>)>,
}

/// Why a URL is no target.
#[derive(Debug)]
#[non_exhaustive]
pub enum TargetError {
    /// Neither `ws://` nor `wss://`.
    Scheme(String),
    /// The URL is malformed; the text says how.
    Malformed(&'static str),
    /// The host's address could not be found.
    Lookup(String, io::Error),
    /// No usable TLS.
    Tls(TlsConfigError),
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme(url) => write!(f, "{url:?} is no WebSocket URL: it must begin with ws:// or wss://"),
            Self::Malformed(what) => write!(f, "malformed URL: {what}"),
            Self::Lookup(host, error) => write!(f, "cannot find the address of {host}: {error}"),
            Self::Tls(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for TargetError {}

/// A URL taken apart (RFC 6455 §3).
#[derive(PartialEq, Eq, Debug)]
struct Parts<'a> {
    secure: bool,
    /// As it stands in the `Host` field.
    authority: &'a str,
    /// Without the brackets of an IPv6 address.
    host: &'a str,
    port: u16,
    target: &'a str,
}

fn parse(url: &str) -> Result<Parts<'_>, TargetError> {
    use TargetError::Malformed;
    let behind = |prefix: &str| {
        let (start, rest) = url.split_at_checked(prefix.len())?;
        start.eq_ignore_ascii_case(prefix).then_some(rest)
    };
    let found = behind("wss://").map(|rest| (true, rest)).or_else(|| Some((false, behind("ws://")?)));
    let (secure, rest) = found.ok_or_else(|| TargetError::Scheme(url.to_owned()))?;
    if rest.contains('#') {
        return Err(Malformed("a WebSocket URL has no fragment (#)"));
    }
    if rest.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(Malformed(
            "spaces and non-ASCII characters must be percent-encoded, and in the host be written as xn--",
        ));
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    if authority.contains('@') {
        return Err(Malformed("user and password do not belong in it; send an Authorization header instead"));
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (host, port) = bracketed.split_once(']').ok_or(Malformed("a bracket is not closed"))?;
            (
                host,
                if port.is_empty() {
                    None
                } else {
                    Some(port.strip_prefix(':').ok_or(Malformed("no port"))?)
                },
            )
        }
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err(Malformed("the host is missing"));
    }
    let port = match port {
        None => 80 + 363 * u16::from(secure),
        Some(port) => {
            port.parse().ok().filter(|&p| p != 0).ok_or(Malformed("the port must be 1 to 65535"))?
        }
    };
    Ok(Parts { secure, authority, host, port, target })
}

impl Target {
    /// Header fields that the opening handshake has of its own, in small letters: they cannot be given.
    pub const OWN_HEADERS: &[&str] = OWN_FIELDS;

    /// Takes a URL, and looks its host up (which may block). A `wss://` URL trusts the system's root certificates,
    /// unless [`Target::with_tls`] says otherwise.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn from_url(url: &str) -> Result<Self, TargetError> {
        Self::build(url, None)
    }

    /// The same with a TLS configuration of one's own, which a `ws://` URL does not use.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn with_tls(url: &str, tls: ClientTls) -> Result<Self, TargetError> {
        Self::build(url, Some(tls))
    }

    fn build(url: &str, tls: Option<ClientTls>) -> Result<Self, TargetError> {
        let parts = parse(url)?;
        let lookup = |error| TargetError::Lookup(parts.host.to_owned(), error);
        let addresses: Vec<_> = (parts.host, parts.port).to_socket_addrs().map_err(lookup)?.collect();
        if addresses.is_empty() {
            return Err(lookup(io::ErrorKind::NotFound.into()));
        }
        let security = if parts.secure {
            let tls = tls.map_or_else(ClientTls::system_roots, Ok).map_err(TargetError::Tls)?;
            Some((tls, server_name(parts.host).map_err(TargetError::Tls)?))
        } else {
            None
        };
        let path =
            if parts.target.starts_with('/') { parts.target.into() } else { format!("/{}", parts.target) };
        Ok(Self {
            addresses,
            host: parts.authority.to_owned(),
            path,
            protocols: Vec::new(),
            headers: Vec::new(),
            deflate: None,
            security,
        })
    }

    /// The TLS state of one new connection, if it is to have one.
    pub(crate) fn begin_tls(&self) -> Result<Option<TlsStream>, rustls::Error> {
        self.security.as_ref().map(|(tls, name)| tls.connect(name)).transpose()
    }

    /// Offers a subprotocol, after those offered before.
    #[must_use]
    pub fn protocol(mut self, protocol: impl Into<String>) -> Self {
        self.protocols.push(protocol.into());
        self
    }

    /// Offers permessage-deflate (RFC 7692); the server decides whether messages are compressed. An answer that does not
    /// accept what was offered ends the connection. Default: offers nothing.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn deflate(mut self, deflate: Deflate) -> Self {
        self.deflate = Some(deflate);
        self
    }

    /// Asks for another path than the URL's, with its query if any. It begins with `/`.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Asks for the certificate of another name than the URL's host (SNI), and expects that name in it. A `ws://` URL
    /// has no use for it.
    ///
    /// # Errors
    /// [`TargetError::Tls`] where `name` is neither a DNS name nor an IP address.
    pub fn server_name(mut self, name: &str) -> Result<Self, TargetError> {
        if let Some((_, current)) = &mut self.security {
            *current = server_name(name).map_err(TargetError::Tls)?;
        }
        Ok(self)
    }

    /// The same with another TLS configuration, where the URL is a `wss://` one.
    #[must_use]
    pub fn tls(mut self, tls: ClientTls) -> Self {
        if let Some((current, _)) = &mut self.security {
            *current = tls;
        }
        self
    }

    /// Adds a header field to the request, such as `Origin` or `Authorization`.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Connects to these addresses instead of those that the host's name stands for; the rest of the URL stays.
    #[must_use]
    pub fn with_addresses(mut self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.addresses = addresses.into_iter().collect();
        self
    }

    /// The addresses that the host's name stands for. They are tried in turn until one takes the connection, each with its
    /// share of [`Limits::handshake_time`](crate::Limits::handshake_time).
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Whether connections are encrypted (`wss://`).
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.security.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let cases = [
            ("ws://a", (false, "a", "a", 80, "")),
            ("WSS://a.b/c?d", (true, "a.b", "a.b", 443, "/c?d")),
            ("wss://[::1]:9/x", (true, "[::1]:9", "::1", 9, "/x")),
            ("ws://[::1]", (false, "[::1]", "::1", 80, "")),
            ("ws://h:8080?q=1", (false, "h:8080", "h", 8080, "?q=1")),
        ];
        for (url, (secure, authority, host, port, target)) in cases {
            assert_eq!(parse(url).unwrap(), Parts { secure, authority, host, port, target }, "{url}");
        }
    }

    #[test]
    fn what_is_no_websocket_url_is_refused_in_words() {
        let cases = [
            ("http://a", "must begin with ws://"),
            ("", "must begin with ws://"),
            ("ws://", "host is missing"),
            ("ws://:80", "host is missing"),
            ("ws://a:0", "port must be"),
            ("ws://a:99999", "port must be"),
            ("ws://a:", "port must be"),
            ("ws://[::1", "bracket"),
            ("ws://u:p@a", "Authorization"),
            ("ws://a/#f", "fragment"),
            ("ws://a/\u{e4}", "percent-encoded"),
            ("ws://a/b c", "percent-encoded"),
            ("ws://\u{e4}/", "as xn--"),
        ];
        for (url, expected) in cases {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains(expected), "{url}: {error}");
        }
    }

    #[test]
    fn a_query_without_a_path_gets_one() {
        let target = Target::from_url("ws://127.0.0.1:9?x").unwrap();
        assert_eq!((target.path.as_str(), target.host.as_str()), ("/?x", "127.0.0.1:9"));
        assert_eq!(target.addresses(), ["127.0.0.1:9".parse().unwrap()]);
        assert_eq!(target.path("/devices/7").path, "/devices/7");
    }

    #[test]
    fn another_name_may_be_asked_for() {
        let target = Target::with_tls("wss://127.0.0.1:9", ClientTls::insecure().unwrap()).unwrap();
        let named = target.clone().server_name("bench.example").unwrap();
        assert_eq!(named.security.unwrap().1, ServerName::try_from("bench.example").unwrap());
        assert!(target.server_name("no name").unwrap_err().to_string().contains("no name"));
    }
}
