//! Clients behind a proxy that speaks the PROXY protocol.

use std::io::Write;

use webscale::{Accept, Handler, Limits, Message, Peer, Reject, Request, ServerBuilder};

use super::support::{
    CERTIFICATE, Serving, builder, client_config, hear, is_closed, limits, over, say, secure, tcp, until,
};

/// Says who they are to those who ask.
struct Mirror;

impl Handler for Mirror {
    type Session = String;

    fn open(&self, request: &Request<'_>) -> Result<Accept<String>, Reject> {
        Ok(request.peer_addr().to_string().into())
    }

    fn message(&self, peer: &mut Peer<'_, String>, _: Message<'_>) {
        let address = peer.session().clone();
        peer.send(Message::Text(&address)).expect("a peer that reads");
    }
}

/// Takes connections from `network` for a proxy's.
fn behind(network: &str, limits: Limits) -> ServerBuilder {
    let network = network.parse().expect("a network");
    builder().threads(2).limits(limits).tls(CERTIFICATE.0.clone()).proxy_protocol([network])
}

/// What a client behind `header` is taken for; `None` where it is turned away.
fn whoami(serving: &Serving, header: &[u8]) -> Option<(String, Box<dyn Send>)> {
    let mut stream = tcp(serving.address);
    stream.write_all(header).expect("room");
    let stream = secure(stream, client_config(), "127.0.0.1").ok()?;
    let mut socket = over(stream, serving.address);
    say(&mut socket, "who am I?");
    Some((hear(&mut socket), Box::new(socket)))
}

fn line(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 198.51.100.1 4711 443\r\n").into_bytes()
}

#[test]
fn the_address_is_the_clients_and_so_are_its_limits() {
    let serving =
        Serving::new(behind("127.0.0.0/8", Limits { connections_per_address: 2, ..limits() }), Mirror);
    let (first, _one) = whoami(&serving, &line("203.0.113.9")).expect("room");
    assert_eq!(first, "203.0.113.9:4711");
    let block = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\xc6\x33\x64\x01\x12\x67\x01\xbb";
    let (second, _two) = whoami(&serving, block).expect("room");
    assert_eq!(second, first);
    assert!(whoami(&serving, &line("203.0.113.9")).is_none());
    let (other, _three) = whoami(&serving, &line("203.0.113.10")).expect("room for another address");
    assert_eq!(other, "203.0.113.10:4711");
    until("the end of the one too many", || serving.handle.metrics().connections == 3);
    let metrics = serving.handle.metrics();
    assert_eq!((metrics.accepted, metrics.refused, serving.closed_by("refused")), (4, 1, 1));
    serving.shut_down();
}

#[test]
fn a_proxy_must_send_it_and_nobody_else_may() {
    let serving = Serving::new(behind("127.0.0.1", limits()), Mirror);
    assert!(whoami(&serving, b"").is_none(), "TLS from a proxy, without a header");
    assert!(whoami(&serving, b"PROXY TCP4 nowhere\r\n").is_none());
    until("their end", || serving.handle.metrics().connections == 0);
    assert_eq!(serving.closed_by("proxy"), 2);
    serving.shut_down();
    let serving = Serving::new(behind("192.0.2.0/24", limits()), Mirror);
    assert!(whoami(&serving, b"").expect("no proxy").0.starts_with("127.0.0.1:"));
    assert!(whoami(&serving, &line("203.0.113.9")).is_none());
    until("its end", || serving.handle.metrics().connections == 0);
    assert_eq!(serving.closed_by("tls"), 1);
    serving.shut_down();
}

#[test]
fn a_header_that_does_not_come_holds_nothing_for_long() {
    let limits = Limits { handshake_time: std::time::Duration::from_millis(50), ..limits() };
    let serving = Serving::new(behind("127.0.0.1", limits), Mirror);
    let stream = tcp(serving.address);
    assert!(is_closed(&stream));
    until("its end", || serving.handle.metrics().connections == 0);
    assert_eq!(serving.closed_by("timeout"), 1);
    serving.shut_down();
}
