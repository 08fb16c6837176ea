//! What a loop does when too much is held for the clients of all.

use std::time::Duration;

use super::EventLoop;
use crate::handler::Handler;
use crate::kernel::Kernel;
use crate::slots::Token;

/// How often a loop looks whether it can do something about it, whatever its own clients do.
const LOOK: Duration = Duration::from_millis(100);

impl<H: Handler, K: Kernel> EventLoop<H, K> {
    /// Does this loop's part as long as too much is held: the others may have nobody to close.
    pub(super) fn watch_memory(&mut self) {
        if !self.account.look() {
            self.look_at = None;
        } else if self.look_at.is_none_or(|at| at <= self.now) {
            self.look_at = Some(self.now + LOOK);
            self.account.call_in();
            self.relieve();
        }
        self.held_ebb.watch(self.account.own());
    }

    /// Messages went to workers (`bytes` is more than before) or came back.
    pub(super) fn settle_lent(&mut self, bytes: usize) {
        self.account.settle(&mut self.lent, bytes);
    }

    /// Too much is held: leaves connections in the backlog.
    pub(super) fn pause_for_memory(&mut self) {
        if let Some(listening) = &mut self.listening {
            self.metrics.memory_pauses.add(1);
            self.pulse.pause_accepting(self.now);
            listening.pause(&self.kernel, self.now);
        }
        self.account.call_in();
        self.relieve();
    }

    /// Closes connections that hold more than their share, the greatest first, until it is enough.
    pub(super) fn relieve(&mut self) {
        if !self.account.is_due() {
            return;
        }
        self.held_ebb.rise(self.account.own());
        // Before the turns below, which end here too.
        self.account.put_off();
        let share = self.account.share(self.shared.admission.connections());
        let held = self.connections.iter().map(|(token, connection)| (connection.registered.held, token));
        let mut greedy: Vec<(usize, Token)> = held.filter(|&(held, _)| held > share).collect();
        greedy.sort_unstable_by_key(|&(held, _)| std::cmp::Reverse(held));
        for (_, token) in greedy {
            if !self.account.look() {
                break;
            }
            self.turn(token, |connection, turn| connection.shed(turn));
        }
        self.account.put_off();
    }
}
