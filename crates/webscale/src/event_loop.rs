//! The event loop: one thread, one epoll instance, and everything that its connections share.
//!
//! A connection never leaves its loop, so nothing on the way of a byte is locked. Other threads reach a loop by its two
//! mailboxes and the eventfd that announces them.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use webscale_proto::CloseCode;
use webscale_sys::{Events, Interest, Listener, Poller, TcpSocket, Waker};

use crate::admission::{Admission, Place};
use crate::clock::{Clock, Time};
use crate::close::{Close, CloseCause};
use crate::connection::{Config, Connection, Context, Dial, Fate, Ready, Turn, Wire, call_close};
use crate::deflate::Decompression;
use crate::handler::Handler;
use crate::mailbox::Mailbox;
use crate::metrics::Metrics;
use crate::peer::{ConnectionId, Outgoing, TimerRequest};
use crate::sender::Command;
use crate::slots::{Slots, Token};
use crate::target::Target;
use crate::timer::{Fired, TimerKind, Wheel};
use crate::tls::{Tls, TlsStream};
use crate::worker::{Done, Job, Pool, Workers};

// Tokens that are no connection's: the highest indices, which no slot reaches.
const LISTENER: u64 = u32::MAX as u64;
const MAILBOX: u64 = u32::MAX as u64 - 1;

const EVENTS: usize = 1024;
/// Deadlines of our own need no precision, and are bundled.
const DEADLINE_STEP: Duration = Duration::from_millis(64);
/// How long accepting rests when there is no descriptor left.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// How soon a full workers' queue is tried again.
const POOL_RETRY: Duration = Duration::from_millis(1);

/// A connection to be made, asked for by another thread.
pub(crate) struct Connect<S> {
    pub(crate) target: Arc<Target>,
    pub(crate) source: Option<IpAddr>,
    pub(crate) session: S,
    /// [`Target::begin_tls`], by pointer: a program that only serves then links no TLS client.
    pub(crate) begin_tls: BeginTls,
}

type BeginTls = fn(&Target) -> Result<Option<TlsStream>, rustls::Error>;

/// What other threads see of a loop.
pub(crate) struct Outside<S> {
    pub(crate) commands: Arc<Mailbox<Command>>,
    pub(crate) connects: Arc<Mailbox<Connect<S>>>,
    pub(crate) metrics: Arc<Metrics>,
}

/// What all loops of a server share.
pub(crate) struct Shared<H> {
    pub(crate) handler: Arc<H>,
    pub(crate) config: Config,
    pub(crate) tls: Option<Tls>,
    pub(crate) admission: Arc<Admission>,
}

/// A listening socket, and what keeps it from being read.
struct Listening {
    listener: Listener,
    /// Given up for a moment when there is no descriptor left, so that a connection can be accepted and closed.
    spare: Option<Waker>,
    resting_until: Option<Time>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Running,
    /// Every connection was told; what is still open at this time is dropped.
    Draining(Time),
    Ended,
}

/// Empty lists, to be swapped for those that the mailboxes have filled.
struct Mail<S> {
    commands: VecDeque<Command>,
    connects: VecDeque<Connect<S>>,
    done: VecDeque<Done<S>>,
}

pub(crate) struct EventLoop<H: Handler> {
    index: u32,
    shared: Arc<Shared<H>>,
    poller: Poller,
    waker: Arc<Waker>,
    listening: Option<Listening>,
    commands: Arc<Mailbox<Command>>,
    connects: Arc<Mailbox<Connect<H::Session>>>,
    done: Arc<Mailbox<Done<H::Session>>>,
    mail: Mail<H::Session>,
    pool: Option<Pool<H::Session>>,
    connections: Slots<Connection<TcpSocket, H::Session>>,
    /// How the connections ended whose sessions are with workers.
    orphans: HashMap<Token, Close>,
    timers: Wheel,
    /// Connections with received bytes to go through.
    ready: VecDeque<Token>,
    /// Connections with a message that the workers' queue had no room for.
    stalled: VecDeque<Token>,
    clock: Clock,
    now: Time,
    wire: Wire,
    scratch: Vec<u8>,
    decompression: Decompression,
    outgoing: Outgoing,
    metrics: Arc<Metrics>,
    stage: Stage,
}

