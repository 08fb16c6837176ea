//! The protocol's side of a connection: opening handshake, messages, closing handshake.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use webscale_proto::{CloseCode, CloseFrame, CloseState, Data, Decoder, FrameHeader, ProtocolError};

use super::opening::Opening;
use super::{Context, Dial, Fate, Handler};
use crate::admission::Handshake;
use crate::byte_queue::ByteQueue;
use crate::close::{Close, CloseCause, CloseKind, Timeout};
use crate::deflate::{Compression, Extension};
use crate::limits::SlowConsumer;
use crate::metrics::Metrics;
use crate::peer::{Outgoing, Peer};
use crate::sender::Parcel;
use crate::tls::TlsSession;
use crate::worker::Delivery;

pub(crate) struct Channel<S> {
    pub(super) stage: Stage<S>,
    /// How it ended, until the connection takes note.
    end: Option<CloseKind>,
}

pub(super) enum Stage<S> {
    /// On the heap, as it is short and large.
    Opening(Box<Opening<S>>),
    Open(Open<S>),
    Over,
}

pub(super) struct Open<S> {
    /// `None` while a worker has it.
    pub(super) session: Option<S>,
    pub(super) decoder: Decoder,
    /// permessage-deflate, if both ends agreed on it.
    pub(super) extension: Option<Extension>,
    pub(super) closing: CloseState,
    /// Why we closed, while the peer's Close frame is awaited.
    closed_by_us: Option<Box<Close>>,
    /// A close that waits for the session to come back from a worker, and a shutdown's also for what was received before, so
    /// that what was accepted is answered.
    pub(super) close_later: Option<Box<Close>>,
    /// A message, or a chunk of one, that waits for a worker.
    pub(super) next: Option<Box<Delivery>>,
    /// The answer to the latest ping, while other bytes wait for the peer to take them. Those before it need none
    /// (RFC 6455 §5.5.3).
    pub(super) pong: Option<Box<[u8]>>,
    /// Plaintext not decoded yet: this turn's share was used up, or `next` is taken.
    pub(super) pending: ByteQueue,
    /// What other threads sent while the handler's message in fragments is not finished.
    waiting: Option<Box<Waiting>>,
    /// The kind of that message.
    unfinished: Option<Data>,
    /// The user's timer fired while a worker had the session.
    pub(super) timer_missed: bool,
    slow_consumer: SlowConsumer,
}

#[derive(Default)]
struct Waiting {
    parcels: VecDeque<Parcel>,
    bytes: usize,
}

// An idle connection is this, the link, and rustls' state.
const _: () = assert!(size_of::<Open<()>>() <= 160);

impl<S> Open<S> {
    pub(super) fn new(session: S, extension: Option<Extension>, slow_consumer: SlowConsumer) -> Self {
        Self {
            slow_consumer,
            session: Some(session),
            decoder: Decoder::new(),
            extension,
            closing: CloseState::Open,
            closed_by_us: None,
            close_later: None,
            next: None,
            pong: None,
            pending: ByteQueue::default(),
            waiting: None,
            unfinished: None,
            timer_missed: false,
        }
    }

    /// This close must wait.
    fn holds_back(&self, close: &Close) -> bool {
        self.session.is_none() || (close.is_shutdown() && self.has_pending())
    }

    /// A data message must wait, and everything behind it.
    pub(super) fn is_blocked(&self) -> bool {
        self.next.is_some()
    }

    /// Something is here that can be handled without another byte.
    fn has_pending(&self) -> bool {
        let has_chunks = self.extension.as_ref().is_some_and(Extension::has_chunks);
        !self.pending.is_empty() || has_chunks || self.is_blocked()
    }
}

impl<S> Open<S> {
    /// Keeps what may not stand between the fragments of a message until that is finished.
    fn wait(&mut self, parcel: Parcel, outgoing: &mut Outgoing) {
        let bytes = parcel.waiting_bytes();
        // The message in fragments can be ended whatever waits.
        let needed = bytes + FrameHeader::MAX_LEN;
        // One that would never fit is the sender's fault, and not the peer's.
        let would_fit = outgoing.would_fit(parcel.len());
        if would_fit {
            outgoing.make_room(needed);
            self.displace(needed, outgoing);
        }
        if needed > outgoing.room {
            outgoing.overflowed |= would_fit;
            outgoing.refused |= would_fit;
            outgoing.sent.dropped += 1;
        } else {
            outgoing.reserve(bytes);
            let waiting = self.waiting.get_or_insert_default();
            waiting.bytes += bytes;
            waiting.parcels.push_back(parcel);
        }
    }

