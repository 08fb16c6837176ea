//! What a loop keeps about one of its connections.

use webscale_sys::Interest;

use crate::admission::Place;
use crate::clock::Time;
use crate::slots::Token;
use crate::timer::{TimerId, TimerKind, Wheel};

/// A connection's entries in the loop's tables.
#[derive(Default)]
pub(crate) struct Registered {
    /// `None`: epoll does not know the socket yet.
    pub(crate) interest: Option<Interest>,
    pub(crate) deadline: Option<(TimerId, Time)>,
    pub(crate) user_timer: Option<TimerId>,
    /// Bytes that it holds, by the loop's books.
    pub(crate) held: usize,
    /// What it takes of the limits of connections.
    pub(crate) place: Option<Place>,
    /// In the loop's list of handshakes that wait for their turn, and not watched.
    pub(crate) is_put_off: bool,
    pub(crate) pace: Pace,
    /// In the loop's list of connections that have more to do without an event.
    pub(crate) in_ready_list: bool,
    /// In the loop's list of connections that wait for room in the workers' queue.
    pub(crate) in_stalled_list: bool,
}

impl Registered {
    /// Has the connection with this token looked at when its deadline is `due`. One that moved away is left as it is, and
    /// found to lie ahead when it fires.
    pub(crate) fn await_deadline(&mut self, timers: &mut Wheel, token: Token, due: Time) {
        if self.deadline.is_none_or(|(_, armed)| due < armed) {
            if let Some((timer, _)) = self.deadline.take() {
                timers.cancel(timer);
            }
            self.deadline = Some((timers.arm(due, token.to_u64(), TimerKind::Deadline), due));
        }
    }

    /// Sets the user's timer in place of the one before; `None` takes that back.
    pub(crate) fn set_user_timer(&mut self, timers: &mut Wheel, token: Token, due: Option<Time>) {
        if let Some(timer) = self.user_timer.take() {
            timers.cancel(timer);
        }
        self.user_timer = due.map(|due| timers.arm(due, token.to_u64(), TimerKind::User));
    }

    /// Takes all its timers back.
    pub(crate) fn disarm(&mut self, timers: &mut Wheel) {
        let deadline = self.deadline.take().map(|(timer, _)| timer);
        for timer in [deadline, self.user_timer.take()].into_iter().flatten() {
            timers.cancel(timer);
        }
    }
}

/// How much a client has sent, of late, for its share of a turn.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) enum Pace {
    #[default]
    Modest,
    /// It used its share up: what else it sends is read behind the others.
    Greedy,
    /// It is in the loop's list of those.
    Waits,
}

impl Pace {
    /// It used its share up.
    pub(crate) fn overtake(&mut self) {
        if *self == Pace::Modest {
            *self = Pace::Greedy;
        }
    }
}
