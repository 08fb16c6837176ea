//! A peer that has the right keys and sends what no TLS library would: messages of the handshake, cut short.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use rustls::crypto::cipher::{
    AeadKey, Iv, MessageDecrypter, MessageEncrypter, OutboundOpaqueMessage, OutboundPlainMessage,
    Tls13AeadAlgorithm, UnsupportedOperationError,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{
    ClientConfig, ConnectionTrafficSecrets, ContentType, Error, RootCertStore, SupportedCipherSuite,
    Tls13CipherSuite,
};
use webscale_proto::{CloseCode, Role};

use super::harness::World;
use super::recorder::closed;
use super::socket::End;
use super::tls::{CERTIFICATE, Raw, VERSIONS, server};
use super::wire::{Frames, Item, items, text};
use crate::close::{CloseCause, CloseKind};
use crate::tls::{ClientTls, TlsStream, server_name};

/// Application data that begins with this goes out as a message of the handshake, without it.
const DISGUISE: u8 = 0xff;
/// First byte of a KeyUpdate (RFC 8446 §4).
const KEY_UPDATE: u8 = 24;

fn honest() -> &'static Tls13CipherSuite {
    let SupportedCipherSuite::Tls13(suite) = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256 else {
        unreachable!("its name says so")
    };
    suite
}

struct Tampering;

impl Tls13AeadAlgorithm for Tampering {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(Disguising(honest().aead_alg.encrypter(key, iv)))
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        honest().aead_alg.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        honest().aead_alg.key_len()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        honest().aead_alg.extract_keys(key, iv)
    }
}

struct Disguising(Box<dyn MessageEncrypter>);

impl MessageEncrypter for Disguising {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        number: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        let payload = message.payload.to_vec();
        match payload.split_first() {
            Some((&DISGUISE, rest)) if message.typ == ContentType::ApplicationData => {
                let (typ, version) = (ContentType::Handshake, message.version);
                self.0.encrypt(OutboundPlainMessage { typ, version, payload: rest.into() }, number)
            }
            _ => self.0.encrypt(message, number),
        }
    }

    fn encrypted_payload_len(&self, length: usize) -> usize {
        self.0.encrypted_payload_len(length)
    }
}

fn tampering() -> TlsStream {
    static SUITE: LazyLock<Tls13CipherSuite> = LazyLock::new(|| Tls13CipherSuite {
        common: rustls::crypto::CipherSuiteCommon { ..honest().common },
        hkdf_provider: honest().hkdf_provider,
        aead_alg: &Tampering,
        quic: None,
    });
    let suites = vec![SupportedCipherSuite::Tls13(&SUITE)];
    let provider = CryptoProvider { cipher_suites: suites, ..aws_lc_rs::default_provider() };
    let mut roots = RootCertStore::empty();
    roots.add(CERTIFICATE.1.clone()).expect("a certificate");
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = builder.with_protocol_versions(&VERSIONS[..1]).expect("TLS 1.3");
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    let name = server_name("127.0.0.1").expect("an address");
    ClientTls::from_rustls(Arc::new(config)).connect(&name).expect("a connection")
}

/// An open connection whose peer has begun a message of the handshake.
fn begun(message: &[u8]) -> (World, Raw) {
    let mut server = server();
    let mut raw = Raw::open(&mut server, tampering());
    let flight = raw.seal(&[&[DISGUISE], message].concat());
    server.receive(&flight);
    assert!(server.sent().is_empty());
    (server, raw)
}

#[test]
fn the_disguise_works() {
    // A whole KeyUpdate, by which the peer's next records have another key: this one has the old one.
    let (mut server, mut raw) = begun(&[KEY_UPDATE, 0, 0, 1, 0]);
    let flight = raw.seal(&Frames::client().text("hello").done());
    server.receive(&flight);
    assert_eq!(server.ended_as(), CloseKind::Tls);
}

