//! The event loop: one thread, one epoll instance, and everything that its connections share.
//!
//! A connection never leaves its loop, so nothing on the way of a byte is locked. Other threads reach a loop by its two
//! mailboxes and the eventfd that announces them.

mod ebb;
mod ending;
mod greedy;
mod handshakes;
mod listening;
mod mail;
mod pressure;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use webscale_sys::Interest;

use crate::admission::{Admission, Place};
use crate::clock::Time;
use crate::close::{Close, CloseCause};
use crate::connection::{Buffers, Config, Connection, Context, Fate, Ready, Turn, Wire};
use crate::handler::Handler;
use crate::held::Account;
use crate::kernel::{Kernel, Linux, Wake};
use crate::mailbox::Mailbox;
use crate::metrics::Metrics;
use crate::panics::{self, Panicked, caught};
use crate::peer::{ConnectionId, Outgoing, TimerRequest};
use crate::pulse::Pulse;
use crate::sender::Command;
use crate::slots::{Slots, Token};
use crate::timer::{Fired, TimerKind, Wheel};
use crate::tls::Tls;
use crate::worker::{Done, Pool, Workers};

use ebb::Ebb;
use ending::Stage;
use listening::Listening;
use mail::Mail;
pub(crate) use mail::{Connect, Outside};

// Tokens that are no connection's: the highest indices, which no slot reaches.
const LISTENER: u64 = u32::MAX as u64;
const MAILBOX: u64 = u32::MAX as u64 - 1;

/// Deadlines of our own need no precision, and are bundled.
const DEADLINE_STEP: Duration = Duration::from_millis(64);
/// What all that are ready at the same time may have read, before it is looked again who is: with a hundred that send tiny
/// records without end, the share of each must be less than alone.
const BATCH_BYTES: usize = 256 * 1024;
/// But a whole TLS record fits (RFC 8446 §5.2).
const SHARE_MIN: usize = 17 * 1024;
/// Connections that go on without an event, of each as many frames as a turn allows, before others get their turn.
const TURN_READY: usize = 8;
/// How soon a full workers' queue is tried again.
const POOL_RETRY: Duration = Duration::from_millis(1);
/// The same, of a queue that stays full: where handlers do not return, a loop must not wake for nothing all the time.
const POOL_RETRY_MAX: Duration = Duration::from_millis(16);

/// What all loops of a server share.
pub(crate) struct Shared<H> {
    pub(crate) handler: Arc<H>,
    pub(crate) config: Config,
    pub(crate) tls: Option<Tls>,
    pub(crate) admission: Arc<Admission>,
}

pub(crate) struct EventLoop<H: Handler, K: Kernel = Linux> {
    index: u32,
    shared: Arc<Shared<H>>,
    kernel: K,
    waker: Arc<K::Waker>,
    listening: Option<Listening<K>>,
    commands: Arc<Mailbox<Command>>,
    connects: Arc<Mailbox<Connect<H::Session>>>,
    done: Arc<Mailbox<Done<H::Session>>>,
    mail: Mail<H::Session>,
    pool: Option<Pool<H::Session>>,
    connections: Slots<Connection<K::Socket, H::Session>>,
    /// How the connections ended whose sessions are with workers.
    orphans: HashMap<Token, Close>,
    ebb: Ebb,
    /// Of the bytes that were held when they were too many.
    held_ebb: Ebb,
    timers: Wheel,
    /// Connections with received bytes to go through.
    ready: VecDeque<Token>,
    /// Connections with more to be read than their share.
    greedy: VecDeque<Token>,
    /// Handshakes that had no budget when their bytes came.
    put_off: VecDeque<Token>,
    /// Connections with a message that the workers' queue had no room for.
    stalled: VecDeque<Token>,
    /// How soon these are looked at again.
    pool_retry: Duration,
    now: Time,
    /// What one connection may have read in this turn.
    share_bytes: usize,
    wire: Wire,
    buffers: Buffers,
    outgoing: Outgoing,
    metrics: Arc<Metrics>,
    pulse: Arc<Pulse>,
    /// What is held for the clients of this loop.
    account: Account,
    /// When this is looked at again, while too much is held.
    look_at: Option<Time>,
    /// Bytes of messages that are with workers.
    lent: usize,
    stage: Stage,
}

