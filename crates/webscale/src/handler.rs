//! What a user of the library writes.

use std::net::SocketAddr;

use webscale_proto::{Chunk, CloseCode, Message, handshake};

use crate::close::Close;
use crate::peer::Peer;

/// The behaviour of all connections of a server or client.
///
/// Every method but [`Handler::message`] has a default. They run on the event loop that the connection belongs to:
/// what takes long there delays the other clients of that loop. A server built with
/// [`workers`](crate::ServerBuilder::workers) runs `message` on a pool of threads instead.
///
/// A panic in a method closes its connection with 1011 and nothing else; in `open` it is answered with 500, in `close` it
/// is swallowed.
pub trait Handler: Send + Sync + 'static {
    /// The state of one connection, made by [`Handler::open`] and given back by [`Handler::close`].
    type Session: Send + 'static;

    /// A client asks to open a connection (servers only): route, check the `Origin`, authenticate. Runs on the event
    /// loop, before anything but an HTTP head of [`Limits::head_bytes`](crate::Limits::head_bytes) was accepted from
    /// the client.
    ///
    /// The default turns everybody away with 404: a program that only connects need not write it.
    ///
    /// # Errors
    /// A [`Reject`] is what the client gets instead of a connection.
    fn open(&self, request: &Request<'_>) -> Result<Accept<Self::Session>, Reject> {
        let _ = request;
        Err(Reject::new(404, "no WebSocket is served here\n"))
    }

    /// The opening handshake is done; messages may be sent.
    fn opened(&self, peer: &mut Peer<'_, Self::Session>) {
        let _ = peer;
    }

    /// A whole message arrived: text is valid UTF-8, and no longer than
    /// [`Limits::message_bytes`](crate::Limits::message_bytes). It borrows from the thread's buffer.
    fn message(&self, peer: &mut Peer<'_, Self::Session>, message: Message<'_>);

    /// A part of a message that is longer than [`Limits::message_bytes`](crate::Limits::message_bytes), in order; comes
    /// only where [`Limits::stream_bytes`](crate::Limits::stream_bytes) lets such messages in. A chunk holds what one read
    /// brought, the first one also what was held before; text is cut between characters. It runs where `message` runs,
    /// and while it does, or a worker has one, the peer is not read. No other message comes between two chunks, but pongs
    /// and timers do.
    ///
    /// Where the message turns out to be invalid or too long, no last chunk comes: the connection is closed with the code
    /// that says why, as [`Handler::close`] is told.
    ///
    /// The default closes the connection with 1009.
    fn chunk(&self, peer: &mut Peer<'_, Self::Session>, chunk: Chunk<'_>) {
        let _ = chunk;
        peer.close(CloseCode::TOO_BIG, "message too big");
    }

    /// A pong arrived: to a [`Peer::ping`](crate::Peer::ping), to one that the library sent after silence (without
    /// payload), or unasked. One that arrives while a worker has the session is not delivered.
    fn pong(&self, peer: &mut Peer<'_, Self::Session>, payload: &[u8]) {
        let _ = (peer, payload);
    }

    /// The time set by [`Peer::set_timer`](crate::Peer::set_timer) has come. While a worker has the session, this waits
    /// until it is back.
    fn timer(&self, peer: &mut Peer<'_, Self::Session>) {
        let _ = peer;
    }

    /// The connection is over: called exactly once for every session, whatever ended it. In the client role also when
    /// no connection came about.
    fn close(&self, session: Self::Session, close: Close) {
        let _ = (session, close);
    }
}

/// A client's request to open a connection.
pub struct Request<'a> {
    head: &'a handshake::Request<'a>,
    peer_addr: SocketAddr,
}

impl<'a> Request<'a> {
    pub(crate) fn new(head: &'a handshake::Request<'a>, peer_addr: SocketAddr) -> Self {
        Self { head, peer_addr }
    }

    /// The path, without the query: `/chat`.
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

    /// The `Origin` field, which browsers send and scripts in them cannot change (RFC 6455 §10.2). A server that
    /// answers browsers with more than public data must check it.
    #[must_use]
    pub fn origin(&self) -> Option<&str> {
        self.head.origin()
    }

    /// The subprotocols that the client offers, in its order of preference.
    pub fn protocols(&self) -> impl Iterator<Item = &str> {
        self.head.protocols()
    }

    /// The address that the TCP connection comes from.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer_addr
    }
}

/// A connection accepted by [`Handler::open`]. `Ok(session.into())` is enough where there is nothing to add.
#[derive(Clone, Debug)]
pub struct Accept<S> {
    pub(crate) session: S,
    pub(crate) protocol: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
}

impl<S> Accept<S> {
    /// Accepts, without a subprotocol.
    #[must_use]
    pub fn new(session: S) -> Self {
        Self { session, protocol: None, headers: Vec::new() }
    }

    /// Chooses one of the subprotocols that the client offered.
    #[must_use]
    pub fn protocol(mut self, protocol: impl Into<String>) -> Self {
        self.protocol = Some(protocol.into());
        self
    }

    /// Adds a header field to the answer. A name or value that would break the head fails the handshake with 500.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

impl<S> From<S> for Accept<S> {
    fn from(session: S) -> Self {
        Self::new(session)
    }
}

/// An HTTP answer in place of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reject {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reject {
    /// Answers with this status, 400 to 599 as a rule, and a text for people.
    #[must_use]
    pub fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// Adds a header field, such as `WWW-Authenticate`.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// The handler that nobody has: lets `Server::builder()` and `Client::builder()` be written before a handler is named.
impl Handler for std::convert::Infallible {
    type Session = ();

    fn message(&self, _: &mut Peer<'_, ()>, _: Message<'_>) {
        match *self {}
    }
}
