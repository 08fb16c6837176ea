//! What a message and an idle connection cost in memory. A binary of its own, because the allocator counts for the whole
//! process; each thread counts its own, so that the loop is told from its clients.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use webscale::{
    Accept, Client, ClientTls, Deflate, Handler, Message, Peer, Prepared, Reject, Request, Server, Target,
    Tls,
};
use webscale_proto::{Deflater, encoder};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// Bytes allocated less bytes freed.
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn signed(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn count(allocations: u64, bytes: i64) {
    ALLOCATIONS.set(ALLOCATIONS.get() + allocations);
    LIVE.set(LIVE.get() + bytes);
}

#[expect(unsafe_code, reason = "an allocator is an unsafe trait; this one only counts")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, signed(layout.size()));
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(0, -signed(layout.size()));
        // SAFETY: `at` came from `alloc` above, which is the system's.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, signed(size) - signed(layout.size()));
        // SAFETY: `at` came from `alloc` above, which is the system's.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Echoes, and tells what its thread has allocated by then: how often, and bytes that are live.
struct Echo(Sender<(u64, i64)>, Option<Prepared>);

impl Handler for Echo {
    type Session = ();

    fn open(&self, _: &Request<'_>) -> Result<Accept<()>, Reject> {
        Ok(().into())
    }

    fn message(&self, peer: &mut Peer<'_, ()>, message: Message<'_>) {
        let counted = (ALLOCATIONS.get(), LIVE.get());
        let sent = match &self.1 {
            Some(prepared) => peer.send_prepared(prepared),
            None => peer.send(message),
        };
        sent.expect("a peer that reads");
        self.0.send(counted).expect("the test listens");
        // The channel allocates its blocks on this thread.
        ALLOCATIONS.set(counted.0);
        LIVE.set(counted.1);
    }
}

static CERTIFICATE: LazyLock<(Tls, CertificateDer<'static>)> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).expect("randomness");
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("PKCS #8");
    (Tls::from_der(vec![certificate.clone()], key).expect("they fit"), certificate)
});

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

fn connect(address: SocketAddr, is_tls: bool, offer: &str) -> Box<dyn Stream> {
    let tcp = TcpStream::connect(address).expect("a server that listens");
    tcp.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    let mut stream: Box<dyn Stream> = if is_tls {
        let mut roots = RootCertStore::empty();
        roots.add(CERTIFICATE.1.clone()).expect("a certificate");
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).expect("TLS 1.3");
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        let name = "127.0.0.1".try_into().expect("an address");
        let connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
        Box::new(StreamOwned::new(connection, tcp))
    } else {
        Box::new(tcp)
    };
    let request = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
    );
    stream.write_all(request.as_bytes()).expect("a request");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    assert_eq!(head.windows(10).any(|window| window == b"Extensions"), !offer.is_empty());
    stream
}

/// One message there and back.
fn echo(stream: &mut dyn Stream, payload: &[u8]) {
    let (mut frame, mut answer) = (Vec::new(), Vec::new());
    encoder::message(&mut frame, Message::Binary(payload), Some([1, 2, 3, 4]));
    encoder::message(&mut answer, Message::Binary(payload), None);
    stream.write_all(&frame).expect("a message");
    let mut read = vec![0; answer.len()];
    stream.read_exact(&mut read).expect("its echo");
    assert!(read == answer);
}

/// The same where permessage-deflate was agreed on.
fn echo_compressed(stream: &mut dyn Stream, payload: &[u8]) {
    let (mut frame, mut answer, mut out) = (Vec::new(), Vec::new(), Vec::new());
    let mut deflater = Deflater::new(Deflate::LEVEL, Deflate::MAX_WINDOW_BITS, false);
    let compressed = deflater.message(payload, &mut out).expect("something that compresses");
    encoder::compressed(&mut frame, false, compressed, Some([1, 2, 3, 4]));
    encoder::compressed(&mut answer, false, compressed, None);
    stream.write_all(&frame).expect("a message");
    let mut read = vec![0; answer.len()];
    stream.read_exact(&mut read).expect("its echo");
    assert!(read == answer);
}

const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

/// Runs `test` against a server with one loop; `measure` gives what the loop has counted when the next message comes.
fn serve(is_tls: bool, test: impl FnOnce(SocketAddr, &dyn Fn() -> (u64, i64))) {
    serve_prepared(None, is_tls, test);
}

/// The same of one that answers with this.
fn serve_prepared(
    prepared: Option<Prepared>,
    is_tls: bool,
    test: impl FnOnce(SocketAddr, &dyn Fn() -> (u64, i64)),
) {
    let (sender, counts) = channel();
    let builder = Server::builder().listen("127.0.0.1:0").threads(1).deflate(Deflate::default());
    let builder = if is_tls { builder.tls(CERTIFICATE.0.clone()) } else { builder };
    let server = builder.build(Echo(sender, prepared)).expect("a server");
    let (address, handle) = (server.local_addr(), server.handle());
    let thread = thread::spawn(move || server.run());
    test(address, &|| counts.recv_timeout(Duration::from_secs(60)).expect("a message in time"));
    handle.abort();
    thread.join().expect("no panic").expect("an end without fault");
}

