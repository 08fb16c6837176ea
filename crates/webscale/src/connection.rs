//! One connection, from its first byte to its last.
//!
//! Two halves that meet in the middle of TLS: [`Link`] knows bytes (socket, ciphertext, what waits for the socket),
//! [`Channel`] knows the protocol (opening handshake, messages, closing handshake). A *turn* is one call from the loop: it
//! reads, handles what came, and ends with at most one `send`. Time and socket are arguments, so that a test can play
//! both.
//!
//! ```text
//!  link:     Connecting ──> Live ──> Closing ──> Finishing ──> Lingering ──> Dead
//!            (client)      ^ │ └───────────────>  flush, then    read to EOF   ^
//!            Proxied ──────┘ │                    FIN                          │
//!            (server)        └───────────────── lost, timed out ───────────────┘
//!  channel:  Opening ──> Open ──> Over
//!            TLS, HTTP   frames    the handler's `close` was called
//! ```

mod channel;
mod closing;
mod config;
mod deadline;
mod dial;
mod drain;
mod inbound;
mod link;
mod open;
mod opening;
mod proxied;
mod registered;
mod socket;
mod turn;

use std::io;
use std::net::SocketAddr;

use webscale_proto::{CloseCode, Role};
use webscale_sys::{Interest, TcpSocket};

use crate::clock::Time;
use crate::close::{CloseCause, CloseKind};
use crate::handler::Handler;
use crate::limits::Limits;
use crate::panics::Panicked;
use crate::sender::Parcel;
use crate::tls::{Incoming, TlsStream};
use crate::worker::Done;

pub(crate) use channel::Channel;
pub(crate) use closing::call_close;
pub(crate) use config::Config;
use deadline::Liveness;
pub(crate) use dial::Dial;
pub(crate) use link::{Link, Phase};
pub(crate) use registered::{Pace, Registered};
pub(crate) use socket::Socket;
pub(crate) use turn::{Buffers, Context, Fate, Turn, Wire};

/// A connection with the times that it keeps.
pub(crate) struct Connection<K, S> {
    pub(crate) link: Link<K>,
    pub(crate) channel: Channel<S>,
    /// When the present phase must be over; [`Connection::deadline`] adds what an open connection watches.
    phase_deadline: Time,
    liveness: Liveness,
    /// Since when a message is incomplete.
    message_since: Option<Time>,
    /// What the loop keeps about this connection.
    pub(crate) registered: Registered,
}

/// What the socket was reported ready for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// Nothing more passes in either direction (EPOLLHUP, EPOLLERR); reported also when it was not asked for.
    pub(crate) hung_up: bool,
}

impl Ready {
    pub(crate) fn is_none(self) -> bool {
        !(self.readable || self.writable || self.hung_up)
    }
}

// What an open connection costs besides rustls' state and the session.
const _: () = assert!(size_of::<Connection<TcpSocket, ()>>() <= 304);

