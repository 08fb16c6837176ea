//! What a handler can do with the connection that called it.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use webscale_proto::{CloseCode, Data, MaskKey, Message, Role, encoder};

use crate::backlog::Backlog;
use crate::deflate::{Coded, Compression, Compressors, Extension};
use crate::limits::SlowConsumer;
use crate::mailbox::Mailbox;
use crate::mask::MaskSource;
use crate::panics::Panicked;
use crate::prepared::Prepared;
use crate::sender::{Command, Parcel, Sender};
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
    /// The peer does not read: [`Limits::egress_bytes`](crate::Limits::egress_bytes) are queued for it, or its share of
    /// [`Limits::held_bytes`](crate::Limits::held_bytes) while too much is held for all. Under
    /// [`SlowConsumer::Close`](crate::SlowConsumer::Close) the connection is now closed with 1008; otherwise
    /// [`Handler::drained`](crate::Handler::drained) says when they are gone.
    Full,
    /// The message alone is longer than [`Limits::egress_bytes`](crate::Limits::egress_bytes), whoever reads. Nothing
    /// was sent, and the connection lives on.
    TooLong,
    /// A ping carries at most 125 bytes (RFC 6455 §5.5).
    PingTooLong,
    /// A message that was begun with [`Peer::send_fragment`] is not finished: nothing else may stand between its
    /// fragments, and no fragment of another kind (RFC 6455 §5.4).
    Unfinished,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the connection is closing or gone",
            Self::Full => "the peer does not read what is sent to it",
            Self::TooLong => "the message is longer than what may be queued for a peer",
            Self::PingTooLong => "a ping carries at most 125 bytes",
            Self::Unfinished => "a message that was begun in fragments is not finished",
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

/// What was sent, for the counters.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Sent {
    pub(crate) messages: u64,
    pub(crate) dropped: u64,
    pub(crate) displaced: u64,
    pub(crate) deflated: Coded,
}

impl Sent {
    pub(crate) fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.dropped += other.dropped;
        self.displaced += other.displaced;
        self.deflated.add(other.deflated);
    }
}

/// What handlers send during one turn: the cork. Belongs to a thread, filled for one connection at a time.
pub(crate) struct Outgoing {
    /// Frames, in order, as they go to the wire (or into TLS).
    pub(crate) frames: Vec<u8>,
    /// Bytes that fit into a connection's queue while it is empty.
    capacity: usize,
    /// While too much is held for all: how many bytes may wait for a peer that does not keep up.
    pub(crate) share: usize,
    /// Bytes of it that are not to be had in this turn: what the socket was given, and what has its room kept.
    taken: usize,
    /// Bytes that still fit into the connection's queue.
    pub(crate) room: usize,
    /// Something waits in that queue.
    pub(crate) is_backlogged: bool,
    /// A Close frame stands in `frames`, or went out earlier: nothing may follow it.
    pub(crate) closed: bool,
    /// The handler's own close, when it closed during this turn.
    pub(crate) close: Option<(CloseCode, String)>,
    pub(crate) timer: Option<TimerRequest>,
    /// Something did not fit, of which the consequences were not drawn yet.
    pub(crate) overflowed: bool,
    /// Something did not fit in this turn.
    pub(crate) refused: bool,
    /// The codec panicked.
    pub(crate) failed: bool,
    pub(crate) sent: Sent,
    pub(crate) masks: MaskSource,
    /// The kind of a message that was begun in fragments. It is the connection's, as is the next.
    pub(crate) unfinished: Option<Data>,
    /// How messages to the connection of this turn are compressed.
    pub(crate) compression: Compression,
    /// What waits for the connection of this turn and may be dropped for newer messages, where that is its way.
    pub(crate) backlog: Option<Box<Backlog>>,
    compressors: Compressors,
}

impl Outgoing {
    pub(crate) fn new(role: Role, capacity: usize) -> Self {
        Self {
            frames: Vec::new(),
            capacity,
            share: usize::MAX,
            taken: 0,
            room: 0,
            is_backlogged: false,
            closed: false,
            close: None,
            timer: None,
            overflowed: false,
            refused: false,
            failed: false,
            sent: Sent::default(),
            masks: MaskSource::new(role),
            unfinished: None,
            compression: Compression::Off,
            backlog: None,
            compressors: Compressors::default(),
        }
    }

    /// A panic left it half done: nothing of it reaches another connection.
    pub(crate) fn renew(&mut self) {
        *self = Self::new(self.masks.role(), self.capacity);
    }

    pub(crate) fn begin(&mut self, closed: bool) {
        debug_assert!(self.frames.is_empty() && self.close.is_none());
        self.closed = closed;
        (self.timer, self.overflowed, self.refused) = (None, false, false);
        (self.failed, self.sent) = (false, Sent::default());
    }

    /// The connection opens, with its answer written: from here on it has its own way with a peer that does not read.
    pub(crate) fn obey(&mut self, slow_consumer: SlowConsumer, extension: Option<&Extension>) {
        if slow_consumer == SlowConsumer::DropOldest {
            let remembers = extension.is_some_and(|extension| extension.compression.remembers());
            let mut backlog = Backlog::new(remembers);
            backlog.push_head(&self.frames);
            self.frames.clear();
            self.backlog = Some(Box::new(backlog));
        }
    }

