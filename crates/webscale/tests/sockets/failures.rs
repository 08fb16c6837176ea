//! What goes wrong is said in words.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use webscale::{ClientTls, Handler, Limits, Message, Peer, Server, Target};

use super::support::{CERTIFICATE, Files, Obedient, Serving, builder, client, client_tls, failure, tcp};

/// A server of something else, for one client.
fn stranger(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(answer);
    });
    format!("ws://{address}/")
}

fn plain(url: &str) -> Target {
    Target::from_url(url).unwrap()
}

#[test]
fn a_refused_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    drop(listener);
    assert_eq!(
        failure(plain(&url)),
        "no connection: Connection refused (os error 111), 1006 (abnormal closure)"
    );
}

#[test]
fn a_server_that_is_no_websocket_server() {
    let begin = "opening handshake failed: ";
    let answers: [(&[u8], &str); 4] = [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "the server answered 200 instead of 101"),
        (b"HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n", "the server answered 301 instead of 101"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "the answer is not HTTP/1.1"),
        (b"HTTP/1.1 101 Fine\r\n\r\n", "the answer has no `Upgrade: websocket`"),
    ];
    for (answer, words) in answers {
        assert_eq!(failure(plain(&stranger(answer))), format!("{begin}{words}, 1006 (abnormal closure)"));
    }
    assert_eq!(
        failure(plain(&stranger(b""))),
        "connection lost: unexpected end of file, 1006 (abnormal closure)"
    );
}

#[test]
fn a_path_that_is_not_served_and_a_handler_that_serves_none() {
    let (serving, _events) = Serving::obedient(builder());
    let words = failure(plain(&format!("ws://{}/nowhere", serving.address)));
    assert!(words.starts_with("opening handshake failed: the server answered 404 instead of 101"), "{words}");
    serving.shut_down();

    /// Writes nothing but what it must.
    struct Closed;
    impl Handler for Closed {
        type Session = ();
        fn message(&self, _: &mut Peer<'_, ()>, _: Message<'_>) {}
    }
    let serving = Serving::new(builder(), Closed);
    let words = failure(plain(&serving.url()));
    assert!(words.contains("404"), "{words}");
    serving.shut_down();
}

#[test]
fn tls_to_a_plain_port_and_plain_to_a_tls_port() {
    let (serving, _events) = Serving::obedient(builder());
    let url = serving.secure_url();
    let words = failure(Target::with_tls(&url, client_tls()).unwrap());
    assert!(words.starts_with("TLS failed: "), "{words}");
    serving.shut_down();

    let (serving, _events) = Serving::obedient(builder().tls(CERTIFICATE.0.clone()));
    let words = failure(plain(&serving.url()));
    assert!(words.starts_with("opening handshake failed: the answer is not HTTP/1.1"), "{words}");
    serving.shut_down();
}

#[test]
fn a_certificate_that_nobody_vouches_for() {
    let (serving, _events) = Serving::obedient(builder().tls(CERTIFICATE.0.clone()));
    let url = serving.secure_url();
    let stranger = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let files = Files::new("stranger");
    let tls = ClientTls::from_ca_file(files.write("ca.pem", &stranger.cert.pem())).unwrap();
    let words = failure(Target::with_tls(&url, tls).unwrap());
    assert!(words.starts_with("TLS failed: invalid peer certificate"), "{words}");
    // Without looking it works.
    let (client, events) = client();
    let target = Target::with_tls(&url, ClientTls::insecure().unwrap()).unwrap();
    client.connect(&std::sync::Arc::new(target), None, 1).unwrap();
    events.opened();
    drop(client);
    serving.shut_down();
}

#[test]
fn an_address_that_cannot_be_listened_on() {
    let (serving, _events) = Serving::obedient(builder());
    let address = serving.address;
    let build = |builder: webscale::ServerBuilder| {
        let (handler, _) = Obedient::new();
        builder.build(handler).map(drop).unwrap_err().to_string()
    };
    let words = build(Server::builder().listen(address));
    assert!(
        words.contains(&address.to_string()) && words.contains("another program has this port"),
        "{words}"
    );
    assert!(build(Server::builder()).contains("not an address"));
    assert!(build(Server::builder().listen("nonsense")).contains("\"nonsense\""));
    let words = build(Server::builder().listen("192.0.2.1:0"));
    assert!(words.starts_with("cannot listen on 192.0.2.1:0: "), "{words}");
    let limits = Limits { turn_frames: 0, ..Limits::default() };
    assert!(build(builder().limits(limits).listen("127.0.0.1:0")).starts_with("invalid limits: "));
    serving.shut_down();
}

#[test]
fn servers_that_agree_share_a_port() {
    let (serving, _events) = Serving::obedient(builder().share_port());
    let (handler, _) = Obedient::new();
    let second = Server::builder().listen(serving.address).share_port().build(handler).unwrap();
    assert_eq!(second.local_addr(), serving.address);
    drop(second);
    drop(tcp(serving.address));
    serving.shut_down();
}
