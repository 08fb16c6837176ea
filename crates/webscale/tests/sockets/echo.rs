//! Messages there and back.

use std::io::{Read, Write};
use std::sync::Arc;

use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode as Code;
use webscale::{CloseCode, Message, Target};

use super::support::{
    CERTIFICATE, Event, Events, Other, Serving, builder, client, client_tls, hear, hear_close, other,
    other_tls, say, until,
};

fn converse<S: Read + Write>(mut socket: Other<S>, events: &Events) {
    for length in [0, 1, 125, 126, 65_535, 65_536, 300_000] {
        let text = "x".repeat(length);
        say(&mut socket, &text);
        assert_eq!(hear(&mut socket), text);
        let bytes: Vec<u8> = (0..=255).cycle().take(length).collect();
        socket.send(tungstenite::Message::binary(bytes.clone())).unwrap();
        assert_eq!(socket.read().unwrap().into_data(), bytes);
    }
    socket.send(tungstenite::Message::Ping(b"are you there".to_vec().into())).unwrap();
    assert_eq!(socket.read().unwrap(), tungstenite::Message::Pong(b"are you there".to_vec().into()));
    socket.close(Some(CloseFrame { code: Code::Library(3001), reason: "enough".into() })).unwrap();
    while socket.read().is_ok() {}
    let (_, close) = events.closed();
    assert_eq!((close.code.get(), close.reason.as_str()), (3001, "enough"));
    assert_eq!(close.to_string(), "closed by the peer, 3001 (registered): enough");
}

#[test]
fn another_implementation_is_echoed_over_ws() {
    let (serving, events) = Serving::obedient(builder());
    converse(other(serving.address), &events);
    serving.shut_down();
}

#[test]
fn another_implementation_is_echoed_over_wss() {
    let (serving, events) = Serving::obedient(builder().tls(CERTIFICATE.0.clone()));
    converse(other_tls(serving.address), &events);
    serving.shut_down();
}

fn converse_with_client(serving: &Serving, target: Target) {
    let (client, events) = client();
    client.connect(&Arc::new(target), None, 7).unwrap();
    let (session, sender) = events.opened();
    for n in 0..100 {
        let text = "y".repeat(n * 1000);
        sender.send(Message::Text(&text)).unwrap();
        assert_eq!(events.text(), (session, text));
    }
    sender.close(CloseCode::NORMAL, "done").unwrap();
    let (_, close) = events.closed();
    assert_eq!(close.to_string(), "closed by us, 1000 (normal closure): done");
    client.shutdown().unwrap();
    until("the end of the connection", || serving.handle.metrics().connections == 0);
}

#[test]
fn the_librarys_own_client_is_echoed_over_ws_and_wss() {
    let (serving, _) = Serving::obedient(builder());
    converse_with_client(&serving, Target::from_url(&serving.url()).unwrap());
    serving.shut_down();
    let (serving, _) = Serving::obedient(builder().tls(CERTIFICATE.0.clone()));
    let url = serving.secure_url();
    converse_with_client(&serving, Target::with_tls(&url, client_tls()).unwrap());
    serving.shut_down();
}

#[test]
fn a_thousand_clients_on_two_loops() {
    const CLIENTS: u64 = 1000;
    let (serving, server_events) = Serving::obedient(builder().threads(2));
    let (client, events) = client();
    let target = Arc::new(Target::from_url(&serving.url()).unwrap());
    for session in 0..CLIENTS {
        client.connect(&target, None, session).unwrap();
    }
    let senders: Vec<_> = (0..CLIENTS).map(|_| events.opened()).collect();
    for (session, sender) in &senders {
        sender.send(Message::Text(&format!("hello from {session}"))).unwrap();
    }
    let mut heard: Vec<_> = (0..CLIENTS).map(|_| events.text()).collect();
    heard.sort_unstable();
    let expected: Vec<_> = (0..CLIENTS).map(|session| (session, format!("hello from {session}"))).collect();
    assert!(heard == expected, "each hears its own words");
    assert_eq!(serving.handle.metrics().connections, CLIENTS);
    for (_, sender) in senders {
        sender.close(CloseCode::NORMAL, "").unwrap();
    }
    for _ in 0..CLIENTS {
        let (_, close) = events.closed();
        assert_eq!(close.to_string(), "closed by us, 1000 (normal closure)");
        server_events.closed();
    }
    until("the end of all connections", || serving.handle.metrics().connections == 0);
    let metrics = serving.handle.metrics();
    assert_eq!((metrics.accepted, metrics.opened), (CLIENTS, CLIENTS));
    assert_eq!((metrics.messages_in, metrics.messages_out), (CLIENTS, CLIENTS));
    assert_eq!(metrics.closes().find(|close| close.1 > 0), Some(("peer", CLIENTS)));
    serving.shut_down();
}

#[test]
fn a_panic_ends_one_connection_and_no_other() {
    let (serving, events) = Serving::obedient(builder());
    let (mut good, mut bad) = (other(serving.address), other(serving.address));
    say(&mut bad, "panic");
    assert_eq!(hear_close(&mut bad), (1011, "the server failed to handle a message".into()));
    say(&mut good, "still here");
    assert_eq!(hear(&mut good), "still here");
    let (_, close) = events.closed();
    assert!(close.to_string().starts_with("the handler panicked"));
    serving.shut_down();
}

#[test]
fn the_handlers_close_reaches_the_client() {
    let (serving, events) = Serving::obedient(builder());
    let mut socket = other(serving.address);
    say(&mut socket, "close with a reason");
    assert_eq!(hear_close(&mut socket), (1000, "with a reason".into()));
    assert_eq!(events.closed().1.to_string(), "closed by us, 1000 (normal closure): with a reason");
    assert!(!events.rest().iter().any(|event| matches!(event, Event::Closed(..))));
    serving.shut_down();
}
