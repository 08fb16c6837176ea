//! A peer that takes again what was queued for it.

use super::{Connection, Handler, Liveness, Phase, Socket, Turn};

impl<K: Socket, S: Send + 'static> Connection<K, S> {
    /// The socket takes bytes again.
    pub(super) fn drain<H: Handler<Session = S>>(&mut self, turn: &mut Turn<'_, H>) {
        match self.link.drain(turn) {
            // The socket takes bytes because the peer has acknowledged others.
            Ok(true) => self.liveness = Liveness::Heard(turn.context.now),
            Ok(false) => {}
            Err(error) => return self.lost(turn, error.kind()),
        }
        turn.context.outgoing.set_queued(self.link.queued());
        self.channel.reserve_waiting(turn.context.outgoing);
        if self.link.queued() == 0 {
            self.channel.answer_ping(turn.context.outgoing);
        }
        self.tell_drained(turn);
    }

    /// Takes note that the handler may have stopped sending. `wrote`: it sent something in this turn. Where it was refused
    /// with nothing on the way, nothing will be gone either.
    pub(super) fn watch_queue<H: Handler>(&mut self, turn: &Turn<'_, H>, wrote: bool) {
        let is_refused = turn.context.outgoing.refused && (wrote || self.link.queued() > 0);
        self.channel.owes_drained |= self.link.is_congested() || is_refused;
    }

    /// The handler is to be told that the queue is empty, and can be.
    pub(super) fn is_drained(&self) -> bool {
        self.channel.owes_drained
            && self.link.queued() == 0
            && self.link.phase() == Phase::Live
            && self.channel.is_free()
    }

    pub(super) fn tell_drained<H: Handler<Session = S>>(&mut self, turn: &mut Turn<'_, H>) {
        if self.is_drained() {
            self.channel.owes_drained = false;
            self.channel.drained(&mut turn.context);
        }
    }
}