    /// Where older messages make way for newer ones, those that wait do as well.
    fn displace(&mut self, needed: usize, outgoing: &mut Outgoing) {
        let Some(waiting) = self.waiting.as_mut().filter(|_| outgoing.backlog.is_some()) else { return };
        while needed > outgoing.room
            && let Some(oldest) = waiting.parcels.pop_front()
        {
            waiting.bytes -= oldest.waiting_bytes();
            outgoing.release(oldest.waiting_bytes());
            outgoing.sent.displaced += 1;
        }
    }

    fn send_waiting(&mut self, outgoing: &mut Outgoing) {
        let Some(waiting) = self.waiting.take() else { return };
        outgoing.release(waiting.bytes);
        for parcel in waiting.parcels {
            let _ = outgoing.parcel(&parcel);
        }
    }
}

/// What an opening handshake came to.
pub(super) enum Outcome<S> {
    /// More bytes are needed.
    Going(Box<Opening<S>>),
    /// Done; `used` bytes of the input were its own.
    Open { session: S, extension: Option<Extension>, slow_consumer: SlowConsumer, used: usize },
    /// It failed: the session (client role), what to tell it, and whether an answer was written that should be delivered.
    Failed(Option<S>, Close, Fate),
}

impl<S: Send + 'static> Channel<S> {
    pub(crate) fn server(peer_addr: SocketAddr) -> Self {
        Self { stage: Stage::Opening(Box::new(Opening::server(peer_addr))), end: None }
    }

    pub(crate) fn client(dial: Dial, session: S) -> Self {
        Self { stage: Stage::Opening(Box::new(Opening::client(dial, session))), end: None }
    }

    /// What a client that is not open yet has to connect to.
    pub(crate) fn dial(&mut self) -> Option<&mut Dial> {
        match &mut self.stage {
            Stage::Opening(opening) => opening.dial(),
            Stage::Open(_) | Stage::Over => None,
        }
    }

    /// Where a connection comes from, and its handshake, which counts as one under way until it ends.
    pub(crate) fn introduced(&mut self, peer_addr: SocketAddr, handshake: Option<Handshake>) {
        if let Stage::Opening(opening) = &mut self.stage {
            opening.introduced(peer_addr, handshake);
        }
    }

    /// Where a connection comes from that is not open yet.
    pub(super) fn peer_addr(&self) -> Option<SocketAddr> {
        match &self.stage {
            Stage::Opening(opening) => opening.peer_addr(),
            Stage::Open(_) | Stage::Over => None,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
    }

    /// We sent a Close frame, and wait for the peer's.
    pub(crate) fn is_closing(&self) -> bool {
        matches!(&self.stage, Stage::Open(open) if !open.closing.may_send_data())
    }

    /// What waits for the end of a message in fragments has its room: what is sent before must leave it.
    pub(crate) fn reserve_waiting(&self, outgoing: &mut Outgoing) {
        if let Stage::Open(Open { waiting: Some(waiting), .. }) = &self.stage {
            outgoing.reserve(waiting.bytes);
        }
    }

    pub(crate) fn is_mid_message(&self) -> bool {
        matches!(&self.stage, Stage::Open(open) if open.decoder.is_mid_message())
    }

    pub(crate) fn has_pending(&self) -> bool {
        matches!(&self.stage, Stage::Open(open) if open.has_pending())
    }

    pub(crate) fn is_blocked(&self) -> bool {
        matches!(&self.stage, Stage::Open(open) if open.is_blocked())
    }

    /// A message of it could not be handed to the workers.
    pub(crate) fn is_waiting_for_room(&self) -> bool {
        matches!(&self.stage, Stage::Open(open) if open.is_blocked() && open.session.is_some())
    }

    pub(super) fn buffered(&self) -> usize {
        match &self.stage {
            Stage::Open(open) => {
                let next = open.next.as_ref().map_or(0, |next| next.data.borrowed().len());
                let pong = open.pong.as_ref().map_or(0, |pong| pong.len());
                let pending = open.pending.capacity();
                let waiting = open.waiting.as_ref().map_or(0, |waiting| waiting.bytes);
                let inflating = open.extension.as_ref().map_or(0, Extension::buffered);
                open.decoder.buffered() + pending + next + pong + waiting + inflating
            }
            Stage::Opening(_) | Stage::Over => 0,
        }
    }

    #[cfg(test)]
    pub(super) fn undecoded(&self) -> usize {
        match &self.stage {
            Stage::Open(open) => open.pending.len(),
            Stage::Opening(_) | Stage::Over => 0,
        }
    }

    /// What an opening handshake and codecs of its own take besides.
    pub(super) fn overhead(&self) -> usize {
        match &self.stage {
            Stage::Opening(opening) => size_of::<Opening<S>>() + opening.buffered(),
            Stage::Open(open) => open.extension.as_ref().map_or(0, Extension::codecs),
            Stage::Over => 0,
        }
    }

    /// Lends to a turn what this connection's messages are sent with; [`Channel::restore`] takes it back.
    pub(crate) fn lend(&mut self, outgoing: &mut Outgoing) {
        (outgoing.compression, outgoing.unfinished) = (Compression::Off, None);
        if let Stage::Open(open) = &mut self.stage {
            outgoing.unfinished = open.unfinished;
            if let Some(extension) = &mut open.extension {
                outgoing.compression = std::mem::take(&mut extension.compression);
            }
        }
    }

    pub(crate) fn restore(&mut self, outgoing: &mut Outgoing) {
        let compression = std::mem::take(&mut outgoing.compression);
        if let Stage::Open(open) = &mut self.stage {
            open.unfinished = outgoing.unfinished;
            if let Some(extension) = &mut open.extension {
                extension.compression = compression;
            }
        }
    }

    pub(crate) fn take_end(&mut self) -> Option<CloseKind> {
        self.end.take()
    }

    /// The name that a client wants to speak to, by TLS.
    pub(crate) fn named(&mut self, server_name: String) {
        if let Stage::Opening(opening) = &mut self.stage {
            opening.named(server_name);
        }
    }

    /// The way to the peer is free, and secure where there is a `session`: a client asks to open.
    pub(crate) fn secured<H: Handler<Session = S>>(
        &mut self,
        context: &mut Context<'_, H>,
        session: Option<TlsSession>,
    ) {
        if let Stage::Opening(opening) = &mut self.stage
            && let Err(close) = opening.secured(context.outgoing, session)
        {
            let session = match std::mem::replace(&mut self.stage, Stage::Over) {
                Stage::Opening(opening) => opening.into_session(),
                Stage::Open(_) | Stage::Over => None,
            };
            self.finish(context, session, close, Fate::Drop);
        }
    }

    pub(super) fn receive_head<H: Handler<Session = S>>(
        &mut self,
        context: &mut Context<'_, H>,
        bytes: &[u8],
    ) {
        let Stage::Opening(opening) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return;
        };
        match opening.receive(context, bytes) {
            Outcome::Going(opening) => self.stage = Stage::Opening(opening),
            Outcome::Failed(session, close, fate) => self.finish(context, session, close, fate),
            Outcome::Open { session, extension, slow_consumer, used } => {
                context.metrics.opened.add(1);
                context.outgoing.closed = false;
                context.outgoing.obey(slow_consumer, extension.as_ref());
                self.stage = Stage::Open(Open::new(session, extension, slow_consumer));
                self.lend(context.outgoing);
                self.call(context, |handler, peer| handler.opened(peer));
                self.receive(context, bytes.get(used..).unwrap_or_default());
            }
        }
    }

    /// Nothing is queued any more: the answer to the latest ping may go out.
    pub(crate) fn answer_ping(&mut self, outgoing: &mut Outgoing) {
        if let Stage::Open(open) = &mut self.stage
            && let Some(payload) = open.pong.take()
        {
            outgoing.pong(&payload);
        }
    }

    pub(crate) fn user_timer<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>) {
        match &mut self.stage {
            Stage::Open(open) if open.session.is_none() => open.timer_missed = true,
            Stage::Open(open) if open.closing.may_send_data() => {
                self.call(context, |handler, peer| handler.timer(peer));
            }
            _ => {}
        }
    }

    /// A message from a [`Sender`](crate::Sender).
    pub(crate) fn send<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>, parcel: Parcel) {
        match &mut self.stage {
            Stage::Open(open) if open.closing.may_send_data() => {
                if context.outgoing.unfinished.is_some() {
                    open.wait(parcel, context.outgoing);
                } else {
                    // What it comes to shows in the counters and in what the next line does.
                    let _ = context.outgoing.parcel(&parcel);
                }
                self.after_call(context, true);
            }
            _ => {}
        }
    }

    /// We close. A connection whose handshake is not done ends without words.
    pub(crate) fn close<H: Handler<Session = S>>(
        &mut self,
        context: &mut Context<'_, H>,
        code: CloseCode,
        reason: &str,
        cause: CloseCause,
    ) {
        let close = Close::new(code, reason, cause);
        match &mut self.stage {
            Stage::Open(open) if open.holds_back(&close) => {
                open.close_later.get_or_insert_with(|| Box::new(close));
            }
            Stage::Open(open) => {
                if open.closing.send() {
                    open.next = None;
                    context.outgoing.close_frame(code.may_be_sent().then_some(code), reason);
                    open.closed_by_us = Some(Box::new(close));
                }
            }
            Stage::Over => {}
            Stage::Opening(_) => self.over(context, close, Fate::Drop),
        }
    }

    /// A close that waited comes when what it waited for is done.
    pub(super) fn settle_close<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>) {
        if let Stage::Open(open) = &mut self.stage
            && let Some(close) = open.close_later.take()
        {
            // Still held back, it goes back to where it was.
            self.close(context, close.code, &close.reason, close.cause);
        }
    }

    /// A shutdown's close waits: nothing further is accepted.
    pub(crate) fn is_leaving(&self) -> bool {
        matches!(&self.stage, Stage::Open(Open { close_later: Some(close), .. }) if close.is_shutdown())
    }

    /// Something is wrong that the peer should hear of: a Close frame goes out, and the connection ends behind it
    /// without waiting for an answer (RFC 6455 §7.1.7).
    pub(crate) fn fail<H: Handler<Session = S>>(
        &mut self,
        context: &mut Context<'_, H>,
        code: CloseCode,
        reason: &str,
        cause: CloseCause,
    ) {
        context.outgoing.close_frame(Some(code), reason);
        // Where our Close frame went out before, that one holds.
        let close = match self.closed_by_us() {
            Some(ours) => Close { cause, ..ours },
            None => Close::new(code, reason, cause),
        };
        self.over(context, close, Fate::Finish { answered: false });
    }

    pub(super) fn protocol_error<H: Handler<Session = S>>(
        &mut self,
        context: &mut Context<'_, H>,
        error: ProtocolError,
    ) {
        self.fail(context, error.close_code(), error.reason(), CloseCause::Protocol(error));
    }

    pub(super) fn peer_closed<H: Handler<Session = S>>(
        &mut self,
        context: &mut Context<'_, H>,
        end: PeerClose,
    ) {
        let Stage::Open(open) = &mut self.stage else { return };
        if open.closing.receive() {
            context.outgoing.close_frame(end.code.may_be_sent().then_some(end.code), "");
        }
        let close = match open.closed_by_us.take() {
            Some(close) => *close,
            None => Close::new(end.code, end.reason, CloseCause::Peer),
        };
        self.over(context, close, Fate::Finish { answered: true });
    }

    /// The bytes below have ended.
    pub(crate) fn lost<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>, cause: CloseCause) {
        let close = match self.closed_by_us() {
            Some(ours) => Close { cause, ..ours },
            None => Close::new(CloseCode::ABNORMAL, "", cause),
        };
        self.over(context, close, Fate::Drop);
    }

    pub(crate) fn tls_failed<H: Handler<Session = S>>(
        &mut self,
        context: &mut Context<'_, H>,
        error: rustls::Error,
    ) {
        let code = if self.is_open() { CloseCode::ABNORMAL } else { CloseCode::TLS_HANDSHAKE };
        // Nothing can be sealed any more but the alert that rustls has written already.
        context.outgoing.frames.clear();
        self.over(context, Close::new(code, "", CloseCause::Tls(error)), Fate::Finish { answered: false });
    }

    pub(crate) fn handshake_timed_out<H: Handler<Session = S>>(
        &mut self,
        context: &mut Context<'_, H>,
        may_answer: bool,
    ) {
        let close = Close::new(CloseCode::ABNORMAL, "", CloseCause::Timeout(Timeout::Handshake));
        let answered = match &self.stage {
            Stage::Opening(opening) if may_answer => opening.refuse_late(context),
            _ => false,
        };
        self.over(context, close, if answered { Fate::Finish { answered: false } } else { Fate::Drop });
    }

    pub(crate) fn close_timed_out<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>) {
        self.lost(context, CloseCause::Timeout(Timeout::Close));
    }

    pub(crate) fn drop_silent<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>) {
        self.lost(context, CloseCause::Timeout(Timeout::Pong));
    }

    /// The peer sends, and does not read.
    pub(crate) fn close_slow_consumer<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>) {
        let reason = "messages are not read as fast as they are sent";
        self.fail(context, CloseCode::POLICY, reason, CloseCause::SlowConsumer);
    }

    fn closed_by_us(&mut self) -> Option<Close> {
        match &mut self.stage {
            Stage::Open(open) => open.closed_by_us.take().map(|close| *close),
            Stage::Opening(_) | Stage::Over => None,
        }
    }

    /// The handler's session is here, and messages may be sent.
    pub(crate) fn is_free(&self) -> bool {
        matches!(&self.stage, Stage::Open(open) if open.session.is_some() && open.closing.may_send_data())
    }

    /// What was queued is gone.
    pub(crate) fn drained<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>) {
        self.call(context, |handler, peer| handler.drained(peer));
    }

    /// Runs a method of the handler on the session, if it is here.
    fn call<H, F>(&mut self, context: &mut Context<'_, H>, method: F)
    where
        H: Handler<Session = S>,
        F: FnOnce(&H, &mut Peer<'_, S>),
    {
        if let Stage::Open(open) = &mut self.stage {
            let fine = call(context, &mut open.session, method);
            self.after_call(context, fine);
        }
    }

    /// Draws the consequences of what a handler did.
    pub(super) fn after_call<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>, fine: bool) {
        let close = context.outgoing.close.take();
        let Stage::Open(open) = &mut self.stage else { return };
        if close.is_none() && context.outgoing.unfinished.is_none() {
            open.send_waiting(context.outgoing);
        }
        let overflowed = std::mem::take(&mut context.outgoing.overflowed);
        if !fine || context.outgoing.failed {
            context.metrics.panics.add(1);
            let reason = "the server failed to handle a message";
            return self.fail(context, CloseCode::INTERNAL_ERROR, reason, CloseCause::Panic);
        }
        if let Some((code, reason)) = close
            && open.closing.send()
        {
            open.next = None;
            open.closed_by_us = Some(Box::new(Close::new(code, reason, CloseCause::Local)));
        }
        if overflowed && open.slow_consumer == SlowConsumer::Close {
            self.close_slow_consumer(context);
        }
    }

    /// Ends, whatever the stage.
    fn over<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>, close: Close, fate: Fate) {
        let session = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Over => return,
            Stage::Opening(opening) => opening.into_session(),
            Stage::Open(Open { session: None, .. }) => {
                self.end = Some(close.cause.kind());
                context.orphan = Some(close);
                context.fate = fate;
                return;
            }
            Stage::Open(open) => open.session,
        };
        self.finish(context, session, close, fate);
    }

    fn finish<H: Handler<Session = S>>(
        &mut self,
        context: &mut Context<'_, H>,
        session: Option<S>,
        close: Close,
        fate: Fate,
    ) {
        self.end = Some(close.cause.kind());
        context.fate = fate;
        if let Some(session) = session {
            call_close(context.handler, context.metrics, session, close);
        }
    }
}