#[test]
fn a_message_of_the_handshake_that_is_cut_does_not_stop_what_we_send() {
    for cut in 1..5 {
        let (mut server, mut raw) = begun(&[KEY_UPDATE, 0, 0, 1, 0][..cut]);
        server.send("pushed");
        server.advance(Duration::from_secs(34));
        server.close(CloseCode::GOING_AWAY, "", CloseCause::Shutdown);
        let (plaintext, _) = raw.open_records(&server.sent());
        let sent = items(Role::Client, &plaintext);
        assert_eq!(sent[..2], [text("pushed"), Item::Ping(Vec::new())], "cut at {cut}");
        // Nothing else may stand between its parts (RFC 8446 §5.1).
        let flight = raw.seal(&Frames::client().close(1001, "").done());
        server.receive(&flight);
        assert_eq!(server.seen(), [closed(1006, "", CloseKind::Tls)]);
    }
}

#[test]
fn its_rest_completes_it() {
    let (mut server, mut raw) = begun(&[KEY_UPDATE, 0]);
    server.send("between");
    let flight = raw.seal(&[DISGUISE, 0, 1, 0]);
    server.receive(&flight);
    server.send("behind");
    let (plaintext, _) = raw.open_records(&server.sent());
    assert_eq!(items(Role::Client, &plaintext), [text("between"), text("behind")]);
    assert_eq!(server.connection.buffered(), 0);
}

#[test]
fn a_message_of_the_handshake_in_thousands_of_records_is_not_kept() {
    // 65,535 bytes are to come, one a record.
    let (mut server, mut raw) = begun(&[KEY_UPDATE, 0, 0xff, 0xff]);
    let mut records = 1;
    while server.closes() == 0 {
        let flight = raw.seal(&[DISGUISE, 0]);
        server.receive(&flight);
        assert!(server.connection.buffered() < 8 * 1024);
        records += 1;
    }
    assert_eq!((records, server.ended_as()), (65, CloseKind::Tls));
    assert_eq!(server.connection.buffered(), 0);
}

#[test]
fn a_client_hello_in_thousands_of_records_is_not_kept() {
    let mut server = server();
    server.receive(&[22, 3, 1, 0, 4, 1, 0, 0xff, 0xff]);
    for record in 0.. {
        server.receive(&[22, 3, 1, 0, 1, 0]);
        assert!(server.connection.buffered() < 160 * 1024);
        if server.is_dead() {
            assert!(record > 1000, "what could still be honest was refused");
            break;
        }
    }
    assert_eq!(server.ended_as(), CloseKind::Lost);
}

#[derive(Clone, Debug)]
enum Act {
    /// A record with bytes of the handshake.
    Fragment(Vec<u8>),
    Text,
    /// The server has something to say while records are incomplete.
    Pushed,
}

fn act() -> impl Strategy<Value = Act> {
    // Mostly the bytes of KeyUpdates, so that some are whole.
    let byte = prop_oneof![4 => Just(0), 2 => Just(KEY_UPDATE), 2 => Just(1), 1 => any::<u8>()];
    prop_oneof![4 => vec(byte, 0..7).prop_map(Act::Fragment), 2 => Just(Act::Text), 1 => Just(Act::Pushed)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_is_cut_however_ends_at_most_once(
        acts in vec(act(), 1..60),
        pieces in vec(1usize..100, 1..8),
    ) {
        let mut server = server();
        let mut raw = Raw::open(&mut server, tampering());
        let (mut wire, mut pieces) = (Vec::new(), pieces.into_iter().cycle());
        for act in acts {
            match act {
                Act::Fragment(bytes) => wire.extend(raw.seal(&[&[DISGUISE], &bytes[..]].concat())),
                Act::Text => wire.extend(raw.seal(&Frames::client().text("quiet").done())),
                Act::Pushed => server.send("pushed"),
            }
            // Some of it stays behind, to arrive with what follows.
            while let Some(piece) = pieces.next().filter(|piece| *piece < wire.len()) {
                server.receive(&wire.drain(..piece).collect::<Vec<_>>());
            }
        }
        server.receive(&wire);
        prop_assert!(server.closes() <= 1);
        prop_assert!(server.connection.buffered() < 64 * 1024);
        server.end(End::Eof);
        prop_assert!(server.is_dead() && server.closes() == 1);
    }
}
