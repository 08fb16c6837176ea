//! TLS as a client chooses it: versions, resumption, the name it asks for.

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
