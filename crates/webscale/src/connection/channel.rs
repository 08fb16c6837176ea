//! The protocol's side of a connection: opening handshake, messages, closing handshake.

use std::net::SocketAddr;

use webscale_proto::CloseCode;

use super::closing::FAILED;
use super::open::Open;
use super::opening::{Opening, Outcome};
use super::{Context, Dial, Fate, Handler};
use crate::admission::Handshake;
use crate::close::{Close, CloseCause, CloseKind};
use crate::deflate::{Compression, Extension};
use crate::limits::SlowConsumer;
use crate::panics::caught;
use crate::peer::{Outgoing, Peer};
use crate::sender::Parcel;
use crate::tls::TlsSession;

pub(crate) struct Channel<S> {
    pub(super) stage: Stage<S>,
    /// The handler may have stopped sending, and waits for [`Handler::drained`].
    pub(super) owes_drained: bool,
    /// How it ended, for the counters.
    pub(super) ended: Option<CloseKind>,
}

pub(super) enum Stage<S> {
    /// On the heap, as it is short and large.
    Opening(Box<Opening<S>>),
    Open(Open<S>),
    Over,
}

impl<S: Send + 'static> Channel<S> {
    pub(crate) fn server(peer_addr: SocketAddr) -> Self {
        Self::of(Opening::server(peer_addr))
    }

    pub(crate) fn client(dial: Dial, session: S) -> Self {
        Self::of(Opening::client(dial, session))
    }

    fn of(opening: Opening<S>) -> Self {
        Self { stage: Stage::Opening(Box::new(opening)), owes_drained: false, ended: None }
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
            self.over(context, close, Fate::Drop);
        }
    }

    pub(super) fn receive_head<H: Handler<Session = S>>(
        &mut self,
        context: &mut Context<'_, H>,
        bytes: &[u8],
    ) {
        let Stage::Opening(opening) = &mut self.stage else { return };
        match opening.receive(context, bytes) {
            Outcome::Going => {}
            Outcome::Failed(close, fate) => self.over(context, close, fate),
            Outcome::Open { extension, slow_consumer, used } => {
                self.open(context, extension, slow_consumer);
                self.call(context, |handler, peer| handler.opened(peer));
                self.receive(context, bytes.get(used..).unwrap_or_default());
            }
        }
    }

    /// The opening handshake has ended well, and left the session.
    fn open<H: Handler<Session = S>>(
        &mut self,
        context: &mut Context<'_, H>,
        extension: Option<Extension>,
        slow_consumer: SlowConsumer,
    ) {
        context.metrics.opened.add(1);
        context.outgoing.closed = false;
        context.outgoing.obey(slow_consumer, extension.as_ref());
        if let Stage::Opening(opening) = &mut self.stage
            && let Some(session) = opening.session.take()
        {
            self.stage = Stage::Open(Open::new(session, extension, slow_consumer));
        }
        self.lend(context.outgoing);
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
        if let Some((code, reason)) = close
            && open.closing.may_send_data()
        {
            open.begin_closing(Close::new(code, reason, CloseCause::Local));
        }
        if !fine {
            context.metrics.panics.add(1);
            return self.fail(context, CloseCode::INTERNAL_ERROR, FAILED, CloseCause::Panic);
        }
        if context.outgoing.failed {
            return self.faulted(context);
        }
        if overflowed && open.slow_consumer == SlowConsumer::Close {
            self.close_slow_consumer(context);
        }
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
    caught(|| method(handler, &mut Peer { session, outgoing, id, commands })).is_ok()
}
