//! Ends of servers and clients.

use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender as Channel, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use webscale::{
    Accept, Close, ConnectError, Handler, Limits, Message, Peer, Reject, Request, ServerBuilder, Target,
};

use super::support::{
    Event, Events, PATIENCE, Serving, builder, client, hear_close, limits, other, say, tcp, until,
};

#[test]
fn every_client_hears_1001_and_run_ends_well() {
    const CLIENTS: usize = 50;
    // Each is awaited for as long as it takes, and no longer.
    let never = Duration::from_secs(3600);
    let limits = Limits { close_time: never, shutdown_time: never, ..Limits::default() };
    let (mut serving, events) = Serving::obedient(builder().threads(2).limits(limits));
    let sockets: Vec<_> = (0..CLIENTS).map(|_| other(serving.address)).collect();
    (0..CLIENTS).for_each(|_| drop(events.opened()));
    serving.handle.shutdown();
    for mut socket in sockets {
        assert_eq!(hear_close(&mut socket), (1001, "shutting down".into()));
    }
    serving.join().unwrap();
    for _ in 0..CLIENTS {
        assert_eq!(events.closed().1.to_string(), "shutting down, 1001 (going away): shutting down");
    }
    assert!(events.rest().is_empty());
    assert_eq!(serving.handle.metrics().connections, 0);
    TcpStream::connect(serving.address).expect_err("nobody listens any more");
}

#[test]
fn a_client_that_does_not_answer_is_not_awaited_for_ever() {
    let (mut serving, events) = Serving::obedient(builder());
    let _mute = other(serving.address);
    let _never_asked = tcp(serving.address);
    events.opened();
    until("both connections", || serving.handle.metrics().connections == 2);
    serving.handle.shutdown();
    serving.join().unwrap();
    let (_, close) = events.closed();
    assert_eq!(close.to_string(), "no answer to the close frame, 1001 (going away): shutting down");
}

#[test]
fn the_time_of_a_shutdown_ends_it() {
    let never = Duration::from_secs(3600);
    let limits = Limits { close_time: never, shutdown_time: Duration::from_millis(50), ..Limits::default() };
    let (mut serving, events) = Serving::obedient(builder().limits(limits));
    let _mute = other(serving.address);
    events.opened();
    serving.handle.shutdown();
    serving.join().unwrap();
    assert!(events.closed().1.to_string().starts_with("shutting down, 1001"));
}

#[test]
fn an_abort_ends_a_shutdown_that_would_wait() {
    let never = Duration::from_secs(3600);
    let limits = Limits { close_time: never, shutdown_time: never, ..Limits::default() };
    let (mut serving, events) = Serving::obedient(builder().limits(limits));
    let _mute = other(serving.address);
    events.opened();
    serving.handle.shutdown();
    serving.handle.abort();
    serving.join().unwrap();
    assert!(events.closed().1.to_string().starts_with("shutting down, 1001"));
    assert!(events.rest().is_empty());
}

/// Tells of each message, and handles it when the test lets go.
struct Gate {
    entered: Channel<String>,
    open: Mutex<Receiver<()>>,
    closed: Channel<(String, Close)>,
}

impl Handler for Gate {
    type Session = String;

    fn open(&self, request: &Request<'_>) -> Result<Accept<String>, Reject> {
        Ok(request.path().to_owned().into())
    }

    fn message(&self, peer: &mut Peer<'_, String>, message: Message<'_>) {
        let session = peer.session().clone();
        self.entered.send(session).expect("the test waits");
        self.open.lock().expect("one worker").recv_timeout(PATIENCE).expect("the test lets go");
        peer.send(message).expect("room");
    }

    fn close(&self, session: String, close: Close) {
        self.closed.send((session, close)).expect("the test waits");
    }
}

pub(crate) struct Gated {
    pub(crate) serving: Serving,
    pub(crate) entries: Receiver<String>,
    pub(crate) let_go: Channel<()>,
    pub(crate) closes: Receiver<(String, Close)>,
}

impl Gated {
    /// One worker, and a shutdown that takes as long as it must.
    fn new() -> Self {
        let never = Duration::from_secs(3600);
        Self::serving(builder().limits(Limits { shutdown_time: never, ..limits() }).workers(1))
    }

    pub(crate) fn serving(builder: ServerBuilder) -> Self {
        let ((entered, entries), (let_go, open), (closed, closes)) = (channel(), channel(), channel());
        let gate = Gate { entered, open: Mutex::new(open), closed };
        Self { serving: Serving::new(builder, gate), entries, let_go, closes }
    }

    pub(crate) fn connect(&self, path: &str) -> tungstenite::WebSocket<TcpStream> {
        let request = format!("ws://{}{path}", self.serving.address);
        tungstenite::client(request, tcp(self.serving.address)).expect("a handshake").0
    }

