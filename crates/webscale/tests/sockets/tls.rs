//! TLS as a client chooses it: versions, resumption, the name it asks for.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::client::ClientSessionMemoryCache;
use webscale::{ClientTls, CloseCode, Target, TlsVersions};

use super::support::{CERTIFICATE, Serving, builder, client, failure, until};

fn serving() -> (Serving, String) {
    let (serving, _events) = Serving::obedient(builder().tls(CERTIFICATE.0.clone()));
    let url = serving.url().replace("ws://", "wss://");
    (serving, url)
}

/// Connects to `target`, and waits until the server's tickets have arrived with an echo.
fn visit(serving: &Serving, target: &Arc<Target>) {
    let before = serving.handle.metrics().opened;
    let (client, events) = client();
    client.connect(target, None, 1).unwrap();
    let (_, sender) = events.opened();
    sender.send(webscale::Message::Text("hello")).unwrap();
    assert_eq!(events.text(), (1, "hello".into()));
    sender.close(CloseCode::NORMAL, "").unwrap();
    events.closed();
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
fn a_client_that_speaks_one_version_meets_a_server_that_speaks_another() {
    let mut config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let tls = webscale::Tls::from_rustls(Arc::new(config));
    let (serving, _events) = Serving::obedient(builder().tls(tls));
    let url = serving.url().replace("ws://", "wss://");
    let tls = ClientTls::builder().versions(TlsVersions::Tls12).insecure().unwrap();
    let words = failure(Target::with_tls(&url, tls).unwrap());
    assert!(words.contains("ProtocolVersion"), "{words}");
    until("the end of the connection", || serving.handle.metrics().connections == 0);
    serving.shut_down();
}

#[test]
fn the_name_that_is_asked_for_must_stand_in_the_certificate() {
    let (serving, url) = serving();
    let target = Target::with_tls(&url, super::support::client_tls()).unwrap();
    visit(&serving, &Arc::new(target.clone()));
    let words = failure(target.server_name("elsewhere.example").unwrap());
    assert!(words.contains("elsewhere.example"), "{words}");
    serving.shut_down();
}

/// What a server answers to these bytes on its TLS port, up to its end of the connection.
fn answer(serving: &Serving, bytes: &[u8]) -> Vec<u8> {
    let mut stream = super::support::tcp(serving.address);
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
        let count = || serving.handle.metrics().closes().find(|(name, _)| *name == "tls");
        until("the count", || count() == Some(("tls", number)));
    }
    serving.shut_down();
}

fn rustls_client(alpn: &[&[u8]]) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CERTIFICATE.1.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

#[test]
fn a_client_of_http_2_alone_gets_an_alert() {
    let (serving, url) = serving();
    let with = |alpn: &[&[u8]]| Target::with_tls(&url, ClientTls::from_rustls(rustls_client(alpn))).unwrap();
    let words = failure(with(&[b"h2"]));
    assert!(words.contains("NoApplicationProtocol"), "{words}");
    visit(&serving, &Arc::new(with(&[b"h2", b"http/1.1"])));
    visit(&serving, &Arc::new(with(&[])));
    serving.shut_down();
}

#[test]
fn a_flood_of_key_updates_is_ended() {
    let (serving, _) = serving();
    let name = "127.0.0.1".try_into().unwrap();
    let connection = rustls::ClientConnection::new(rustls_client(&[]), name).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, super::support::tcp(serving.address));
    // A handful in a row is nobody's fault.
    let mut update = |count: usize| {
        for _ in 0..count {
            stream.flush()?;
            stream.conn.refresh_traffic_keys().unwrap();
        }
        stream.flush()
    };
    update(5).unwrap();
    let ended = || serving.handle.metrics().closes().any(|close| close == ("tls", 1));
    assert!(!ended());
    // The server may have ended it before all were sent.
    let _ = update(100);
    until("the end", ended);
    serving.shut_down();
}
