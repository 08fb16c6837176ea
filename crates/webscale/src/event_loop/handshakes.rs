//! Handshakes that wait for their turn: a step of one costs as much as many messages.

use super::{EventLoop, Ready, Token};
use crate::handler::Handler;
use crate::kernel::Kernel;

impl<H: Handler, K: Kernel> EventLoop<H, K> {
    /// Has a handshake wait, unwatched. Epoll would report it again with every wait, and thousands of them before a client
    /// that is being served.
    pub(super) fn put_off(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(token) else { return };
        if !std::mem::replace(&mut connection.registered.is_put_off, true) {
            self.put_off.push_back(token);
            self.file(token);
        }
    }

    /// Goes on with those that wait, the first one first, as far as the `budget` goes.
    pub(super) fn resume_handshakes(&mut self, mut budget: u32) {
        while budget > 0
            && let Some(token) = self.put_off.pop_front()
        {
            let Some(connection) = self.connections.get_mut(token) else { continue };
            connection.registered.is_put_off = false;
            budget -= 1;
            // Whichever it was: one that could write and only read would be put off for ever, in turn with another.
            let ready = Ready { readable: true, writable: true, hung_up: false };
            self.turn(token, |connection, turn| connection.on_event(turn, ready));
        }
    }
}
