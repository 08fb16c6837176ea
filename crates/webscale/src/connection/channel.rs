//! The protocol's side of a connection: opening handshake, messages, closing handshake.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use webscale_proto::{CloseCode, CloseFrame, CloseState, Decoder, ProtocolError, Step};

use super::opening::Opening;
use super::{Context, Fate, Handler};
use crate::close::{Close, CloseCause, CloseKind, Timeout};
use crate::deflate::{Compression, Extension};
use crate::limits::SlowConsumer;
use crate::peer::{Outgoing, Peer};
use crate::sender::OwnedMessage;
use crate::target::Target;
use crate::tls::TlsSession;
use crate::worker::{Done, Job};

pub(crate) struct Channel<S> {
    stage: Stage<S>,
    /// How it ended, until the connection takes note.
    end: Option<CloseKind>,
}

enum Stage<S> {
    /// On the heap, as it is short and large.
    Opening(Box<Opening<S>>),
    Open(Open<S>),
    Over,
}

pub(super) struct Open<S> {
    /// `None` while a worker has it.
    session: Option<S>,
    decoder: Decoder,
    /// permessage-deflate, if both ends agreed on it.
    extension: Option<Extension>,
    closing: CloseState,
    /// Why we closed, while the peer's Close frame is awaited.
    closed_by_us: Option<Box<Close>>,
    /// A close that waits for the session to come back from a worker, so that what was accepted is answered.
    close_later: Option<Box<Close>>,
    /// A message that waits for a worker.
    next: Option<Box<OwnedMessage>>,
    /// The answer to the latest ping, while other bytes wait for the peer to take them. Those before it need none
    /// (RFC 6455 §5.5.3).
    pong: Option<Box<[u8]>>,
    /// Plaintext not decoded yet: this turn's share was used up, or `next` is taken.
    pending: Vec<u8>,
    /// The user's timer fired while a worker had the session.
    timer_missed: bool,
}

// An idle connection is this, the link, and rustls' state.
const _: () = assert!(size_of::<Open<()>>() <= 160);

impl<S> Open<S> {
    pub(super) fn new(session: S, extension: Option<Extension>) -> Self {
        Self {
            session: Some(session),
            decoder: Decoder::new(),
            extension,
            closing: CloseState::Open,
            closed_by_us: None,
            close_later: None,
            next: None,
            pong: None,
            pending: Vec::new(),
            timer_missed: false,
        }
    }

    /// A data message must wait, and everything behind it.
    fn is_blocked(&self) -> bool {
        self.next.is_some()
    }
}

/// What an opening handshake came to.
pub(super) enum Outcome<S> {
    /// More bytes are needed.
    Going(Box<Opening<S>>),
    /// Done; this many bytes of the input were its own.
    Open(S, Option<Extension>, usize),
    /// It failed: the session (client role), what to tell it, and whether an answer was written that should be delivered.
    Failed(Option<S>, Close, Fate),
}

