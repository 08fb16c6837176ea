//! A client's request, as a handler sees it.

use std::net::SocketAddr;

use webscale_proto::handshake;

use crate::server::Handle;
use crate::tls::TlsSession;

/// A client's request: to open a connection, or of plain HTTP.
#[derive(Debug)]
pub struct Request<'a> {
    head: &'a handshake::Request<'a>,
    peer_addr: SocketAddr,
    tls: Option<&'a TlsSession>,
    server: &'a Handle,
}

impl<'a> Request<'a> {
    pub(crate) fn new(
        head: &'a handshake::Request<'a>,
        peer_addr: SocketAddr,
        tls: Option<&'a TlsSession>,
        server: &'a Handle,
    ) -> Self {
        Self { head, peer_addr, tls, server }
    }

    /// `GET` or `HEAD`; what opens a connection is a `GET`.
    #[must_use]
    pub fn method(&self) -> &'static str {
        self.head.method()
    }

    /// The path, without the query: `/chat`. Not percent-decoded.
    #[must_use]
    pub fn path(&self) -> &str {
        self.head.path()
    }

    /// What stands behind the `?`, undecoded.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.head.query()
    }

    /// The first header field of this name; case does not matter.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.head.header(name)
    }

    /// All header fields, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.head.headers()
    }

    /// The `Host` field.
    #[must_use]
    pub fn host(&self) -> &str {
        self.head.host()
    }

    /// The `Origin` field, which browsers send and scripts in them cannot change (RFC 6455 §10.2). Before
    /// [`Handler::open`](crate::Handler::open) is asked, [`Origins`](crate::Origins) have been.
    #[must_use]
    pub fn origin(&self) -> Option<&str> {
        self.head.origin()
    }

    /// The subprotocols that the client offers, in its order of preference.
    pub fn protocols(&self) -> impl Iterator<Item = &str> {
        self.head.protocols()
    }

    /// The first of `supported` that the client offers: for [`Accept::protocol`](crate::Accept::protocol). `None` is no
    /// refusal by itself, but a browser gives a connection up that chose none of those which it offered.
    ///
    /// Whoever would follow the client's preference instead looks through [`Request::protocols`].
    #[must_use]
    pub fn select<'s>(&self, supported: &[&'s str]) -> Option<&'s str> {
        supported.iter().copied().find(|supported| self.protocols().any(|offered| offered == *supported))
    }

    /// The address that the TCP connection comes from; behind a proxy of
    /// [`ServerBuilder::proxy_protocol`](crate::ServerBuilder::proxy_protocol), the client's as the proxy has told it.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer_addr
    }

    /// The server that is asked: its health and its counters, for who answers with them.
    #[must_use]
    pub fn server(&self) -> &Handle {
        self.server
    }

    /// What TLS came to; `None` for `ws://` and plain HTTP.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsSession> {
        self.tls
    }
}