impl<K: Socket, S: Send + 'static> Connection<K, S> {
    /// A connection that a listener accepted.
    pub(crate) fn accepted(
        socket: K,
        tls: Option<TlsStream>,
        peer_addr: SocketAddr,
        now: Time,
        limits: &Limits,
    ) -> Self {
        Self::new(Link::new(socket, tls, Phase::Live), Channel::server(peer_addr), now, limits)
    }

    /// A connection that we begin, with the first socket of `dial` and when to give it up.
    pub(crate) fn connecting(
        (socket, give_up): (K, Time),
        tls: Option<TlsStream>,
        dial: Dial,
        session: S,
        now: Time,
        limits: &Limits,
    ) -> Self {
        let link = Link::new(socket, tls, Phase::Connecting);
        let connection = Self::new(link, Channel::client(dial, session), now, limits);
        Self { phase_deadline: give_up, ..connection }
    }

    fn new(link: Link<K>, channel: Channel<S>, now: Time, limits: &Limits) -> Self {
        Self {
            link,
            channel,
            phase_deadline: now + limits.handshake_time,
            liveness: Liveness::Heard(now),
            message_since: None,
            registered: Registered::default(),
        }
    }

    /// TLS has work to do that costs much more than a message.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.link.is_handshaking()
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.link.phase() == Phase::Dead
    }

    /// All was said and sent; only the peer's end of the TCP connection is awaited.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.link.phase(), Phase::Lingering { answered: true })
    }

    /// Heap bytes that are held for its peer, besides the state of TLS.
    pub(crate) fn held(&self) -> usize {
        self.buffered() + self.channel.overhead()
    }

    /// Those among them that bytes of the peer or for it take.
    pub(crate) fn buffered(&self) -> usize {
        self.link.buffered() + self.channel.buffered()
    }

    /// Bytes received that are not decoded yet.
    #[cfg(test)]
    pub(crate) fn undecoded(&self) -> usize {
        self.channel.undecoded()
    }

    /// How it ended; one that was never told is lost.
    pub(crate) fn ended_as(&self) -> CloseKind {
        self.channel.ended.unwrap_or(CloseKind::Lost)
    }

    /// What the loop should watch the socket for.
    pub(crate) fn interest(&self) -> Interest {
        if self.registered.is_put_off {
            return Interest::default();
        }
        let read = match self.link.phase() {
            Phase::Connecting | Phase::Dead => false,
            Phase::Live | Phase::Closing => {
                !self.link.is_congested() && !self.channel.has_pending() && !self.channel.is_leaving()
            }
            Phase::Finishing { peer_ended, .. } => !peer_ended,
            Phase::Proxied | Phase::Lingering { .. } => true,
        };
        Interest { read, write: self.link.wants_write() }
    }

    /// It has something to do that no event will announce.
    pub(crate) fn is_ready(&self) -> bool {
        self.can_resume() || self.is_drained()
    }

    /// It has received bytes to go through.
    fn can_resume(&self) -> bool {
        self.link.phase().is_live()
            && self.channel.has_pending()
            && !self.channel.is_blocked()
            && !self.link.is_congested()
    }

    /// The socket is ready.
    pub(crate) fn on_event<H: Handler<Session = S>>(&mut self, turn: &mut Turn<'_, H>, ready: Ready) {
        self.begin(turn);
        if self.link.phase() == Phase::Connecting {
            self.connected(turn);
        } else if ready.hung_up && (!self.interest().read || self.has_given_up(turn.context.config)) {
            // Not even an error may be fetched by reading, as that would bring more bytes than there is room for.
            let kind = self.link.take_error();
            self.lost(turn, kind);
        } else {
            if ready.writable {
                self.drain(turn);
            }
            if ready.readable || ready.hung_up {
                self.read(turn);
            }
        }
        self.resume(turn);
        self.end(turn);
    }

    /// A client left in its handshake: what it sent before is not worth the work.
    fn has_given_up(&self, config: &Config) -> bool {
        config.role == Role::Server && self.is_handshaking()
    }

    /// Bytes came. While others wait for the peer, it lives by taking them: who speaks and does not listen would keep
    /// them here for ever.
    fn spoke(&mut self, now: Time) {
        if self.link.queued() == 0 {
            self.liveness = Liveness::Heard(now);
        } else if let Liveness::Pinged(at) = self.liveness {
            self.liveness = Liveness::Deaf(at);
        }
    }

    /// Goes on with what an earlier turn left.
    pub(crate) fn on_ready<H: Handler<Session = S>>(&mut self, turn: &mut Turn<'_, H>) {
        self.begin(turn);
        self.tell_drained(turn);
        self.resume(turn);
        self.end(turn);
    }

    /// The time that the handler set has come.
    pub(crate) fn on_user_timer<H: Handler<Session = S>>(&mut self, turn: &mut Turn<'_, H>) {
        self.begin(turn);
        self.channel.user_timer(&mut turn.context);
        self.end(turn);
    }

    /// Another thread sends.
    pub(crate) fn on_send<H: Handler<Session = S>>(&mut self, turn: &mut Turn<'_, H>, parcel: Parcel) {
        self.begin(turn);
        self.channel.send(&mut turn.context, parcel);
        self.end(turn);
    }

    /// Another thread, or the server's shutdown, closes.
    pub(crate) fn on_close<H: Handler<Session = S>>(
        &mut self,
        turn: &mut Turn<'_, H>,
        code: CloseCode,
        reason: &str,
        cause: CloseCause,
    ) {
        self.begin(turn);
        self.channel.close(&mut turn.context, code, reason, cause);
        self.end(turn);
    }

    /// Too much is held for all, and for this connection more than its share. Where bytes wait for the socket, another
    /// one would come too late.
    pub(crate) fn shed<H: Handler<Session = S>>(&mut self, turn: &mut Turn<'_, H>) {
        self.begin(turn);
        if self.link.phase().is_live() && self.channel.is_open() && self.link.queued() == 0 {
            let reason = "the server holds too much for its clients";
            let context = &mut turn.context;
            self.channel.fail(context, CloseCode::TRY_AGAIN_LATER, reason, CloseCause::Overload);
        } else {
            self.channel.lost(&mut turn.context, CloseCause::Overload);
            self.link.kill();
        }
        self.end(turn);
    }

    /// The loop ends, or cannot watch the socket.
    pub(crate) fn abandon<H: Handler<Session = S>>(&mut self, turn: &mut Turn<'_, H>, cause: CloseCause) {
        self.begin(turn);
        self.channel.lost(&mut turn.context, cause);
        self.link.kill();
        self.end(turn);
    }

    /// A worker is done with a message of ours.
    pub(crate) fn on_done<H: Handler<Session = S>>(&mut self, turn: &mut Turn<'_, H>, done: Done<S>) {
        // Before anything can go wrong.
        self.channel.regain(done.session);
        self.begin(turn);
        match done.work {
            Ok(work) => {
                self.channel.owes_drained |= work.overflowed;
                self.channel.done(&mut turn.context, work);
            }
            Err(Panicked) => self.channel.faulted(&mut turn.context),
        }
        if !turn.context.outgoing.has_written() {
            self.tell_drained(turn);
        }
        self.channel.submit(&mut turn.context);
        self.resume(turn);
        self.end(turn);
    }

    /// There may be room in the workers' queue again.
    pub(crate) fn on_room<H: Handler<Session = S>>(&mut self, turn: &mut Turn<'_, H>) {
        self.begin(turn);
        self.channel.submit(&mut turn.context);
        self.resume(turn);
        self.end(turn);
    }

    fn lost<H: Handler<Session = S>>(&mut self, turn: &mut Turn<'_, H>, kind: io::ErrorKind) {
        self.channel.lost(&mut turn.context, CloseCause::lost(kind));
        self.link.kill();
    }

    /// A connect ended, one way or the other.
    fn connected<H: Handler<Session = S>>(&mut self, turn: &mut Turn<'_, H>) {
        let options = turn.context.config.limits.tcp_options();
        if let Err(error) = self.link.connected(options, &mut turn.wire.sealed) {
            return self.connect_next(turn, CloseCause::Connect(error));
        }
        if let Some(dial) = self.channel.dial() {
            self.phase_deadline = dial.until();
        }
        if !self.link.is_handshaking() {
            self.channel.secured(&mut turn.context, None);
        }
    }

    /// A connect failed by `cause`: the next address has its turn. Without one, that was it.
    fn connect_next<H: Handler<Session = S>>(&mut self, turn: &mut Turn<'_, H>, mut cause: CloseCause) {
        match self.channel.dial().and_then(|dial| dial.next(turn.context.now)) {
            Some(Ok((socket, give_up))) => {
                self.link.socket = socket;
                (self.registered.interest, self.registered.is_put_off) = (None, false);
                self.phase_deadline = give_up;
                return;
            }
            Some(Err(error)) => cause = CloseCause::Connect(error),
            None => {}
        }
        self.channel.lost(&mut turn.context, cause);
        self.link.kill();
    }

    /// Reads until the socket is empty, this connection's share of the turn is used up, or reading must stop.
    fn read<H: Handler<Session = S>>(&mut self, turn: &mut Turn<'_, H>) {
        loop {
            match self.link.recv(turn) {
                Ok(link::Received::Bytes { count, more }) => {
                    self.spoke(turn.context.now);
                    self.open_bytes(turn, count);
                    self.settle(turn);
                    if !more || turn.context.bytes_left == 0 || !self.interest().read {
                        return;
                    }
                }
                Ok(link::Received::Nothing) => return,
                // It has nothing more to say, but what it asked for still goes out.
                Ok(link::Received::End) if self.link.outlives_peer() => return,
                Ok(link::Received::End) => {
                    self.lost(turn, io::ErrorKind::UnexpectedEof);
                    return;
                }
                Err(error) => {
                    self.lost(turn, error.kind());
                    return;
                }
            }
        }
    }

    /// Takes `count` bytes that were received through TLS to the channel.
    fn open_bytes<H: Handler<Session = S>>(&mut self, turn: &mut Turn<'_, H>, mut count: usize) {
        if self.link.phase() == Phase::Proxied {
            count = self.introduce(turn, count).unwrap_or(0);
        }
        if !self.link.phase().is_live() || count == 0 {
            return;
        }
        let (channel, context) = (&mut self.channel, &mut turn.context);
        let opened = self.link.open(turn.wire, count, &mut |incoming| match incoming {
            Incoming::ServerName(name) => channel.named(name),
            Incoming::Secured(session) => {
                context.metrics.resumed.add(u64::from(session.is_resumed()));
                channel.secured(context, Some(session));
            }
            Incoming::Plaintext(bytes) => channel.receive(context, bytes),
        });
        match opened {
            Ok(still_open) => {
                if !still_open {
                    self.channel.lost(&mut turn.context, CloseCause::Lost(io::ErrorKind::UnexpectedEof));
                }
            }
            Err(error) => self.channel.tls_failed(&mut turn.context, error),
        }
        self.watch_message(&mut turn.context);
    }

    fn resume<H: Handler<Session = S>>(&mut self, turn: &mut Turn<'_, H>) {
        if self.can_resume() {
            self.channel.resume(&mut turn.context);
            self.watch_message(&mut turn.context);
        }
    }

    /// Takes note of when the message under way began. One that ended since is another one.
    fn watch_message<H: Handler>(&mut self, context: &mut Context<'_, H>) {
        // The record that brings a message is a part of it.
        let is_under_way = self.channel.is_mid_message() || self.link.is_mid_record();
        if std::mem::take(&mut context.between_messages) || !is_under_way {
            self.message_since = None;
        }
        if is_under_way {
            self.message_since.get_or_insert(context.now);
        }
    }
}

#[cfg(any(test, fuzzing))]
#[cfg_attr(fuzzing, expect(dead_code, reason = "the tests use more of it"))]
pub(crate) mod tests;
