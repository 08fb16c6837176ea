//! A server on the fake kernel, its peers, and what happens to them step by step.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use webscale_proto::{CloseCode, Deflate, Role};

use super::super::{EventLoop, Shared};
use super::handler::Ledger;
use super::kernel::{FakeKernel, Machine};
use super::peer::{Peer, server_tls};
use super::random::Random;
use super::script::{Act, Script};
use super::system::{Mood, Strike, System};
use crate::admission::Admission;
use crate::clock::Time;
use crate::connection::{Config, Ready};
use crate::limits::{Limits, SlowConsumer};
use crate::metrics::Snapshot;
use crate::server::Handle;
use crate::worker::{Job, Workers, run};

pub(super) type Loop = EventLoop<Ledger, FakeKernel>;

/// Turns without a change that a loop may take one after the other.
const IDLE_TURNS_MAX: u32 = 8;
/// Peers alive at the same time, of those that come by chance.
const PEERS_MAX: usize = 40;
/// Below this, a jump of time ends nobody who does what is asked for.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// What a loop needs besides its connections: listener, waker, spare.
const OWN_DESCRIPTORS: usize = 3;

/// By these a turn shows that it did something.
#[derive(Clone, Copy, Debug, Default)]
struct Signs {
    now: Time,
    /// System calls that changed something.
    changes: u64,
    /// Calls of the handler.
    calls: u64,
    /// Bytes held for connections.
    held: usize,
}

impl Signs {
    fn shows_nothing_since(&self, before: &Self) -> bool {
        let same = (self.changes, self.calls, self.held) == (before.changes, before.calls, before.held);
        same && self.now - before.now < Duration::from_micros(50)
    }
}

/// What kind of server is simulated.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) loops: usize,
    pub(super) secure: bool,
    pub(super) deflates: bool,
    pub(super) workers: bool,
    /// Behind a proxy that says who comes.
    pub(super) proxied: bool,
    pub(super) limits: Limits,
}

impl Setting {
    pub(super) fn any(random: &mut Random) -> Self {
        // Of a long queue, a part can still be dropped.
        let egress_bytes = random.within(4_000, 20_000) * random.pick(&[1, 1, 10]);
        let streams = random.once_in(3);
        let message_bytes = random.within(1_000, 6_000);
        let shutdown_time = Duration::from_millis(random.pick(&[0, 20, 3_000, 10_000]));
        let limits = Limits {
            shutdown_time,
            shutdown_spread: shutdown_time / random.pick(&[1, 2, u32::MAX]),
            egress_bytes,
            egress_high_water: egress_bytes / random.within(1, 4),
            message_bytes,
            stream_bytes: if streams { 3 * message_bytes as u64 } else { 0 },
            turn_bytes: random.pick(&[500, 4_000, 100_000]),
            turn_frames: random.pick(&[1, 3, 1000]),
            turn_accepts: random.pick(&[1, 4, 64]),
            turn_handshakes: random.pick(&[1, 2, 16]),
            worker_queue: random.within(1, 3),
            slow_consumer: random.pick(&[
                SlowConsumer::Close,
                SlowConsumer::DropNewest,
                SlowConsumer::DropOldest,
            ]),
            connections: if random.once_in(4) { random.within(3, 12) } else { usize::MAX },
            connections_per_address: if random.once_in(4) { random.within(1, 4) } else { usize::MAX },
            handshakes_per_address: if random.once_in(4) { random.within(1, 3) } else { usize::MAX },
            held_bytes: if random.once_in(4) { random.within(4_000, 60_000) } else { usize::MAX },
            ..Limits::default()
        };
        Self {
            loops: random.within(1, 2),
            secure: random.once_in(4),
            deflates: random.once_in(3),
            workers: random.once_in(3),
            proxied: random.once_in(4),
            limits,
        }
    }
}

/// Where a server stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    Running,
    /// Since then.
    Ending(Time),
}

/// The jobs that a worker has begun.
type Hands = Arc<Mutex<VecDeque<Job<usize>>>>;

pub(super) struct World {
    seed: u64,
    pub(super) machine: Machine,
    pub(super) random: Random,
    pub(super) setting: Setting,
    pub(super) ledger: Arc<Ledger>,
    pub(super) shared: Arc<Shared<Ledger>>,
    pub(super) loops: Vec<Option<Loop>>,
    idle_turns: Vec<(u32, Signs)>,
    events: Vec<(u64, Ready)>,
    handle: Handle,
    workers: Option<Workers<usize>>,
    hands: Hands,
    pub(super) peers: Vec<Peer>,
    pub(super) stage: Stage,
    /// When time last jumped so far that a limit may have run out for somebody who did nothing wrong.
    pub(super) jumped: Option<Time>,
    pub(super) aborted: bool,
    pub(super) steps: u64,
    /// Turns of all loops.
    pub(super) turns: u64,
}