impl<H: Handler> EventLoop<H> {
    pub(crate) fn new(
        index: usize,
        shared: Arc<Shared<H>>,
        listener: Option<Listener>,
        workers: Option<&Workers<H::Session>>,
    ) -> io::Result<Self> {
        let limits = &shared.config.limits;
        let (poller, waker) = (Poller::new()?, Arc::new(Waker::new()?));
        poller.add(&*waker, MAILBOX, Interest::READ)?;
        let listening = match listener {
            Some(listener) => {
                poller.add(&listener, LISTENER, Interest::READ)?;
                Some(Listening { listener, spare: Some(Waker::new()?), resting_until: None })
            }
            None => None,
        };
        let done = Arc::new(Mailbox::new(waker.clone(), usize::MAX, usize::MAX));
        Ok(Self {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            poller,
            listening,
            commands: Arc::new(Mailbox::new(waker.clone(), limits.mailbox_items, limits.mailbox_bytes)),
            connects: Arc::new(Mailbox::new(waker.clone(), limits.mailbox_items, usize::MAX)),
            pool: workers.map(|workers| workers.pool(done.clone())),
            done,
            mail: Mail { commands: VecDeque::new(), connects: VecDeque::new(), done: VecDeque::new() },
            waker,
            connections: Slots::new(),
            orphans: HashMap::new(),
            timers: Wheel::new(),
            ready: VecDeque::new(),
            stalled: VecDeque::new(),
            clock: Clock::start(),
            now: Time::default(),
            wire: Wire::new(),
            scratch: Vec::new(),
            decompression: Decompression::default(),
            outgoing: Outgoing::new(shared.config.role, limits.egress_bytes),
            metrics: Arc::new(Metrics::default()),
            stage: Stage::Running,
            shared,
        })
    }

    pub(crate) fn outside(&self) -> Outside<H::Session> {
        Outside {
            commands: self.commands.clone(),
            connects: self.connects.clone(),
            metrics: self.metrics.clone(),
        }
    }

