//! Signs of life: what a thread says of itself while it works, for those who watch it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::{Clock, Time};
use crate::health::{Health, Overload, ServerThread, Stuck};
use crate::limits::Limits;
use crate::peer::ConnectionId;
use crate::slots::Token;

/// A time that has not come.
const NEVER: u64 = u64::MAX;
/// No slot has the index of this token.
const NOBODY: u64 = u64::MAX;

/// A moment that one thread notes, forgets, and others read.
struct Since(AtomicU64);

impl Since {
    const fn never() -> Self {
        Self(AtomicU64::new(NEVER))
    }

    fn set(&self, now: Time) {
        self.0.store(now.nanos(), Relaxed);
    }

    /// Keeps an earlier moment.
    fn begin(&self, now: Time) {
        if self.0.load(Relaxed) == NEVER {
            self.set(now);
        }
    }

    fn clear(&self) {
        self.0.store(NEVER, Relaxed);
    }

    fn lasting(&self, now: Time) -> Option<Duration> {
        let since = self.0.load(Relaxed);
        (since != NEVER).then(|| now - Time::from_nanos(since))
    }
}

/// The pulse of one loop or worker, which is its only writer. On cache lines of its own, and ordinary stores: it costs the
/// thread next to nothing.
#[repr(align(128))]
pub(crate) struct Pulse {
    clock: Clock,
    /// Since when it works without a pause; unset while it waits for something to do.
    busy: Since,
    event_loop: AtomicU32,
    token: AtomicU64,
    /// Since when a loop does not accept connections.
    pause: Since,
}

impl Pulse {
    /// To be made when the thread's own clock begins, as what it notes is read by this one.
    pub(crate) fn new() -> Self {
        Self {
            clock: Clock::start(),
            busy: Since::never(),
            event_loop: AtomicU32::new(0),
            token: AtomicU64::new(NOBODY),
            pause: Since::never(),
        }
    }

    /// It has something to do.
    pub(crate) fn work(&self, now: Time) {
        self.token.store(NOBODY, Relaxed);
        self.busy.set(now);
    }

    /// What it does next is for this connection.
    pub(crate) fn serve(&self, id: ConnectionId) {
        self.event_loop.store(id.event_loop, Relaxed);
        self.token.store(id.token.to_u64(), Relaxed);
    }

    /// It is done, and waits.
    pub(crate) fn rest(&self) {
        self.busy.clear();
    }

    pub(crate) fn pause_accepting(&self, now: Time) {
        self.pause.begin(now);
    }

    pub(crate) fn resume_accepting(&self) {
        self.pause.clear();
    }

    /// Whom it works for; means something only while it is busy.
    fn connection(&self) -> Option<ConnectionId> {
        let (event_loop, token) = (self.event_loop.load(Relaxed), self.token.load(Relaxed));
        (token != NOBODY).then(|| ConnectionId { event_loop, token: Token::from_u64(token) })
    }

    fn report(&self, thread: ServerThread, stuck_after: Duration) -> Option<Stuck> {
        let lasting = self.busy.lasting(self.clock.now()).filter(|&lasting| lasting >= stuck_after)?;
        Some(Stuck { thread, lasting, connection: self.connection() })
    }
}

/// The pulses of a pool's workers, and how its queue is.
pub(crate) struct Crew {
    clock: Clock,
    pulses: Vec<Pulse>,
    stuck_after: Duration,
    /// Since when the queue turns messages away and was not half empty.
    full: Since,
}

impl Crew {
    pub(crate) fn new(workers: usize, stuck_after: Duration) -> Self {
        let pulses = (0..workers).map(|_| Pulse::new()).collect();
        Self { clock: Clock::start(), pulses, stuck_after, full: Since::never() }
    }

    /// A worker begins a job.
    pub(crate) fn work(&self, worker: usize, id: ConnectionId) {
        if let Some(pulse) = self.pulses.get(worker) {
            pulse.work(pulse.clock.now());
            pulse.serve(id);
        }
    }

    pub(crate) fn rest(&self, worker: usize) {
        if let Some(pulse) = self.pulses.get(worker) {
            pulse.rest();
        }
    }

    pub(crate) fn queue_is_full(&self) {
        self.full.begin(self.clock.now());
    }

    pub(crate) fn queue_has_room(&self) {
        self.full.clear();
    }

    /// The workers that are stuck.
    pub(crate) fn stuck(&self) -> Vec<Stuck> {
        let report =
            |(index, pulse): (usize, &Pulse)| pulse.report(ServerThread::Worker(index), self.stuck_after);
        self.pulses.iter().enumerate().filter_map(report).collect()
    }

    /// Those of them that have a session of this loop.
    pub(crate) fn stuck_for(&self, event_loop: u32) -> Vec<Stuck> {
        let is_its = |stuck: &Stuck| stuck.connection.is_some_and(|id| id.event_loop == event_loop);
        self.stuck().into_iter().filter(is_its).collect()
    }

    fn overload(&self) -> Option<Overload> {
        let lasting = self.full.lasting(self.clock.now()).filter(|&lasting| lasting >= self.stuck_after)?;
        Some(Overload::WorkersQueueFull { lasting })
    }
}

/// All signs of life of a server or client.
pub(crate) struct Vitals {
    clock: Clock,
    loops: Vec<Arc<Pulse>>,
    crew: Option<Arc<Crew>>,
    stuck_after: Duration,
    shutdown_time: Duration,
    /// When it was told to end.
    shutdown: Since,
    aborted: AtomicBool,
}

