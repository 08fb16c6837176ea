//! What a handler can do with the connection that called it.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use webscale_proto::{CloseCode, Message, Role, encoder};

use crate::deflate::{Compression, Compressors};
use crate::mailbox::Mailbox;
use crate::mask::MaskSource;
use crate::sender::{Command, Sender};
use crate::slots::Token;

/// Names one connection of a server or client, for as long as the process lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConnectionId {
    pub(crate) event_loop: u32,
    pub(crate) token: Token,
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}", self.event_loop, self.token.to_u64())
    }
}

/// Why a message was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SendError {
    /// The connection is closing or gone.
    Closed,
    /// The peer does not read: [`Limits::egress_bytes`](crate::Limits::egress_bytes) are queued for it. Under
    /// [`SlowConsumer::Close`](crate::SlowConsumer::Close) the connection is now closed with 1008.
    Full,
    /// The message alone is longer than [`Limits::egress_bytes`](crate::Limits::egress_bytes), whoever reads. Nothing
    /// was sent, and the connection lives on.
    TooLong,
    /// A ping carries at most 125 bytes (RFC 6455 §5.5).
    PingTooLong,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the connection is closing or gone",
            Self::Full => "the peer does not read what is sent to it",
            Self::TooLong => "the message is longer than what may be queued for a peer",
            Self::PingTooLong => "a ping carries at most 125 bytes",
        })
    }
}

impl std::error::Error for SendError {}

/// Longest payload of a control frame, in bytes (RFC 6455 §5.5).
const MAX_PING: usize = 125;

/// What a handler asked of its timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TimerRequest {
    At(Instant),
    Cancel,
}

/// What handlers send during one turn: the cork. Belongs to a thread, filled for one connection at a time.
pub(crate) struct Outgoing {
    /// Frames, in order, as they go to the wire (or into TLS).
    pub(crate) frames: Vec<u8>,
    /// Bytes that fit into a connection's queue while it is empty.
    capacity: usize,
    /// Bytes that still fit into the connection's queue.
    pub(crate) room: usize,
    /// Something waits in that queue.
    pub(crate) is_backlogged: bool,
    /// A Close frame stands in `frames`, or went out earlier: nothing may follow it.
    pub(crate) closed: bool,
    /// The handler's own close, when it closed during this turn.
    pub(crate) close: Option<(CloseCode, String)>,
    pub(crate) timer: Option<TimerRequest>,
    /// Something did not fit.
    pub(crate) overflowed: bool,
    pub(crate) messages: u64,
    pub(crate) dropped: u64,
    pub(crate) masks: MaskSource,
    /// How messages to the connection of this turn are compressed.
    pub(crate) compression: Compression,
    compressors: Compressors,
}

impl Outgoing {
    pub(crate) fn new(role: Role, capacity: usize) -> Self {
        Self {
            frames: Vec::new(),
            capacity,
            room: 0,
            is_backlogged: false,
            closed: false,
            close: None,
            timer: None,
            overflowed: false,
            messages: 0,
            dropped: 0,
            masks: MaskSource::new(role),
            compression: Compression::Off,
            compressors: Compressors::default(),
        }
    }

    pub(crate) fn begin(&mut self, closed: bool) {
        debug_assert!(self.frames.is_empty() && self.close.is_none());
        self.closed = closed;
        (self.timer, self.overflowed, self.messages, self.dropped) = (None, false, 0, 0);
    }

    /// This many bytes wait in the connection's queue.
    pub(crate) fn set_queued(&mut self, queued: usize) {
        (self.room, self.is_backlogged) = (self.capacity.saturating_sub(queued), queued > 0);
    }

    pub(crate) fn message(&mut self, message: Message<'_>) -> Result<(), SendError> {
        if let Err(error) = self.admit(message.len()) {
            self.dropped += u64::from(error != SendError::Closed);
            return Err(error);
        }
        let mask = self.masks.next();
        match self.compressors.compress(message.as_bytes(), &mut self.compression) {
            Some(payload) => {
                encoder::compressed(&mut self.frames, message.is_text(), payload, mask);
                self.room += message.len() - payload.len();
                self.compressors.shrink();
            }
            None => encoder::message(&mut self.frames, message, mask),
        }
        self.messages += 1;
        Ok(())
    }

