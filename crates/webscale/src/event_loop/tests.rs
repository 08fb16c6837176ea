//! What only a loop can get wrong: its tables, its timers, its end.

use std::sync::Mutex;

use webscale_proto::{CloseCode, Message, Role};
use webscale_sys::{Events, Listener, Poller, TcpSocket};

use super::*;
use crate::close::CloseKind;
use crate::limits::Limits;
use crate::peer::Peer;
use crate::target::Target;
use crate::timer::TimerId;
use crate::tls::TlsStream;
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
        Self::of(Role::Server, limits)
    }

    fn of(role: Role, limits: Limits) -> Self {
        let shared = Shared {
            handler: Arc::new(Counting::default()),
            admission: Admission::new(&limits, 1),
            config: Config::new(role, limits, None),
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

/// Of a message of 1,000 bytes, all but the last.
fn most_of_a_message() -> Vec<u8> {
    let mut frame = vec![0x82, 0x80 | 126, 3, 0xe8];
    frame.resize(4 + 4 + 999, 0);
    frame
}

impl Bench {
    /// The far end of the last connection says something, and the loop takes note.
    fn say(&mut self, token: Token, bytes: &[u8]) {
        let peer = self.peers.last().expect("a connection");
        let poller = Poller::new().expect("a descriptor");
        poller.add(peer, 0, Interest::WRITE).expect("room");
        poller.wait(&mut Events::with_capacity(1), None).expect("no signal");
        assert_eq!(peer.send(bytes).expect("an empty socket"), bytes.len());
        let heard = self.event_loop.metrics.bytes_in.get() + bytes.len() as u64;
        let ready = Ready { readable: true, writable: false, hung_up: false };
        while self.event_loop.metrics.bytes_in.get() < heard {
            self.event_loop.turn(token, |connection, turn| connection.on_event(turn, ready));
        }
    }

    /// One more WebSocket.
    fn open(&mut self) -> Token {
        let token = self.connect();
        self.say(
            token,
            b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        );
        token
    }

    fn held(&mut self, token: Token) -> usize {
        self.event_loop.connections.get_mut(token).map_or(0, |connection| connection.registered.held)
    }

    fn ends(&self) -> Vec<String> {
        self.event_loop.shared.handler.ends.lock().expect("no panic while it is held").clone()
    }
}

#[test]
fn who_holds_most_goes_when_too_much_is_held_and_who_holds_little_stays() {
    let mut bench = Bench::new(Limits { held_bytes: 16_000, message_bytes: 1000, ..Limits::default() });
    let modest: Vec<_> = (0..5).map(|_| bench.open()).collect();
    let last = *modest.last().expect("five");
    bench.say(last, &most_of_a_message()[..200]);
    let mut greedy = Vec::new();
    while bench.ends().is_empty() {
        assert!(greedy.len() < 20, "nobody had to go");
        greedy.push(bench.open());
        bench.say(greedy[greedy.len() - 1], &most_of_a_message());
    }
    let ends = bench.ends();
    assert!(ends.iter().all(|end| end.starts_with("the server holds too much")), "{ends:?}");
    assert!(!bench.event_loop.account.look(), "it is enough again");
    assert!(bench.event_loop.account.own() > 16_000 * 3 / 4, "no more had to go than that");
    // Who was there with little is still served.
    assert!(bench.held(last) >= 192 && bench.held(modest[0]) == 0);
    let (all, own) = (bench.event_loop.connections.tokens(), bench.event_loop.account.own());
    assert_eq!(all.into_iter().map(|token| bench.held(token)).sum::<usize>(), own);
}

#[test]
fn nobody_is_accepted_while_too_much_is_held() {
    let mut bench = Bench::new(Limits { held_bytes: 16_000, message_bytes: 1000, ..Limits::default() });
    let listener = std::mem::replace(
        &mut bench.listener,
        Listener::bind("127.0.0.1:0".parse().expect("an address"), 16, false).expect("a port"),
    );
    // The hog is on another loop.
    let mut hog = Account::new(bench.event_loop.shared.admission.held.clone());
    let mut much = 0;
    hog.settle(&mut much, 20_000);
    let address = listener.local_addr().expect("it listens");
    let listening = Listening::new(&bench.event_loop.kernel, listener).expect("room");
    bench.event_loop.listening = Some(listening);
    let _peer = TcpSocket::connect(address, None).expect("it listens");
    let mut events = bench.event_loop.kernel.events();
    bench.event_loop.once(&mut events).expect("no signal");
    let metrics = bench.event_loop.metrics.clone();
    assert_eq!((metrics.accepted.get(), metrics.memory_pauses.get()), (0, 1));
    hog.settle(&mut much, 0);
    while metrics.accepted.get() == 0 {
        bench.event_loop.once(&mut events).expect("no signal");
    }
    assert_eq!(metrics.memory_pauses.get(), 1);
}

#[test]
fn a_loop_whose_clients_do_nothing_gives_way_to_the_others() {
    let mut bench = Bench::new(Limits { held_bytes: 16_000, message_bytes: 1000, ..Limits::default() });
    // With them, a share is less than what each of the others holds.
    let _modest: Vec<_> = (0..6).map(|_| bench.open()).collect();
    for _ in 0..12 {
        let greedy = bench.open();
        bench.say(greedy, &most_of_a_message());
    }
    assert!(bench.ends().is_empty());
    // Another loop holds little, which with this makes too much. What it then gave back was not enough.
    let mut other = Account::new(bench.event_loop.shared.admission.held.clone());
    let mut little = 0;
    other.settle(&mut little, 16_001 - bench.event_loop.account.own() + 1000);
    other.settle(&mut little, 16_000 * 15 / 16 - bench.event_loop.account.own());
    assert!(other.look());
    let mut events = bench.event_loop.kernel.events();
    // No client of this loop has done anything, and it returns nevertheless.
    while other.look() {
        bench.event_loop.once(&mut events).expect("no signal");
    }
    assert!(!bench.ends().is_empty());
    bench.event_loop.watch_memory();
    assert!(bench.event_loop.look_at.is_none(), "it does not look any more");
}

#[test]
fn a_panic_in_a_turn_ends_that_connection_and_leaves_nothing_to_the_next() {
    let mut bench = Bench::new(Limits::default());
    let (bystander, victim) = (bench.open(), bench.open());
    let sent = bench.event_loop.metrics.bytes_out.get();
    bench.event_loop.turn(victim, |connection, turn| {
        let outgoing = &mut *turn.context.outgoing;
        outgoing.frames.extend_from_slice(b"half a frame");
        (outgoing.close, outgoing.closed) = (Some((CloseCode::NORMAL, String::new())), true);
        outgoing.timer = Some(TimerRequest::Cancel);
        turn.context.lent = 100;
        assert!(connection.channel.is_open());
        std::panic::resume_unwind(Box::new("as the test asked"));
    });
    assert_eq!(bench.ends(), ["a fault of the library, 1006 (abnormal closure)"]);
    assert_eq!(bench.event_loop.metrics.closes[CloseKind::Fault as usize].get(), 1);
    assert_eq!((bench.event_loop.connections.len(), bench.event_loop.shared.admission.connections()), (1, 1));
    assert_eq!(bench.event_loop.lent, 100, "a worker has it, and will give it back");
    assert!(bench.event_loop.outgoing.timer.is_none());
    bench.event_loop.turn(bystander, |connection, turn| {
        connection.on_close(turn, CloseCode::NORMAL, "", CloseCause::Local);
    });
    // A Close frame with a code, and nothing else.
    assert_eq!(bench.event_loop.metrics.bytes_out.get(), sent + 4);
}

/// How many connections ended so, and that none is left.
fn faults(bench: &Bench) -> u64 {
    assert_eq!(bench.event_loop.connections.len(), 0);
    assert_eq!(bench.event_loop.shared.admission.connections(), 0);
    bench.event_loop.metrics.closes[CloseKind::Fault as usize].get()
}

/// A client's loop, and a server that answers nothing.
fn dialing(scheme: &str, begin_tls: fn(&Target) -> Result<Option<TlsStream>, rustls::Error>) -> Bench {
    let mut bench = Bench::of(Role::Client, Limits::default());
    let url = format!("{scheme}://{}/", bench.listener.local_addr().expect("it listens"));
    let tls = crate::ClientTls::insecure().expect("a provider");
    let target = Arc::new(Target::with_tls(&url, tls).expect("a URL"));
    let connect = Connect { target, source: None, session: (), begin_tls };
    bench.event_loop.connects.push(connect, 0).map_err(drop).expect("room");
    bench.event_loop.read_mail();
    bench
}

#[test]
fn a_panic_of_a_client_in_any_phase_ends_that_connection_and_tells_its_session() {
    for scheme in ["ws", "wss"] {
        // Connecting; connected, its request or ClientHello sent.
        for waits in 0..2 {
            let mut bench = dialing(scheme, Target::begin_tls);
            let mut events = bench.event_loop.kernel.events();
            (0..waits).for_each(|_| bench.event_loop.once(&mut events).expect("no signal"));
            assert_eq!(bench.event_loop.metrics.bytes_out.get() > 0, waits > 0);
            let token = bench.event_loop.connections.tokens()[0];
            bench.event_loop.turn(token, |_, _| std::panic::resume_unwind(Box::new("as the test asked")));
            assert_eq!(bench.ends(), ["a fault of the library, 1006 (abnormal closure)"]);
            assert_eq!(faults(&bench), 1);
        }
    }
}

#[test]
fn a_panic_as_tls_begins_tells_the_session_and_nobody_else() {
    let bench = dialing("wss", |_| std::panic::resume_unwind(Box::new("as the test asked")));
    assert_eq!(bench.ends(), ["a fault of the library, 1006 (abnormal closure)"]);
    assert_eq!(faults(&bench), 0, "there was no connection yet");
}

#[test]
fn a_handshake_that_waits_while_its_socket_is_replaced_is_not_taken_for_connected() {
    let mut bench = dialing("wss", Target::begin_tls);
    let token = bench.event_loop.connections.tokens()[0];
    let ready = Ready { readable: false, writable: true, hung_up: false };
    bench.event_loop.on_handshake(token, ready, &mut 0);
    assert_eq!(bench.event_loop.put_off, [token]);
    // As when the next address has its turn.
    bench.event_loop.connections.get_mut(token).expect("it lives").registered.is_put_off = false;
    bench.event_loop.resume_handshakes(10);
    assert_eq!((bench.event_loop.metrics.bytes_out.get(), bench.event_loop.put_off.len()), (0, 0));
}

#[test]
fn clients_that_wait_for_workers_which_do_not_return_leave_nothing_when_they_go() {
    let mut bench = Bench::new(Limits::default());
    let stays = bench.open();
    bench.event_loop.stalled.push_back(stays);
    for _ in 0..50 {
        let goes = bench.open();
        bench.event_loop.stalled.push_back(goes);
        bench.event_loop.turn(goes, |connection, turn| connection.abandon(turn, CloseCause::Peer));
        bench.event_loop.go_on();
        assert!(bench.event_loop.stalled.len() <= 2 && bench.event_loop.stalled[0] == stays);
    }
}

#[test]
fn a_loop_that_panics_outside_of_a_turn_ends_with_every_session_told_once() {
    let mut bench = Bench::new(Limits::default());
    let tokens: Vec<_> = (0..3).map(|_| bench.open()).collect();
    // The wheel knows no such timer.
    let broken = bench.event_loop.connections.get_mut(tokens[2]).expect("it lives");
    broken.registered.deadline = Some((TimerId::of(1 << 30), Time::default()));
    drop(bench.peers.pop());
    let shared = bench.event_loop.shared.clone();
    let error = bench.event_loop.run().expect_err("it panicked");
    assert_eq!(error.to_string(), "an event loop panicked");
    let mut ends = shared.handler.ends.lock().expect("no panic while it is held").clone();
    ends.sort_unstable();
    assert!(ends[0].starts_with("connection lost"), "{ends:?}");
    assert_eq!(ends[1..], ["shutting down, 1006 (abnormal closure)"; 2]);
}

impl Bench {
    /// The client with that number sends all of it, and it has come.
    fn send(&mut self, (client, token): (usize, Token), mut bytes: &[u8]) {
        let (here, mut events) = (Poller::new().expect("a descriptor"), Events::with_capacity(1));
        let peer = &self.peers[client];
        here.add(peer, 0, Interest::WRITE).expect("room");
        while !bytes.is_empty() {
            here.wait(&mut events, None).expect("no signal");
            bytes = &bytes[peer.send(bytes).expect("it was writable")..];
        }
        let there = Poller::new().expect("a descriptor");
        let connection = self.event_loop.connections.get_mut(token).expect("it lives");
        there.add(&connection.link.socket, 0, Interest::READ).expect("room");
        there.wait(&mut events, None).expect("no signal");
    }
}

#[test]
fn clients_that_send_more_than_their_share_come_behind_the_others_and_in_turn() {
    const GREEDY: usize = 40;
    const EACH: usize = 3 * SHARE_MIN;
    const FRAME: [u8; 126] = {
        let mut frame = [0; 126];
        (frame[0], frame[1]) = (0x82, 0x80 | 120);
        frame
    };
    let mut bench = Bench::new(Limits::default());
    let greedy: Vec<_> = (0..GREEDY).map(|client| (client, bench.open())).collect();
    let modest = (GREEDY, bench.open());
    let metrics = bench.event_loop.metrics.clone();
    let flood = FRAME.repeat(EACH / FRAME.len());
    let all = metrics.bytes_in.get() + (GREEDY * flood.len()) as u64;
    for client in greedy {
        bench.send(client, &flood);
    }
    let mut events = bench.event_loop.kernel.events();
    // That they send so much shows in their first turn.
    bench.event_loop.once(&mut events).expect("no signal");
    assert!(metrics.bytes_in.get() < all, "the test has to send more");
    let mut turns = 0;
    while metrics.bytes_in.get() < all + turns * FRAME.len() as u64 {
        bench.send(modest, &FRAME);
        let before = metrics.bytes_in.get();
        bench.event_loop.once(&mut events).expect("no signal");
        let read = metrics.bytes_in.get() - before;
        assert!(read <= (BATCH_BYTES + FRAME.len()) as u64, "{read} in one turn");
        let modest = bench.event_loop.connections.get_mut(modest.1).expect("it lives");
        let left = modest.link.socket.recv(&mut [0]).expect_err("it was heard in the turn");
        assert_eq!(left.kind(), io::ErrorKind::WouldBlock);
        turns += 1;
        assert!(turns < 1000, "somebody is not heard");
    }
}
