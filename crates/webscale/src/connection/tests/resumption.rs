//! Sessions that one server began and another one resumes, at times that the test chooses.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::{ProducesTickets, ResolvesServerCertUsingSni};

use super::harness::World;
use super::tls::{CERTIFICATE, Raw, VERSIONS, certified, client_tls};
use crate::limits::Limits;
use crate::tls::{ClientTls, Hand, TicketKeys, Tls, TlsConfigError, server_name};

const HOUR: u64 = 3600;

/// A server's process with these ticket keys.
fn process(secret: u8, hand: &Arc<Hand>) -> Tls {
    let keys = TicketKeys::new(&[secret; 32]).unwrap().clock(hand.clone());
    CERTIFICATE.0.clone().ticket_keys(keys).unwrap()
}

/// Connects, takes the tickets with the answer to the upgrade, and tells whether the session was resumed.
fn visit(client: &ClientTls, server: &Tls) -> bool {
    let mut world = World::accepted(Limits::default(), Some(server.accept().unwrap()));
    Raw::open(&mut world, client.connect(&server_name("127.0.0.1").unwrap()).unwrap());
    world.metrics.resumed.get() == 1
}

#[test]
fn a_session_is_resumed_at_another_process_while_its_key_is_kept() {
    for version in VERSIONS {
        let hand = Arc::new(Hand::default());
        hand.turn(600 * HOUR);
        let [one, other] = [process(1, &hand), process(1, &hand)];
        let client = client_tls(version, true);
        assert!(!visit(&client, &one));
        assert!(visit(&client, &other) && visit(&client, &one) && visit(&client, &other));
        // The ticket is of the period before, and then of the one before that.
        hand.turn(606 * HOUR);
        assert!(visit(&client, &one));
        hand.turn(618 * HOUR);
        assert!(!visit(&client, &one), "a full handshake");
        assert!(visit(&client, &other), "with a new ticket");
        let stranger = process(2, &hand);
        assert!(!visit(&client, &stranger), "a full handshake");
        assert!(visit(&client, &stranger));
    }
}

#[test]
fn a_new_certificate_leaves_the_tickets_keys() {
    let hand = Arc::new(Hand::default());
    hand.turn(600 * HOUR);
    let [one, other, stranger] = [1, 1, 2].map(|secret| process(secret, &hand));
    let client = client_tls(VERSIONS[0], true);
    assert!(!visit(&client, &one));
    other.replace(&CERTIFICATE.0).unwrap();
    assert!(visit(&client, &other), "with the keys that it has");
    other.replace(&stranger).unwrap();
    assert!(!visit(&client, &other), "with the keys of the new one");
    assert!(visit(&client, &stranger));
}

#[test]
fn a_reload_reads_the_secret_again_and_keeps_the_old_one_if_that_is_no_good() {
    let path = std::env::temp_dir().join(format!("webscale-secret-{}", std::process::id()));
    let write = |secret: &[u8]| std::fs::write(&path, secret).unwrap();
    let hand = Arc::new(Hand::default());
    hand.turn(600 * HOUR);
    let [one, two] = [1, 2].map(|secret| process(secret, &hand));
    write(&[1; 32]);
    let keys = TicketKeys::from_file(&path).unwrap().clock(hand);
    let changing = CERTIFICATE.0.clone().ticket_keys(keys).unwrap();
    let client = client_tls(VERSIONS[0], true);
    assert!(!visit(&client, &one));
    changing.reload().unwrap();
    assert!(visit(&client, &changing), "the secret is the same");
    write(&[2; 31]);
    assert!(matches!(changing.reload(), Err(TlsConfigError::ShortSecret(31))));
    assert!(visit(&client, &changing));
    write(&[2; 32]);
    changing.reload().unwrap();
    assert!(!visit(&client, &changing), "with keys of the new secret");
    assert!(visit(&client, &two));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(changing.reload(), Err(TlsConfigError::Secret(..))));
    assert_eq!(changing.reloads(), (2, 2));
    assert!(matches!(one.reload(), Err(TlsConfigError::NoFiles)));
}

/// Opens none, and counts.
#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl ProducesTickets for Counting {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        3600
    }

    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        self.0.fetch_add(1, Relaxed);
        None
    }
}

/// `bytes` behind their length in two bytes.
fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// A record with a ClientHello of TLS 1.3 (RFC 8446 §4.1.2) that offers so many tickets.
fn hello(tickets: usize) -> Vec<u8> {
    let identity = [sized(&[7; 40]), vec![0; 4]].concat();
    let binder = [vec![32], vec![7; 32]].concat();
    let offer = [sized(&identity.repeat(tickets)), sized(&binder.repeat(tickets))].concat();
    let share = [&[0, 0x1d][..], &sized(&[9; 32])].concat();
    let extensions: [(u16, Vec<u8>); 7] = [
        (0, sized(&[&[0][..], &sized(b"a.example")].concat())),
        (10, sized(&[0, 0x1d])),
        (13, sized(&[4, 3])),
        (43, vec![2, 3, 4]),
        (45, vec![1, 1]),
        (51, sized(&share)),
        (41, offer),
    ];
    let extensions =
        extensions.map(|(kind, body)| [&kind.to_be_bytes()[..], &sized(&body)].concat()).concat();
    let head = [&[3, 3][..], &[5; 32], &[0], &sized(&[0x13, 1]), &[1, 0]].concat();
    let body = [head, sized(&extensions)].concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    let records = message.chunks(16_000).map(|part| [&[22, 3, 1][..], &sized(part)].concat());
    records.collect::<Vec<_>>().concat()
}

#[test]
fn of_hundreds_of_tickets_in_a_hello_the_first_few_are_looked_at() {
    let counting = Arc::new(Counting::default());
    let mut resolver = ResolvesServerCertUsingSni::new();
    resolver.add("a.example", certified("a.example")).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.ticketer = counting.clone();
    let tls = Tls::from_rustls(Arc::new(config));
    for (offered, looked_at) in [(1, 1), (3, 3), (700, 4), (2, 2)] {
        let mut world = World::accepted(Limits::default(), Some(tls.accept().unwrap()));
        world.receive(&hello(offered));
        // A full handshake goes on: a ServerHello.
        assert_eq!(world.sent()[..6], [22, 3, 3, 0, 90, 2], "{offered} tickets");
        assert_eq!(counting.0.swap(0, Relaxed), looked_at, "{offered} tickets");
    }
}