impl<H: Handler, K: Kernel> EventLoop<H, K> {
    pub(crate) fn new(
        index: usize,
        shared: Arc<Shared<H>>,
        kernel: K,
        listener: Option<K::Listener>,
        workers: Option<&Workers<H::Session>>,
    ) -> io::Result<Self> {
        let limits = &shared.config.limits;
        let waker = Arc::new(kernel.waker()?);
        kernel.add(&*waker, MAILBOX, Interest::READ)?;
        shared.admission.held.join(waker.clone());
        let listening = listener.map(|listener| Listening::new(&kernel, listener)).transpose()?;
        let done = Arc::new(Mailbox::new(waker.clone(), usize::MAX, usize::MAX));
        Ok(Self {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            kernel,
            listening,
            commands: Arc::new(Mailbox::new(waker.clone(), limits.mailbox_items, limits.mailbox_bytes)),
            connects: Arc::new(Mailbox::new(waker.clone(), limits.mailbox_items, usize::MAX)),
            pool: workers.map(|workers| workers.pool(done.clone())),
            done,
            mail: Mail::default(),
            waker,
            connections: Slots::new(),
            orphans: HashMap::new(),
            ebb: Ebb::of_connections(),
            held_ebb: Ebb::of_bytes(),
            timers: Wheel::new(),
            ready: VecDeque::new(),
            greedy: VecDeque::new(),
            put_off: VecDeque::new(),
            stalled: VecDeque::new(),
            pool_retry: POOL_RETRY,
            now: Time::default(),
            share_bytes: limits.turn_bytes,
            wire: Wire::new(),
            buffers: Buffers::default(),
            outgoing: Outgoing::new(shared.config.role, limits.egress_bytes),
            metrics: Arc::new(Metrics::default()),
            pulse: Arc::new(Pulse::new()),
            account: Account::new(shared.admission.held.clone()),
            look_at: None,
            lent: 0,
            stage: Stage::Running,
            shared,
        })
    }

    pub(crate) fn outside(&self) -> Outside<H::Session> {
        Outside {
            commands: self.commands.clone(),
            connects: self.connects.clone(),
            metrics: self.metrics.clone(),
            pulse: self.pulse.clone(),
        }
    }

    /// Runs until the loop was shut down. Whatever ends it, every session is told.
    pub(crate) fn run(mut self) -> io::Result<()> {
        panics::enrol();
        let (mut events, mut result) = (self.kernel.events(), Ok(()));
        while result.is_ok() && !self.is_over() {
            result = caught(|| self.once(&mut events)).unwrap_or_else(|Panicked| self.fault());
        }
        self.pulse.work(self.kernel.now());
        let ended = self.end(&mut events);
        self.pulse.rest();
        result.and(ended)
    }

    /// What is no connection's panicked: the loop's tables are not to be trusted, but for where its connections are.
    #[cold]
    fn fault(&mut self) -> io::Result<()> {
        self.renew_buffers();
        Err(io::Error::other("an event loop panicked"))
    }

    /// Waits once, and does what there is to do.
    fn once(&mut self, events: &mut K::Events) -> io::Result<()> {
        self.kernel.wait(events, self.timeout())?;
        self.now = self.kernel.now();
        self.pulse.work(self.now);
        self.account.look();
        self.dispatch(events);
        self.go_on();
        self.watch_memory();
        self.keep_time();
        self.metrics.held.set(self.account.own());
        self.pulse.rest();
        Ok(())
    }

    /// How long nothing will have to be done.
    fn timeout(&self) -> Option<Duration> {
        if !(self.ready.is_empty() && self.put_off.is_empty() && self.greedy.is_empty()) {
            return Some(Duration::ZERO);
        }
        let retry = (!self.stalled.is_empty()).then(|| self.now + self.pool_retry);
        let rest = self.listening.as_ref().and_then(Listening::resting_until);
        let ending = self.stage.next_due();
        let next = [self.timers.next_due(), retry, rest, self.look_at, ending].into_iter().flatten().min()?;
        Some(next - self.kernel.now())
    }

