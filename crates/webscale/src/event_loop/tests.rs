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
