//! Our client, for servers of other makes: connections on which a test sends and waits for what comes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender as Channel, channel};

use webscale::{
    Client, ClientTls, Close, CloseCode, Deflate, Handler, Limits, Message, Peer, Sender, Target,
};

use crate::message::{Owned, send_next};
use crate::puppet::PATIENCE;

/// Takes messages of 16 MiB; two may wait for the server.
const MESSAGE_MAX: usize = 16 << 20;

#[derive(Debug)]
enum Event {
    Opened(Sender),
    Message(Owned),
    Closed(Close),
}

struct Telling(Channel<Event>);

impl Telling {
    fn tell(&self, event: Event) {
        // A test that has seen enough has dropped its end.
        let _ = self.0.send(event);
    }
}

impl Handler for Telling {
    /// What is still to be sent in fragments.
    type Session = VecDeque<Owned>;

    fn opened(&self, peer: &mut Peer<'_, VecDeque<Owned>>) {
        self.tell(Event::Opened(peer.sender()));
        send_next(peer, |pieces| pieces);
    }

    fn message(&self, _: &mut Peer<'_, VecDeque<Owned>>, message: Message<'_>) {
        self.tell(Event::Message(message.into()));
    }

    fn pong(&self, peer: &mut Peer<'_, VecDeque<Owned>>, _: &[u8]) {
        send_next(peer, |pieces| pieces);
    }

    fn close(&self, _: VecDeque<Owned>, close: Close) {
        self.tell(Event::Closed(close));
    }
}

/// What a connection of ours is made with.
#[derive(Clone, Default)]
pub(crate) struct Wish {
    pub(crate) tls: Option<ClientTls>,
    pub(crate) deflate: Option<Deflate>,
    /// Of a message that it sends in fragments as it opens.
    pub(crate) pieces: VecDeque<Owned>,
}

/// One connection of our client; aborted when dropped.
pub(crate) struct Guest {
    client: Client<Telling>,
    sender: Sender,
    events: Receiver<Event>,
}

impl Guest {
    /// Connects to `url`.
    pub(crate) fn connect(url: &str, wish: &Wish) -> Self {
        Self::try_connect(url, wish).unwrap_or_else(|close| panic!("{url}: {close}"))
    }

    /// The same, where it may be refused.
    pub(crate) fn try_connect(url: &str, wish: &Wish) -> Result<Self, Close> {
        let limits =
            Limits { message_bytes: MESSAGE_MAX, egress_bytes: 2 * MESSAGE_MAX + 64, ..Limits::default() };
        let (channel, events) = channel();
        let client = Client::builder().limits(limits).build(Telling(channel)).expect("a loop");
        let mut target = match &wish.tls {
            Some(tls) => Target::with_tls(url, tls.clone()),
            None => Target::from_url(url),
        }
        .expect("a URL");
        if let Some(deflate) = wish.deflate {
            target = target.deflate(deflate);
        }
        client.connect(&Arc::new(target), None, wish.pieces.clone()).expect("room in the mailbox");
        match events.recv_timeout(PATIENCE).expect("an outcome") {
            Event::Opened(sender) => Ok(Self { client, sender, events }),
            Event::Closed(close) => Err(close),
            other => panic!("{other:?} before it opened"),
        }
    }

    pub(crate) fn send(&self, message: &Owned) {
        self.sender.send(message.borrowed()).expect("room in the mailbox");
    }

    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        self.sender.close(code, reason).expect("room in the mailbox");
    }

    /// The next message.
    pub(crate) fn hear(&self) -> Owned {
        match self.next() {
            Event::Message(message) => message,
            Event::Closed(close) => panic!("no message, but {close}"),
            Event::Opened(_) => panic!("opened twice"),
        }
    }

    /// Asserts that the message comes back as it is.
    pub(crate) fn echo(&self, message: &Owned) {
        self.send(message);
        // Not `assert_eq`, which would print megabytes.
        assert!(self.hear() == *message, "another message than was sent");
    }

    /// The end of the connection, of which nothing else comes before.
    pub(crate) fn closed(&self) -> Close {
        match self.next() {
            Event::Closed(close) => close,
            _ => panic!("a message where the end was to come"),
        }
    }

    /// Bytes received and sent.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let metrics = self.client.handle().metrics();
        (metrics.bytes_in, metrics.bytes_out)
    }

    fn next(&self) -> Event {
        self.events.recv_timeout(PATIENCE).expect("an event in time")
    }
}