    /// Nothing was written yet, and the socket owes this many bytes.
    pub(crate) fn set_queued(&mut self, queued: usize) {
        let withheld = if queued > 0 { self.capacity.saturating_sub(self.share) } else { 0 };
        (self.taken, self.is_backlogged) = (queued.saturating_add(withheld), queued > 0);
        self.count_room();
    }

    /// On a worker: this much may be sent.
    pub(crate) fn set_room(&mut self, room: usize) {
        (self.taken, self.room) = (self.capacity.saturating_sub(room), room);
    }

    /// What a worker may send: older messages make way for it where they can.
    pub(crate) fn room_for_worker(&self) -> usize {
        self.room + self.backlog.as_ref().map_or(0, |backlog| backlog.droppable())
    }

    /// Keeps room for what is sent later.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        self.taken += bytes;
        self.room = self.room.saturating_sub(bytes);
    }

    /// Gives it back.
    pub(crate) fn release(&mut self, bytes: usize) {
        self.taken = self.taken.saturating_sub(bytes);
        self.room += bytes;
    }

    /// The room beside what is taken and what stands in the backlog.
    fn count_room(&mut self) {
        let waiting = self.backlog.as_ref().map_or(0, |backlog| backlog.len());
        self.room = self.capacity.saturating_sub(self.taken.saturating_add(waiting));
    }

    pub(crate) fn has_written(&self) -> bool {
        !self.frames.is_empty() || self.backlog.as_ref().is_some_and(|backlog| !backlog.is_empty())
    }

    /// Puts what was written into the backlog, if there is one.
    pub(crate) fn put_off(&mut self) {
        if let Some(backlog) = &mut self.backlog {
            backlog.push(&self.frames);
            self.frames.clear();
            self.count_room();
        }
    }

    /// Drops the oldest messages until this many bytes fit, or none is left that may be dropped.
    fn displace(&mut self, bytes: usize) {
        self.put_off();
        let Some(backlog) = &mut self.backlog else { return };
        while self.taken + backlog.len() + bytes > self.capacity && backlog.drop_oldest().is_some() {
            self.sent.displaced += 1;
        }
        self.count_room();
    }

    /// Whether dropping older messages can make room for this many bytes.
    fn can_displace(&mut self, bytes: usize) -> bool {
        self.put_off();
        self.backlog.as_ref().is_some_and(|backlog| bytes <= self.room + backlog.droppable())
    }

    /// Makes room as far as the connection drops older messages for newer ones.
    pub(crate) fn make_room(&mut self, bytes: usize) {
        if bytes > self.room && self.can_displace(bytes) {
            self.displace(bytes);
        }
    }

    /// Takes what a worker wrote for this connection.
    pub(crate) fn take_in(&mut self, frames: &[u8]) {
        self.frames.extend_from_slice(frames);
        self.room = self.room.saturating_sub(frames.len());
        self.displace(0);
    }

    /// Gives away what a worker wrote.
    pub(crate) fn hand_over(&mut self) -> Vec<u8> {
        let Some(mut backlog) = self.backlog.take().filter(|backlog| !backlog.is_empty()) else {
            return std::mem::take(&mut self.frames);
        };
        backlog.push(&self.frames);
        self.frames.clear();
        let mut frames = Vec::with_capacity(backlog.len());
        while backlog.take(usize::MAX, |bytes| frames.extend_from_slice(bytes)).is_some() {}
        frames
    }

    pub(crate) fn message(&mut self, message: Message<'_>) -> Result<(), SendError> {
        self.admit_message(message)?;
        // One that is compressed with memory of others could not be dropped.
        let as_it_is = self.is_backlogged && self.backlog.is_some() && self.compression.remembers();
        let Self { compressors, compression, .. } = self;
        let how = if as_it_is { &mut Compression::Off } else { compression };
        let compressed = compressors.compress(message.as_bytes(), how);
        put(&mut self.frames, &mut self.sent, &mut self.room, self.masks.next(), message, compressed)
            .map_err(|Panicked| self.fail())?;
        self.compressors.shrink();
        Ok(())
    }

    pub(crate) fn prepared(&mut self, prepared: &Prepared) -> Result<(), SendError> {
        let message = prepared.message();
        self.admit_message(message)?;
        let compressed = match self.compression {
            Compression::Shared(settings) => prepared.compressed(&mut self.compressors, settings),
            Compression::Own(_) | Compression::Off => Ok(None),
        };
        put(&mut self.frames, &mut self.sent, &mut self.room, self.masks.next(), message, compressed)
            .map_err(|Panicked| self.fail())
    }

    pub(crate) fn parcel(&mut self, parcel: &Parcel) -> Result<(), SendError> {
        match parcel {
            Parcel::Message(message) => self.message(message.borrowed()),
            Parcel::Prepared(prepared) => self.prepared(prepared),
        }
    }

    /// One frame of a message that goes as it is.
    pub(crate) fn fragment(&mut self, data: Message<'_>, is_last: bool) -> Result<(), SendError> {
        let kind = if data.is_text() { Data::Text } else { Data::Binary };
        if self.unfinished.is_some_and(|begun| begun != kind) {
            return Err(SendError::Unfinished);
        }
        self.admit(data.len())?;
        let opcode = if self.unfinished.is_some() { Data::Continuation } else { kind };
        encoder::fragment(&mut self.frames, opcode, is_last, data.as_bytes(), self.masks.next());
        self.unfinished = (!is_last).then_some(kind);
        self.sent.messages += u64::from(is_last);
        Ok(())
    }

    /// What a message that is sent now may have in bytes; the answer to a longer one is an error.
    fn room_for_message(&self) -> usize {
        if self.is_over() { 0 } else { self.room.saturating_sub(webscale_proto::FrameHeader::MAX_LEN) }
    }

    fn admit_message(&mut self, message: Message<'_>) -> Result<(), SendError> {
        if self.unfinished.is_some() && !self.is_over() {
            return Err(SendError::Unfinished);
        }
        self.admit(message.len())
            .inspect_err(|error| self.sent.dropped += u64::from(*error != SendError::Closed))
    }

    /// The connection will be closed for a fault of the codec.
    fn fail(&mut self) -> SendError {
        self.failed = true;
        SendError::Closed
    }

    /// A message with so many bytes could be sent if nothing else were queued.
    pub(crate) fn would_fit(&self, payload: usize) -> bool {
        frame_len(payload) <= self.capacity
    }

    /// Nothing more may be sent.
    fn is_over(&self) -> bool {
        self.closed || self.failed
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
        if self.is_over() {
            return Err(SendError::Closed);
        }
        if !self.would_fit(payload) {
            return Err(SendError::TooLong);
        }
        let bytes = frame_len(payload);
        self.make_room(bytes);
        if bytes > self.room {
            (self.overflowed, self.refused) = (true, true);
            return Err(SendError::Full);
        }
        self.room -= bytes;
        Ok(())
    }
}