    /// The same, with a message that the handler has and does not let go.
    pub(crate) fn begin(&self, path: &str) -> tungstenite::WebSocket<TcpStream> {
        let mut socket = self.connect(path);
        say(&mut socket, "first");
        assert_eq!(self.entries.recv_timeout(PATIENCE).unwrap(), path);
        socket
    }
}

#[test]
fn an_abort_waits_for_the_message_that_a_worker_has_and_for_no_other() {
    let mut gated = Gated::new();
    let (_begun, mut waiting) = (gated.begin("/begun"), gated.connect("/waiting"));
    say(&mut waiting, "second");
    until("the second message", || gated.serving.handle.metrics().messages_in == 2);
    gated.serving.handle.abort();
    // Not begun: its session comes back while the worker still has the other one.
    let (session, close) = gated.closes.recv_timeout(PATIENCE).unwrap();
    assert_eq!(
        (session.as_str(), close.to_string().as_str()),
        ("/waiting", "shutting down, 1006 (abnormal closure)")
    );
    gated.let_go.send(()).unwrap();
    gated.serving.join().unwrap();
    // `run` has ended: what it owes is there.
    let (session, close) = gated.closes.try_recv().unwrap();
    assert_eq!(
        (session.as_str(), close.to_string().as_str()),
        ("/begun", "shutting down, 1006 (abnormal closure)")
    );
    assert!(gated.closes.try_recv().is_err() && gated.entries.try_recv().is_err());
}

#[test]
fn nobody_can_connect_while_an_aborted_loop_waits_for_a_worker() {
    let mut gated = Gated::new();
    let _socket = gated.begin("/begun");
    gated.serving.handle.abort();
    until("the end of listening", || TcpStream::connect(gated.serving.address).is_err());
    gated.let_go.send(()).unwrap();
    gated.serving.join().unwrap();
    assert_eq!(gated.closes.try_recv().unwrap().0, "/begun");
}

#[test]
fn a_shutdown_waits_for_workers_and_answers_what_was_accepted() {
    let mut gated = Gated::new();
    let mut socket = gated.begin("/begun");
    gated.serving.handle.shutdown();
    gated.let_go.send(()).unwrap();
    assert_eq!(super::support::hear(&mut socket), "first");
    assert_eq!(hear_close(&mut socket), (1001, "shutting down".into()));
    gated.serving.join().unwrap();
    let (_, close) = gated.closes.try_recv().unwrap();
    assert_eq!(close.to_string(), "shutting down, 1001 (going away): shutting down");
}

#[test]
fn a_shutdown_waits_for_the_session_of_a_connection_that_is_gone() {
    let mut gated = Gated::new();
    let socket = gated.begin("/gone");
    drop(socket);
    until("the end of the connection", || gated.serving.handle.metrics().connections == 0);
    gated.serving.handle.shutdown();
    gated.let_go.send(()).unwrap();
    gated.serving.join().unwrap();
    let (session, close) = gated.closes.try_recv().unwrap();
    assert_eq!((session.as_str(), close.code.get()), ("/gone", 1006));
}

#[test]
fn a_client_that_is_shut_down_closes_with_1001_and_begins_nothing_more() {
    let (serving, server_events) = Serving::obedient(builder());
    let (client, events) = client();
    let target = Arc::new(Target::from_url(&serving.url()).unwrap());
    client.connect(&target, None, 1).unwrap();
    events.opened();
    let handle = client.handle();
    client.shutdown().unwrap();
    assert!(events.closed().1.to_string().starts_with("shutting down, 1001"));
    assert_eq!(server_events.closed().1.to_string(), "closed by the peer, 1001 (going away): shutting down");
    let metrics = handle.metrics();
    assert_eq!((metrics.connected, metrics.connections), (1, 0));
    serving.shut_down();
}

fn open_one(events: &Events) {
    assert!(matches!(events.next(), Event::Opened(..)));
}

#[test]
fn a_client_that_is_dropped_tells_every_session() {
    let (serving, server_events) = Serving::obedient(builder());
    let (client, events) = client();
    let target = Arc::new(Target::from_url(&serving.url()).unwrap());
    client.connect(&target, None, 1).unwrap();
    open_one(&events);
    drop(client);
    assert!(events.closed().1.to_string().starts_with("shutting down, 1006"));
    assert!(server_events.closed().1.to_string().starts_with("connection lost"));
    serving.shut_down();
}

#[test]
fn a_client_that_has_ended_gives_the_session_back() {
    let (client, _events) = client();
    let target = Arc::new(Target::from_url("ws://127.0.0.1:9/").unwrap());
    client.handle().abort();
    until("the end of the loop", || matches!(client.connect(&target, None, 5), Err(ConnectError::Ended(5))));
}
