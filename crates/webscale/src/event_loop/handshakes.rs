//! Handshakes that wait for their turn: a step of one costs as much as many messages.

use std::time::Duration;

use super::{EventLoop, Ready, Token};
use crate::handler::Handler;
use crate::kernel::Kernel;

/// No step is begun behind so much time of those that waited: with a long RSA key one takes milliseconds.
const STEPS_TIME: Duration = Duration::from_millis(1);

impl<H: Handler, K: Kernel> EventLoop<H, K> {
    /// Something came in a handshake, of which a turn has room for `left` more.
    pub(super) fn on_handshake(&mut self, token: Token, ready: Ready, left: &mut u32) {
        // To end one that hung up costs nothing.
        if !ready.hung_up {
            let Some(fewer) = left.checked_sub(1) else { return self.put_off(token) };
            *left = fewer;
        }
        self.on_event(token, ready);
    }

    /// Has a handshake wait, unwatched. Epoll would report it again with every wait, and thousands of them before a client
    /// that is being served.
    fn put_off(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(token) else { return };
        if !std::mem::replace(&mut connection.registered.is_put_off, true) {
            self.put_off.push_back(token);
            self.file(token);
        }
    }

    /// Goes on with those that wait, the first one first, as far as the `budget` goes.
    pub(super) fn resume_handshakes(&mut self, mut budget: u32) {
        let until = self.kernel.now() + STEPS_TIME;
        while budget > 0
            && self.kernel.now() < until
            && let Some(token) = self.put_off.pop_front()
        {
            let Some(connection) = self.connections.get_mut(token) else { continue };
            // What was ready may be another socket by now, of the next address.
            if !std::mem::take(&mut connection.registered.is_put_off) {
                continue;
            }
            budget -= 1;
            // Whichever it was: one that could write and only read would be put off for ever, in turn with another.
            let ready = Ready { readable: true, writable: true, hung_up: false };
            self.turn(token, |connection, turn| connection.on_event(turn, ready));
        }
    }
}
