//! TLS as a client chooses it: versions, resumption, the name it asks for.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::sync::Arc;

use rustls::client::ClientSessionMemoryCache;
use webscale::{ClientTls, Limits, Target, TlsVersions};

use super::support::{
    self, CERTIFICATE, Secure, Serving, builder, certified, client, client_config, client_tls, failure, hear,
    over, say, server_config, shake, tcp, until,
};

fn serving() -> (Serving, String) {
    let (serving, _events) = Serving::obedient(builder().tls(CERTIFICATE.0.clone()));
    let url = serving.secure_url();
    (serving, url)
}

/// One more connection of the server's.
fn visit(serving: &Serving, target: &Arc<Target>) {
    let before = serving.handle.metrics().opened;
    support::visit(target);
    assert_eq!(serving.handle.metrics().opened, before + 1);
}

#[test]
fn sessions_are_resumed_and_counted() {
    for versions in [TlsVersions::Tls12, TlsVersions::Tls13] {
        let (serving, url) = serving();
        let tls = ClientTls::builder().versions(versions).insecure().unwrap();
        let tls = tls.session_store(Arc::new(ClientSessionMemoryCache::new(8)));
        let target = Arc::new(Target::with_tls(&url, tls.clone()).unwrap());
        visit(&serving, &target);
        visit(&serving, &target);
        assert_eq!(serving.handle.metrics().resumed, 1, "{versions:?}");
        visit(&serving, &Arc::new(Target::with_tls(&url, tls.without_resumption()).unwrap()));
        assert_eq!(serving.handle.metrics().resumed, 1, "{versions:?}");
        serving.shut_down();
    }
}

#[test]
fn handshakes_that_wait_for_their_turn_all_come_to_it() {
    const CLIENTS: u64 = 40;
    let limits = Limits { turn_handshakes: 1, ..Limits::default() };
    let (serving, _events) =
        Serving::obedient(builder().threads(1).tls(CERTIFICATE.0.clone()).limits(limits));
    let url = serving.secure_url();
    let target = Arc::new(Target::with_tls(&url, ClientTls::insecure().unwrap()).unwrap());
    let (client, events) = client();
    (0..CLIENTS).for_each(|number| client.connect(&target, None, number).unwrap());
    let opened: BTreeSet<_> = (0..CLIENTS).map(|_| events.opened().0).collect();
    assert_eq!(opened.len() as u64, CLIENTS);
    serving.shut_down();
}

