//! Limits of what one address may have.

use std::io::Write;

use webscale::{Limits, ServerBuilder, Snapshot};

use super::support::{
    CERTIFICATE, Serving, builder, hear, hear_close, is_closed, limits, other, other_tls, say, tcp, until,
};

fn refusals(metrics: &Snapshot, limit: &str) -> u64 {
    metrics.refusals().find(|&(name, _)| name == limit).expect("a limit of that name").1
}

fn per_address(connections: usize, handshakes: usize) -> ServerBuilder {
    builder().threads(2).limits(Limits {
        connections_per_address: connections,
        handshakes_per_address: handshakes,
        ..limits()
    })
}

#[test]
fn beyond_its_share_an_address_is_closed_at_once_whichever_loop_has_it() {
    let (serving, _events) = Serving::obedient(per_address(5, usize::MAX));
    let mut open: Vec<_> = (0..5).map(|_| other(serving.address)).collect();
    for _ in 0..8 {
        assert!(is_closed(&tcp(serving.address)));
    }
    let metrics = serving.handle.metrics();
    assert_eq!((metrics.refused, refusals(&metrics, "address")), (8, 8));
    assert_eq!((metrics.accepted, metrics.connections), (5, 5));
    let mut first = open.remove(0);
    say(&mut first, "close ");
    assert_eq!(hear_close(&mut first), (1000, String::new()));
    drop(first);
    until("the end of the first connection", || serving.handle.metrics().connections == 4);
    open.push(other(serving.address));
    for socket in &mut open {
        say(socket, "served");
        assert_eq!(hear(socket), "served");
    }
    serving.shut_down();
}

#[test]
fn handshakes_under_way_are_limited_and_their_end_makes_room() {
    let builder = per_address(usize::MAX, 2).tls(CERTIFICATE.0.clone());
    let (serving, _events) = Serving::obedient(builder);
    let mut open: Vec<_> = (0..4).map(|_| other_tls(serving.address)).collect();
    // The first bytes of a record; the rest never comes.
    let silent = [tcp(serving.address), tcp(serving.address)];
    for mut stream in &silent {
        stream.write_all(&[22, 3, 1]).unwrap();
    }
    until("both handshakes", || serving.handle.metrics().accepted == 6);
    assert!(is_closed(&tcp(serving.address)));
    assert_eq!(refusals(&serving.handle.metrics(), "handshakes"), 1);
    drop(silent);
    until("their end", || serving.handle.metrics().connections == 4);
    open.push(other_tls(serving.address));
    for socket in &mut open {
        say(socket, "served");
        assert_eq!(hear(socket), "served");
    }
    serving.shut_down();
}
