//! Clients that send more than their share of a turn: what they send is read when the others have had their turn, and of
//! all of them together only so much that the others' next turn is soon.

use super::{BATCH_BYTES, EventLoop, Ready, Token, share};
use crate::connection::Pace;
use crate::handler::Handler;
use crate::kernel::Kernel;

impl<H: Handler, K: Kernel> EventLoop<H, K> {
    /// Leaves for later what is to be read from a client that was found greedy; says what is to be done at once.
    pub(super) fn defer_reading(&mut self, token: Token, ready: Ready) -> Ready {
        let Some(connection) = self.connections.get_mut(token) else { return ready };
        let pace = &mut connection.registered.pace;
        // To end one that hung up costs nothing.
        if ready.hung_up || *pace == Pace::Modest {
            return ready;
        }
        if ready.readable && *pace == Pace::Greedy {
            *pace = Pace::Waits;
            self.greedy.push_back(token);
        }
        Ready { readable: false, ..ready }
    }

    /// Reads from those that wait, the first one first, each its share of a turn.
    pub(super) fn read_greedy(&mut self) {
        self.share_bytes = share(self.shared.config.limits.turn_bytes, self.greedy.len());
        for _ in 0..self.greedy.len().min(BATCH_BYTES / self.share_bytes) {
            let Some(token) = self.greedy.pop_front() else { break };
            let Some(connection) = self.connections.get_mut(token) else { continue };
            connection.registered.pace = Pace::Modest;
            // Its end may have been said meanwhile, or its queue have filled.
            if connection.interest().read {
                let ready = Ready { readable: true, writable: false, hung_up: false };
                self.turn(token, |connection, turn| connection.on_event(turn, ready));
            }
        }
    }
}