#[test]
fn a_client_that_speaks_one_version_meets_a_server_that_speaks_another() {
    let mut config = server_config(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let tls = webscale::Tls::from_rustls(Arc::new(config));
    let (serving, _events) = Serving::obedient(builder().tls(tls));
    let url = serving.secure_url();
    let tls = ClientTls::builder().versions(TlsVersions::Tls12).insecure().unwrap();
    let words = failure(Target::with_tls(&url, tls).unwrap());
    assert!(words.contains("ProtocolVersion"), "{words}");
    until("the end of the connection", || serving.handle.metrics().connections == 0);
    serving.shut_down();
}

#[test]
fn the_name_that_is_asked_for_must_stand_in_the_certificate() {
    let (serving, url) = serving();
    let target = Target::with_tls(&url, client_tls()).unwrap();
    visit(&serving, &Arc::new(target.clone()));
    let words = failure(target.server_name("elsewhere.example").unwrap());
    assert!(words.contains("elsewhere.example"), "{words}");
    serving.shut_down();
}

/// What a server answers to these bytes on its TLS port, up to its end of the connection.
fn answer(serving: &Serving, bytes: &[u8]) -> Vec<u8> {
    let mut stream = tcp(serving.address);
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

#[test]
fn old_versions_and_other_protocols_get_an_alert() {
    let (serving, _) = serving();
    // A ClientHello of TLS 1.1 (RFC 4346 §7.4.1.2) with one cipher suite, TLS_RSA_WITH_AES_128_CBC_SHA.
    let mut hello = vec![22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    let cases = [&hello[..], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"EHLO mail.example\r\n"];
    for (number, bytes) in (1..).zip(cases) {
        let answer = answer(&serving, bytes);
        // A record with an alert that is fatal, and nothing else.
        assert!(matches!(answer[..], [21, 3, _, 0, 2, 2, _]), "{answer:x?}");
        until("the count", || serving.closed_by("tls") == number);
    }
    serving.shut_down();
}

fn rustls_client(alpn: &[&[u8]]) -> rustls::ClientConfig {
    let mut config = client_config();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

#[test]
fn a_client_of_http_2_alone_gets_an_alert() {
    let (serving, url) = serving();
    let with = |alpn: &[&[u8]]| {
        Target::with_tls(&url, ClientTls::from_rustls(Arc::new(rustls_client(alpn)))).unwrap()
    };
    let words = failure(with(&[b"h2"]));
    assert!(words.contains("NoApplicationProtocol"), "{words}");
    visit(&serving, &Arc::new(with(&[b"h2", b"http/1.1"])));
    visit(&serving, &Arc::new(with(&[])));
    serving.shut_down();
}

fn secure(serving: &Serving, config: rustls::ClientConfig) -> Secure {
    support::secure(tcp(serving.address), config, "127.0.0.1").unwrap()
}

fn update_keys(stream: &mut Secure, count: usize) -> std::io::Result<()> {
    for _ in 0..count {
        stream.flush()?;
        stream.conn.refresh_traffic_keys().unwrap();
    }
    stream.flush()
}

#[test]
fn a_flood_of_key_updates_is_ended() {
    let (serving, _) = serving();
    let mut stream = secure(&serving, client_config());
    // A handful in a row is nobody's fault.
    update_keys(&mut stream, 5).unwrap();
    assert_eq!(serving.closed_by("tls"), 0);
    // The server may have ended it before all were sent.
    let _ = update_keys(&mut stream, 100);
    until("the end", || serving.closed_by("tls") == 1);
    serving.shut_down();
}

#[test]
fn a_flood_of_key_updates_with_bytes_of_data_between_is_ended() {
    let (serving, _events) = serving();
    let mut flood = secure(&serving, client_config());
    // The same number in the company of what they protect: 20 for each 400 kB.
    let mut honest = over(secure(&serving, client_config()), serving.address);
    for _ in 0..10 {
        update_keys(honest.get_mut(), 20).unwrap();
        honest.send(tungstenite::Message::binary(vec![0; 400_000])).unwrap();
        assert_eq!(honest.read().unwrap().len(), 400_000);
    }
    // A head that never ends, byte by byte.
    let head = [&b"GET /"[..], &[b'a'; 500]].concat();
    for byte in head.chunks(1).take_while(|_| serving.closed_by("tls") == 0) {
        let _ = update_keys(&mut flood, 5).and_then(|()| flood.write_all(byte));
    }
    until("the end", || serving.closed_by("tls") == 1);
    assert_eq!(serving.handle.metrics().connections, 1);
    serving.shut_down();
}

/// Record protection as TLS 1.2 has it with AES-256-GCM (RFC 5288 §3), with the keys of a client's connection.
struct Sealer {
    key: aws_lc_rs::aead::LessSafeKey,
    salt: [u8; 4],
    sequence: u64,
}

impl Sealer {
    fn of(connection: rustls::ClientConnection) -> Self {
        let (sequence, secrets) = connection.dangerous_extract_secrets().unwrap().tx;
        let rustls::ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else {
            panic!("another cipher")
        };
        let key = aws_lc_rs::aead::UnboundKey::new(&aws_lc_rs::aead::AES_256_GCM, key.as_ref()).unwrap();
        let salt = iv.as_ref()[..4].try_into().unwrap();
        Self { key: aws_lc_rs::aead::LessSafeKey::new(key), salt, sequence }
    }

    fn seal(&mut self, content_type: u8, content: &[u8]) -> Vec<u8> {
        let sequence = self.sequence.to_be_bytes();
        self.sequence += 1;
        let nonce = [&self.salt[..], &sequence].concat();
        let nonce = aws_lc_rs::aead::Nonce::try_assume_unique_for_key(&nonce).unwrap();
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        let header = [&sequence[..], &[content_type, 3, 3], &length].concat();
        let mut sealed = content.to_vec();
        self.key.seal_in_place_append_tag(nonce, aws_lc_rs::aead::Aad::from(header), &mut sealed).unwrap();
        let length = u16::try_from(8 + sealed.len()).unwrap().to_be_bytes();
        [&[content_type, 3, 3][..], &length, &sequence, &sealed].concat()
    }
}

/// A client of TLS 1.2 that seals its records itself.
fn sealing(serving: &Serving) -> (Sealer, std::net::TcpStream) {
    let provider = rustls::crypto::CryptoProvider {
        cipher_suites: vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384],
        ..rustls::crypto::aws_lc_rs::default_provider()
    };
    let mut config = support::trusting([&CERTIFICATE.1], provider);
    config.enable_secret_extraction = true;
    let stream = secure(serving, config);
    (Sealer::of(stream.conn), stream.sock)
}

#[test]
fn a_flood_of_empty_records_is_ended() {
    let (serving, _events) = serving();
    let (mut sealer, mut stream) = sealing(&serving);
    let flood: Vec<u8> = (0..1000).flat_map(|_| sealer.seal(23, b"")).collect();
    // A dozen is nobody's fault: the request behind them is answered.
    let (mut sealer, mut honest) = sealing(&serving);
    let few: Vec<u8> = (0..12).flat_map(|_| sealer.seal(23, b"")).collect();
    honest.write_all(&few).unwrap();
    honest.write_all(&sealer.seal(23, b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n")).unwrap();
    honest.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(serving.handle.metrics().rejected + serving.handle.metrics().http, 1);
    let _ = stream.write_all(&flood);
    until("the end", || serving.closed_by("tls") == 1);
    serving.shut_down();
}

#[test]
fn renegotiation_is_refused_and_asked_for_again_ends_it() {
    let (serving, _events) = serving();
    let (mut sealer, mut stream) = sealing(&serving);
    // A ClientHello of TLS 1.2 with nothing in it but a cipher suite (RFC 5246 §7.4.1.2).
    let mut hello = vec![1, 0, 0, 41, 3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2c, 1, 0]);
    stream.write_all(&sealer.seal(22, &hello)).unwrap();
    let mut alert = [0; 31];
    stream.read_exact(&mut alert).unwrap();
    // Sealed: a warning (RFC 5246 §7.2.2, no_renegotiation). The connection lives on.
    assert_eq!(alert[..5], [21, 3, 3, 0, 26]);
    stream.write_all(&sealer.seal(23, b"GET /nothing HTTP/1.1\r\n")).unwrap();
    assert_eq!(serving.closed_by("tls"), 0);
    stream.write_all(&sealer.seal(22, &hello)).unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    until("the end", || serving.closed_by("tls") == 1);
    serving.shut_down();
}

#[test]
fn early_data_is_not_taken() {
    // The one ticket that allows it is of another server with the same sessions, and not one of ours.
    let mut config = server_config(Arc::new(rustls::sign::SingleCertAndKey::from(certified())));
    config.max_early_data_size = 1000;
    let lavish = Arc::new(config);
    let (serving, _events) = Serving::obedient(builder().tls(webscale::Tls::from_rustls(lavish.clone())));
    let mut config = client_config();
    config.enable_early_data = true;
    let config = Arc::new(config);
    take_ticket(&lavish, &config);

    let name = "127.0.0.1".try_into().unwrap();
    let mut connection = rustls::ClientConnection::new(config, name).unwrap();
    let request = b"GET /early HTTP/1.1\r\nHost: a\r\n\r\n";
    connection.early_data().expect("the ticket allows it").write_all(request).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, tcp(serving.address));
    stream.flush().unwrap();
    let stream = shake(stream).unwrap();
    assert!(!stream.conn.is_early_data_accepted());
    // What is heard is what was said in the session itself.
    let mut socket = over(stream, serving.address);
    say(&mut socket, "once");
    assert_eq!(hear(&mut socket), "once");
    let metrics = serving.handle.metrics();
    assert_eq!((metrics.opened, metrics.http, metrics.rejected, metrics.resumed), (1, 0, 0, 1));
    serving.shut_down();
}

/// Has a client meet a server of rustls alone, for its ticket.
fn take_ticket(server: &Arc<rustls::ServerConfig>, client: &Arc<rustls::ClientConfig>) {
    let mut server = rustls::ServerConnection::new(server.clone()).unwrap();
    let mut client = rustls::ClientConnection::new(client.clone(), "127.0.0.1".try_into().unwrap()).unwrap();
    while client.is_handshaking() || server.is_handshaking() || server.wants_write() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets().unwrap();
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().unwrap();
        }
    }
}