/// How often the loop allocates from one message to the next of many equal ones: at least, and for nine of ten. (The
/// kernel may hand a message over in two parts, the first of which must then be kept.)
fn allocations_per_message(is_tls: bool, length: usize) -> (u64, u64) {
    let mut counts = Vec::new();
    serve(is_tls, |address, measure| {
        let mut stream = connect(address, is_tls, "");
        let payload = vec![7; length];
        for _ in 0..300 {
            echo(&mut *stream, &payload);
            counts.push(measure().0);
        }
    });
    // The first ones grow the thread's buffers.
    let mut counts: Vec<_> = counts[100..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    counts.sort_unstable();
    (counts[0], counts[counts.len() * 9 / 10])
}

#[test]
fn a_plain_message_allocates_nothing() {
    for length in [0, 128, 10_240] {
        assert_eq!(allocations_per_message(false, length), (0, 0), "{length} bytes");
    }
}

#[test]
fn a_tls_message_costs_what_rustls_allocates_and_no_more() {
    for length in [128, 10_240] {
        let expected = (TLS_ALLOCATIONS, TLS_ALLOCATIONS);
        assert_eq!(allocations_per_message(true, length), expected, "{length} bytes");
    }
}

/// rustls' own: one for the record that comes, one for the record that goes.
const TLS_ALLOCATIONS: u64 = 2;

/// Bytes that an idle connection holds on the heap, its share of the loop's tables included.
fn idle_bytes(is_tls: bool, is_compressed: bool) -> i64 {
    const CONNECTIONS: i64 = 200;
    let mut each = 0;
    let (offer, echo): (_, fn(&mut dyn Stream, &[u8])) =
        if is_compressed { (OFFER, echo_compressed) } else { ("", echo) };
    serve(is_tls, |address, measure| {
        let mut first = connect(address, is_tls, offer);
        let mut live = || {
            // The buffers of the thread are grown by then, and the last turn of any other connection has ended.
            (0..3).for_each(|_| {
                echo(&mut *first, &[7; 10_240]);
            });
            (0..3).map(|_| measure().1).last().expect("three")
        };
        let before = live();
        let streams: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let mut stream = connect(address, is_tls, offer);
                echo(&mut *stream, &[7; 10_240]);
                measure();
                stream
            })
            .collect();
        each = (live() - before) / CONNECTIONS;
        drop(streams);
    });
    each
}

#[test]
fn an_idle_plain_connection_holds_less_than_400_bytes() {
    let bytes = idle_bytes(false, false);
    assert!((100..400).contains(&bytes), "{bytes} bytes");
}

/// The crypto library's own memory not included, here and below.
#[test]
fn an_idle_tls_connection_holds_less_than_2700_bytes() {
    let bytes = idle_bytes(true, false);
    assert!((1000..2700).contains(&bytes), "{bytes} bytes");
}

/// A client of the library: says something, and tells what its thread holds when the echo is there.
struct Teller(Sender<i64>);

impl Handler for Teller {
    type Session = ();

    fn opened(&self, peer: &mut Peer<'_, ()>) {
        peer.send(Message::Binary(&[7; 10_240])).expect("a server that reads");
    }

    fn message(&self, _: &mut Peer<'_, ()>, _: Message<'_>) {
        let live = LIVE.get();
        self.0.send(live).expect("the test listens");
        LIVE.set(live);
    }
}

/// Its share of the loop's tables and the server's certificate included.
#[test]
fn an_idle_tls_client_holds_less_than_3100_bytes() {
    const CLIENTS: i64 = 256;
    serve(true, |address, _| {
        let (sender, held) = channel();
        let client = Client::builder().build(Teller(sender)).expect("a loop");
        let tls = ClientTls::insecure().expect("a provider");
        let target = Arc::new(Target::with_tls(&format!("wss://{address}/"), tls).expect("a URL"));
        let connect = || {
            client.connect(&target, None, ()).expect("room");
            held.recv_timeout(Duration::from_secs(60)).expect("an echo in time")
        };
        // By then the buffers of the thread are grown, and the session store is full.
        let connect_all = || (0..CLIENTS).fold(0, |_, _| connect());
        let before = connect_all();
        let each = (connect_all() - before) / CLIENTS;
        assert!((1000..3100).contains(&each), "{each} bytes");
    });
}

#[test]
fn a_connection_that_agreed_on_deflate_holds_no_more() {
    for is_tls in [false, true] {
        let (plain, compressed) = (idle_bytes(is_tls, false), idle_bytes(is_tls, true));
        assert!((plain - 50..=plain + 50).contains(&compressed), "{plain} and {compressed} bytes");
    }
}

#[test]
fn a_prepared_message_allocates_nothing_for_each_of_its_connections() {
    // The payload is at the same time what asks for it.
    for (offer, echo) in [("", echo as fn(&mut dyn Stream, &[u8])), (OFFER, echo_compressed)] {
        let mut counts = Vec::new();
        let prepared = Prepared::new(Message::Binary(&[7; 10_240]));
        serve_prepared(Some(prepared), false, |address, measure| {
            let mut streams: Vec<_> = (0..20).map(|_| connect(address, false, offer)).collect();
            for _ in 0..20 {
                for stream in &mut streams {
                    echo(&mut **stream, &[7; 10_240]);
                    counts.push(measure().0);
                }
            }
        });
        let mut counts: Vec<_> = counts[100..].windows(2).map(|pair| pair[1] - pair[0]).collect();
        counts.sort_unstable();
        assert_eq!((counts[0], counts[counts.len() * 9 / 10]), (0, 0), "{offer}");
    }
}

#[test]
fn a_compressed_message_allocates_nothing() {
    let mut counts = Vec::new();
    serve(false, |address, measure| {
        let mut stream = connect(address, false, OFFER);
        for _ in 0..300 {
            echo_compressed(&mut *stream, &[7; 10_240]);
            counts.push(measure().0);
        }
    });
    assert!(counts[100..].windows(2).all(|pair| pair[0] == pair[1]), "{counts:?}");
}