/// What a thread's message buffer keeps between turns.
pub(super) const SCRATCH_KEEP: usize = 64 * 1024;

/// A Close frame that owns its text.
pub(super) struct PeerClose {
    code: CloseCode,
    reason: String,
}

impl From<Option<CloseFrame<'_>>> for PeerClose {
    fn from(frame: Option<CloseFrame<'_>>) -> Self {
        match frame {
            Some(frame) => Self { code: frame.code, reason: frame.reason.to_owned() },
            None => Self { code: CloseCode::NO_STATUS, reason: String::new() },
        }
    }
}

/// Tells the handler that a session is over. A panic there has nobody left to be told.
pub(crate) fn call_close<H: Handler>(handler: &H, metrics: &Metrics, session: H::Session, close: Close) {
    if catch_unwind(AssertUnwindSafe(|| handler.close(session, close))).is_err() {
        metrics.panics.add(1);
    }
}

/// Runs a method of the handler; false when it panicked.
pub(super) fn call<H, F>(context: &mut Context<'_, H>, session: &mut Option<H::Session>, method: F) -> bool
where
    H: Handler,
    F: FnOnce(&H, &mut Peer<'_, H::Session>),
{
    let Some(session) = session else { return true };
    let (handler, id, commands) = (context.handler, context.id, context.commands);
    let outgoing: &mut Outgoing = context.outgoing;
    catch_unwind(AssertUnwindSafe(|| method(handler, &mut Peer { session, outgoing, id, commands }))).is_ok()
}
