//! The clients of one event loop: each sends when it is due, and watches for its answers.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use webscale::{Close, Handler, Message, Peer};

use super::payload::Payload;
use super::plan::Probe;
use super::reconnect::{Losses, Lost};
use super::tally::{Part, Tally};
use super::template::Id;
use super::waiting::{Echo, Patience, Sent, Waiting};
use crate::schedule::Pace;

/// Messages that one client may send in one turn when it is behind its schedule.
const BURST_MAX: u32 = 16;
/// A connection that took so many messages was of use: it lasted for an interval.
const OF_USE: u64 = 2;
/// In a closed loop, how long a client waits at least after a message that could not be sent.
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// What all clients of a load share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Where clients without a connection go, if they are to connect again.
    pub(crate) lost: Option<Losses>,
    pub(crate) pace: Pace,
    pub(crate) payload: Payload,
    pub(crate) probe: Probe,
    pub(crate) one_probed_in: u32,
    /// Messages due from here on are measured.
    pub(crate) measured_from: Duration,
    /// No message is due from here on.
    pub(crate) until: Duration,
    /// How much may wait for answers.
    pub(crate) patience: Patience,
    /// How often a connected client looks whether the schedule has begun.
    pub(crate) start_poll: Duration,
    /// When the schedule begins, once that is known.
    pub(crate) start: OnceLock<Start>,
    /// Set when no further message is sent: what is never answered is timed if it has waited for so long.
    pub(crate) ended: OnceLock<Duration>,
    /// The load is over: connections that end from now on were not needed.
    pub(crate) closing: AtomicBool,
    /// Connections that are open.
    pub(crate) open: AtomicU32,
    /// The most that were open at the same time.
    pub(crate) peak_open: AtomicU32,
    /// Connections that were opened or failed.
    pub(crate) settled: AtomicU32,
}

/// When the schedule begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    pub(crate) at: Instant,
    /// The same as time since 1970.
    unix: Duration,
}

impl From<Instant> for Start {
    fn from(at: Instant) -> Start {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = Instant::now();
        let unix =
            (unix + at.saturating_duration_since(now)).saturating_sub(now.saturating_duration_since(at));
        Start { at, unix }
    }
}

impl Shared {
    fn is_measured(&self, due: Duration) -> bool {
        due >= self.measured_from
    }

    /// Time since the schedule began; zero before.
    fn now(&self) -> Duration {
        self.start.get().map_or(Duration::ZERO, |start| start.at.elapsed())
    }

    /// What tells a message from all others.
    fn id(&self, client: u32, sent: &Sent) -> Id {
        let unix = self.start.get().map_or(Duration::ZERO, |start| start.unix);
        Id { client, number: sent.number, time: unix + sent.at }
    }
}

/// How far a client's connection has come.
#[derive(Debug)]
enum Stage {
    /// On the heap, as what only a handshake needs would be held for each client that is open.
    Connecting(Box<Attempt>),
    Open,
}

#[derive(Debug)]
struct Attempt {
    begun: Instant,
    /// What this connection replaces; none if it is the client's first.
    again: Option<Lost>,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Session {
    index: u32,
    /// The next message's number.
    next: u64,
    /// Messages that this connection took.
    sent: u64,
    /// In a closed loop, when that is due; none while an answer is awaited.
    due: Option<Duration>,
    stage: Stage,
    probed: bool,
    /// Attempts before this one that came to nothing.
    failures: u8,
    waiting: Waiting,
}

impl Session {
    /// The client with number `index`, whose connection began at `begun`.
    pub(crate) fn new(index: u32, begun: Instant, shared: &Shared) -> Session {
        Session::attempting(Attempt { begun, again: None }, index, shared)
    }

    /// A client that connects again, now.
    pub(crate) fn again(lost: &Lost, shared: &Shared) -> Session {
        Session::attempting(Attempt { begun: Instant::now(), again: Some(*lost) }, lost.client, shared)
    }

    fn attempting(attempt: Attempt, index: u32, shared: &Shared) -> Session {
        let probed = shared.probe != Probe::Ping || is_probed(index, shared.one_probed_in);
        let due = Some(shared.pace.first_due(index));
        let failures = attempt.again.map_or(0, |lost| lost.failures);
        Session {
            index,
            next: 0,
            sent: 0,
            due,
            stage: Stage::Connecting(Box::new(attempt)),
            probed,
            failures,
            waiting: Waiting::default(),
        }
    }

    /// What is to be known when it connects again.
    fn lost(&self) -> Lost {
        // A connection that was of no use counts as one that failed: a server that lets everybody in and turns them out again
        // is not to be stormed.
        let (failures, was_open) = match &self.stage {
            Stage::Open if self.sent >= OF_USE => (0, true),
            Stage::Open => (self.failures.saturating_add(1), true),
            Stage::Connecting(attempt) => {
                attempt.again.map_or((0, false), |lost| (lost.failures.saturating_add(1), lost.was_open))
            }
        };
        Lost { client: self.index, failures, was_open }
    }

