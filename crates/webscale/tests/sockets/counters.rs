//! Counters, and the limit of connections.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use webscale::{Limits, Snapshot};

use super::support::{
    CERTIFICATE, Serving, builder, hear, hear_close, limits, other, other_tls, say, tcp, until,
};

fn closes(metrics: &Snapshot) -> u64 {
    metrics.closes().map(|(_, count)| count).sum()
}

#[test]
fn counters_add_up_at_any_moment() {
    let (serving, _events) = Serving::obedient(builder().threads(2));
    let (handle, stop) = (serving.handle.clone(), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                let metrics = handle.metrics();
                assert_eq!(metrics.accepted, metrics.connections + closes(&metrics));
            }
        });
        for _ in 0..50 {
            let mut in_order = other(serving.address);
            say(&mut in_order, "hello");
            assert_eq!(hear(&mut in_order), "hello");
            in_order.close(None).unwrap();
            while in_order.read().is_ok() {}
            drop(other(serving.address));
            let mut bad = tcp(serving.address);
            bad.write_all(b"no request\r\n\r\n").unwrap();
            let _ = bad.read_to_end(&mut Vec::new());
        }
        until("the end of all connections", || handle.metrics().connections == 0);
        stop.store(true, Relaxed);
    });
    let metrics = serving.handle.metrics();
    assert_eq!((metrics.accepted, metrics.opened, metrics.rejected), (150, 100, 50));
    assert_eq!(["peer", "lost", "upgrade"].map(|cause| serving.closed_by(cause)), [50; 3]);
    serving.shut_down();
}

#[test]
fn what_is_no_tls_is_counted_as_that_and_hears_an_alert() {
    let (serving, _events) = Serving::obedient(builder().tls(CERTIFICATE.0.clone()));
    let mut plain = tcp(serving.address);
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).unwrap();
    assert_eq!((answer[0], answer.len()), (21, 7), "an alert (RFC 8446 section 6)");
    drop(plain);
    until("the end of the connection", || serving.handle.metrics().connections == 0);
    assert_eq!(serving.closed_by("tls"), 1);
    let mut socket = other_tls(serving.address);
    say(&mut socket, "still here");
    assert_eq!(hear(&mut socket), "still here");
    serving.shut_down();
}

#[test]
fn beyond_the_limit_connections_are_closed_at_once() {
    let (serving, _events) = Serving::obedient(builder().limits(Limits { connections: 2, ..limits() }));
    let (mut first, mut second) = (other(serving.address), other(serving.address));
    let mut third = tcp(serving.address);
    assert_eq!(third.read(&mut [0]).unwrap(), 0);
    let metrics = serving.handle.metrics();
    assert_eq!((metrics.refused, metrics.accepted, metrics.connections), (1, 2, 2));
    say(&mut first, "close ");
    assert_eq!(hear_close(&mut first), (1000, String::new()));
    drop(first);
    until("the end of the first connection", || serving.handle.metrics().connections == 1);
    let mut fourth = other(serving.address);
    for socket in [&mut second, &mut fourth] {
        say(socket, "served");
        assert_eq!(hear(socket), "served");
    }
    serving.shut_down();
}
