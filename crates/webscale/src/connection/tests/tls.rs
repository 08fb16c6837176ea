//! Connections over TLS: both roles of the library against each other, and a peer that does as it likes.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, ClientConfig, RootCertStore, SupportedProtocolVersion};
use webscale_proto::{CloseCode, Role};

use super::harness::World;
use super::recorder::{Seen, closed, seen};
use super::socket::End;
use super::wire::{Frames, Item, close, items, request, split_head, text};
use crate::close::{CloseCause, CloseKind};
use crate::egress::Sealed;
use crate::limits::Limits;
use crate::target::Target;
use crate::tls::{ClientTls, Incoming, PeerSide, Tls, TlsStream, server_name};

pub(super) const VERSIONS: [&SupportedProtocolVersion; 2] =
    [&rustls::version::TLS13, &rustls::version::TLS12];
/// First byte of a record with an alert (RFC 8446 §5.1).
const ALERT: u8 = 21;

/// A new certificate with its key.
fn made(name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("the system has randomness");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("PKCS #8");
    (made.cert.der().clone(), key)
}

/// The same for rustls.
pub(super) fn certified(name: &str) -> CertifiedKey {
    let (certificate, key) = made(name);
    CertifiedKey::from_der(vec![certificate], key, &default_provider()).expect("they fit")
}

pub(super) static CERTIFICATE: LazyLock<(Tls, CertificateDer<'static>)> = LazyLock::new(|| {
    let (certificate, key) = made("127.0.0.1");
    (Tls::from_der(vec![certificate.clone()], key).expect("they fit"), certificate)
});

