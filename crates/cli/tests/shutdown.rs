//! The end of `serve` while clients send.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use webscale::{
    Client, ClientTls, Close, CloseCause, CloseCode, Handler, Limits, Message, Peer, SlowConsumer, Target,
};

mod common;
use common::Server;

const PATIENCE: Duration = Duration::from_secs(60);

/// What a client tells the test.
enum Event {
    Opened,
    /// An answer came.
    Heard,
    Closed(Close),
}

/// Sends all the time, and more than it is answered.
struct Busy(Sender<Event>);

impl Busy {
    fn tell(&self, event: Event) {
        // A test that has seen enough has dropped its end.
        let _ = self.0.send(event);
    }
}

impl Handler for Busy {
    type Session = ();

    fn opened(&self, peer: &mut Peer<'_, ()>) {
        self.tell(Event::Opened);
        self.timer(peer);
    }

    fn timer(&self, peer: &mut Peer<'_, ()>) {
        for _ in 0..4 {
            // Where the server is behind, one is left out.
            let _ = peer.send(Message::Binary(&[7; 1000]));
        }
        peer.set_timer(Instant::now() + Duration::from_millis(5));
    }

    fn message(&self, _: &mut Peer<'_, ()>, _: Message<'_>) {
        self.tell(Event::Heard);
    }

    fn close(&self, _: (), close: Close) {
        self.tell(Event::Closed(close));
    }
}

/// Clients of one server, all open.
struct Load {
    _client: Client<Busy>,
    events: Receiver<Event>,
    clients: usize,
    heard: u64,
}

impl Load {
    fn start(server: &Server, clients: usize) -> Self {
        let (sender, events) = channel();
        let limits = Limits { slow_consumer: SlowConsumer::DropNewest, ..Limits::default() };
        let client = Client::builder().limits(limits).build(Busy(sender)).unwrap();
        let tls = ClientTls::insecure().unwrap();
        let target = match server.url.starts_with("wss") {
            true => Target::with_tls(&server.url, tls),
            false => Target::from_url(&server.url),
        };
        let target = Arc::new(target.unwrap());
        for _ in 0..clients {
            client.connect(&target, None, ()).unwrap();
        }
        let mut load = Self { _client: client, events, clients, heard: 0 };
        let mut opened = 0;
        while opened < clients || load.heard < clients as u64 {
            match load.next() {
                Event::Opened => opened += 1,
                Event::Heard => load.heard += 1,
                Event::Closed(close) => panic!("{close}"),
            }
        }
        load
    }

    fn next(&self) -> Event {
        self.events.recv_timeout(PATIENCE).expect("an event in time")
    }

    /// How all connections ended.
    fn ends(&mut self) -> Vec<Close> {
        let mut ends = Vec::new();
        while ends.len() < self.clients {
            match self.next() {
                Event::Heard => self.heard += 1,
                Event::Closed(close) => ends.push(close),
                Event::Opened => panic!("opened again"),
            }
        }
        ends
    }
}

#[test]
fn every_client_hears_1001_behind_the_answers_to_all_that_was_accepted() {
    let ways: [&[&str]; 4] = [
        &["--plain"],
        &["--drain", "500ms"],
        &["--workers", "2", "--drain", "500ms"],
        &["--processes", "2", "--threads", "1", "--drain", "500ms"],
    ];
    for flags in ways {
        let server = Server::start(flags);
        let mut load = Load::start(&server, 60);
        server.signal("TERM");
        for close in load.ends() {
            assert!(matches!(close.cause, CloseCause::Peer), "{flags:?}: {close}");
            assert_eq!((close.code, close.reason.as_str()), (CloseCode::GOING_AWAY, "shutting down"));
        }
        let (code, last) = server.end();
        assert_eq!(code, Some(0), "{flags:?}");
        assert_eq!(last, format!("echoed {} messages, 0 failed, 60 connections", load.heard), "{flags:?}");
    }
}

#[test]
fn a_second_signal_does_not_wait_for_the_clients() {
    for flags in [&["--plain"][..], &["--plain", "--processes", "2", "--threads", "1"]] {
        let server = Server::start(&[flags, &["--drain", "1h"]].concat());
        let mut load = Load::start(&server, 20);
        server.signal("TERM");
        // The first is told at once, the others within the hour.
        while !matches!(load.next(), Event::Closed(_)) {}
        load.clients -= 1;
        server.signal("TERM");
        load.ends();
        assert_eq!(server.end().0, Some(0), "{flags:?}");
    }
}
