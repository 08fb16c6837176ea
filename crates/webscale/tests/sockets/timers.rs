//! The timer of a connection.

use std::time::{Duration, Instant};

use webscale::{Accept, Handler, Message, Peer, Reject, Request};

use super::support::{Serving, builder, hear, other, say};

/// Counts how often its timer was called.
struct Ticking;

impl Handler for Ticking {
    type Session = u32;

    fn open(&self, _: &Request<'_>) -> Result<Accept<u32>, Reject> {
        Ok(0.into())
    }

    fn message(&self, peer: &mut Peer<'_, u32>, message: Message<'_>) {
        match message.as_bytes() {
            b"start" => peer.set_timer(Instant::now()),
            b"move" => {
                peer.set_timer(Instant::now());
                peer.set_timer(Instant::now() + Duration::from_millis(2));
            }
            b"cancel" => {
                peer.set_timer(Instant::now());
                peer.cancel_timer();
            }
            _ => {
                let count = peer.session().to_string();
                peer.send(Message::Text(&count)).expect("a peer that reads");
            }
        }
    }

    fn timer(&self, peer: &mut Peer<'_, u32>) {
        *peer.session() += 1;
        if *peer.session() < 3 {
            peer.set_timer(Instant::now() + Duration::from_millis(1));
        } else {
            peer.send(Message::Text("third")).expect("a peer that reads");
        }
    }
}

/// Fires three times after this word, and no more.
fn fires(word: &str) {
    let serving = Serving::new(builder(), Ticking);
    let mut socket = other(serving.address);
    say(&mut socket, word);
    assert_eq!(hear(&mut socket), "third");
    say(&mut socket, "count");
    assert_eq!(hear(&mut socket), "3");
    serving.shut_down();
}

#[test]
fn a_timer_is_set_anew_from_itself() {
    fires("start");
}

#[test]
fn a_timer_that_is_moved_fires_once() {
    fires("move");
}

#[test]
fn a_timer_that_is_cancelled_is_silent() {
    let serving = Serving::new(builder(), Ticking);
    let mut socket = other(serving.address);
    say(&mut socket, "cancel");
    for _ in 0..20 {
        say(&mut socket, "count");
        assert_eq!(hear(&mut socket), "0");
    }
    serving.shut_down();
}
