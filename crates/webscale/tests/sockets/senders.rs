//! Sending from other threads.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender as Channel, channel};
use std::thread;

use webscale::{Accept, CloseCode, Handler, Limits, Message, Peer, Reject, Request, SendError, Sender};

use super::support::{PATIENCE, Serving, builder, hear, hear_close, limits, other, say, until};

#[test]
fn any_thread_sends_at_any_time() {
    let (serving, events) = Serving::obedient(builder());
    let mut socket = other(serving.address);
    let (_, sender) = events.opened();
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let sender = sender.clone();
            thread::spawn(move || {
                for n in 0..250 {
                    sender.send(Message::Text(&format!("{thread} {n}"))).expect("room");
                }
            })
        })
        .collect();
    let mut next = [0; 4];
    for _ in 0..1000 {
        let text = hear(&mut socket);
        let (thread, n) = text.split_once(' ').expect("two numbers");
        let thread: usize = thread.parse().unwrap();
        assert_eq!(n, next[thread].to_string(), "in the order in which a thread sent them");
        next[thread] += 1;
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    sender.close(CloseCode::POLICY, "enough").unwrap();
    assert_eq!(hear_close(&mut socket), (1008, "enough".into()));
    assert!(events.closed().1.to_string().starts_with("closed by us"));
    serving.shut_down();
}

#[test]
fn a_sender_of_a_connection_that_is_gone_reaches_nobody() {
    let (serving, events) = Serving::obedient(builder());
    let mut first = other(serving.address);
    let (_, stale) = events.opened();
    first.close(None).unwrap();
    while first.read().is_ok() {}
    events.closed();
    until("the end of the connection", || serving.handle.metrics().connections == 0);
    // It takes the place of the first.
    let mut second = other(serving.address);
    let (_, fresh) = events.opened();
    assert_ne!(stale.id(), fresh.id());
    stale.send(Message::Text("for the first")).unwrap();
    stale.close(CloseCode::NORMAL, "for the first").unwrap();
    fresh.send(Message::Text("for the second")).unwrap();
    assert_eq!(hear(&mut second), "for the second");
    say(&mut second, "still here");
    assert_eq!(hear(&mut second), "still here");
    serving.shut_down();
    assert_eq!(fresh.send(Message::Text("too late")), Err(SendError::Closed));
}

/// Holds its loop in `message` until it is let go.
struct Gate {
    entered: Channel<Sender>,
    open: Mutex<Receiver<()>>,
}

impl Handler for Gate {
    type Session = ();

    fn open(&self, _: &Request<'_>) -> Result<Accept<()>, Reject> {
        Ok(().into())
    }

    fn message(&self, peer: &mut Peer<'_, ()>, _: Message<'_>) {
        self.entered.send(peer.sender()).expect("the test waits");
        self.open.lock().expect("one loop").recv_timeout(PATIENCE).expect("the test lets go");
    }
}

fn fill(limits: Limits, length: usize, expected: usize) {
    let ((entered, entries), (let_go, open)) = (channel(), channel());
    let serving = Serving::new(builder().limits(limits), Gate { entered, open: Mutex::new(open) });
    let mut socket = other(serving.address);
    say(&mut socket, "hold");
    let sender = entries.recv_timeout(PATIENCE).unwrap();
    let text = "x".repeat(length);
    let taken = (0..).find(|_| sender.send(Message::Text(&text)) == Err(SendError::Full)).unwrap();
    assert_eq!(taken, expected);
    let_go.send(()).unwrap();
    for _ in 0..taken {
        assert_eq!(hear(&mut socket), text);
    }
    serving.shut_down();
}

#[test]
fn a_full_mailbox_says_so_and_what_it_took_is_delivered() {
    fill(Limits { mailbox_items: 10, ..limits() }, 1, 10);
    fill(Limits { mailbox_bytes: 1000, ..limits() }, 300, 3);
}
