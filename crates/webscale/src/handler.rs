//! What a user of the library writes.

use webscale_proto::{Chunk, CloseCode, Message};

use crate::close::Close;
use crate::peer::Peer;
use crate::request::Request;
use crate::response::{Accept, Reject, Response};

/// The behaviour of all connections of a server or client.
///
/// Every method but [`Handler::message`] has a default. They run on the event loop that the connection belongs to:
/// what takes long there delays the other clients of that loop. A server built with
/// [`workers`](crate::ServerBuilder::workers) runs `message` and `chunk` on a pool of threads instead.
///
/// A panic in a method closes its connection with 1011 and nothing else; in `open` and `http` it is answered with 500, in
/// `close` it is swallowed.
pub trait Handler: Send + Sync + 'static {
    /// The state of one connection, made by [`Handler::open`] and given back by [`Handler::close`].
    type Session: Send + 'static;

    /// A client asks to open a connection (servers only): route, authenticate, choose a subprotocol. Runs on the event
    /// loop, before anything but an HTTP head of [`Limits::head_bytes`](crate::Limits::head_bytes) was accepted from
    /// the client. A page of another [origin](crate::Origins) was turned away before with 403.
    ///
    /// The default turns everybody away with 404: a program that only connects need not write it.
    ///
    /// # Errors
    /// A [`Reject`] is what the client gets instead of a connection.
    fn open(&self, request: &Request<'_>) -> Result<Accept<Self::Session>, Reject> {
        let _ = request;
        Err(Reject::new(404, "no WebSocket is served here\n"))
    }

    /// A plain HTTP request came to the same port (servers only), a well-formed GET or HEAD without a body: health,
    /// metrics, a page. The connection closes behind the answer; to a HEAD, its body is left out. Any page on the web can make
    /// a browser ask, though not read the answer: [`Origins`](crate::Origins) are for WebSockets.
    ///
    /// The default says with 426 that this is a WebSocket endpoint.
    fn http(&self, request: &Request<'_>) -> Response {
        let _ = request;
        Response::new(426, "this is a WebSocket endpoint\n")
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

    /// What was queued for the peer is gone, after a send was refused as [`SendError::Full`](crate::SendError::Full) or more
    /// than [`Limits::egress_high_water`](crate::Limits::egress_high_water) were queued: a handler that stopped sending goes
    /// on. Called once each time. While a worker has the session, this waits until it is back.
    fn drained(&self, peer: &mut Peer<'_, Self::Session>) {
        let _ = peer;
    }

    /// The connection is over: called exactly once for every session, whatever ended it. In the client role also when
    /// no connection came about.
    fn close(&self, session: Self::Session, close: Close) {
        let _ = (session, close);
    }
}

/// The handler that nobody has: lets `Server::builder()` and `Client::builder()` be written before a handler is named.
impl Handler for std::convert::Infallible {
    type Session = ();

    fn message(&self, _: &mut Peer<'_, ()>, _: Message<'_>) {
        match *self {}
    }
}