    /// It is connected at `now`: what was due before is missed.
    fn join(&mut self, pace: &Pace, now: Duration) {
        match pace {
            Pace::Open(schedule) => self.next = schedule.first_from(self.index, now),
            Pace::Closed(_) => self.due = self.due.map(|due| due.max(now)),
        }
    }

    /// When the next message is due, if that is known.
    fn next_due(&self, pace: &Pace) -> Option<Duration> {
        match pace {
            Pace::Open(schedule) => Some(schedule.due(self.index, self.next)),
            Pace::Closed(_) => self.due,
        }
    }
}

// It is held for each client of a load, beside the connection.
const _: () = assert!(size_of::<Session>() <= 56);

/// One client of each `one_in` that follow one another, another one each time: every so-many-th client stands on the
/// same event loop, process or source address, and perhaps on the same process of the server.
fn is_probed(index: u32, one_in: u32) -> bool {
    let (block, place) = (index / one_in, index % one_in);
    let spread = u64::from(block).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    u64::from(place) == spread % u64::from(one_in)
}

/// The handler of one event loop.
#[derive(Debug, Clone)]
pub(crate) struct Clients {
    pub(crate) shared: Arc<Shared>,
    tally: Arc<Mutex<Tally>>,
}

impl Clients {
    pub(crate) fn new(shared: Arc<Shared>) -> Clients {
        Clients { shared, tally: Arc::default() }
    }

    /// What the loop counted since it was last collected.
    pub(crate) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the loop go on counting in `empty`, which then holds what was counted.
    pub(crate) fn exchange_tally(&self, empty: &mut Tally) {
        std::mem::swap(&mut *self.tally(), empty);
    }

    /// Sends everything that is due, and sets the timer for what is not.
    fn turn(&self, peer: &mut Peer<'_, Session>) {
        let shared = &*self.shared;
        let Some(start) = shared.start.get() else {
            peer.set_timer(Instant::now() + shared.start_poll);
            return;
        };
        for _ in 0..BURST_MAX {
            let session = peer.session();
            let Some(due) = session.next_due(&shared.pace) else { return };
            if due >= shared.until || shared.ended.get().is_some() {
                return;
            }
            // Not `shared.now()`, which is zero until the start: the first message would leave before its time.
            let Some(at) = Instant::now().checked_duration_since(start.at).filter(|at| *at >= due) else {
                peer.set_timer(start.at + due);
                return;
            };
            let sent = Sent { number: session.next, due, at };
            session.next += 1;
            session.due = None;
            let is_awaited = self.send(peer, sent);
            if let Pace::Closed(closed) = &shared.pace
                && !is_awaited
            {
                peer.session().due = Some(at + closed.think.max(RETRY_AFTER));
            }
        }
        peer.set_timer(Instant::now());
    }

    /// Sends one message; says whether an answer to it is awaited.
    fn send(&self, peer: &mut Peer<'_, Session>, sent: Sent) -> bool {
        let shared = &*self.shared;
        let id = shared.id(peer.session().index, &sent);
        let mut tally = self.tally();
        let mut scratch = std::mem::take(&mut tally.scratch);
        let (bytes, outcome) = match shared.probe {
            Probe::Idle => (0, peer.ping(&sent.number.to_be_bytes())),
            probe => {
                let message = shared.payload.message(id, probe == Probe::Echo, &mut scratch);
                (message.len(), peer.send(message))
            }
        };
        tally.scratch = scratch;
        let part = tally.part(shared.is_measured(sent.due));
        if outcome.is_err() {
            part.counts.refused += 1;
            return false;
        }
        part.sent(&sent, bytes);
        peer.session().sent += 1;
        let is_awaited = peer.session().probed
            && match shared.probe {
                Probe::Ping => peer.ping(&sent.number.to_be_bytes()).is_ok(),
                Probe::Echo | Probe::Idle => true,
                Probe::Ack { every } => peer.session().sent.is_multiple_of(every.get().into()),
                Probe::Sink => false,
            };
        if is_awaited {
            part.counts.awaited += 1;
            if let Some(given_up) = peer.session().waiting.push(sent, shared.patience) {
                tally.part(shared.is_measured(given_up.due)).unanswered(&given_up, sent.at, Duration::ZERO);
            }
        }
        is_awaited
    }

    /// A message came that may be the echo of one of ours. Returns whether it stands for one.
    fn echo(&self, session: &mut Session, bytes: &[u8], now: Duration) -> bool {
        // Who has not sent anything is greeted: that is no echo.
        if session.sent == 0 {
            return false;
        }
        let shared = &*self.shared;
        let mut tally = self.tally();
        let mut scratch = std::mem::take(&mut tally.scratch);
        let client = session.index;
        let is_echo = |sent: &Sent| shared.payload.is_echo(shared.id(client, sent), bytes, &mut scratch);
        let (answered, reordered, corrupt) = match session.waiting.echo(is_echo) {
            Echo::InOrder(sent) => (Some(sent), 0, 0),
            Echo::Late(sent) => (Some(sent), 1, 0),
            Echo::Mistaken => (None, 0, 0),
            // It stands for the oldest one; else that would seem lost.
            Echo::Unknown => (session.waiting.mistake(), 0, 1),
        };
        tally.scratch = scratch;
        let part = tally.part(answered.is_none_or(|sent| shared.is_measured(sent.due)));
        part.counts.reordered += reordered;
        part.counts.corrupt += corrupt;
        answer(part, answered, now)
    }

