//! The end of a loop: by and by, or at once.

use std::io;
use std::time::Duration;

use webscale_proto::CloseCode;

use super::EventLoop;
use super::mail::Connect;
use crate::clock::Time;
use crate::close::{Close, CloseCause};
use crate::connection::call_close;
use crate::handler::Handler;
use crate::kernel::{Kernel, Wake};
use crate::watchdog::left_behind;
use crate::worker::Job;

/// How soon a worker that should be stuck by now is looked at again.
const LOOK: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    Running,
    /// Every connection was told; what is still open at this time is dropped.
    Draining(Time),
    Ended,
}

impl Stage {
    pub(super) fn end_of_draining(self) -> Option<Time> {
        match self {
            Self::Draining(until) => Some(until),
            Self::Running | Self::Ended => None,
        }
    }
}

impl<H: Handler, K: Kernel> EventLoop<H, K> {
    /// Stops accepting, and tells every client.
    pub(super) fn shut_down(&mut self) {
        if self.stage != Stage::Running {
            return;
        }
        // What waits in the backlog was promised nothing yet, and is reset with the listener.
        self.listening = None;
        self.stage = Stage::Draining(self.now + self.shared.config.limits.shutdown_time);
        for token in self.connections.tokens() {
            self.turn(token, |connection, turn| {
                connection.on_close(turn, CloseCode::GOING_AWAY, "shutting down", CloseCause::Shutdown);
            });
        }
    }

    pub(super) fn is_over(&self) -> bool {
        match self.stage {
            Stage::Running => false,
            Stage::Draining(until) => {
                (self.connections.len() == 0 && self.orphans.is_empty()) || self.now >= until
            }
            Stage::Ended => true,
        }
    }

    /// Drops what is still open, and tells the handler. Sessions that are with workers are awaited.
    ///
    /// # Errors
    /// Workers that are stuck have some of them, and are left behind.
    pub(super) fn end(&mut self, events: &mut K::Events) -> io::Result<()> {
        // Its readiness would also keep the waits below from waiting.
        self.listening = None;
        self.commands.close();
        for Connect { session, .. } in self.connects.close() {
            let close = Close::new(CloseCode::ABNORMAL, "", CloseCause::Shutdown);
            call_close(&*self.shared.handler, &self.metrics, session, close);
        }
        for token in self.connections.tokens() {
            self.turn(token, |connection, turn| connection.abandon(turn, CloseCause::Shutdown));
        }
        let withdrawn = self.pool.as_ref().map(|pool| pool.withdraw(self.index)).unwrap_or_default();
        for Job { id, session, .. } in withdrawn {
            if let Some(close) = self.orphans.remove(&id.token) {
                call_close(&*self.shared.handler, &self.metrics, session, close);
            }
        }
        self.await_sessions(events)
    }

    fn await_sessions(&mut self, events: &mut K::Events) -> io::Result<()> {
        // The handlers that have them began before, so that all that still run then are stuck.
        let until = self.kernel.now() + self.shared.config.limits.stuck_after;
        loop {
            self.read_done();
            if self.orphans.is_empty() {
                return Ok(());
            }
            let stuck = self.pool.as_ref().map(|pool| pool.stuck(self.index)).unwrap_or_default();
            if stuck.len() >= self.orphans.len() {
                return Err(left_behind(&stuck));
            }
            self.pulse.rest();
            let left = (until - self.kernel.now()).max(LOOK);
            self.kernel.wait(events, Some(left))?;
            self.waker.clear();
            self.pulse.work(self.kernel.now());
        }
    }
}