    /// Clients that are being served come first: whatever else there is to do, they wait for one turn of it at most.
    fn dispatch(&mut self, events: &K::Events) {
        self.share_bytes = share(self.shared.config.limits.turn_bytes, count::<K>(events));
        let mut are_all = true;
        for (token, ready) in (0..).map_while(|index| K::event(events, index)) {
            if self.is_served(token) {
                self.on_event(Token::from_u64(token), ready);
            } else {
                are_all = false;
            }
        }
        if !are_all || !self.put_off.is_empty() {
            self.dispatch_others(events);
        }
        self.read_greedy();
    }

    /// Whether a token is that of a connection whose TLS handshake is over.
    fn is_served(&mut self, token: u64) -> bool {
        !matches!(token, LISTENER | MAILBOX)
            && self.connections.get_mut(Token::from_u64(token)).is_some_and(|it| !it.is_handshaking())
    }

    fn dispatch_others(&mut self, events: &K::Events) {
        let budget = self.shared.config.limits.turn_handshakes;
        // Where some wait already, others wait behind them.
        let (mut at_once, later) = if self.put_off.is_empty() { (budget, 0) } else { (0, budget) };
        for (token, ready) in (0..).map_while(|index| K::event(events, index)) {
            match token {
                LISTENER => self.accept(),
                MAILBOX => {
                    // Cleared first: what is pushed from here on wakes again.
                    self.waker.clear();
                    self.read_mail();
                }
                token if self.is_served(token) => {}
                token => self.on_handshake(Token::from_u64(token), ready, &mut at_once),
            }
        }
        if later > 0 {
            self.resume_handshakes(later);
        }
    }

    fn on_event(&mut self, token: Token, ready: Ready) {
        let ready = self.defer_reading(token, ready);
        if !ready.is_none() {
            self.turn(token, |connection, turn| connection.on_event(turn, ready));
        }
    }

