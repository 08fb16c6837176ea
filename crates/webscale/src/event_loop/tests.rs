//! What only a loop can get wrong: its tables, its timers, its end.

use std::sync::Mutex;

use webscale_proto::{Message, Role};
use webscale_sys::{Events, Listener, Poller, TcpSocket};

use super::*;
use crate::limits::Limits;
use crate::peer::Peer;
use crate::{Accept, Reject, Request};

/// Counts what it is told.
#[derive(Default)]
struct Counting {
    ends: Mutex<Vec<String>>,
}

impl Handler for Counting {
    type Session = ();

    fn open(&self, _: &Request<'_>) -> Result<Accept<()>, Reject> {
        Ok(().into())
    }

    fn message(&self, _: &mut Peer<'_, ()>, _: Message<'_>) {}

    fn close(&self, _: (), close: Close) {
        self.ends.lock().expect("no panic while it is held").push(close.to_string());
    }
}

/// A loop that nobody runs, and the far ends of its connections.
struct Bench {
    event_loop: EventLoop<Counting>,
    listener: Listener,
    peers: Vec<TcpSocket>,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        let shared = Shared {
            handler: Arc::new(Counting::default()),
            admission: Admission::new(&limits),
            config: Config::new(Role::Server, limits, None),
            tls: None,
        };
        let event_loop = EventLoop::new(0, Arc::new(shared), Linux::new().expect("descriptors"), None, None)
            .expect("descriptors");
        let listener = Listener::bind("127.0.0.1:0".parse().expect("an address"), 16, false).expect("a port");
        Self { event_loop, listener, peers: Vec::new() }
    }

    /// One more connection; its token.
    fn connect(&mut self) -> Token {
        let known = self.event_loop.connections.tokens();
        let address = self.listener.local_addr().expect("it listens");
        self.peers.push(TcpSocket::connect(address, None).expect("it listens"));
        let poller = Poller::new().expect("a descriptor");
        poller.add(&self.listener, 0, Interest::READ).expect("room");
        poller.wait(&mut Events::with_capacity(1), None).expect("no signal");
        let (socket, from) = self.listener.accept().expect("a connection");
        self.event_loop.accepted(socket, from);
        let tokens = self.event_loop.connections.tokens();
        *tokens.iter().find(|token| !known.contains(token)).expect("a new connection")
    }

    /// One more connection, through the upgrade.
    fn open(&mut self) -> Token {
        let token = self.connect();
        let peer = self.peers.last().expect("just connected");
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        assert_eq!(peer.send(request).expect("room"), request.len());
        let ready = Ready { readable: true, writable: true, hung_up: false };
        let is_open = |connection: &mut Connection<TcpSocket, ()>| connection.channel.is_open();
        while !self.event_loop.connections.get_mut(token).is_some_and(is_open) {
            self.event_loop.on_event(token, ready, &mut 1);
        }
        token
    }

    /// How many clients were told to go.
    fn told(&mut self) -> usize {
        let tokens = self.event_loop.connections.tokens();
        let connections = &mut self.event_loop.connections;
        let is_told = |token: &&Token| connections.get_mut(**token).is_some_and(|it| it.channel.is_closing());
        tokens.iter().filter(is_told).count()
    }

    /// Has the user's timer of a connection armed, as a handler does.
    fn set_timer(&mut self, token: Token, due: Time) {
        let timer = self.event_loop.timers.arm(due, token.to_u64(), TimerKind::User);
        let connection = self.event_loop.connections.get_mut(token).expect("it lives");
        connection.registered.user_timer = Some(timer);
    }

    fn keep_time(&mut self, now: Time) {
        self.event_loop.now = now;
        self.event_loop.keep_time();
    }
}

#[test]
fn a_connection_that_ends_while_both_its_timers_are_due_leaves_the_others_alone() {
    let second = Duration::from_secs(1);
    let mut bench = Bench::new(Limits { handshake_time: second, close_time: second, ..Limits::default() });
    let tokens = [bench.connect(), bench.connect()];
    // Their clients say nothing, are told so, and are then given a second to go.
    let told = Time::default() + 2 * second;
    bench.keep_time(told);
    let late = told + 10 * second;
    // Whichever of the two timers is looked at first.
    bench.set_timer(tokens[0], told + second / 2);
    bench.set_timer(tokens[1], told + second * 3 / 2);
    bench.keep_time(told + 2 * second);
    assert_eq!(bench.event_loop.connections.len(), 0);
    // No timer is left, and no node was given back twice: each of these has its own.
    assert!(bench.event_loop.timers.next_due().is_none());
    for token in 0..8 {
        bench.event_loop.timers.arm(late, token, TimerKind::User);
    }
    let mut fired = Vec::new();
    bench.event_loop.timers.advance(late + second);
    while let Some(next) = bench.event_loop.timers.next_fired() {
        fired.push(next.token);
    }
    fired.sort_unstable();
    assert_eq!(fired, (0..8).collect::<Vec<_>>());
}

#[test]
fn a_shutdown_tells_clients_one_after_the_other_and_drops_who_is_not_open() {
    let second = Duration::from_secs(1);
    let limits = Limits { shutdown_spread: 8 * second, close_time: 100 * second, ..Limits::default() };
    let mut bench = Bench::new(limits);
    let tokens: Vec<_> = (0..4).map(|_| bench.open()).collect();
    bench.connect();
    let begun = Time::default() + 5 * second;
    bench.keep_time(begun);
    bench.event_loop.shut_down();
    assert_eq!(bench.event_loop.connections.len(), 4, "the one that is not open is gone");
    for seconds in 0..10_u32 {
        bench.keep_time(begun + second * seconds);
        assert_eq!(bench.told(), (seconds as usize / 2 + 1).min(4));
        let next = Some(2 * (seconds / 2 + 1)).filter(|next| *next < 8).unwrap_or(10);
        assert_eq!(bench.event_loop.stage.next_due(), Some(begun + second * next));
        assert!(!bench.event_loop.is_over());
    }
    // Who left meanwhile needs no telling, and who does not leave is not awaited for ever.
    bench.keep_time(begun + 10 * second);
    assert!(bench.event_loop.is_over() && tokens.len() == 4);
}

#[test]
fn a_shutdown_whose_clients_have_all_gone_before_they_were_told_is_over() {
    let second = Duration::from_secs(1);
    let mut bench = Bench::new(Limits { shutdown_spread: 8 * second, ..Limits::default() });
    let tokens: Vec<_> = (0..4).map(|_| bench.open()).collect();
    bench.event_loop.shut_down();
    for token in tokens {
        assert!(!bench.event_loop.is_over());
        bench.event_loop.turn(token, |connection, turn| connection.abandon(turn, CloseCause::Peer));
    }
    assert!(bench.event_loop.is_over());
}