pub(super) fn client_tls(version: &'static SupportedProtocolVersion, is_trusting: bool) -> ClientTls {
    let mut roots = RootCertStore::empty();
    if is_trusting {
        roots.add(CERTIFICATE.1.clone()).expect("a certificate");
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_protocol_versions(&[version]).expect("the provider has both");
    ClientTls::from_rustls(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

pub(super) fn client_stream(version: &'static SupportedProtocolVersion, is_trusting: bool) -> TlsStream {
    let name = server_name("127.0.0.1").expect("an address");
    client_tls(version, is_trusting).connect(&name).expect("a connection")
}

/// How many whole records these bytes are.
pub(super) fn count_records(mut bytes: &[u8]) -> usize {
    let mut records = 0;
    while let [_, _, _, high, low, rest @ ..] = bytes {
        bytes = &rest[usize::from(u16::from_be_bytes([*high, *low]))..];
        records += 1;
    }
    records
}

pub(super) fn server() -> World {
    World::accepted(Limits::default(), Some(CERTIFICATE.0.accept().expect("a connection")))
}

fn client(version: &'static SupportedProtocolVersion, is_trusting: bool) -> World {
    let target = Target::with_tls("wss://127.0.0.1:9/", client_tls(version, is_trusting)).expect("a URL");
    World::connecting(Limits::default(), Some(client_stream(version, is_trusting)), target)
}

/// Two connections of the library, and the wire between them.
struct Pair {
    client: World,
    server: World,
    /// How many bytes arrive at a time.
    piece: usize,
    /// Behind so many bytes of the client's, one arrival ends.
    cut: usize,
    /// Bytes of the client's so far.
    carried: usize,
}

impl Pair {
    fn new(version: &'static SupportedProtocolVersion) -> Self {
        let (client, server) = (client(version, true), server());
        Self { client, server, piece: usize::MAX, cut: usize::MAX, carried: 0 }
    }

    /// Carries bytes until nobody has anything more to say.
    fn carry(&mut self) {
        self.client.pump();
        self.server.pump();
        loop {
            let (forth, back) = (self.client.sent(), self.server.sent());
            if forth.is_empty() && back.is_empty() {
                return;
            }
            let (before, after) = forth.split_at(self.cut.saturating_sub(self.carried).min(forth.len()));
            self.carried += forth.len();
            for part in [before, after] {
                part.chunks(self.piece).for_each(|piece| self.server.receive(piece));
            }
            back.chunks(self.piece).for_each(|piece| self.client.receive(piece));
        }
    }

    /// The same, and both see the end of the other's direction.
    fn end(&mut self) {
        self.carry();
        for _ in 0..2 {
            if self.client.line().shut {
                self.server.end(End::Eof);
            }
            if self.server.line().shut {
                self.client.end(End::Eof);
            }
        }
        assert!(self.client.is_dead() && self.server.is_dead());
    }

    /// A whole conversation, with messages of several records.
    fn converse(&mut self) {
        let long = "long ".repeat(8000);
        self.carry();
        assert_eq!((self.client.seen(), self.server.seen()), (vec![Seen::Opened], vec![Seen::Opened]));
        self.client.handler.is_silent = true;
        for message in ["hello", &long] {
            self.client.send(message);
            self.carry();
            assert_eq!((self.client.seen(), self.server.seen()), (vec![seen(message)], vec![seen(message)]));
        }
        assert_eq!((self.client.connection.buffered(), self.server.connection.buffered()), (0, 0));
        self.client.close(CloseCode::NORMAL, "bye", CloseCause::Local);
        self.end();
        assert_eq!(self.client.seen(), [closed(1000, "bye", CloseKind::Local)]);
        assert_eq!(self.server.seen(), [closed(1000, "bye", CloseKind::Peer)]);
    }
}

#[test]
fn a_whole_conversation_in_pieces_of_many_sizes() {
    for version in VERSIONS {
        for piece in [1, 2, 3, 5, 16, 61, 517, 1460, 16_384, usize::MAX] {
            let mut pair = Pair::new(version);
            pair.piece = piece;
            pair.converse();
        }
    }
}

#[test]
fn a_whole_conversation_with_a_cut_at_every_stride() {
    for version in VERSIONS {
        let mut pair = Pair::new(version);
        pair.converse();
        for cut in (0..3000).step_by(53) {
            let mut pair = Pair::new(version);
            pair.cut = cut;
            pair.converse();
        }
    }
}

#[test]
fn what_ends_at_every_stride_tells_each_side_once() {
    for version in VERSIONS {
        for cut in (0..1200).step_by(101) {
            for end in [End::Eof, End::Reset] {
                let mut pair = Pair::new(version);
                pair.client.pump();
                while pair.carried < cut {
                    let forth = pair.client.sent();
                    let some = forth.len().min(cut - pair.carried);
                    pair.carried += some.max(1);
                    pair.server.receive(&forth[..some]);
                    let back = pair.server.sent();
                    pair.client.receive(&back);
                }
                pair.server.end(end);
                pair.client.end(end);
                assert!(pair.client.is_dead() && pair.server.is_dead());
                assert_eq!(pair.client.closes(), 1);
            }
        }
    }
}

/// The far end of a server's connection, which may speak TLS.
pub(super) struct Remote {
    pub(super) raw: Option<Raw>,
    /// What it has read.
    pub(super) heard: Vec<u8>,
}

impl Remote {
    /// Both ends of one that is open.
    pub(super) fn open(limits: Limits, is_tls: bool) -> (World, Self) {
        let (world, raw) = if is_tls {
            let mut world = World::accepted(limits, Some(CERTIFICATE.0.accept().expect("a connection")));
            let raw = Raw::open(&mut world, client_stream(VERSIONS[0], true));
            (world, Some(raw))
        } else {
            (World::open(limits), None)
        };
        (world, Self { raw, heard: Vec::new() })
    }

    /// Reads what was sent.
    pub(super) fn hear(&mut self, world: &World) {
        let sent = world.sent();
        self.heard.extend(match &mut self.raw {
            Some(raw) => raw.open_records(&sent).0,
            None => sent,
        });
    }

    pub(super) fn say(&mut self, world: &mut World, frames: Frames) {
        let bytes = frames.done();
        let bytes = self.raw.as_mut().map_or(bytes.clone(), |raw| raw.seal(&bytes));
        world.receive(&bytes);
    }
}

/// A client whose records the test makes itself.
pub(super) struct Raw {
    tls: TlsStream,
    kept: Vec<u8>,
    peer: PeerSide,
}

impl Raw {
    /// Through TLS and the upgrade.
    pub(super) fn open(server: &mut World, tls: TlsStream) -> Self {
        let mut raw = Self::secure(server, tls);
        let bytes = raw.seal(&request("/"));
        server.receive(&bytes);
        let (plaintext, _) = raw.open_records(&server.sent());
        assert!(split_head(&plaintext).0.starts_with("HTTP/1.1 101"));
        server.seen();
        raw
    }

    /// Through TLS.
    fn secure(server: &mut World, tls: TlsStream) -> Self {
        let mut raw = Self { tls, kept: Vec::new(), peer: PeerSide::Open };
        let (_, mut flight) = raw.open_records(&[]);
        while raw.tls.is_handshaking() || !flight.is_empty() {
            server.receive(&flight);
            flight = raw.open_records(&server.sent()).1;
        }
        raw
    }

    /// Plaintext of what arrived, and what TLS itself has to say.
    pub(super) fn open_records(&mut self, bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (mut out, mut plaintext) = (Sealed::new(), Vec::new());
        self.kept.extend_from_slice(bytes);
        let mut sink = |incoming: Incoming<'_>| {
            if let Incoming::Plaintext(bytes) = incoming {
                plaintext.extend_from_slice(bytes);
            }
        };
        let opened = self.tls.open_records(&mut self.kept, &mut out, &mut sink).expect("a sound peer");
        self.kept.drain(..opened.consumed);
        if opened.peer == PeerSide::Finished {
            self.peer = opened.peer;
        }
        (plaintext, out.as_slice().to_vec())
    }

    /// The alert that arrived.
    pub(super) fn alert(&mut self, bytes: &[u8]) -> Option<AlertDescription> {
        self.kept.extend_from_slice(bytes);
        match self.tls.open_records(&mut self.kept, &mut Sealed::new(), &mut |_| {}) {
            Err(rustls::Error::AlertReceived(description)) => Some(description),
            _ => None,
        }
    }

    pub(super) fn seal(&mut self, plaintext: &[u8]) -> Vec<u8> {
        let mut out = Sealed::new();
        assert!(self.tls.seal(plaintext, &mut self.kept, &mut out));
        out.as_slice().to_vec()
    }

    pub(super) fn seal_close(&mut self) -> Vec<u8> {
        let mut out = Sealed::new();
        self.tls.seal_close(&mut self.kept, &mut out);
        out.as_slice().to_vec()
    }
}

#[test]
fn a_client_hello_in_records_and_pieces_of_many_sizes() {
    for version in VERSIONS {
        for (record, piece) in [(1, usize::MAX), (1, 1), (3, 7), (7, 3), (50, 60), (100, 1), (200, 206)] {
            let mut server = server();
            let tls = client_stream(version, true);
            let mut raw = Raw { tls, kept: Vec::new(), peer: PeerSide::Open };
            let (_, hello) = raw.open_records(&[]);
            let reframed = hello[5..].chunks(record).flat_map(|part| {
                let length = u16::try_from(part.len()).expect("a small part").to_be_bytes();
                [&hello[..3], &length, part].concat()
            });
            let reframed: Vec<u8> = reframed.collect();
            reframed.chunks(piece).for_each(|piece| server.receive(piece));
            let mut flight = raw.open_records(&server.sent()).1;
            while raw.tls.is_handshaking() || !flight.is_empty() {
                server.receive(&flight);
                flight = raw.open_records(&server.sent()).1;
            }
            assert!(!server.is_dead() && server.connection.buffered() == 0, "{record}, {piece}");
        }
    }
}

#[test]
fn an_end_in_order_is_a_close_notify_behind_the_close_frame() {
    for version in VERSIONS {
        let mut server = server();
        let mut raw = Raw::open(&mut server, client_stream(version, true));
        let bytes = raw.seal(&Frames::client().text("last").close(1000, "").done());
        server.receive(&bytes);
        let (plaintext, _) = raw.open_records(&server.sent());
        assert_eq!(items(Role::Client, &plaintext), [text("last"), close(1000, "")]);
        assert_eq!(raw.peer, PeerSide::Finished);
        assert!(server.is_lingering());
    }
}

#[test]
fn a_close_frame_with_close_notify_in_one_flight_is_still_answered() {
    for version in VERSIONS {
        let mut server = server();
        let mut raw = Raw::open(&mut server, client_stream(version, true));
        let mut flight = raw.seal(&Frames::client().text("last").close(1000, "").done());
        flight.extend(raw.seal_close());
        server.receive(&flight);
        let (plaintext, _) = raw.open_records(&server.sent());
        assert_eq!(items(Role::Client, &plaintext), [text("last"), close(1000, "")]);
        assert_eq!(server.seen(), [seen("last"), closed(1000, "", CloseKind::Peer)]);
    }
}

#[test]
fn close_notify_without_a_close_frame_is_1006() {
    for version in VERSIONS {
        let mut server = server();
        let mut raw = Raw::open(&mut server, client_stream(version, true));
        server.receive(&raw.seal_close());
        assert!(server.is_dead());
        assert_eq!(server.seen(), [closed(1006, "", CloseKind::Lost)]);
    }
}

#[test]
fn replies_of_a_turn_are_sealed_together_and_leave_in_one_send() {
    for version in VERSIONS {
        let mut server = server();
        let mut raw = Raw::open(&mut server, client_stream(version, true));
        let (sends, records) = (server.line().sends, (0..20).map(|n| n.to_string()));
        let flight: Vec<u8> = records.flat_map(|n| raw.seal(&Frames::client().text(&n).done())).collect();
        server.receive(&flight);
        assert_eq!(server.line().sends, sends + 1);
        let sent = server.sent();
        assert_eq!(count_records(&sent), 1);
        assert_eq!(items(Role::Client, &raw.open_records(&sent).0).len(), 20);
    }
}

#[test]
fn a_long_reply_to_a_peer_that_takes_it_piece_by_piece_arrives() {
    for version in VERSIONS {
        let mut server = server();
        let mut raw = Raw::open(&mut server, client_stream(version, true));
        server.set_room(1000);
        let message = Frames::client().text("bytes 500000").done();
        let flight = raw.seal(&message);
        server.receive(&flight);
        server.line().send_max = 7777;
        server.set_room(usize::MAX);
        let (plaintext, _) = raw.open_records(&server.sent());
        assert_eq!(items(Role::Client, &plaintext), [Item::Binary(vec![7; 500_000])]);
    }
}

#[test]
fn what_is_no_tls_gets_an_alert() {
    for garbage in [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], &[0; 100], &[22, 3, 1, 0xff, 0xff, 0]] {
        let mut server = server();
        server.receive(garbage);
        let sent = server.sent();
        assert_eq!((sent[0], sent.len()), (ALERT, 7), "{sent:x?}");
        assert!(server.is_lingering());
        assert_eq!(server.ended_as(), CloseKind::Tls);
        server.receive(garbage);
        server.end(End::Eof);
        assert!(server.is_dead() && server.seen().is_empty());
    }
}

#[test]
fn a_record_that_was_tampered_with_ends_it_with_an_alert() {
    for version in VERSIONS {
        let mut server = server();
        let mut raw = Raw::open(&mut server, client_stream(version, true));
        let mut flight = raw.seal(&Frames::client().text("sound").done());
        let mut bad = raw.seal(&Frames::client().text("tampered").done());
        *bad.last_mut().expect("a tag") ^= 1;
        flight.extend(bad);
        server.receive(&flight);
        assert_eq!(server.seen(), [seen("sound"), closed(1006, "", CloseKind::Tls)]);
        assert!(server.handler.words.lock().unwrap().starts_with("TLS failed: "));
        assert!(server.is_lingering());
        assert_eq!(raw.alert(&server.sent()), Some(AlertDescription::BadRecordMac));
    }
}

#[test]
fn a_client_that_does_not_trust_the_certificate_says_so_and_tells_its_session() {
    for version in VERSIONS {
        let mut pair = Pair::new(version);
        pair.client = client(version, false);
        pair.end();
        assert_eq!(pair.client.seen(), [closed(1015, "", CloseKind::Tls)]);
        assert!(pair.client.handler.words.lock().unwrap().contains("UnknownIssuer"));
        assert_eq!((pair.server.seen(), pair.server.ended_as()), (Vec::new(), CloseKind::Tls));
    }
}

#[test]
fn a_server_that_speaks_no_tls_is_told_to_the_session() {
    let mut client = client(VERSIONS[0], true);
    client.pump();
    client.receive(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    assert_eq!(client.seen(), [closed(1015, "", CloseKind::Tls)]);
    assert!(client.is_lingering());
}

#[test]
fn the_handshake_has_one_deadline_for_tls_and_http() {
    for version in VERSIONS {
        let mut slow = server();
        slow.advance(Duration::from_secs(10));
        assert!(slow.is_dead() && slow.sent().is_empty());

        let mut slow = server();
        slow.advance(Duration::from_secs(6));
        let mut raw = Raw::secure(&mut slow, client_stream(version, true));
        slow.advance(Duration::from_secs(4));
        let (plaintext, _) = raw.open_records(&slow.sent());
        assert!(split_head(&plaintext).0.starts_with("HTTP/1.1 408"));
        assert_eq!(raw.peer, PeerSide::Finished);
        assert_eq!(slow.ended_as(), CloseKind::Timeout);
    }
}

#[test]
fn a_record_has_the_time_of_a_message_from_its_first_byte() {
    let (reason, second) = ("the message took too long", Duration::from_secs(1));
    for version in VERSIONS {
        let mut server = server();
        let mut raw = Raw::open(&mut server, client_stream(version, true));
        let record = raw.seal(&Frames::client().text(&"x".repeat(1000)).done());
        for byte in record[..60].chunks(1) {
            assert!(server.seen().is_empty() && !server.is_lingering());
            server.receive(byte);
            server.advance(second);
        }
        assert_eq!(server.seen(), [closed(1008, reason, CloseKind::Timeout)]);
    }
}

#[test]
fn records_that_follow_one_another_have_their_own_time() {
    let mut server = server();
    let mut raw = Raw::open(&mut server, client_stream(VERSIONS[0], true));
    let stream: Vec<u8> = (0..10).flat_map(|_| raw.seal(&Frames::client().text("in time").done())).collect();
    // Each arrival ends one record and begins the next, but for the last.
    let length = stream.len() / 10;
    server.receive(&stream[..length / 2]);
    for piece in stream[length / 2..].chunks(length) {
        server.advance(Duration::from_secs(20));
        server.receive(piece);
    }
    assert_eq!(server.seen(), vec![seen("in time"); 10]);
}