impl World {
    pub(super) fn new(seed: u64, setting: Setting) -> Self {
        let machine = Machine::new(seed ^ 0x5eed, setting.loops);
        let ledger = Arc::new(Ledger::new(machine.clone()));
        let deflate = setting.deflates.then(|| Deflate::default().threshold(8));
        let mut config = Config::new(Role::Server, setting.limits.clone(), deflate);
        if setting.proxied {
            config.proxies = vec!["192.0.2.0/24".parse().expect("a network")];
        }
        let shared = Arc::new(Shared {
            handler: ledger.clone(),
            config,
            tls: setting.secure.then(server_tls),
            admission: Admission::new(&setting.limits, setting.loops),
        });
        let workers = setting
            .workers
            .then(|| Workers::start(0, Role::Server, &setting.limits, &ledger).expect("no thread is needed"));
        let loops: Vec<Loop> = (0..setting.loops)
            .map(|index| {
                let kernel = FakeKernel::new(machine.clone(), index);
                let listener = machine.listener(index);
                EventLoop::new(index, shared.clone(), kernel, Some(listener), workers.as_ref())
                    .expect("descriptors")
            })
            .collect();
        Self {
            seed,
            random: Random::new(seed),
            handle: Handle::new(&loops, workers.as_ref(), shared.tls.clone(), &setting.limits),
            idle_turns: vec![Default::default(); loops.len()],
            loops: loops.into_iter().map(Some).collect(),
            events: Vec::new(),
            hands: Hands::default(),
            peers: Vec::new(),
            stage: Stage::Running,
            jumped: None,
            aborted: false,
            steps: 0,
            turns: 0,
            machine,
            setting,
            ledger,
            shared,
            workers,
        }
    }

    pub(super) fn now(&self) -> Time {
        self.machine.now()
    }

    pub(super) fn metrics(&self) -> Snapshot {
        self.handle.metrics()
    }

    /// One thing happens, whatever it is.
    pub(super) fn step(&mut self) {
        self.steps += 1;
        match self.random.below(100) {
            0..=39 => self.run_any(),
            40..=84 => self.any_peer_acts(),
            85..=88 => self.connect_any(),
            89..=92 => self.work_any(),
            93 => self.another_thread_acts(),
            94..=97 => self.pass_some_time(),
            _ => self.trouble(),
        }
        self.check();
    }

    /// Gives a turn to a loop that the kernel would wake.
    fn run_any(&mut self) {
        let index = self.random.below(self.loops.len());
        if !(self.run_if_awake(index) || self.run_if_awake((index + 1) % self.loops.len())) {
            let by = Duration::from_micros(self.random.below(2_000) as u64);
            self.pass(by);
        }
    }

    fn is_awake(&self, index: usize) -> bool {
        let Some(event_loop) = &self.loops[index] else { return false };
        let is_due = event_loop.timeout().is_some_and(|left| left.is_zero());
        is_due || !self.machine.system().ready(index).is_empty()
    }

    pub(super) fn run_if_awake(&mut self, index: usize) -> bool {
        let is_awake = self.is_awake(index);
        if is_awake {
            self.turn(index);
        }
        is_awake
    }

    fn turn(&mut self, index: usize) {
        self.turns += 1;
        let event_loop = self.loops[index].as_mut().expect("it runs");
        event_loop.once(&mut self.events).expect("epoll_wait(2) does not fail");
        let held = event_loop.connections.tokens().into_iter();
        let held = held
            .filter_map(|token| {
                let connection = event_loop.connections.get_mut(token)?;
                Some(connection.buffered() + connection.undecoded())
            })
            .sum();
        let (is_false, changes) = {
            let system = self.machine.system();
            (system.is_report_false, system.changes)
        };
        let signs = Signs { now: event_loop.now, changes, calls: self.ledger.records().calls, held };
        let (idle, before) = &mut self.idle_turns[index];
        *idle = if signs.shows_nothing_since(before) && !is_false { *idle + 1 } else { 0 };
        *before = signs;
        assert!(
            *idle <= IDLE_TURNS_MAX,
            "loop {index} spins: {:?}, ready {:?}, stalled {:?}, due {:?} at {:?}",
            self.events,
            event_loop.ready,
            event_loop.stalled,
            event_loop.timers.next_due(),
            event_loop.now,
        );
        self.check_loop(index);
        self.end_if_over(index);
    }