    /// Runs until the loop was shut down.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let result = loop {
            if let Err(error) = self.poller.wait(&mut events, self.timeout()) {
                break Err(error);
            }
            self.now = self.clock.now();
            self.dispatch(&events);
            self.go_on();
            self.keep_time();
            if self.is_over() {
                break Ok(());
            }
        };
        self.end();
        result
    }

    /// How long nothing will have to be done.
    fn timeout(&self) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let retry = (!self.stalled.is_empty()).then(|| self.now + POOL_RETRY);
        let rest = self.listening.as_ref().and_then(|listening| listening.resting_until);
        let drained = match self.stage {
            Stage::Draining(until) => Some(until),
            Stage::Running | Stage::Ended => None,
        };
        let next = [self.timers.next_due(), retry, rest, drained].into_iter().flatten().min()?;
        Some(next - self.clock.now())
    }

    fn dispatch(&mut self, events: &Events) {
        let mut handshakes = self.shared.config.limits.turn_handshakes;
        for event in (0..events.len()).filter_map(|index| events.get(index)) {
            match event.token {
                LISTENER => self.accept(),
                MAILBOX => {
                    // Cleared first: what is pushed from here on wakes again.
                    self.waker.clear();
                    self.read_mail();
                }
                token => {
                    let ready = Ready {
                        readable: event.readiness.readable(),
                        writable: event.readiness.writable(),
                        hung_up: event.readiness.hung_up(),
                    };
                    self.on_event(Token::from_u64(token), ready, &mut handshakes);
                }
            }
        }
    }

    fn on_event(&mut self, token: Token, ready: Ready, handshakes: &mut u32) {
        let Some(connection) = self.connections.get_mut(token) else { return };
        if connection.is_handshaking() {
            // Level-triggered: what has no budget now is reported again.
            let Some(left) = handshakes.checked_sub(1) else { return };
            *handshakes = left;
        }
        self.turn(token, |connection, turn| connection.on_event(turn, ready));
    }

    /// Gives one connection its turn, and files what comes of it.
    fn turn<F>(&mut self, token: Token, act: F)
    where
        F: FnOnce(&mut Connection<TcpSocket, H::Session>, &mut Turn<'_, H>),
    {
        let Some(connection) = self.connections.get_mut(token) else { return };
        let limits = &self.shared.config.limits;
        let id = ConnectionId { event_loop: self.index, token };
        let mut turn = Turn {
            context: Context {
                now: self.now,
                handler: &*self.shared.handler,
                config: &self.shared.config,
                metrics: &self.metrics,
                id,
                commands: &self.commands,
                pool: self.pool.as_ref(),
                scratch: &mut self.scratch,
                decompression: &mut self.decompression,
                outgoing: &mut self.outgoing,
                frames_left: limits.turn_frames,
                between_messages: false,
                fate: Fate::Live,
                orphan: None,
            },
            wire: &mut self.wire,
        };
        act(connection, &mut turn);
        if let Some(close) = turn.context.orphan.take() {
            self.orphans.insert(token, close);
        }
        self.file(token);
    }

    /// Brings the loop's tables up to date with a connection after its turn.
    fn file(&mut self, token: Token) {
        // Taken here, so that a request of a connection that is removed below is not filed for the next one.
        let timer_request = self.outgoing.timer.take();
        let Some(connection) = self.connections.get_mut(token) else { return };
        let draining = matches!(self.stage, Stage::Draining(_));
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
                Some(_) => self.poller.modify(socket, token_bits, interest),
                None => self.poller.add(socket, token_bits, interest),
            };
            if let Err(error) = result {
                let cause = CloseCause::Lost(error.kind());
                return self.turn(token, |connection, turn| connection.abandon(turn, cause));
            }
        }
        // A deadline that moved away is left as it is, and looked at when it fires.
        let due = connection.deadline(limits, id).round_up(DEADLINE_STEP);
        if connection.registered.deadline.is_none_or(|(_, armed)| due < armed) {
            if let Some((timer, _)) = connection.registered.deadline {
                self.timers.cancel(timer);
            }
            let timer = self.timers.arm(due, token.to_u64(), TimerKind::Deadline);
            connection.registered.deadline = Some((timer, due));
        }
        if let Some(request) = timer_request {
            if let Some(timer) = connection.registered.user_timer.take() {
                self.timers.cancel(timer);
            }
            if let TimerRequest::At(at) = request {
                let due = self.clock.time(at);
                connection.registered.user_timer =
                    Some(self.timers.arm(due, token.to_u64(), TimerKind::User));
            }
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
        let Some(connection) = self.connections.remove(token) else { return };
        if let Some((timer, _)) = connection.registered.deadline {
            self.timers.cancel(timer);
        }
        if let Some(timer) = connection.registered.user_timer {
            self.timers.cancel(timer);
        }
        let end = connection.ended_as();
        // Who sees it counted finds its place free.
        drop(connection);
        self.metrics.count_close(end);
    }

    /// Takes connections from the backlog, as many as a turn allows.
    fn accept(&mut self) {
        for _ in 0..self.shared.config.limits.turn_accepts {
            let Some(listening) = &self.listening else { return };
            match listening.listener.accept() {
                Ok((socket, peer_addr)) => self.accepted(socket, peer_addr),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_exhausted(&error) => return self.rest(),
                // The connection was gone before it was taken.
                Err(_) => {}
            }
        }
    }

    /// A connection came, and is closed where a limit refuses it.
    fn accepted(&mut self, socket: TcpSocket, peer_addr: SocketAddr) {
        let (place, handshake) = match self.shared.admission.admit(peer_addr.ip()) {
            Ok(admitted) => admitted,
            // Counted before the client sees it.
            Err(refusal) => return self.metrics.count_refusal(refusal),
        };
        self.metrics.accepted.add(1);
        let tls = match self.shared.tls.as_ref().map(Tls::accept).transpose() {
            Ok(tls) => tls,
            Err(error) => {
                log::error!("TLS cannot begin: {error}");
                self.metrics.count_close(CloseCause::Tls(error).kind());
                return;
            }
        };
        let limits = &self.shared.config.limits;
        let mut connection = Connection::accepted(socket, tls, peer_addr, self.now, limits);
        connection.channel.admitted(handshake);
        self.register(connection, place);
    }

    fn register(&mut self, mut connection: Connection<TcpSocket, H::Session>, place: Place) {
        connection.registered.place = Some(place);
        let token = self.connections.insert(connection);
        self.file(token);
    }

    /// No descriptor is left: takes one connection with the spare descriptor and closes it, so that a client sees an
    /// end and not silence, and lets the rest wait in the backlog for a moment.
    fn rest(&mut self) {
        let Some(listening) = &mut self.listening else { return };
        listening.spare = None;
        drop(listening.listener.accept());
        listening.spare = Waker::new().ok();
        listening.resting_until = Some(self.now + ACCEPT_REST);
        self.metrics.accept_pauses.add(1);
        // Fails only where the listener is not watched, which is what is wanted.
        let _ = self.poller.modify(&listening.listener, LISTENER, Interest::default());
    }

    fn end_rest(&mut self) {
        if let Some(listening) = &mut self.listening
            && listening.resting_until.is_some_and(|until| until <= self.now)
        {
            listening.resting_until = None;
            if listening.spare.is_none() {
                listening.spare = Waker::new().ok();
            }
            let _ = self.poller.modify(&listening.listener, LISTENER, Interest::READ);
        }
    }

    /// Does what other threads asked for.
    fn read_mail(&mut self) {
        let mut commands = std::mem::take(&mut self.mail.commands);
        self.commands.take(&mut commands);
        for command in commands.drain(..) {
            self.obey(command);
        }
        self.mail.commands = commands;
        let mut connects = std::mem::take(&mut self.mail.connects);
        self.connects.take(&mut connects);
        for connect in connects.drain(..) {
            self.connect(connect);
        }
        self.mail.connects = connects;
        self.read_done();
    }

    fn read_done(&mut self) {
        let mut list = std::mem::take(&mut self.mail.done);
        self.done.take(&mut list);
        for done in list.drain(..) {
            self.done(done);
        }
        self.mail.done = list;
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Send(id, parcel) => {
                self.turn(id.token, |connection, turn| connection.on_send(turn, parcel));
            }
            Command::Close(id, code, reason) => {
                self.turn(id.token, |connection, turn| {
                    connection.on_close(turn, code, &reason, CloseCause::Local);
                });
            }
            Command::Shutdown => self.shut_down(),
            Command::Abort => self.stage = Stage::Ended,
        }
    }

    fn connect(&mut self, connect: Connect<H::Session>) {
        let Connect { target, source, session, begin_tls } = connect;
        let handler = self.shared.handler.clone();
        let refuse =
            |session, cause| call_close(&*handler, session, Close::new(CloseCode::ABNORMAL, "", cause));
        if self.stage != Stage::Running {
            return refuse(session, CloseCause::Shutdown);
        }
        let tls = match begin_tls(&target) {
            Ok(tls) => tls,
            Err(error) => return refuse(session, CloseCause::Tls(error)),
        };
        let limits = &self.shared.config.limits;
        let mut dial = Dial::new(target, source, self.now + limits.handshake_time);
        let nowhere = || Err(io::ErrorKind::AddrNotAvailable.into());
        match dial.next(self.now).unwrap_or_else(nowhere) {
            Ok(first) => {
                self.metrics.connected.add(1);
                let connection = Connection::connecting(first, tls, dial, session, self.now, limits);
                let place = self.shared.admission.enter();
                self.register(connection, place);
            }
            Err(error) => refuse(session, CloseCause::Connect(error)),
        }
    }

    fn done(&mut self, done: Done<H::Session>) {
        let token = done.id.token;
        match self.orphans.remove(&token) {
            Some(close) => call_close(&*self.shared.handler, done.session, close),
            None => self.turn(token, |connection, turn| connection.on_done(turn, done)),
        }
    }

    /// Goes on with connections that have more to do without an event.
    fn go_on(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(token) = self.ready.pop_front() else { break };
            if let Some(connection) = self.connections.get_mut(token) {
                connection.registered.in_ready_list = false;
                self.turn(token, |connection, turn| connection.on_ready(turn));
            }
        }
        for _ in 0..self.stalled.len() {
            if !self.pool.as_ref().is_some_and(Pool::has_room) {
                break;
            }
            let Some(token) = self.stalled.pop_front() else { break };
            if let Some(connection) = self.connections.get_mut(token) {
                connection.registered.in_stalled_list = false;
                self.turn(token, |connection, turn| connection.on_room(turn));
            }
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
        self.end_rest();
    }

    /// Stops accepting, and tells every client.
    fn shut_down(&mut self) {
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

    fn is_over(&self) -> bool {
        match self.stage {
            Stage::Running => false,
            Stage::Draining(until) => {
                (self.connections.len() == 0 && self.orphans.is_empty()) || self.now >= until
            }
            Stage::Ended => true,
        }
    }

    /// Drops what is still open, and tells the handler. Sessions that are with workers are awaited.
    fn end(&mut self) {
        // Its readiness would also keep the waits below from waiting.
        self.listening = None;
        self.commands.close();
        for Connect { session, .. } in self.connects.close() {
            let close = Close::new(CloseCode::ABNORMAL, "", CloseCause::Shutdown);
            call_close(&*self.shared.handler, session, close);
        }
        for token in self.connections.tokens() {
            self.turn(token, |connection, turn| connection.abandon(turn, CloseCause::Shutdown));
        }
        let withdrawn = self.pool.as_ref().map(|pool| pool.withdraw(self.index)).unwrap_or_default();
        for Job { id, session, .. } in withdrawn {
            if let Some(close) = self.orphans.remove(&id.token) {
                call_close(&*self.shared.handler, session, close);
            }
        }
        let mut events = Events::with_capacity(1);
        loop {
            self.read_done();
            if self.orphans.is_empty() || self.poller.wait(&mut events, None).is_err() {
                return;
            }
            self.waker.clear();
        }
    }
}

/// EMFILE, ENFILE, ENOBUFS, ENOMEM: the next accept would fail as well.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(12 | 23 | 24 | 105))
}

#[cfg(test)]
mod tests;