    /// Gives one connection its turn, and files what comes of it.
    fn turn<F>(&mut self, token: Token, act: F)
    where
        F: FnOnce(&mut Connection<K::Socket, H::Session>, &mut Turn<'_, H>),
    {
        let Some(connection) = self.connections.get_mut(token) else { return };
        let limits = &self.shared.config.limits;
        let id = ConnectionId { event_loop: self.index, token };
        self.pulse.serve(id);
        self.outgoing.share = self.account.share_now(&self.shared.admission);
        let mut turn = Turn {
            context: Context {
                now: self.now,
                handler: &*self.shared.handler,
                config: &self.shared.config,
                metrics: &self.metrics,
                id,
                commands: &self.commands,
                pool: self.pool.as_ref(),
                buffers: &mut self.buffers,
                outgoing: &mut self.outgoing,
                frames_left: limits.turn_frames,
                bytes_left: self.share_bytes,
                lent: 0,
                between_messages: false,
                fate: Fate::Live,
                orphan: None,
            },
            wire: &mut self.wire,
        };
        let result = connection.take_turn(&mut turn, act);
        if turn.context.bytes_left == 0 || turn.context.frames_left == 0 {
            connection.registered.pace.overtake();
        }
        let (orphan, lent) = (turn.context.orphan.take(), turn.context.lent);
        let held = connection.held();
        self.account.settle(&mut connection.registered.held, held);
        if lent > 0 {
            self.settle_lent(self.lent + lent);
        }
        if let Some(close) = orphan {
            self.orphans.insert(token, close);
        }
        if result.is_err() {
            self.renew_buffers();
        }
        self.file(token);
        self.relieve();
    }

    /// A panic left them half done: nothing of that reaches another connection.
    #[cold]
    fn renew_buffers(&mut self) {
        (self.wire, self.buffers) = (Wire::new(), Buffers::default());
        self.outgoing.renew();
    }

    /// Brings the loop's tables up to date with a connection after its turn.
    fn file(&mut self, token: Token) {
        // Taken here, so that a request of a connection that is removed below is not filed for the next one.
        let timer_request = self.outgoing.timer.take();
        let Some(connection) = self.connections.get_mut(token) else { return };
        let draining = self.stage.is_draining();
        if connection.is_dead() || (draining && connection.is_settled()) {
            return self.remove(token);
        }
        let id = ConnectionId { event_loop: self.index, token };
        let limits = &self.shared.config.limits;
        let interest = connection.interest();
        let watched = connection.registered.interest.replace(interest);
        if watched != Some(interest) {
            let (socket, token_bits) = (&connection.link.socket, token.to_u64());
            let result = match watched {
                Some(_) => self.kernel.modify(socket, token_bits, interest),
                None => self.kernel.add(socket, token_bits, interest),
            };
            if let Err(error) = result {
                let cause = CloseCause::Lost(error.kind());
                return self.turn(token, |connection, turn| connection.abandon(turn, cause));
            }
        }
        let due = connection.deadline(limits, id).round_up(DEADLINE_STEP);
        connection.registered.await_deadline(&mut self.timers, token, due);
        if let Some(request) = timer_request {
            let due = match request {
                TimerRequest::At(at) => Some(self.kernel.time(at)),
                TimerRequest::Cancel => None,
            };
            connection.registered.set_user_timer(&mut self.timers, token, due);
        }
        if connection.is_ready() && !connection.registered.in_ready_list {
            connection.registered.in_ready_list = true;
            self.ready.push_back(token);
        }
        if connection.channel.is_waiting_for_room() && !connection.registered.in_stalled_list {
            connection.registered.in_stalled_list = true;
            self.stalled.push_back(token);
        }
    }

    fn remove(&mut self, token: Token) {
        let Some(mut connection) = self.connections.remove(token) else { return };
        self.account.settle(&mut connection.registered.held, 0);
        connection.registered.disarm(&mut self.timers);
        let end = connection.ended_as();
        // Who sees it counted finds its place free.
        drop(connection);
        self.ebb.watch(self.connections.len());
        self.metrics.count_close(end);
    }

    fn register(&mut self, mut connection: Connection<K::Socket, H::Session>, place: Place) {
        connection.registered.place = Some(place);
        let held = connection.held();
        self.account.settle(&mut connection.registered.held, held);
        let token = self.connections.insert(connection);
        self.ebb.rise(self.connections.len());
        self.file(token);
    }

    /// Goes on with connections that have more to do without an event.
    fn go_on(&mut self) {
        for _ in 0..self.ready.len().min(TURN_READY) {
            let Some(token) = self.ready.pop_front() else { break };
            if let Some(connection) = self.connections.get_mut(token) {
                connection.registered.in_ready_list = false;
                self.turn(token, |connection, turn| connection.on_ready(turn));
            }
        }
        for _ in 0..self.stalled.len() {
            if !self.pool.as_ref().is_some_and(Pool::has_room) {
                self.pool_retry = (2 * self.pool_retry).min(POOL_RETRY_MAX);
                self.forget_stalled();
                break;
            }
            self.pool_retry = POOL_RETRY;
            let Some(token) = self.stalled.pop_front() else { break };
            if let Some(connection) = self.connections.get_mut(token) {
                connection.registered.in_stalled_list = false;
                self.turn(token, |connection, turn| connection.on_room(turn));
            }
        }
    }

    /// Where handlers do not return, connections come, wait and go: the list keeps no more of them than live.
    fn forget_stalled(&mut self) {
        if self.stalled.len() > 2 * self.connections.len() {
            self.stalled.retain(|token| self.connections.get_mut(*token).is_some());
        }
    }

    fn keep_time(&mut self) {
        self.timers.advance(self.now);
        while let Some(Fired { token, kind }) = self.timers.next_fired() {
            let token = Token::from_u64(token);
            let Some(connection) = self.connections.get_mut(token) else { continue };
            match kind {
                TimerKind::Deadline => {
                    connection.registered.deadline = None;
                    self.turn(token, |connection, turn| connection.on_deadline(turn));
                }
                TimerKind::User => {
                    connection.registered.user_timer = None;
                    self.turn(token, |connection, turn| connection.on_user_timer(turn));
                }
            }
        }
        self.say_farewell();
        let now = self.now;
        if self.listening.as_mut().is_some_and(|listening| listening.end_rest(&self.kernel, now)) {
            // Also where nobody waits: it shows that connections can be had again.
            self.accept();
        }
    }
}

#[cfg(test)]
mod simulation;
fn count<K: Kernel>(events: &K::Events) -> usize {
    (0..).take_while(|index| K::event(events, *index).is_some()).count()
}

/// The share of each of `ready` connections, at most `most`.
fn share(most: usize, ready: usize) -> usize {
    most.min((BATCH_BYTES / ready.max(1)).max(SHARE_MIN))
}

#[cfg(test)]
mod tests;