impl<S: Send + 'static> Channel<S> {
    pub(crate) fn server(peer_addr: SocketAddr) -> Self {
        Self { stage: Stage::Opening(Box::new(Opening::server(peer_addr))), end: None }
    }

    pub(crate) fn client(target: Arc<Target>, session: S) -> Self {
        Self { stage: Stage::Opening(Box::new(Opening::client(target, session))), end: None }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
    }

    /// We sent a Close frame, and wait for the peer's.
    pub(crate) fn is_closing(&self) -> bool {
        matches!(&self.stage, Stage::Open(open) if !open.closing.may_send_data())
    }

    pub(crate) fn is_mid_message(&self) -> bool {
        matches!(&self.stage, Stage::Open(open) if open.decoder.is_mid_message())
    }

    pub(crate) fn has_pending(&self) -> bool {
        matches!(&self.stage, Stage::Open(open) if !open.pending.is_empty() || open.is_blocked())
    }

    pub(crate) fn is_blocked(&self) -> bool {
        matches!(&self.stage, Stage::Open(open) if open.is_blocked())
    }

    /// A message of it could not be handed to the workers.
    pub(crate) fn is_waiting_for_room(&self) -> bool {
        matches!(&self.stage, Stage::Open(open) if open.is_blocked() && open.session.is_some())
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn buffered(&self) -> usize {
        match &self.stage {
            Stage::Open(open) => {
                let next = open.next.as_ref().map_or(0, |next| next.borrowed().len());
                let pong = open.pong.as_ref().map_or(0, |pong| pong.len());
                open.decoder.buffered() + open.pending.capacity() + next + pong
            }
            Stage::Opening(_) | Stage::Over => 0,
        }
    }

    /// How what is sent in a turn is compressed; it comes back when the turn ends.
    pub(crate) fn lend_compression(&mut self) -> Compression {
        match &mut self.stage {
            Stage::Open(Open { extension: Some(extension), .. }) => {
                std::mem::take(&mut extension.compression)
            }
            _ => Compression::Off,
        }
    }

    pub(crate) fn restore_compression(&mut self, compression: Compression) {
        if let Stage::Open(Open { extension: Some(extension), .. }) = &mut self.stage {
            extension.compression = compression;
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

    /// Plaintext from the peer.
    pub(crate) fn receive<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>, bytes: &[u8]) {
        match &mut self.stage {
            Stage::Open(open) if open.pending.is_empty() => {
                let used = self.decode(context, bytes);
                if let Stage::Open(open) = &mut self.stage {
                    open.pending.extend_from_slice(&bytes[used..]);
                }
            }
            Stage::Open(open) => open.pending.extend_from_slice(bytes),
            Stage::Opening(_) => self.receive_head(context, bytes),
            Stage::Over => {}
        }
    }

    fn receive_head<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>, bytes: &[u8]) {
        let Stage::Opening(opening) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return;
        };
        match opening.receive(context, bytes) {
            Outcome::Going(opening) => self.stage = Stage::Opening(opening),
            Outcome::Failed(session, close, fate) => self.finish(context, session, close, fate),
            Outcome::Open(session, extension, used) => {
                self.stage = Stage::Open(Open::new(session, extension));
                context.metrics.opened.add(1);
                context.outgoing.closed = false;
                context.outgoing.compression = self.lend_compression();
                self.call(context, |handler, peer| handler.opened(peer));
                self.receive(context, &bytes[used..]);
            }
        }
    }

    /// Goes on with plaintext of an earlier turn.
    pub(crate) fn resume<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>) {
        let Stage::Open(open) = &mut self.stage else { return };
        let mut pending = std::mem::take(&mut open.pending);
        let used = self.decode(context, &pending);
        if let Stage::Open(open) = &mut self.stage
            && used < pending.len()
        {
            pending.drain(..used);
            open.pending = pending;
        }
    }

    /// Decodes frames until the bytes, or this connection's share of the turn, are used up. Says how many bytes it took.
    fn decode<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>, bytes: &[u8]) -> usize {
        let mut used = 0;
        // The scratch buffer is lent to the decoder, and the context to the handler.
        let mut scratch = std::mem::take(context.scratch);
        let mut decompression = std::mem::take(context.decompression);
        while context.frames_left > 0 {
            let Stage::Open(open) = &mut self.stage else {
                used = bytes.len();
                break;
            };
            if open.is_blocked() {
                break;
            }
            let Open { session, decoder, extension, closing, next, pong, .. } = open;
            context.between_messages |= !decoder.is_mid_message();
            let config = context.config.decoder_of(extension.is_some());
            let decoded = decoder.decode(config, &bytes[used..], &mut scratch).and_then(|(taken, step)| {
                let wanted = closing.may_send_data();
                let step = if wanted {
                    context.inflate(step, extension.as_mut(), &mut decompression)?
                } else {
                    step
                };
                Ok((taken, step))
            });
            let (taken, step) = match decoded {
                Ok(decoded) => decoded,
                Err(error) => {
                    self.protocol_error(context, error);
                    continue;
                }
            };
            used += taken;
            context.frames_left = context.frames_left.saturating_sub(1);
            match step {
                Step::NeedMore => break,
                Step::Message(message) if closing.may_send_data() => {
                    let hand_over = context.pool.is_some() || session.is_none();
                    if hand_over {
                        *next = Some(Box::new(message.into()));
                        self.submit(context);
                    } else {
                        context.metrics.messages_in.add(1);
                        let fine = call(context, session, |handler, peer| handler.message(peer, message));
                        self.after_call(context, fine);
                    }
                }
                // We closed: what still comes is of no interest to the handler.
                Step::Fragment | Step::Extended { .. } | Step::Message(_) => {}
                Step::Ping(payload) if context.outgoing.is_backlogged => *pong = Some(payload.into()),
                Step::Ping(payload) => context.outgoing.pong(payload),
                Step::Pong(payload) => {
                    let fine = call(context, session, |handler, peer| handler.pong(peer, payload));
                    self.after_call(context, fine);
                }
                Step::Close(frame) => {
                    let end = PeerClose::from(frame);
                    self.peer_closed(context, end);
                }
            }
        }
        if let Stage::Open(open) = &mut self.stage {
            open.decoder.release();
        }
        scratch.clear();
        scratch.shrink_to(SCRATCH_KEEP);
        *context.scratch = scratch;
        decompression.shrink();
        *context.decompression = decompression;
        used
    }

    /// Hands the waiting message to the workers, if the session is here and the queue has room.
    pub(crate) fn submit<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>) {
        let (Stage::Open(open), Some(pool)) = (&mut self.stage, context.pool) else { return };
        // Both or neither: a session taken alone would be lost.
        if !open.closing.may_send_data() || open.session.is_none() || open.next.is_none() {
            return;
        }
        let (Some(session), Some(message)) = (open.session.take(), open.next.take()) else { return };
        let job = Job {
            id: context.id,
            session,
            message: *message,
            room: context.outgoing.room,
            compression: context.outgoing.compression.hand_over(),
            commands: context.commands.clone(),
            reply_to: pool.reply_to(),
        };
        match pool.submit(job) {
            Ok(()) => context.metrics.messages_in.add(1),
            Err(job) => {
                open.session = Some(job.session);
                open.next = Some(Box::new(job.message));
                context.outgoing.compression.take_back(job.compression);
            }
        }
    }

    /// A worker brings the session back.
    pub(crate) fn done<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>, done: Done<S>) {
        let Stage::Open(open) = &mut self.stage else { return };
        open.session = Some(done.session);
        let timer_missed = std::mem::take(&mut open.timer_missed);
        let close_later = open.close_later.take();
        let outgoing = &mut *context.outgoing;
        outgoing.compression.take_back(done.compression);
        if !outgoing.closed {
            outgoing.frames.extend_from_slice(&done.frames);
            outgoing.room = outgoing.room.saturating_sub(done.frames.len());
            outgoing.closed = done.close.is_some();
            outgoing.messages += done.messages;
        }
        outgoing.dropped += done.dropped;
        outgoing.overflowed |= done.overflowed;
        outgoing.timer = done.timer;
        outgoing.close = done.close;
        self.after_call(context, !done.panicked);
        if timer_missed {
            self.user_timer(context);
        }
        if let Some(close) = close_later {
            self.close(context, close.code, &close.reason, close.cause);
        }
        self.submit(context);
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
    pub(crate) fn send<H: Handler<Session = S>>(
        &mut self,
        context: &mut Context<'_, H>,
        message: &OwnedMessage,
    ) {
        if self.is_open() && !self.is_closing() {
            // What it comes to shows in the counters and in what the next line does.
            let _ = context.outgoing.message(message.borrowed());
            self.after_call(context, true);
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
            Stage::Open(open) if open.session.is_none() => {
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
        self.over(context, Close::new(code, reason, cause), Fate::Finish { answered: false });
    }

    fn protocol_error<H: Handler<Session = S>>(
        &mut self,
        context: &mut Context<'_, H>,
        error: ProtocolError,
    ) {
        self.fail(context, error.close_code(), error.reason(), CloseCause::Protocol(error));
    }

    fn peer_closed<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>, end: PeerClose) {
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

    fn closed_by_us(&mut self) -> Option<Close> {
        match &mut self.stage {
            Stage::Open(open) => open.closed_by_us.take().map(|close| *close),
            Stage::Opening(_) | Stage::Over => None,
        }
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
    fn after_call<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>, fine: bool) {
        let close = context.outgoing.close.take();
        let overflowed = std::mem::take(&mut context.outgoing.overflowed);
        let Stage::Open(open) = &mut self.stage else { return };
        if !fine {
            let reason = "the server failed to handle a message";
            return self.fail(context, CloseCode::INTERNAL_ERROR, reason, CloseCause::Panic);
        }
        if let Some((code, reason)) = close
            && open.closing.send()
        {
            open.next = None;
            open.closed_by_us = Some(Box::new(Close::new(code, reason, CloseCause::Local)));
        }
        if overflowed && context.config.limits.slow_consumer == SlowConsumer::Close {
            let reason = "messages are not read as fast as they are sent";
            self.fail(context, CloseCode::POLICY, reason, CloseCause::SlowConsumer);
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
            call_close(context.handler, session, close);
        }
    }
}

/// What a thread's message buffer keeps between turns.
const SCRATCH_KEEP: usize = 64 * 1024;

/// A Close frame that owns its text.
struct PeerClose {
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
pub(crate) fn call_close<H: Handler>(handler: &H, session: H::Session, close: Close) {
    let _ = catch_unwind(AssertUnwindSafe(|| handler.close(session, close)));
}

/// Runs a method of the handler; false when it panicked.
fn call<H, F>(context: &mut Context<'_, H>, session: &mut Option<H::Session>, method: F) -> bool
where
    H: Handler,
    F: FnOnce(&H, &mut Peer<'_, H::Session>),
{
    let Some(session) = session else { return true };
    let (handler, id, commands) = (context.handler, context.id, context.commands);
    let outgoing: &mut Outgoing = context.outgoing;
    catch_unwind(AssertUnwindSafe(|| method(handler, &mut Peer { session, outgoing, id, commands }))).is_ok()
}
