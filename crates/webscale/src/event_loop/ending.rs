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
use crate::slots::Token;
use crate::watchdog::left_behind;
use crate::worker::Job;

/// How soon a worker that should be stuck by now is looked at again.
const LOOK: Duration = Duration::from_millis(1);

pub(super) enum Stage {
    Running,
    /// Clients are told, one after the other; what is still open at this time is dropped.
    Draining(Time, Farewells),
    Ended,
}

impl Stage {
    pub(super) fn is_running(&self) -> bool {
        matches!(self, Self::Running)
    }

    pub(super) fn is_draining(&self) -> bool {
        matches!(self, Self::Draining(..))
    }

    /// When there is something to do for it.
    pub(super) fn next_due(&self) -> Option<Time> {
        match self {
            Self::Draining(until, farewells) => {
                Some(farewells.next_due().map_or(*until, |next| next.min(*until)))
            }
            Self::Running | Self::Ended => None,
        }
    }
}

/// The clients that are still to be told, spread over a time so that they do not all come back at once, to another server.
pub(super) struct Farewells {
    /// The last one is the next.
    untold: Vec<Token>,
    told: u32,
    begun: Time,
    interval: Duration,
}

impl Farewells {
    /// Neighbours in the loop's table came together, from one place perhaps: they are not told together.
    fn new(mut untold: Vec<Token>, begun: Time, spread: Duration) -> Self {
        untold.sort_by_cached_key(|token| token.to_u64().wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let interval = spread / u32::try_from(untold.len()).unwrap_or(u32::MAX).max(1);
        Self { untold, told: 0, begun, interval }
    }

    fn next_due(&self) -> Option<Time> {
        self.untold.last().map(|_| self.begun + self.interval.saturating_mul(self.told))
    }

    /// Who is to be told by now.
    fn next(&mut self, now: Time) -> Option<Token> {
        self.next_due().filter(|due| *due <= now)?;
        self.told = self.told.saturating_add(1);
        self.untold.pop()
    }
}

impl<H: Handler, K: Kernel> EventLoop<H, K> {
    /// Stops accepting, and begins to tell the clients. Who is not open yet cannot be told.
    pub(super) fn shut_down(&mut self) {
        if !self.stage.is_running() {
            return;
        }
        // What waits in the backlog was promised nothing yet, and is reset with the listener.
        self.listening = None;
        let (mut opening, mut open) = (Vec::new(), Vec::new());
        for token in self.connections.tokens() {
            let is_open =
                self.connections.get_mut(token).is_some_and(|connection| connection.channel.is_open());
            if is_open { open.push(token) } else { opening.push(token) }
        }
        let limits = &self.shared.config.limits;
        let farewells = Farewells::new(open, self.now, limits.shutdown_spread);
        self.stage = Stage::Draining(self.now + limits.shutdown_time, farewells);
        opening.into_iter().for_each(|token| self.tell(token));
        self.say_farewell();
    }

    /// Tells the clients whose time has come.
    pub(super) fn say_farewell(&mut self) {
        while let Stage::Draining(_, farewells) = &mut self.stage
            && let Some(token) = farewells.next(self.now)
        {
            self.tell(token);
        }
    }

    fn tell(&mut self, token: Token) {
        self.turn(token, |connection, turn| {
            connection.on_close(turn, CloseCode::GOING_AWAY, "shutting down", CloseCause::Shutdown);
        });
    }

    pub(super) fn is_over(&self) -> bool {
        match &self.stage {
            Stage::Running => false,
            Stage::Draining(until, _) => {
                (self.connections.len() == 0 && self.orphans.is_empty()) || self.now >= *until
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn farewells_are_spread_evenly_and_come_in_an_order_of_their_own() {
        let start = Time::default() + Duration::from_secs(100);
        let tokens: Vec<_> = (0..10).map(Token::from_u64).collect();
        let mut farewells = Farewells::new(tokens.clone(), start, Duration::from_secs(5));
        let mut told = Vec::new();
        for tenth in 0..60 {
            let now = start + Duration::from_millis(100) * tenth;
            told.extend(std::iter::from_fn(|| farewells.next(now)));
            assert_eq!(told.len(), (tenth as usize / 5 + 1).min(10));
            let next = (told.len() < 10).then(|| start + Duration::from_millis(500) * (tenth / 5 + 1));
            assert_eq!(farewells.next_due(), next);
        }
        assert_ne!(told, tokens);
        told.sort_by_key(|token| token.to_u64());
        assert_eq!(told, tokens);
    }

    #[test]
    fn without_a_spread_all_are_told_at_once() {
        let now = Time::default();
        let mut farewells = Farewells::new((0..9).map(Token::from_u64).collect(), now, Duration::ZERO);
        assert_eq!(std::iter::from_fn(|| farewells.next(now)).count(), 9);
        assert!(Farewells::new(Vec::new(), now, Duration::MAX).next_due().is_none());
    }
}
