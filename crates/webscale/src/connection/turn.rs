//! A turn: one call from the loop, with what the loop lends for it.

use std::sync::Arc;

use super::{Config, Connection, Handler, Phase, Socket};
use crate::clock::Time;
use crate::close::{Close, CloseCause, CloseKind};
use crate::deflate::Decompression;
use crate::egress::Sealed;
use crate::journal::{self, Level};
use crate::mailbox::Mailbox;
use crate::metrics::Metrics;
use crate::panics::{Panicked, caught};
use crate::peer::{ConnectionId, Outgoing};
use crate::sender::Command;
use crate::tls::RECORD_BYTES;
use crate::worker::Pool;

/// What a thread's message buffer keeps between turns.
const SCRATCH_KEEP: usize = 64 * 1024;

/// Buffers on the wire's side of TLS, one of each a thread.
pub(crate) struct Wire {
    /// What one `recv` brings, behind what was kept of an incomplete record.
    pub(crate) receive: Vec<u8>,
    pub(crate) sealed: Sealed,
}

impl Wire {
    pub(crate) const RECEIVE_BYTES: usize = 64 * 1024;

    pub(crate) fn new() -> Self {
        Self { receive: vec![0; Self::RECEIVE_BYTES + RECORD_BYTES], sealed: Sealed::new() }
    }
}

/// Buffers on the protocol's side, one of each a thread.
#[derive(Default)]
pub(crate) struct Buffers {
    /// Messages that are whole in what was received are unmasked here.
    pub(super) scratch: Vec<u8>,
    pub(super) decompression: Decompression,
}

impl Buffers {
    /// Gives back what a long message has grown.
    pub(super) fn shrink(&mut self) {
        // Its length stays: what the next message overwrites need not be zeroed before.
        self.scratch.truncate(SCRATCH_KEEP);
        self.scratch.shrink_to(SCRATCH_KEEP);
        self.decompression.shrink();
    }
}

/// What becomes of the link when a channel has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It has not.
    Live,
    /// What is queued still goes out, then the connection ends in order. `answered`: the peer's Close frame is here, so that
    /// nothing that matters can come any more.
    Finish { answered: bool },
    /// Nothing more can be, or is worth being, delivered.
    Drop,
}

/// What the protocol's side may use during a turn; all of it is the loop's.
pub(crate) struct Context<'a, H: Handler> {
    pub(crate) now: Time,
    pub(crate) handler: &'a H,
    pub(crate) config: &'a Config,
    pub(crate) metrics: &'a Metrics,
    pub(crate) id: ConnectionId,
    pub(crate) commands: &'a Arc<Mailbox<Command>>,
    pub(crate) pool: Option<&'a Pool<H::Session>>,
    pub(crate) buffers: &'a mut Buffers,
    pub(crate) outgoing: &'a mut Outgoing,
    pub(crate) frames_left: u32,
    /// Bytes that may still be received for this connection in its turn.
    pub(crate) bytes_left: usize,
    /// Bytes of messages that went to workers.
    pub(crate) lent: usize,
    /// The decoder stood between two messages since this was last looked at.
    pub(crate) between_messages: bool,
    pub(crate) fate: Fate,
    /// Set when a session that is with a worker lost its connection: how it ended, for when it comes back.
    pub(crate) orphan: Option<Close>,
}

/// One call from the loop.
pub(crate) struct Turn<'a, H: Handler> {
    pub(crate) context: Context<'a, H>,
    pub(crate) wire: &'a mut Wire,
}

impl<K: Socket, S: Send + 'static> Connection<K, S> {
    /// Gives it its turn. A panic there ends this connection and no other; what was lent is not to be used again then.
    pub(crate) fn take_turn<H, F>(&mut self, turn: &mut Turn<'_, H>, act: F) -> Result<(), Panicked>
    where
        H: Handler<Session = S>,
        F: FnOnce(&mut Self, &mut Turn<'_, H>),
    {
        let result = caught(|| act(self, turn));
        if result.is_err() {
            self.break_off(&mut turn.context);
        }
        result
    }

    /// Nothing of it is trusted any more but where its session is: not even a Close frame could be sealed.
    #[cold]
    fn break_off<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>) {
        self.channel.lost(context, CloseCause::Fault);
        self.link.kill();
        // Also where the handler was told before how its session ended.
        self.channel.ended = Some(CloseKind::Fault);
        journal::write(
            Level::Error,
            format_args!("connection {}: a panic outside of the handler ended it", context.id),
        );
    }

    pub(super) fn begin<H: Handler<Session = S>>(&mut self, turn: &mut Turn<'_, H>) {
        let outgoing = &mut *turn.context.outgoing;
        outgoing.begin(self.channel.is_closing() || !self.channel.is_open());
        outgoing.backlog = self.link.backlog.take();
        outgoing.set_queued(self.link.queued());
        self.channel.reserve_waiting(outgoing);
        self.channel.lend(outgoing);
    }

    /// Ends a turn: settles what the channel decided, seals and sends what it wrote.
    pub(super) fn end<H: Handler<Session = S>>(&mut self, turn: &mut Turn<'_, H>) {
        let limits = &turn.context.config.limits;
        self.channel.settle_close(&mut turn.context);
        self.channel.restore(turn.context.outgoing);
        if self.channel.is_closing() && self.link.await_close() {
            self.phase_deadline = turn.context.now + limits.close_time;
        }
        self.settle(turn);
        let was_finishing = self.link.phase().is_finishing();
        let wrote = turn.context.outgoing.has_written();
        if let Err(error) = self.link.flush(turn) {
            turn.context.outgoing.frames.clear();
            self.lost(turn, error.kind());
            self.settle(turn);
        }
        if was_finishing && matches!(self.link.phase(), Phase::Lingering { .. }) {
            self.phase_deadline = turn.context.now + turn.context.config.limits.close_time;
        }
        self.watch_queue(turn, wrote);
        turn.context.metrics.count_sent(&turn.context.outgoing.sent);
    }

    pub(super) fn settle<H: Handler<Session = S>>(&mut self, turn: &mut Turn<'_, H>) {
        let context = &mut turn.context;
        match context.fate {
            Fate::Live => {}
            Fate::Finish { answered } => {
                self.link.finish(answered);
                self.phase_deadline = context.now + context.config.limits.close_time;
            }
            Fate::Drop => self.link.kill(),
        }
        context.fate = Fate::Live;
    }
}
