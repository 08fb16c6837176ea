//! Sessions of TLS 1.3 that live long: keys that are used up, tickets in pieces.

use std::sync::{Arc, LazyLock};

use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::crypto::{CipherSuiteCommon, CryptoProvider};
use rustls::sign::SingleCertAndKey;
use rustls::{ServerConfig, SupportedCipherSuite, Tls13CipherSuite};
use webscale_proto::Role;

use super::harness::World;
use super::resumption::visit;
use super::tampering::honest;
use super::tls::{Raw, VERSIONS, certified, client_config, count_records, server, stream};
use super::wire::{Frames, items, text};
use crate::limits::Limits;
use crate::tls::{ClientTls, Tls};

/// After so many records a key is used up.
const RECORDS_MAX: u64 = 5;

/// A provider with one cipher suite, which needs new keys all the time.
fn hasty() -> Arc<CryptoProvider> {
    static SUITE: LazyLock<Tls13CipherSuite> = LazyLock::new(|| Tls13CipherSuite {
        common: CipherSuiteCommon { confidentiality_limit: RECORDS_MAX, ..honest().common },
        hkdf_provider: honest().hkdf_provider,
        aead_alg: honest().aead_alg,
        quic: None,
    });
    let cipher_suites = vec![SupportedCipherSuite::Tls13(&SUITE)];
    Arc::new(CryptoProvider { cipher_suites, ..default_provider() })
}

fn server_config(provider: Arc<CryptoProvider>) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&VERSIONS[..1]).expect("TLS 1.3").with_no_client_auth();
    builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified("127.0.0.1"))))
}

#[test]
fn a_server_takes_a_new_key_before_one_is_used_up() {
    let mut config = server_config(hasty());
    config.enable_secret_extraction = true;
    let tls = Tls::from_rustls(Arc::new(config));
    let mut server = World::accepted(Limits::default(), Some(tls.accept().expect("a connection")));
    let mut raw = Raw::open(&mut server, stream(&ClientTls::insecure().expect("a provider")));
    let mut records = 0;
    for number in 0..100 {
        let message = number.to_string();
        server.send(&message);
        let sent = server.sent();
        records += count_records(&sent);
        assert_eq!(items(Role::Client, &raw.open_records(&sent).0), [text(&message)]);
    }
    // Of five, one is the KeyUpdate.
    assert_eq!(records, 125);
}

#[test]
fn so_does_a_client() {
    let mut config = client_config(hasty(), VERSIONS[0], true);
    config.enable_secret_extraction = true;
    let tls = ClientTls::from_rustls(Arc::new(config));
    let mut server = server();
    let mut raw = Raw::open(&mut server, stream(&tls));
    let records: usize = (0..100)
        .map(|_| {
            let flight = raw.seal(&Frames::client().text("hello").done());
            server.receive(&flight);
            count_records(&flight)
        })
        .sum();
    assert_eq!((records, server.seen().len()), (125, 100));
}

#[test]
fn a_ticket_in_many_records_is_kept_and_used() {
    let mut config = server_config(Arc::new(default_provider()));
    config.max_fragment_size = Some(64);
    config.ticketer = Ticketer::new().expect("randomness");
    let server = Tls::from_rustls(Arc::new(config));
    let client = ClientTls::insecure().expect("a provider");
    assert!(!visit(&client, &server));
    assert!(visit(&client, &server));
}