/// The most that a frame with so many bytes takes.
fn frame_len(payload: usize) -> usize {
    payload.saturating_add(webscale_proto::FrameHeader::MAX_LEN)
}

/// Writes a message as one frame, and gives back the room that compression saved.
fn put(
    frames: &mut Vec<u8>,
    sent: &mut Sent,
    room: &mut usize,
    mask: Option<MaskKey>,
    message: Message<'_>,
    compressed: Result<Option<&[u8]>, Panicked>,
) -> Result<(), Panicked> {
    match compressed? {
        Some(payload) => {
            encoder::compressed(frames, message.is_text(), payload, mask);
            *room += message.len() - payload.len();
            sent.deflated.add(Coded { messages: 1, from: message.len() as u64, to: payload.len() as u64 });
        }
        None => encoder::message(frames, message, mask),
    }
    sent.messages += 1;
    Ok(())
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
    /// [`SendError::Closed`] behind a close; [`SendError::Full`] when the peer does not read; [`SendError::TooLong`];
    /// [`SendError::Unfinished`] inside a message in fragments.
    pub fn send(&mut self, message: Message<'_>) -> Result<(), SendError> {
        self.outgoing.message(message)
    }

    /// Sends a message that was made for many connections: nothing is allocated or compressed for this one alone, see
    /// [`Prepared`].
    ///
    /// # Errors
    /// As [`Peer::send`].
    pub fn send_prepared(&mut self, prepared: &Prepared) -> Result<(), SendError> {
        self.outgoing.prepared(prepared)
    }

    /// Sends one fragment of a message whose end is not known yet, in a frame of its own. The first one begins a message
    /// of its kind, `is_last` ends it; the last may be empty. The fragments may be sent from different calls of the
    /// handler, from workers too. They go uncompressed. What is to be sent in all may be longer than
    /// [`Limits::egress_bytes`](crate::Limits::egress_bytes): send what [`Peer::room`] allows, and the rest
    /// from [`Handler::drained`](crate::Handler::drained).
    ///
    /// Until the last one, pings, pongs and a close may stand between, but no other message: [`Peer::send`] fails, and what
    /// [`Sender`]s send waits behind, up to `egress_bytes`; what is more falls under
    /// [`SlowConsumer`](crate::SlowConsumer). A message that is never finished stays so until the connection is closed, and
    /// its receiver then drops it.
    ///
    /// # Errors
    /// As [`Peer::send`]; [`SendError::Unfinished`] for a fragment of the other kind than the message.
    pub fn send_fragment(&mut self, data: Message<'_>, is_last: bool) -> Result<(), SendError> {
        self.outgoing.fragment(data, is_last)
    }

    /// How long a message, or a fragment, may be now without being refused as [`SendError::Full`] or taking the place of an
    /// older one ([`SlowConsumer::DropOldest`](crate::SlowConsumer::DropOldest)), in bytes. On a worker: as it was when the
    /// call began, less what was sent since. A handler that waits for more is told by
    /// [`Handler::drained`](crate::Handler::drained).
    #[must_use]
    pub fn room(&self) -> usize {
        self.outgoing.room_for_message()
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