    /// In a closed loop the next message follows its answer.
    fn proceed(&self, peer: &mut Peer<'_, Session>, answered_at: Duration) {
        if let Pace::Closed(closed) = &self.shared.pace {
            peer.session().due = Some(answered_at + closed.think);
            self.turn(peer);
        }
    }
}

/// Counts the answer to `sent`, and says whether there was one.
fn answer(part: &mut Part, sent: Option<Sent>, now: Duration) -> bool {
    sent.inspect(|sent| part.answered(sent, now)).is_some()
}

impl Handler for Clients {
    type Session = Session;

    fn opened(&self, peer: &mut Peer<'_, Session>) {
        let session = peer.session();
        let Stage::Connecting(attempt) = std::mem::replace(&mut session.stage, Stage::Open) else { return };
        session.join(&self.shared.pace, self.shared.now());
        let (took, again) = (attempt.begun.elapsed(), attempt.again);
        let mut tally = self.tally();
        match again {
            Some(Lost { was_open: true, .. }) => tally.reconnected += 1,
            _ => tally.opened += 1,
        }
        tally.handshakes.record(took);
        drop(tally);
        let open = self.shared.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.shared.peak_open.fetch_max(open, Ordering::Relaxed);
        if again.is_none() {
            self.shared.settled.fetch_add(1, Ordering::Release);
        }
        self.turn(peer);
    }

    fn timer(&self, peer: &mut Peer<'_, Session>) {
        self.turn(peer);
    }

    fn message(&self, peer: &mut Peer<'_, Session>, message: Message<'_>) {
        let now = self.shared.now();
        let session = peer.session();
        let was_answered = match self.shared.probe {
            Probe::Echo => self.echo(session, message.as_bytes(), now),
            Probe::Ack { .. } => {
                let sent = session.waiting.oldest();
                let measured = sent.is_none_or(|sent| self.shared.is_measured(sent.due));
                answer(self.tally().part(measured), sent, now)
            }
            Probe::Ping | Probe::Sink | Probe::Idle => false,
        };
        if was_answered {
            self.proceed(peer, now);
        }
    }

    fn pong(&self, peer: &mut Peer<'_, Session>, payload: &[u8]) {
        // A pong with other bytes is no answer to us: anybody may send one unasked (RFC 6455 §5.5.3).
        let Ok(number) = payload.try_into().map(u64::from_be_bytes) else { return };
        let now = self.shared.now();
        let mut tally = self.tally();
        let mut was_answered = false;
        for sent in peer.session().waiting.pong(number) {
            tally.part(self.shared.is_measured(sent.due)).answered(&sent, now);
            was_answered = true;
        }
        drop(tally);
        if was_answered {
            self.proceed(peer, now);
        }
    }

    fn close(&self, mut session: Session, close: Close) {
        let now = self.shared.now();
        let closing = self.shared.closing.load(Ordering::Relaxed);
        let usual = self.shared.ended.get().copied().unwrap_or_default();
        let mut tally = self.tally();
        for sent in session.waiting.take() {
            tally.part(self.shared.is_measured(sent.due)).unanswered(&sent, now, usual);
        }
        match (&session.stage, closing) {
            (Stage::Open, false) => tally.disconnected(&close),
            (Stage::Connecting(_), false) => tally.failed(&close.cause),
            (_, true) => {}
        }
        drop(tally);
        match &session.stage {
            Stage::Open => {
                self.shared.open.fetch_sub(1, Ordering::Relaxed);
            }
            Stage::Connecting(attempt) if attempt.again.is_none() => {
                self.shared.settled.fetch_add(1, Ordering::Release);
            }
            Stage::Connecting(_) => {}
        }
        if let Some(losses) = self.shared.lost.as_ref().filter(|_| !closing) {
            // Nobody takes it when the load is over.
            let _ = losses.send(session.lost());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_probed;

    #[test]
    fn every_loop_and_process_has_probed_clients() {
        for (one_in, of) in [(10, 2), (10, 5), (10, 10), (3, 6), (1, 4)] {
            let clients = 1000 * one_in;
            let probed: Vec<u32> = (0..clients).filter(|index| is_probed(*index, one_in)).collect();
            assert_eq!(probed.len(), 1000);
            for first in 0..of {
                let share = probed.iter().filter(|index| *index % of == first).count();
                let fair = 1000 / of as usize;
                assert!(
                    (fair / 2..=2 * fair).contains(&share),
                    "one in {one_in}: {share} at {first} of {of}"
                );
            }
        }
    }
}
