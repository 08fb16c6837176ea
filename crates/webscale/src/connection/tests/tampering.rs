//! A peer that has the right keys and sends what no TLS library would.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use rustls::crypto::cipher::{
    AeadKey, Iv, MessageDecrypter, MessageEncrypter, OutboundOpaqueMessage, OutboundPlainMessage,
    Tls13AeadAlgorithm, UnsupportedOperationError,
};
use rustls::crypto::{CipherSuiteCommon, CryptoProvider, aws_lc_rs};
use rustls::sign::SingleCertAndKey;
use rustls::{
    ClientConfig, ConnectionTrafficSecrets, ContentType, Error, RootCertStore, ServerConfig,
    SupportedCipherSuite, Tls13CipherSuite,
};
use webscale_proto::{CloseCode, Role};

use super::harness::World;
use super::recorder::{closed, seen};
use super::socket::End;
use super::tls::{CERTIFICATE, Raw, VERSIONS, certified, count_records, server};
use super::wire::{Frames, Item, items, text};
use crate::close::{CloseCause, CloseKind};
use crate::limits::Limits;
use crate::tls::{ClientTls, Tls, TlsStream, server_name};

/// Application data that begins with this goes out without it and without the next byte, which says what as.
const DISGUISE: u8 = 0xff;
/// A message of the handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
const ALERT: u8 = 21;
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
        match payload.as_slice() {
            [DISGUISE, kind, rest @ ..] if message.typ == ContentType::ApplicationData => {
                let (typ, version) = (ContentType::from(*kind), message.version);
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
        common: CipherSuiteCommon { ..honest().common },
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

fn open() -> (World, Raw) {
    let mut server = server();
    let raw = Raw::open(&mut server, tampering());
    (server, raw)
}

/// A record of another kind than it seems.
fn disguised(raw: &mut Raw, kind: u8, content: &[u8]) -> Vec<u8> {
    raw.seal(&[&[DISGUISE, kind], content].concat())
}

/// An open connection whose peer has begun a message of the handshake.
fn begun(message: &[u8]) -> (World, Raw) {
    let (mut server, mut raw) = open();
    server.receive(&disguised(&mut raw, HANDSHAKE, message));
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
    server.receive(&disguised(&mut raw, HANDSHAKE, &[0, 1, 0]));
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
        server.receive(&disguised(&mut raw, HANDSHAKE, &[0]));
        assert!(server.connection.buffered() < 8 * 1024);
        records += 1;
    }
    assert_eq!((records, server.ended_as()), (65, CloseKind::Tls));
    assert_eq!(server.connection.buffered(), 0);
}

#[test]
fn what_may_not_be_said_in_an_open_session_ends_it_with_an_alert() {
    let cases: [(u8, &[u8]); 11] = [
        // A ClientHello, a ticket for a server, an end of early data.
        (HANDSHAKE, &[1, 0, 0, 0]),
        (HANDSHAKE, &[4, 0, 0, 0]),
        (HANDSHAKE, &[5, 0, 0, 0]),
        // KeyUpdates: without a request, with one that there is not, with more in their record.
        (HANDSHAKE, &[KEY_UPDATE, 0, 0, 0]),
        (HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 2]),
        (HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 0, KEY_UPDATE]),
        (ALERT, &[2]),
        (ALERT, &[]),
        // A change_cipher_spec, a heartbeat, and a fault told as a warning (RFC 8446 §6).
        (20, &[1]),
        (24, &[1, 0, 0]),
        (ALERT, &[1, 20]),
    ];
    for (kind, content) in cases {
        let (mut server, mut raw) = open();
        server.receive(&disguised(&mut raw, kind, content));
        assert!(raw.alert(&server.sent()).is_some(), "{kind} {content:?}");
        assert_eq!(server.seen(), [closed(1006, "", CloseKind::Tls)]);
    }
}

