//! How a connection ends: by a closing handshake (RFC 6455 §7), by a fault, or without a word.

use std::mem;

use webscale_proto::{CloseCode, CloseFrame, ProtocolError};

use super::channel::{Channel, Stage};
use super::open::Open;
use super::{Context, Fate, Handler};
use crate::close::{Close, CloseCause, Timeout};
use crate::metrics::Metrics;
use crate::panics::caught;

/// How far an open connection is on its way to a close of ours (RFC 6455 §7.1.2). The peer's ends it at once.
#[derive(Default)]
pub(super) enum Closing {
    #[default]
    No,
    /// This close waits ([`Open::holds_back`]).
    Held(Box<Close>),
    /// Our Close frame is out, for this reason, and the peer's is awaited.
    Sent(Box<Close>),
}

impl Closing {
    /// Behind a Close frame nothing may be sent (RFC 6455 §5.5.1).
    pub(super) fn may_send_data(&self) -> bool {
        !matches!(self, Closing::Sent(_))
    }
}

/// The reason beside 1011.
pub(super) const FAILED: &str = "the server failed to handle a message";

impl<S: Send + 'static> Channel<S> {
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
            Stage::Open(open) => match open.closing {
                Closing::Sent(_) => {}
                Closing::No if open.holds_back(&close) => open.closing = Closing::Held(Box::new(close)),
                // The first that waits stays.
                Closing::Held(_) if open.holds_back(&close) => {}
                Closing::No | Closing::Held(_) => {
                    context.outgoing.close_frame(code.may_be_sent().then_some(code), reason);
                    open.begin_closing(close);
                }
            },
            Stage::Over => {}
            Stage::Opening(_) => self.over(context, close, Fate::Drop),
        }
    }

    /// A close that waited comes when what it waited for is done.
    pub(super) fn settle_close<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>) {
        if let Stage::Open(open) = &mut self.stage
            && let Some(close) = open.take_due_close()
        {
            self.close(context, close.code, &close.reason, close.cause);
        }
    }

    /// A shutdown's close waits: nothing further is accepted.
    pub(crate) fn is_leaving(&self) -> bool {
        matches!(&self.stage, Stage::Open(Open { closing: Closing::Held(close), .. }) if close.is_shutdown())
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
        let close = match self.take_sent() {
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
        let close = match self.take_sent() {
            Some(ours) => ours,
            None => {
                context.outgoing.close_frame(end.code.may_be_sent().then_some(end.code), "");
                Close::new(end.code, end.reason, CloseCause::Peer)
            }
        };
        self.over(context, close, Fate::Finish { answered: true });
    }

    /// The bytes below have ended.
    pub(crate) fn lost<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>, cause: CloseCause) {
        let close = match self.take_sent() {
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

    /// A fault of ours or of what we stand on was caught where it does no further harm: the peer is told.
    pub(super) fn faulted<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>) {
        self.fail(context, CloseCode::INTERNAL_ERROR, FAILED, CloseCause::Fault);
    }

    /// The peer sends, and does not read.
    pub(crate) fn close_slow_consumer<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>) {
        let reason = "messages are not read as fast as they are sent";
        self.fail(context, CloseCode::POLICY, reason, CloseCause::SlowConsumer);
    }

    /// Why our Close frame went out, if it did. What follows ends the connection.
    fn take_sent(&mut self) -> Option<Close> {
        match &mut self.stage {
            Stage::Open(Open { closing, .. }) => match mem::take(closing) {
                Closing::Sent(close) => Some(*close),
                Closing::No | Closing::Held(_) => None,
            },
            Stage::Opening(_) | Stage::Over => None,
        }
    }

    /// Ends, whatever the stage.
    pub(super) fn over<H: Handler<Session = S>>(
        &mut self,
        context: &mut Context<'_, H>,
        close: Close,
        fate: Fate,
    ) {
        let stage = mem::replace(&mut self.stage, Stage::Over);
        if matches!(stage, Stage::Over) {
            return;
        }
        (self.ended, context.fate) = (Some(close.cause.kind()), fate);
        let session = match stage {
            Stage::Open(Open { session: None, .. }) => return context.orphan = Some(close),
            Stage::Open(open) => open.session,
            Stage::Opening(opening) => opening.into_session(),
            Stage::Over => None,
        };
        if let Some(session) = session {
            call_close(context.handler, context.metrics, session, close);
        }
    }
}

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
    if caught(|| handler.close(session, close)).is_err() {
        metrics.panics.add(1);
    }
}