    fn end_if_over(&mut self, index: usize) {
        if !self.loops[index].as_ref().is_some_and(Loop::is_over) {
            return;
        }
        let mut event_loop = self.loops[index].take().expect("it was there");
        let (hands, ledger, limits) = (self.hands.clone(), self.ledger.clone(), self.setting.limits.clone());
        let others = move || finish_one(&hands, &ledger, &limits);
        *self.machine.others.lock().expect("nobody panicked") = Some(Box::new(others));
        event_loop.end(&mut self.events).expect("no worker is stuck");
        *self.machine.others.lock().expect("nobody panicked") = None;
        assert!(event_loop.orphans.is_empty());
        assert_eq!(event_loop.connections.len(), 0, "connections are left");
        assert_eq!(event_loop.timers.next_due(), None, "timers are left");
    }

    fn any_peer_acts(&mut self) {
        if self.peers.is_empty() {
            return self.connect_any();
        }
        // The younger ones have more to do.
        let last = self.peers.len();
        let index = last - 1 - self.random.below(last.min(PEERS_MAX));
        self.peer_acts(index);
    }

    pub(super) fn peer_acts(&mut self, index: usize) -> bool {
        let mut system = self.machine.system();
        let peer = &mut self.peers[index];
        let arrived = system.deliver(peer.line);
        peer.act(&mut system, &self.ledger) || arrived
    }

    fn connect_any(&mut self) {
        let alive = self.peers.iter().filter(|peer| peer.ended.is_none()).count();
        if alive < PEERS_MAX {
            let script = Script::new(&mut self.random, &self.setting.limits);
            self.connect(script);
        }
    }

    pub(super) fn connect(&mut self, script: Script) -> usize {
        let (id, backlog) = (self.peers.len(), self.random.below(self.loops.len()));
        let mut system = self.machine.system();
        let line = system.connect(backlog);
        self.peers.push(Peer::new(id, line, script, &self.setting, system.now));
        id
    }

    /// A worker begins a job, or ends one.
    fn work_any(&mut self) {
        self.begin_work();
        let in_hand = self.hands.lock().expect("nobody panicked").len();
        if in_hand > 2 || self.random.once_in(2) {
            self.finish_work();
        }
    }

    pub(super) fn finish_work(&mut self) -> bool {
        finish_one(&self.hands, &self.ledger, &self.setting.limits)
    }

    pub(super) fn begin_work(&mut self) -> bool {
        let job = self.workers.as_ref().and_then(|workers| workers.begin());
        let found = job.is_some();
        self.hands.lock().expect("nobody panicked").extend(job);
        found
    }

    fn another_thread_acts(&mut self) {
        if self.peers.is_empty() {
            return;
        }
        let id = self.random.below(self.peers.len());
        let (is_honest, closes) = (self.peers[id].is_honest(), self.random.once_in(8));
        let mut records = self.ledger.records();
        if !closes || is_honest {
            return records.push(id);
        }
        let record = records.record(id);
        if let Some(sender) = record.sender.clone() {
            record.closed_locally = true;
            // It may be closing.
            let _ = sender.close(CloseCode::GOING_AWAY, "another thread says so");
        }
    }

    fn pass_some_time(&mut self) {
        let by = match self.random.below(400) {
            0 => Duration::from_secs(self.random.within(10, 7_200) as u64),
            1..=20 => Duration::from_millis(self.random.within(100, 2_000) as u64),
            _ => Duration::from_micros(self.random.below(20_000) as u64),
        };
        self.pass(by);
    }

    /// Time goes on.
    pub(super) fn pass(&mut self, by: Duration) {
        let mut system = self.machine.system();
        system.now = system.now + by;
        if by > PATIENCE {
            self.jumped = Some(system.now);
        }
    }

