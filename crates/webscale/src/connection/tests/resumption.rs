//! Sessions that one server began and another one resumes, at times that the test chooses.

use std::sync::Arc;

use super::harness::World;
use super::tls::{CERTIFICATE, Raw, VERSIONS, client_tls};
use crate::limits::Limits;
use crate::tls::{ClientTls, Hand, TicketKeys, Tls, server_name};

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
