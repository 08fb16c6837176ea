//! permessage-deflate between the library's client and server.

use std::sync::Arc;

use webscale::{CloseCause, CloseCode, Deflate, Limits, Message, Target};

use super::support::{
    CERTIFICATE, Event, Serving, builder, client, client_tls, hear, limits, other, say, until,
};

fn takeover() -> Deflate {
    Deflate::default().own_context_takeover(true).peer_context_takeover(true)
}

/// Text of about this length, in which words come again.
fn words(length: usize) -> String {
    let mut text = String::new();
    for n in 0..length / 10 {
        text += &format!("word-{:05} ", n * n % 997);
    }
    text
}

/// Messages of many lengths there and back, several under way at a time.
fn converse(serving: &Serving, target: Target) {
    let (client, events) = client();
    let target = Arc::new(target);
    for session in 0..3 {
        client.connect(&target, None, session).unwrap();
    }
    let senders: Vec<_> = (0..3).map(|_| events.opened()).collect();
    for length in [0, 10, 100, 130, 1000, 10_000, 100_000, 900_000] {
        for (session, sender) in &senders {
            sender.send(Message::Text(&format!("{session} {}", words(length)))).unwrap();
        }
        for _ in &senders {
            let (session, text) = events.text();
            assert!(text == format!("{session} {}", words(length)), "{length} bytes for {session}");
        }
    }
    client.shutdown().unwrap();
    until("the end of the connections", || serving.handle.metrics().connections == 0);
}

#[test]
fn both_roles_compress_over_ws_and_wss() {
    for deflate in [Deflate::default(), takeover(), takeover().own_window_bits(9).peer_window_bits(10)] {
        let (serving, _) = Serving::obedient(builder().deflate(deflate));
        converse(&serving, Target::from_url(&serving.url()).unwrap().deflate(deflate));
        let metrics = serving.handle.metrics();
        assert!(metrics.bytes_in < 1_200_000 && metrics.bytes_out < 1_200_000, "{metrics:?}");
        serving.shut_down();
        let (serving, _) = Serving::obedient(builder().tls(CERTIFICATE.0.clone()).deflate(deflate));
        let url = serving.secure_url();
        converse(&serving, Target::with_tls(&url, client_tls()).unwrap().deflate(deflate));
        serving.shut_down();
    }
}

#[test]
fn workers_compress() {
    for deflate in [Deflate::default(), takeover()] {
        let (serving, _) = Serving::obedient(builder().workers(2).deflate(deflate));
        converse(&serving, Target::from_url(&serving.url()).unwrap().deflate(deflate));
        assert!(serving.handle.metrics().bytes_out < 1_200_000);
        serving.shut_down();
    }
}

#[test]
fn who_does_not_want_it_is_served_without() {
    let (serving, _) = Serving::obedient(builder().deflate(takeover()));
    let mut socket = other(serving.address);
    say(&mut socket, &words(10_000));
    assert_eq!(hear(&mut socket), words(10_000));
    drop(socket);
    converse(&serving, Target::from_url(&serving.url()).unwrap());
    serving.shut_down();
    let (serving, _) = Serving::obedient(builder());
    converse(&serving, Target::from_url(&serving.url()).unwrap().deflate(takeover()));
    serving.shut_down();
}

#[test]
fn a_bomb_is_told_that_it_is_too_big() {
    let limits = Limits { message_bytes: 100_000, ..limits() };
    let (serving, server_events) = Serving::obedient(builder().limits(limits).deflate(Deflate::default()));
    let (client, events) = client();
    let target = Target::from_url(&serving.url()).unwrap().deflate(Deflate::default());
    client.connect(&Arc::new(target), None, 1).unwrap();
    let (_, sender) = events.opened();
    sender.send(Message::Text(&"x".repeat(1_000_000))).unwrap();
    let (_, close) = events.closed();
    assert_eq!((close.code, close.reason.as_str()), (CloseCode::TOO_BIG, "message too big"));
    let (_, close) = server_events.closed();
    assert!(matches!(close.cause, CloseCause::Protocol(_)));
    assert!(!server_events.rest().iter().any(|event| matches!(event, Event::Text(..))));
    assert!(serving.handle.metrics().bytes_in < 50_000);
    client.shutdown().unwrap();
    serving.shut_down();
}
