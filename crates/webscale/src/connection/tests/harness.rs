//! A connection with the parts of a loop that it needs, and time that moves when the test says so.

use std::cell::{RefCell, RefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use webscale_proto::{CloseCode, Role};
use webscale_sys::Waker;

use super::recorder::{Recorder, Seen};
use super::socket::{End, FakeSocket, Line};
use super::wire::{self, Item};
use crate::clock::Time;
use crate::close::{Close, CloseCause, CloseKind};
use crate::connection::{Buffers, Config, Connection, Context, Dial, Fate, Turn, Wire};
use crate::limits::Limits;
use crate::mailbox::Mailbox;
use crate::metrics::Metrics;
use crate::peer::{ConnectionId, Outgoing, TimerRequest};
use crate::sender::{Command, OwnedMessage, Parcel};
use crate::slots::Token;
use crate::target::Target;
use crate::tls::TlsStream;
use crate::worker::Pool;

pub(super) struct World {
    pub(super) handler: Recorder,
    pub(super) config: Config,
    pub(super) metrics: Metrics,
    pub(super) connection: Connection<FakeSocket, u64>,
    pub(super) now: Time,
    pub(super) pool: Option<Pool<u64>>,
    /// How the connection ended while a worker had its session.
    pub(super) orphan: Option<Close>,
    /// What the handler asked of its timer in the last turn.
    pub(super) timer: Option<TimerRequest>,
    pub(super) turns: usize,
    pub(super) id: ConnectionId,
    line: Rc<RefCell<Line>>,
    wire: Wire,
    buffers: Buffers,
    outgoing: Outgoing,
    commands: Arc<Mailbox<Command>>,
}

impl World {
    /// A server's side of a fresh TCP connection.
    pub(super) fn server(limits: Limits) -> Self {
        Self::accepted(limits, None)
    }

    pub(super) fn accepted(limits: Limits, tls: Option<TlsStream>) -> Self {
        let address = "192.0.2.1:4711".parse().expect("an address");
        Self::new(Role::Server, limits, |socket, _, now, limits| {
            Connection::accepted(socket, tls, address, now, limits)
        })
    }

    /// A client's side of a connect that is under way.
    pub(super) fn connecting(limits: Limits, tls: Option<TlsStream>, target: Target) -> Self {
        Self::new(Role::Client, limits, |socket, handler, now, limits| {
            let until = now + limits.handshake_time;
            let mut dial = Dial::new(Arc::new(target), None, until);
            // The test's socket takes the place of this one.
            drop(dial.next::<FakeSocket>(now));
            Connection::connecting((socket, until), tls, dial, handler.session(), now, limits)
        })
    }

    fn new<F>(role: Role, limits: Limits, make: F) -> Self
    where
        F: FnOnce(FakeSocket, &Recorder, Time, &Limits) -> Connection<FakeSocket, u64>,
    {
        let (socket, handler) = (FakeSocket::new(), Recorder::default());
        let line = socket.0.clone();
        let now = Time::default() + Duration::from_secs(1000);
        let connection = make(socket, &handler, now, &limits);
        let waker = Arc::new(Waker::new().expect("a descriptor"));
        Self {
            handler,
            metrics: Metrics::default(),
            connection,
            now,
            pool: None,
            orphan: None,
            timer: None,
            turns: 0,
            id: ConnectionId { event_loop: 0, token: Token::from_u64(0x5_0000_0003) },
            line,
            wire: Wire::new(),
            buffers: Buffers::default(),
            outgoing: Outgoing::new(role, limits.egress_bytes),
            commands: Arc::new(Mailbox::new(waker, 16, usize::MAX)),
            config: Config::new(role, limits, None),
        }
    }

    /// A server's side with the opening handshake done and out of sight.
    pub(super) fn open(limits: Limits) -> Self {
        let mut world = Self::server(limits);
        world.receive(&wire::request("/"));
        assert!(world.sent().starts_with(b"HTTP/1.1 101"));
        assert_eq!(world.seen(), [Seen::Opened]);
        world
    }

    pub(super) fn line(&self) -> RefMut<'_, Line> {
        self.line.borrow_mut()
    }

    /// One turn, as the loop gives it, and what must hold behind every turn.
    pub(super) fn turn<F>(&mut self, act: F)
    where
        F: FnOnce(&mut Connection<FakeSocket, u64>, &mut Turn<'_, Recorder>),
    {
        let mut turn = Turn {
            context: Context {
                now: self.now,
                handler: &self.handler,
                config: &self.config,
                metrics: &self.metrics,
                id: self.id,
                commands: &self.commands,
                pool: self.pool.as_ref(),
                buffers: &mut self.buffers,
                outgoing: &mut self.outgoing,
                frames_left: self.config.limits.turn_frames,
                bytes_left: self.config.limits.turn_bytes,
                lent: 0,
                between_messages: false,
                fate: Fate::Live,
                orphan: None,
            },
            wire: &mut self.wire,
        };
        act(&mut self.connection, &mut turn);
        if let Some(close) = turn.context.orphan.take() {
            assert!(self.orphan.replace(close).is_none(), "orphaned twice");
        }
        self.timer = self.outgoing.timer.take();
        self.turns += 1;
        assert!(self.outgoing.frames.is_empty(), "bytes of this connection would reach the next one");
        assert!(
            self.wire.sealed.as_slice().is_empty(),
            "records of this connection would reach the next one"
        );
        assert!(self.closes() <= self.handler.sessions.load(Relaxed), "closed twice");
    }

    pub(super) fn closes(&self) -> usize {
        self.handler.closes.load(Relaxed)
    }

    /// Gives turns for as long as the loop would, without time passing.
    pub(super) fn pump(&mut self) {
        for _ in 0..200_000 {
            let (ready, interest) = (self.line.borrow().ready(), self.connection.interest());
            let readable = ready.readable && interest.read;
            let writable = ready.writable && interest.write;
            if self.connection.is_dead() {
                return self.check_dead();
            } else if readable || writable || ready.hung_up {
                let ready = super::super::Ready { readable, writable, hung_up: ready.hung_up };
                self.turn(|connection, turn| connection.on_event(turn, ready));
            } else if self.connection.is_ready() {
                self.turn(|connection, turn| connection.on_ready(turn));
            } else {
                return;
            }
        }
        panic!("the connection spins: {:?}", self.line.borrow());
    }

    fn check_dead(&self) {
        if self.orphan.is_none() {
            assert_eq!(self.closes(), self.handler.sessions.load(Relaxed), "not every session was closed");
        }
    }

    /// Bytes arrive.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.line.borrow_mut().arriving.extend(bytes);
        self.pump();
    }

    /// The peer's direction ends.
    pub(super) fn end(&mut self, end: End) {
        self.line.borrow_mut().end = Some(end);
        self.pump();
    }

    /// Too much is held for all, unless it is `usize::MAX`.
    pub(super) fn set_share(&mut self, share: usize) {
        self.outgoing.share = share;
    }

    /// Room in the socket.
    pub(super) fn set_room(&mut self, room: usize) {
        self.line.borrow_mut().room = room;
        self.pump();
    }

    /// Time passes; deadlines fall due one after the other.
    pub(super) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        for _ in 0..100_000 {
            let due = self.connection.deadline(&self.config.limits, self.id);
            if self.connection.is_dead() || due > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(due);
            self.turn(|connection, turn| connection.on_deadline(turn));
            self.pump();
        }
        panic!("a deadline does not move");
    }

    pub(super) fn send(&mut self, text: &str) {
        self.parcel(Parcel::Message(OwnedMessage::Text(text.into())));
    }

    pub(super) fn parcel(&mut self, parcel: Parcel) {
        self.turn(|connection, turn| connection.on_send(turn, parcel));
        self.pump();
    }

    pub(super) fn close(&mut self, code: CloseCode, reason: &str, cause: CloseCause) {
        self.turn(|connection, turn| connection.on_close(turn, code, reason, cause));
        self.pump();
    }

    pub(super) fn user_timer(&mut self) {
        self.turn(|connection, turn| connection.on_user_timer(turn));
        self.pump();
    }

    /// What the handler saw since this was last asked.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.handler.take()
    }

    /// What was sent since this was last asked.
    pub(super) fn sent(&self) -> Vec<u8> {
        std::mem::take(&mut self.line.borrow_mut().sent)
    }

    /// Changes what is the thread's with another connection.
    pub(super) fn swap_thread(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.buffers, &mut other.buffers);
        std::mem::swap(&mut self.outgoing, &mut other.outgoing);
    }

    /// The same as frames.
    pub(super) fn items(&self) -> Vec<Item> {
        let peer = match self.config.role {
            Role::Server => Role::Client,
            Role::Client => Role::Server,
        };
        wire::items(peer, &self.sent())
    }

    pub(super) fn is_dead(&self) -> bool {
        self.connection.is_dead()
    }

    /// Our direction has ended, and the peer's is awaited.
    pub(super) fn is_lingering(&self) -> bool {
        matches!(self.connection.link.phase(), super::super::Phase::Lingering { .. })
            && self.line.borrow().shut
    }

    pub(super) fn ended_as(&self) -> CloseKind {
        self.connection.ended_as()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() || self.pool.is_some() {
            return;
        }
        if !self.is_dead() {
            self.turn(|connection, turn| connection.abandon(turn, CloseCause::Shutdown));
        }
        assert!(self.is_dead());
        self.check_dead();
    }
}