impl Vitals {
    pub(crate) fn new(loops: Vec<Arc<Pulse>>, crew: Option<Arc<Crew>>, limits: &Limits) -> Self {
        Self {
            clock: Clock::start(),
            loops,
            crew,
            stuck_after: limits.stuck_after,
            shutdown_time: limits.shutdown_time,
            shutdown: Since::never(),
            aborted: AtomicBool::new(false),
        }
    }

    pub(crate) fn shut_down(&self) {
        self.shutdown.begin(self.clock.now());
    }

    pub(crate) fn abort(&self) {
        self.aborted.store(true, Relaxed);
    }

    /// Whether all loops should have ended by now.
    pub(crate) fn is_overdue(&self) -> bool {
        let shutdown = self.shutdown.lasting(self.clock.now());
        self.aborted.load(Relaxed) || shutdown.is_some_and(|lasting| lasting >= self.shutdown_time)
    }

    /// How often to look, so that what is stuck is seen soon: a quarter of the threshold, within reason.
    pub(crate) fn period(&self) -> Option<Duration> {
        let period = (self.stuck_after / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
        (self.stuck_after != Duration::MAX).then_some(period)
    }

    /// The loops and workers that are stuck.
    pub(crate) fn stuck(&self) -> Vec<Stuck> {
        let report =
            |(index, pulse): (usize, &Arc<Pulse>)| pulse.report(ServerThread::Loop(index), self.stuck_after);
        let loops = self.loops.iter().enumerate().filter_map(report);
        loops.chain(self.crew.iter().flat_map(|crew| crew.stuck())).collect()
    }

    pub(crate) fn overload(&self) -> Option<Overload> {
        let pause = |pulse: &Arc<Pulse>| pulse.pause.lasting(pulse.clock.now());
        let longest = self.loops.iter().filter_map(pause).max();
        match longest.filter(|&lasting| lasting >= self.stuck_after) {
            Some(lasting) => Some(Overload::AcceptPaused { lasting }),
            None => self.crew.as_ref().and_then(|crew| crew.overload()),
        }
    }

    pub(crate) fn health(&self) -> Health {
        let stuck = self.stuck();
        if !stuck.is_empty() {
            return Health::Stuck(stuck);
        }
        if self.aborted.load(Relaxed) || self.shutdown.lasting(self.clock.now()).is_some() {
            return Health::ShuttingDown;
        }
        self.overload().map_or(Health::Healthy, Health::Overloaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vitals(crew: &Arc<Crew>, pulse: &Arc<Pulse>, stuck_after: Duration) -> Vitals {
        let limits = Limits { stuck_after, ..Limits::default() };
        Vitals::new(vec![pulse.clone()], Some(crew.clone()), &limits)
    }

    #[test]
    fn a_pause_or_a_full_queue_is_overload_until_it_ends() {
        let at_once = Duration::ZERO;
        let (crew, pulse) = (Arc::new(Crew::new(1, at_once)), Arc::new(Pulse::new()));
        let vitals = vitals(&crew, &pulse, at_once);
        assert_eq!(vitals.health(), Health::Healthy);
        crew.queue_is_full();
        assert!(matches!(vitals.health(), Health::Overloaded(Overload::WorkersQueueFull { .. })));
        pulse.pause_accepting(pulse.clock.now());
        assert!(matches!(vitals.health(), Health::Overloaded(Overload::AcceptPaused { .. })));
        pulse.resume_accepting();
        assert!(matches!(vitals.health(), Health::Overloaded(Overload::WorkersQueueFull { .. })));
        crew.queue_has_room();
        assert_eq!(vitals.health(), Health::Healthy);
        vitals.shut_down();
        assert_eq!(vitals.health(), Health::ShuttingDown);
    }

    #[test]
    fn what_is_short_is_neither_stuck_nor_overload() {
        let hour = Duration::from_secs(3600);
        let (crew, pulse) = (Arc::new(Crew::new(1, hour)), Arc::new(Pulse::new()));
        let vitals = vitals(&crew, &pulse, hour);
        let id = ConnectionId { event_loop: 0, token: Token::from_u64(1) };
        pulse.work(pulse.clock.now());
        crew.work(0, id);
        crew.queue_is_full();
        pulse.pause_accepting(pulse.clock.now());
        assert_eq!(vitals.health(), Health::Healthy);
        assert!(!vitals.is_overdue());
        vitals.abort();
        assert!(vitals.is_overdue());
    }

    #[test]
    fn whoever_is_stuck_is_named_with_whom_it_works_for() {
        let at_once = Duration::ZERO;
        let (crew, pulse) = (Arc::new(Crew::new(2, at_once)), Arc::new(Pulse::new()));
        let vitals = vitals(&crew, &pulse, at_once);
        let id = ConnectionId { event_loop: 3, token: Token::from_u64(9) };
        pulse.work(pulse.clock.now());
        crew.work(1, id);
        let named =
            |stuck: Vec<Stuck>| stuck.into_iter().map(|one| (one.thread, one.connection)).collect::<Vec<_>>();
        assert_eq!(
            named(vitals.stuck()),
            [(ServerThread::Loop(0), None), (ServerThread::Worker(1), Some(id))]
        );
        assert_eq!((named(crew.stuck_for(3)).len(), crew.stuck_for(0).len()), (1, 0));
        pulse.serve(id);
        assert_eq!(named(vitals.stuck())[0], (ServerThread::Loop(0), Some(id)));
        crew.rest(1);
        pulse.rest();
        assert!(vitals.stuck().is_empty());
    }
}
