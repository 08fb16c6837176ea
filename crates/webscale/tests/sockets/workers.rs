//! Handlers on a pool of threads.

use std::sync::Arc;

use webscale::{Limits, Message, Sender, Target};

use super::support::{Events, Serving, builder, client, hear, hear_close, limits, other, say, until};

/// Each of `clients` sends `messages` numbered ones at once; all come back in order.
fn blast(serving: &Serving, clients: u64, messages: usize) {
    let (client, events) = client();
    let target = Arc::new(Target::from_url(&serving.url()).unwrap());
    (0..clients).for_each(|session| client.connect(&target, None, session).unwrap());
    let senders: Vec<(u64, Sender)> = (0..clients).map(|_| events.opened()).collect();
    for n in 0..messages {
        for (_, sender) in &senders {
            sender.send(Message::Text(&n.to_string())).unwrap();
        }
    }
    check_order(&events, clients, messages);
    client.shutdown().unwrap();
    until("the end of all connections", || serving.handle.metrics().connections == 0);
    let expected = clients * messages as u64;
    let metrics = serving.handle.metrics();
    assert_eq!((metrics.messages_in, metrics.messages_out), (expected, expected));
}

fn check_order(events: &Events, clients: u64, messages: usize) {
    let mut next = vec![0; usize::try_from(clients).unwrap()];
    for _ in 0..messages * next.len() {
        let (session, text) = events.text();
        let next = &mut next[usize::try_from(session).unwrap()];
        assert_eq!(text, next.to_string());
        *next += 1;
    }
    assert!(next.iter().all(|&n| n == messages));
}

#[test]
fn messages_of_a_connection_stay_in_order_over_four_workers() {
    let (serving, _events) = Serving::obedient(builder().threads(2).workers(4));
    blast(&serving, 20, 200);
    serving.shut_down();
}

#[test]
fn a_full_queue_loses_nothing() {
    let limits = Limits { worker_queue: 1, ..limits() };
    let (serving, _events) = Serving::obedient(builder().limits(limits).workers(1));
    blast(&serving, 50, 40);
    serving.shut_down();
}

#[test]
fn a_panic_on_a_worker_ends_its_connection_and_the_worker_lives() {
    let (serving, events) = Serving::obedient(builder().workers(1));
    let (mut good, mut bad) = (other(serving.address), other(serving.address));
    say(&mut bad, "panic");
    assert_eq!(hear_close(&mut bad), (1011, "the server failed to handle a message".into()));
    assert!(events.closed().1.to_string().starts_with("the handler panicked, 1011"));
    say(&mut good, "still here");
    assert_eq!(hear(&mut good), "still here");
    serving.shut_down();
}
