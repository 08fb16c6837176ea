//! Clients that do not read.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use webscale::{Accept, Handler, Limits, Message, Peer, Reject, Request, SendError, SlowConsumer};

use super::support::{
    CERTIFICATE, Events, Other, Serving, builder, hear, limits, other, other_tls, say, until,
};

/// 64 MiB: more than the kernel buffers for one connection.
const FLOOD: &str = "flood 1024";

#[test]
fn a_client_that_never_reads_is_closed() {
    let (serving, events) = Serving::obedient(builder());
    let mut mute = other(serving.address);
    say(&mut mute, FLOOD);
    let (_, close) = events.closed();
    let expected =
        "the peer does not read, 1008 (policy violation): messages are not read as fast as they are sent";
    assert_eq!(close.to_string(), expected);
    serving.shut_down();
}

/// How many messages of the flood come until the last one does.
fn heard_before_last<S: Read + Write>(slow: &mut Other<S>) -> u64 {
    let mut heard = 0;
    loop {
        match slow.read().unwrap() {
            tungstenite::Message::Binary(bytes) => heard += u64::from(bytes.len() == 64 * 1024),
            message => {
                assert_eq!(message.into_text().unwrap(), "last");
                return heard;
            }
        }
    }
}

#[test]
fn under_drop_it_misses_messages_and_stays() {
    let limits = Limits { slow_consumer: SlowConsumer::DropNewest, ..limits() };
    let (serving, _events) = Serving::obedient(builder().limits(limits));
    let mut slow = other(serving.address);
    say(&mut slow, FLOOD);
    say(&mut slow, "last");
    let heard = heard_before_last(&mut slow);
    let metrics = serving.handle.metrics();
    assert!(metrics.messages_dropped > 0);
    assert_eq!(heard + metrics.messages_dropped, 1024);
    serving.shut_down();
}

#[test]
fn under_drop_oldest_it_misses_others_and_gets_the_last() {
    let limits = Limits { slow_consumer: SlowConsumer::DropOldest, ..limits() };
    let (serving, _events) = Serving::obedient(builder().limits(limits).tls(CERTIFICATE.0.clone()));
    let mut slow = other_tls(serving.address);
    say(&mut slow, FLOOD);
    say(&mut slow, "last");
    let heard = heard_before_last(&mut slow);
    let metrics = serving.handle.metrics();
    assert_eq!((heard + metrics.messages_displaced, metrics.messages_dropped), (1024, 0));
    assert!(metrics.messages_displaced > 0);
    serving.shut_down();
}

/// Sends again and again until it is refused, and goes on when it is told to, up to so many messages.
struct Producer {
    total: u32,
}

impl Producer {
    fn produce(&self, peer: &mut Peer<'_, u32>) {
        while *peer.session() < self.total {
            let number = peer.session().to_be_bytes();
            let payload = [&number[..], &[0; 10_000]].concat();
            match peer.send(Message::Binary(&payload)) {
                Ok(()) => *peer.session() += 1,
                Err(error) => return assert_eq!(error, SendError::Full),
            }
        }
    }
}

impl Handler for Producer {
    type Session = u32;

    fn open(&self, _: &Request<'_>) -> Result<Accept<u32>, Reject> {
        Ok(Accept::new(0).slow_consumer(SlowConsumer::DropNewest))
    }

    fn message(&self, peer: &mut Peer<'_, u32>, _: Message<'_>) {
        self.produce(peer);
    }

    fn drained(&self, peer: &mut Peer<'_, u32>) {
        self.produce(peer);
    }
}

#[test]
fn a_handler_that_stopped_sending_goes_on_without_polling_and_nothing_is_missing() {
    for workers in [0, 1] {
        let serving = Serving::new(builder().workers(workers), Producer { total: 3000 });
        let mut slow = other(serving.address);
        say(&mut slow, "go");
        for number in 0..3000_u32 {
            let message = slow.read().unwrap().into_data();
            assert_eq!((&message[..4], message.len()), (&number.to_be_bytes()[..], 10_004));
        }
        serving.shut_down();
    }
}

/// What the kernel takes for a client that never reads, under these limits.
fn taken(notsent_bytes: usize) -> u64 {
    let limits = Limits { notsent_bytes, slow_consumer: SlowConsumer::DropNewest, ..limits() };
    let (serving, events) = Serving::obedient(builder().limits(limits));
    let mut mute = other(serving.address);
    say(&mut mute, FLOOD);
    events.text();
    // Said behind the flood by the same thread.
    until("the end of the flood", || {
        let metrics = serving.handle.metrics();
        metrics.messages_out + metrics.messages_dropped >= 1024
    });
    let taken = serving.handle.metrics().bytes_out;
    drop(mute);
    serving.shut_down();
    taken
}

#[test]
fn the_kernel_takes_little_for_a_client_that_never_reads() {
    let (little, unlimited) = (taken(Limits::default().notsent_bytes), taken(usize::MAX));
    assert!(2 * little < unlimited, "{little} and {unlimited} bytes");
}

#[test]
fn a_client_whose_kernel_takes_nothing_for_so_long_is_ended() {
    let user_timeout = Duration::from_millis(100);
    let limits = Limits { user_timeout, slow_consumer: SlowConsumer::DropNewest, ..limits() };
    let (serving, events) = Serving::obedient(builder().limits(limits));
    let mut mute = other(serving.address);
    say(&mut mute, FLOOD);
    let (_, close) = events.closed();
    assert_eq!(close.to_string(), "nothing that was sent is acknowledged, 1006 (abnormal closure)");
    serving.shut_down();
}

/// Fills the connection until it is not read any more, and says something that will not be read.
fn paused(never: Duration) -> (Serving, Events, Other<std::net::TcpStream>) {
    let limits = Limits {
        slow_consumer: SlowConsumer::DropNewest,
        ping_after: never,
        close_time: never,
        ..Limits::default()
    };
    let (serving, events) = Serving::obedient(builder().limits(limits));
    let mut mute = other(serving.address);
    say(&mut mute, FLOOD);
    assert_eq!(events.text().1, FLOOD);
    say(&mut mute, "never read");
    (serving, events, mute)
}

#[test]
fn a_reset_ends_a_connection_that_is_not_read() {
    let (serving, events, mute) = paused(Duration::from_secs(3600));
    // Unread bytes and no lingering: the kernel answers with RST.
    rustix::net::sockopt::set_socket_linger(mute.get_ref().as_fd(), Some(Duration::ZERO)).unwrap();
    drop(mute);
    let (_, close) = events.closed();
    assert!(close.to_string().starts_with("connection lost: "), "{close}");
    assert!(!events.rest().iter().any(|event| matches!(event, super::support::Event::Text(..))));
    serving.shut_down();
}

#[test]
fn others_are_served_while_one_does_not_read() {
    let (serving, _events, _mute) = paused(Duration::from_secs(3600));
    let mut good = other(serving.address);
    for n in 0..100 {
        say(&mut good, &n.to_string());
        assert_eq!(hear(&mut good), n.to_string());
    }
    drop(good);
    drop(serving);
}
