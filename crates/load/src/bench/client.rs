//! The clients of one event loop: each sends when it is due, and watches for its answers.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use webscale::{Close, Handler, Message, Peer};

use super::payload::{Kind, Payload};
use super::plan::Probe;
use super::tally::Tally;
use super::waiting::{Echo, Sent, Waiting};
use crate::schedule::Schedule;

/// Messages that one client may send in one turn when it is behind its schedule.
const BURST_MAX: u32 = 16;

/// What all clients of a load share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) schedule: Schedule,
    pub(crate) payload: Payload,
    pub(crate) probe: Probe,
    pub(crate) one_probed_in: u32,
    /// Messages due from here on are measured.
    pub(crate) measured_from: Duration,
    /// No message is due from here on.
    pub(crate) until: Duration,
    /// How often a connected client looks whether the schedule has begun.
    pub(crate) start_poll: Duration,
    /// When the schedule begins, once that is known.
    pub(crate) start: OnceLock<Instant>,
    /// No further message is sent.
    pub(crate) ended: AtomicBool,
    /// The load is over: connections that end from now on were not needed.
    pub(crate) closing: AtomicBool,
    /// Connections that are open.
    pub(crate) open: AtomicU32,
    /// The most that were open at the same time.
    pub(crate) peak_open: AtomicU32,
    /// Connections that were opened or failed.
    pub(crate) settled: AtomicU32,
}

impl Shared {
    fn is_measured(&self, due: Duration) -> bool {
        due >= self.measured_from
    }

    /// Time since the schedule began; zero before.
    fn now(&self) -> Duration {
        self.start.get().map_or(Duration::ZERO, Instant::elapsed)
    }
}

/// One client.
#[derive(Debug)]
pub(crate) struct Session {
    index: u32,
    /// The next message's number.
    next: u64,
    begun: Instant,
    opened: bool,
    probed: bool,
    waiting: Waiting,
}

impl Session {
    /// The client with number `index`, whose connection began at `begun`.
    pub(crate) fn new(index: u32, begun: Instant, shared: &Shared) -> Session {
        let probed = match shared.probe {
            Probe::Ping => index.is_multiple_of(shared.one_probed_in),
            Probe::Echo => true,
            Probe::Sink => false,
        };
        Session { index, next: 0, begun, opened: false, probed, waiting: Waiting::default() }
    }
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

    /// What the loop counted since this was last asked.
    pub(crate) fn take_tally(&self) -> Tally {
        self.tally().take()
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
            let (client, number) = (session.index, session.next);
            let due = shared.schedule.due(client, number);
            if due >= shared.until || shared.ended.load(Ordering::Relaxed) {
                return;
            }
            // Not `shared.now()`, which is zero until the start: the first message would leave before its time.
            let Some(at) = Instant::now().checked_duration_since(*start).filter(|at| *at >= due) else {
                peer.set_timer(*start + due);
                return;
            };
            session.next += 1;
            self.send(peer, client, Sent { number, due, at });
        }
        peer.set_timer(Instant::now());
    }

    fn send(&self, peer: &mut Peer<'_, Session>, client: u32, sent: Sent) {
        let shared = &*self.shared;
        let measured = shared.is_measured(sent.due);
        let mut tally = self.tally();
        let mut scratch = std::mem::take(&mut tally.scratch);
        let outcome =
            peer.send(message(shared.payload.kind(), self.bytes(client, sent.number, &mut scratch)));
        tally.scratch = scratch;
        let part = tally.part(measured);
        if outcome.is_err() {
            part.counts.refused += 1;
            return;
        }
        part.sent(&sent);
        let asked = match shared.probe {
            Probe::Ping => peer.session().probed && peer.ping(&sent.number.to_be_bytes()).is_ok(),
            Probe::Echo => true,
            Probe::Sink => false,
        };
        if asked {
            part.counts.awaited += 1;
            peer.session().waiting.push(sent);
        }
    }

    /// The bytes of a message; `scratch` is where they are put together if need be.
    fn bytes<'a>(&'a self, client: u32, number: u64, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        let payload = &self.shared.payload;
        if self.shared.probe == Probe::Echo && payload.may_stamp() {
            payload.stamp(client, number, scratch);
            scratch
        } else {
            payload.message(client, number)
        }
    }
}

fn message(kind: Kind, bytes: &[u8]) -> Message<'_> {
    match kind {
        Kind::Text => std::str::from_utf8(bytes).map_or(Message::Binary(bytes), Message::Text),
        Kind::Binary => Message::Binary(bytes),
    }
}

impl Handler for Clients {
    type Session = Session;

    fn opened(&self, peer: &mut Peer<'_, Session>) {
        let session = peer.session();
        session.opened = true;
        let took = session.begun.elapsed();
        let mut tally = self.tally();
        tally.opened += 1;
        tally.handshakes.record(took);
        drop(tally);
        let open = self.shared.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.shared.peak_open.fetch_max(open, Ordering::Relaxed);
        self.shared.settled.fetch_add(1, Ordering::Release);
        self.turn(peer);
    }

    fn timer(&self, peer: &mut Peer<'_, Session>) {
        self.turn(peer);
    }

    fn message(&self, peer: &mut Peer<'_, Session>, message: Message<'_>) {
        if self.shared.probe != Probe::Echo {
            return;
        }
        let now = self.shared.now();
        let session = peer.session();
        let client = session.index;
        let mut tally = self.tally();
        let mut scratch = std::mem::take(&mut tally.scratch);
        let bytes = message.as_bytes();
        let echo = session.waiting.echo(|sent| self.bytes(client, sent.number, &mut scratch) == bytes);
        tally.scratch = scratch;
        let (answered, reordered, corrupt) = match echo {
            Echo::InOrder(sent) => (Some(sent), 0, 0),
            Echo::Overtaking(sent) => (Some(sent), 1, 0),
            // It stands for the oldest one; else every later echo would seem to overtake that.
            Echo::Unknown => (session.waiting.echo(|_| true).sent(), 0, 1),
        };
        let measured = answered.is_none_or(|sent| self.shared.is_measured(sent.due));
        let part = tally.part(measured);
        part.counts.reordered += reordered;
        part.counts.corrupt += corrupt;
        if let Some(sent) = answered {
            part.answered(&sent, now);
        }
    }

    fn pong(&self, peer: &mut Peer<'_, Session>, payload: &[u8]) {
        // A pong with other bytes is no answer to us: anybody may send one unasked (RFC 6455 §5.5.3).
        let Ok(number) = payload.try_into().map(u64::from_be_bytes) else { return };
        let now = self.shared.now();
        let mut tally = self.tally();
        for sent in peer.session().waiting.pong(number) {
            tally.part(self.shared.is_measured(sent.due)).answered(&sent, now);
        }
    }

    fn close(&self, mut session: Session, close: Close) {
        let now = self.shared.now();
        let closing = self.shared.closing.load(Ordering::Relaxed);
        let mut tally = self.tally();
        for sent in session.waiting.take() {
            tally.part(self.shared.is_measured(sent.due)).unanswered(&sent, now);
        }
        match (session.opened, closing) {
            (true, false) => tally.disconnected(&close),
            (false, false) => tally.failed(&close.cause),
            (_, true) => {}
        }
        drop(tally);
        if session.opened {
            self.shared.open.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.shared.settled.fetch_add(1, Ordering::Release);
        }
    }
}