#[test]
fn records_that_cannot_be_opened_get_an_alert_as_soon_as_that_is_known() {
    let cases: [&[u8]; 6] = [
        // Longer than any (RFC 5246 §6.2.3).
        &[23, 3, 3, 0x48, 0x01],
        &[22, 3, 3, 0, 1, 0],
        &[21, 3, 3, 0, 2, 2, 0],
        &[20, 3, 3, 0, 1, 1],
        &[23, 3, 3, 0, 0],
        &[23, 3, 3, 0, 5, 1, 2, 3, 4, 5],
    ];
    for bytes in cases {
        let (mut server, mut raw) = open();
        server.receive(bytes);
        assert!(raw.alert(&server.sent()).is_some(), "{bytes:?}");
        assert_eq!(server.seen(), [closed(1006, "", CloseKind::Tls)]);
    }
}

#[test]
fn alerts_end_a_session_but_for_one() {
    let (mut server, mut raw) = open();
    // user_canceled; close_notify, and behind it what nobody reads any more.
    server.receive(&disguised(&mut raw, ALERT, &[1, 90]));
    let mut flight = raw.seal(&Frames::client().text("still here").done());
    flight.extend(disguised(&mut raw, ALERT, &[1, 0]));
    flight.extend([23, 3, 3, 0, 0]);
    server.receive(&flight);
    assert_eq!(server.seen(), [seen("still here"), closed(1006, "", CloseKind::Lost)]);
    let (mut server, mut raw) = open();
    server.receive(&disguised(&mut raw, ALERT, &[2, 20]));
    assert_eq!(server.seen(), [closed(1006, "", CloseKind::Tls)]);
    assert_eq!(raw.alert(&server.sent()), None, "an answer to an alert");
}

#[test]
fn a_key_that_was_asked_for_comes_in_front_of_what_is_sent_next() {
    let (mut server, mut raw) = begun(&[KEY_UPDATE, 0, 0, 1, 1]);
    for (records, message) in [(2, "with a new key"), (1, "with the same")] {
        server.send(message);
        let sent = server.sent();
        assert_eq!(count_records(&sent), records);
        assert_eq!(items(Role::Client, &raw.open_records(&sent).0), [text(message)]);
    }
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

/// A provider with one cipher suite, whose keys are used up after so many records.
fn hasty(records_max: u64) -> CryptoProvider {
    let suite = Tls13CipherSuite {
        common: CipherSuiteCommon { confidentiality_limit: records_max, ..honest().common },
        hkdf_provider: honest().hkdf_provider,
        aead_alg: honest().aead_alg,
        quic: None,
    };
    // rustls takes a suite for good.
    let suite = SupportedCipherSuite::Tls13(Box::leak(Box::new(suite)));
    CryptoProvider { cipher_suites: vec![suite], ..aws_lc_rs::default_provider() }
}

#[test]
fn keys_that_are_used_up_are_replaced_on_the_way() {
    let builder = ServerConfig::builder_with_provider(Arc::new(hasty(5)));
    let builder = builder.with_protocol_versions(&VERSIONS[..1]).expect("TLS 1.3").with_no_client_auth();
    let identity = SingleCertAndKey::from(certified("127.0.0.1"));
    let tls = Tls::from_rustls(Arc::new(builder.with_cert_resolver(Arc::new(identity))));
    let mut server = World::accepted(Limits::default(), Some(tls.accept().expect("a connection")));
    let client = ClientTls::insecure().expect("a provider");
    let stream = client.connect(&server_name("127.0.0.1").expect("an address")).expect("a connection");
    let mut raw = Raw::open(&mut server, stream);
    let mut records = 0;
    for number in 0..100 {
        let message = number.to_string();
        server.send(&message);
        let sent = server.sent();
        records += count_records(&sent);
        assert_eq!(items(Role::Client, &raw.open_records(&sent).0), [text(&message)]);
    }
    assert!((120..=130).contains(&records), "{records} records: one of five is a KeyUpdate");
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
                Act::Fragment(bytes) => wire.extend(disguised(&mut raw, HANDSHAKE, &bytes)),
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
