//! Times that a connection keeps: derived from its state, and not stored.

use std::time::Duration;

use webscale_proto::CloseCode;

use super::{Connection, Context, Handler, Phase, Socket, Turn};
use crate::clock::Time;
use crate::close::{CloseCause, Timeout};
use crate::limits::Limits;
use crate::peer::ConnectionId;

/// What is known of an open connection's peer, and since when.
#[derive(Clone, Copy, Debug)]
pub(super) enum Liveness {
    /// It gave a sign of life.
    Heard(Time),
    /// It was asked for one by a ping.
    Pinged(Time),
    /// The same, and bytes have come; but none was taken of those that wait for it.
    Deaf(Time),
}

impl Liveness {
    fn since(self) -> Time {
        let (Self::Heard(at) | Self::Pinged(at) | Self::Deaf(at)) = self;
        at
    }

    /// When its silence has lasted too long.
    fn due(self, limits: &Limits, id: ConnectionId) -> Time {
        match self {
            Self::Heard(at) => at + limits.ping_after + jitter(limits.ping_after, id),
            Self::Pinged(at) | Self::Deaf(at) => at + limits.pong_time,
        }
    }
}

impl<K: Socket, S: Send + 'static> Connection<K, S> {
    /// When [`Connection::on_deadline`] has something to do, unless something else happens before.
    pub(crate) fn deadline(&self, limits: &Limits, id: ConnectionId) -> Time {
        match self.link.phase() {
            Phase::Live if self.channel.is_open() => {
                let silence = self.liveness.due(limits, id);
                self.message_since.map_or(silence, |since| silence.min(since + limits.message_time))
            }
            // A long answer may take its time, while the peer goes on taking bytes.
            Phase::Finishing { .. } => {
                let taken = self.phase_deadline.max(self.liveness.since() + limits.close_time);
                taken.min(self.phase_deadline + limits.message_time)
            }
            _ => self.phase_deadline,
        }
    }

    /// The time of [`Connection::deadline`] may have come.
    pub(crate) fn on_deadline<H: Handler<Session = S>>(&mut self, turn: &mut Turn<'_, H>) {
        let context = &turn.context;
        if context.now < self.deadline(&context.config.limits, context.id) {
            return;
        }
        self.begin(turn);
        match self.link.phase() {
            Phase::Live if !self.channel.is_open() => {
                let may_answer = !self.link.is_handshaking();
                self.channel.handshake_timed_out(&mut turn.context, may_answer);
            }
            Phase::Live => self.silence_or_slow_message(turn),
            Phase::Closing => self.channel.close_timed_out(&mut turn.context),
            Phase::Connecting => self.connect_next(turn, CloseCause::Timeout(Timeout::Handshake)),
            Phase::Proxied => self.proxy_timed_out(turn),
            Phase::Finishing { .. } | Phase::Lingering { .. } | Phase::Dead => self.link.kill(),
        }
        self.end(turn);
    }

    fn silence_or_slow_message<H: Handler<Session = S>>(&mut self, turn: &mut Turn<'_, H>) {
        let context = &mut turn.context;
        let limits = &context.config.limits;
        if self.channel.is_blocked() && !self.link.is_congested() {
            // It is we who do not read: the workers have too much to do.
            self.message_since = self.message_since.map(|_| context.now);
            self.liveness = Liveness::Heard(context.now);
            return;
        }
        if self.message_since.is_some_and(|since| context.now >= since + limits.message_time) {
            return self.end_message_under_way(context);
        }
        match self.liveness {
            Liveness::Heard(_) => {
                self.liveness = Liveness::Pinged(context.now);
                // Where the queue is full no ping is needed to see whether the peer lives.
                let _ = context.outgoing.ping(b"");
                context.outgoing.overflowed = false;
            }
            Liveness::Pinged(_) => self.channel.drop_silent(context),
            Liveness::Deaf(_) => self.channel.close_slow_consumer(context),
        }
    }

    /// A message is not whole in its time: by the client's fault, but which one it is depends on who stopped.
    fn end_message_under_way<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>) {
        if self.link.is_congested() {
            // It was not read any more, as its client takes nothing.
            self.channel.close_slow_consumer(context);
        } else {
            let reason = "the message took too long";
            self.channel.fail(context, CloseCode::POLICY, reason, CloseCause::Timeout(Timeout::Message));
        }
    }
}

/// Up to an eighth of `time`, by connection: those that were accepted together do not fall due together.
fn jitter(time: Duration, id: ConnectionId) -> Duration {
    let spread = id.token.to_u64().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
    time / (8 * 256) * u32::try_from(spread).unwrap_or(0)
}