    pub(crate) fn ping(&mut self, payload: &[u8]) -> Result<(), SendError> {
        if payload.len() > MAX_PING {
            return Err(SendError::PingTooLong);
        }
        self.admit(payload.len())?;
        let mask = self.masks.next();
        encoder::ping(&mut self.frames, payload, mask).map_err(|_| SendError::PingTooLong)
    }

    /// Pongs are let in beyond the limit: while something is queued there is none.
    pub(crate) fn pong(&mut self, payload: &[u8]) {
        if !self.closed {
            let mask = self.masks.next();
            // A payload that came in a ping fits into a pong.
            let _ = encoder::pong(&mut self.frames, payload, mask);
        }
    }

    /// A Close frame is let in beyond the limit: there is one.
    pub(crate) fn close_frame(&mut self, code: Option<CloseCode>, reason: &str) {
        if !self.closed {
            let mask = self.masks.next();
            encoder::close(&mut self.frames, code, reason, mask);
            self.closed = true;
        }
    }

    /// Makes room for a frame with this many bytes of payload.
    fn admit(&mut self, payload: usize) -> Result<(), SendError> {
        if self.closed {
            return Err(SendError::Closed);
        }
        let bytes = payload.saturating_add(webscale_proto::FrameHeader::MAX_LEN);
        if bytes > self.capacity {
            return Err(SendError::TooLong);
        }
        if bytes > self.room {
            self.overflowed = true;
            return Err(SendError::Full);
        }
        self.room -= bytes;
        Ok(())
    }
}

/// The connection that called the handler: its session, and what can be sent to the other end.
///
/// Everything that is sent during one call goes out together when the turn ends: one TLS record run, one system call.
pub struct Peer<'a, S> {
    pub(crate) session: &'a mut S,
    pub(crate) outgoing: &'a mut Outgoing,
    pub(crate) id: ConnectionId,
    pub(crate) commands: &'a Arc<Mailbox<Command>>,
}

impl<S> Peer<'_, S> {
    /// The handler's own state of this connection.
    pub fn session(&mut self) -> &mut S {
        self.session
    }

    /// Names this connection, in logs and across threads.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Sends one message in one frame, compressed where both ends agreed on it ([`Deflate`](crate::Deflate)) and where
    /// that makes it shorter. Limits look at its length before that.
    ///
    /// # Errors
    /// [`SendError::Closed`] behind a close; [`SendError::Full`] when the peer does not read; [`SendError::TooLong`].
    pub fn send(&mut self, message: Message<'_>) -> Result<(), SendError> {
        self.outgoing.message(message)
    }

    /// Sends a ping of at most 125 bytes; the answer comes to [`Handler::pong`](crate::Handler::pong).
    ///
    /// # Errors
    /// As [`Peer::send`]; [`SendError::PingTooLong`].
    pub fn ping(&mut self, payload: &[u8]) -> Result<(), SendError> {
        self.outgoing.ping(payload)
    }

    /// Begins the closing handshake; what was sent before goes out first. No message is delivered after it, and later
    /// calls change nothing. `reason` is cut to 123 bytes. A code that may not be sent (RFC 6455 §7.4.1: 1005, 1006,
    /// 1015) closes without a code.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        if !self.outgoing.closed {
            self.outgoing.close_frame(code.may_be_sent().then_some(code), reason);
            self.outgoing.close = Some((code, reason.to_owned()));
        }
    }

    /// Has [`Handler::timer`](crate::Handler::timer) called at `at` (up to 66 µs later, more on a busy loop). Each
    /// connection has one timer: setting it again moves it.
    pub fn set_timer(&mut self, at: Instant) {
        self.outgoing.timer = Some(TimerRequest::At(at));
    }

    /// Takes the timer back.
    pub fn cancel_timer(&mut self) {
        self.outgoing.timer = Some(TimerRequest::Cancel);
    }

    /// A handle that sends to this connection from any thread, at any time.
    #[must_use]
    pub fn sender(&self) -> Sender {
        Sender::new(self.commands.clone(), self.id)
    }
}