    /// Descriptors run out, or are there again; the code above the sockets panics; the certificate is another one; or the server is told to end.
    fn trouble(&mut self) {
        match self.random.below(62) {
            0 if self.random.once_in(8) => self.shut_down(),
            0 if self.random.once_in(16) => self.abort(),
            1..=6 => {
                let mut system = self.machine.system();
                let own = OWN_DESCRIPTORS * self.loops.len();
                let left = self.random.below(6);
                system.mood.descriptors_max = system.descriptors().max(own) + left;
            }
            7 | 8 => self.machine.system().mood.accept_fails = self.random.within(1, 8),
            9 => {
                if let Some(tls) = &self.shared.tls {
                    tls.replace(&server_tls()).expect("it is valid");
                }
            }
            10..=30 => {
                let mood = &mut self.machine.system().mood;
                (mood.descriptors_max, mood.accept_fails, mood.calls_strike) = (usize::MAX, 0, 0);
            }
            60 | 61 => self.machine.system().mood.calls_strike = self.random.within(3, 200),
            _ => {}
        }
    }

    pub(super) fn shut_down(&mut self) {
        self.handle.shutdown();
        self.ending();
    }

    pub(super) fn abort(&mut self) {
        self.handle.abort();
        self.aborted = true;
        self.ending();
    }

    fn ending(&mut self) {
        if self.stage == Stage::Running {
            self.stage = Stage::Ending(self.now());
        }
    }

    /// All trouble is over, and everybody does what there is to do.
    pub(super) fn calm_down(&mut self) {
        self.machine.system().mood =
            Mood { wild: false, descriptors_max: usize::MAX, accept_fails: 0, calls_strike: 0 };
    }

    /// Until nobody has anything to do without time passing.
    pub(super) fn settle(&mut self) {
        for _ in 0..500_000 {
            let mut moved = false;
            for index in 0..self.loops.len() {
                moved |= self.run_if_awake(index);
            }
            for index in 0..self.peers.len() {
                moved |= self.peer_acts(index);
            }
            moved |= self.begin_work();
            moved |= self.finish_work();
            self.steps += 1;
            if !moved {
                return self.check();
            }
        }
        panic!("it never comes to rest");
    }

    /// Time goes on, from one timeout to the next.
    pub(super) fn settle_for(&mut self, time: Duration) {
        let end = self.now() + time;
        self.settle();
        while self.now() < end {
            let next = self.loops.iter().flatten().filter_map(Loop::timeout).min();
            let left = end - self.now();
            let by = next.unwrap_or(left).clamp(Duration::from_micros(1), left);
            let mut system = self.machine.system();
            system.now = system.now + by;
            drop(system);
            self.settle();
        }
    }

    /// A call on that peer's connection has panicked.
    pub(super) fn was_struck(&self, peer: usize) -> bool {
        self.system().lines[self.peers[peer].line].strike == Strike::Done
    }

    pub(super) fn system(&self) -> std::sync::MutexGuard<'_, System> {
        self.machine.system()
    }

    /// Trouble is over: everybody gets what is owed, and goes; then the server ends.
    pub(super) fn come_to_an_end(&mut self) {
        self.calm_down();
        // Nobody needs more than a moment of patience, and who says nothing is not kept for ever.
        self.settle_for(Duration::from_secs(2));
        self.check_honest();
        self.dismiss();
        self.settle_for(Duration::from_secs(400));
        self.check_empty();
        self.check_codes();
        if self.stage == Stage::Running {
            self.shut_down();
        }
        self.settle_for(self.setting.limits.shutdown_time + Duration::from_secs(1));
        assert!(self.loops.iter().all(Option::is_none), "the server does not end");
        self.check_empty();
    }

    /// Who has nothing more to do goes.
    pub(super) fn dismiss(&mut self) {
        for peer in &mut self.peers {
            if !peer.is_honest() {
                peer.script.acts = VecDeque::from([self.random.pick(&[Act::Bye, Act::Fin, Act::Reset])]);
            }
        }
    }

    /// The counters of connections of all loops.
    pub(super) fn counted(&self) -> usize {
        self.shared.admission.connections()
    }
}

/// Tells how to see a failure again.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (seed, now) = (self.seed, self.machine.try_now());
            eprintln!("after {} steps, at {now:?}, of {:?}", self.steps, self.setting);
            eprintln!("replay: WEBSCALE_SEED={seed:#x} cargo test -p webscale simulation");
        }
    }
}

fn finish_one(hands: &Hands, ledger: &Ledger, limits: &Limits) -> bool {
    let job = hands.lock().expect("nobody panicked").pop_front();
    let found = job.is_some();
    if let Some(job) = job {
        run(job, ledger, &mut crate::peer::Outgoing::new(Role::Server, limits.egress_bytes));
    }
    found
}
