//! What the tests share: a server on a thread, two kinds of clients, a handler that obeys.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender as Channel, channel};
use std::sync::{Arc, LazyLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};
use tungstenite::WebSocket;
use webscale::{
    Accept, Client, ClientTls, Close, CloseCode, Handle, Handler, Limits, Message, Peer, Reject, Request,
    Sender, Server, ServerBuilder, Target, Tls,
};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a handler tells the test.
#[derive(Debug)]
pub(crate) enum Event {
    Opened(u64, Sender),
    Text(u64, String),
    Closed(u64, Close),
}

/// Events of one side. Panics where none comes in time.
pub(crate) struct Events(pub(crate) Receiver<Event>);

impl Events {
    pub(crate) fn next(&self) -> Event {
        self.0.recv_timeout(PATIENCE).expect("an event in time")
    }

    /// A connection opens, and nothing else happens before.
    pub(crate) fn opened(&self) -> (u64, Sender) {
        match self.next() {
            Event::Opened(session, sender) => (session, sender),
            other => panic!("{other:?}"),
        }
    }

    /// The next text. No connection may close meanwhile.
    pub(crate) fn text(&self) -> (u64, String) {
        loop {
            match self.next() {
                Event::Text(session, text) => return (session, text),
                Event::Opened(..) => {}
                Event::Closed(session, close) => panic!("{session}: {close}"),
            }
        }
    }

    /// The next end.
    pub(crate) fn closed(&self) -> (u64, Close) {
        loop {
            if let Event::Closed(session, close) = self.next() {
                return (session, close);
            }
        }
    }

    /// What came and was not asked for.
    pub(crate) fn rest(&self) -> Vec<Event> {
        self.0.try_iter().collect()
    }
}

/// A server's handler: echoes, and obeys a few words.
pub(crate) struct Obedient {
    events: Channel<Event>,
    sessions: AtomicUsize,
}

impl Obedient {
    pub(crate) fn new() -> (Self, Events) {
        let (events, receiver) = channel();
        (Self { events, sessions: AtomicUsize::new(0) }, Events(receiver))
    }

    fn tell(&self, event: Event) {
        // A test that has seen enough has dropped its end.
        let _ = self.events.send(event);
    }
}

impl Handler for Obedient {
    type Session = u64;

    fn open(&self, request: &Request<'_>) -> Result<Accept<u64>, Reject> {
        if request.path() == "/nowhere" {
            return Err(Reject::new(404, "nothing here\n"));
        }
        Ok((self.sessions.fetch_add(1, Relaxed) as u64).into())
    }

    fn opened(&self, peer: &mut Peer<'_, u64>) {
        let event = Event::Opened(*peer.session(), peer.sender());
        self.tell(event);
    }

    fn message(&self, peer: &mut Peer<'_, u64>, message: Message<'_>) {
        let Message::Text(text) = message else {
            peer.send(message).expect("a peer that reads");
            return;
        };
        self.tell(Event::Text(*peer.session(), text.into()));
        match text.split_once(' ') {
            _ if text == "panic" => std::panic::resume_unwind(Box::new("as the test asked")),
            Some(("close", reason)) => peer.close(CloseCode::NORMAL, reason),
            Some(("quiet", _)) => {}
            Some(("flood", count)) => {
                for _ in 0..count.parse().expect("a number") {
                    let _ = peer.send(Message::Binary(&[7; 64 * 1024]));
                }
            }
            _ => peer.send(message).expect("a peer that reads"),
        }
    }

    fn close(&self, session: u64, close: Close) {
        self.tell(Event::Closed(session, close));
    }
}

/// A server at work on a thread of its own. Dropping it aborts it.
pub(crate) struct Serving {
    pub(crate) handle: Handle,
    pub(crate) address: SocketAddr,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Serving {
    pub(crate) fn new<H: Handler>(builder: ServerBuilder, handler: H) -> Self {
        let server = builder.listen("127.0.0.1:0").build(handler).expect("a server");
        let (handle, address) = (server.handle(), server.local_addr());
        Self { handle, address, thread: Some(thread::spawn(move || server.run())) }
    }

    /// One that obeys.
    pub(crate) fn obedient(builder: ServerBuilder) -> (Self, Events) {
        let (handler, events) = Obedient::new();
        (Self::new(builder, handler), events)
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/", self.address)
    }

    pub(crate) fn secure_url(&self) -> String {
        format!("wss://{}/", self.address)
    }

    /// How many connections ended for this cause.
    pub(crate) fn closed_by(&self, cause: &str) -> u64 {
        let metrics = self.handle.metrics();
        metrics.closes().find(|&(name, _)| name == cause).expect("a cause of that name").1
    }

    /// Waits for the end of `run`.
    pub(crate) fn join(&mut self) -> io::Result<()> {
        let thread = self.thread.take().expect("joined once");
        thread.join().expect("no loop panics")
    }

    pub(crate) fn shut_down(mut self) {
        self.handle.shutdown();
        self.join().expect("an end without fault");
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.handle.abort();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Short waits at an end, so that a peer that is gone does not keep a test.
pub(crate) fn limits() -> Limits {
    Limits { close_time: Duration::from_millis(500), ..Limits::default() }
}

pub(crate) fn builder() -> ServerBuilder {
    Server::builder().threads(1).limits(limits())
}

/// A client's handler: says what its session bids, and tells the test everything.
pub(crate) struct Teller(Channel<Event>);

impl Handler for Teller {
    type Session = u64;

    fn opened(&self, peer: &mut Peer<'_, u64>) {
        let _ = self.0.send(Event::Opened(*peer.session(), peer.sender()));
    }

    fn message(&self, peer: &mut Peer<'_, u64>, message: Message<'_>) {
        let text = String::from_utf8_lossy(message.as_bytes()).into_owned();
        let _ = self.0.send(Event::Text(*peer.session(), text));
    }

    fn close(&self, session: u64, close: Close) {
        let _ = self.0.send(Event::Closed(session, close));
    }
}

/// A client of the library.
pub(crate) fn client() -> (Client<Teller>, Events) {
    let (events, receiver) = channel();
    let client = Client::builder().limits(limits()).build(Teller(events)).expect("a loop");
    (client, Events(receiver))
}

/// Connects to `target`, has one echo, so that the server's tickets are here, and closes.
pub(crate) fn visit(target: &Arc<Target>) {
    let (client, events) = client();
    client.connect(target, None, 1).expect("room in the mailbox");
    let (_, sender) = events.opened();
    sender.send(Message::Text("hello")).expect("room in the mailbox");
    assert_eq!(events.text(), (1, "hello".into()));
    sender.close(CloseCode::NORMAL, "").expect("room in the mailbox");
    events.closed();
}

/// How a connection of the library's client to `target` ended before it was open: in words.
pub(crate) fn failure(target: Target) -> String {
    let (client, events) = client();
    client.connect(&Arc::new(target), None, 1).expect("room in the mailbox");
    match events.next() {
        Event::Closed(1, close) => close.to_string(),
        other => panic!("{other:?}"),
    }
}

static MADE: LazyLock<(CertificateDer<'static>, Vec<u8>)> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).expect("randomness");
    (made.cert.der().clone(), made.signing_key.serialize_der())
});

fn private_key() -> PrivateKeyDer<'static> {
    PrivateKeyDer::try_from(MADE.1.clone()).expect("PKCS #8")
}

/// One certificate for all: for the library, and what its clients trust.
pub(crate) static CERTIFICATE: LazyLock<(Tls, CertificateDer<'static>)> = LazyLock::new(|| {
    let certificate = MADE.0.clone();
    (Tls::from_der(vec![certificate.clone()], private_key()).expect("they fit"), certificate)
});

/// The same for rustls.
pub(crate) fn certified() -> CertifiedKey {
    CertifiedKey::from_der(vec![MADE.0.clone()], private_key(), &default_provider()).expect("they fit")
}

pub(crate) fn client_config() -> ClientConfig {
    trusting([&CERTIFICATE.1], default_provider())
}

/// A client that trusts these.
pub(crate) fn trusting<'a>(
    certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>,
    provider: CryptoProvider,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    certificates.into_iter().for_each(|it| roots.add(it.clone()).expect("a certificate"));
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = builder.with_safe_default_protocol_versions().expect("the provider has some");
    builder.with_root_certificates(roots).with_no_client_auth()
}

/// A server's configuration that is not the library's.
pub(crate) fn server_config(certificates: Arc<dyn ResolvesServerCert>) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_protocol_versions(&[&TLS13]).expect("the provider has it");
    builder.with_no_client_auth().with_cert_resolver(certificates)
}

pub(crate) fn client_tls() -> ClientTls {
    ClientTls::from_rustls(Arc::new(client_config()))
}

pub(crate) fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a server that listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

/// Nothing more can be read from it: it ended, or failed.
pub(crate) fn is_closed(mut stream: &TcpStream) -> bool {
    matches!(stream.read(&mut [0]), Ok(0) | Err(_))
}

/// TLS by rustls' own stream.
pub(crate) type Secure = StreamOwned<ClientConnection, TcpStream>;

/// A client of rustls, with the handshake done, that asks for this name.
pub(crate) fn secure(tcp: TcpStream, config: ClientConfig, name: &str) -> io::Result<Secure> {
    let name = name.to_owned().try_into().expect("a name or an address");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
    shake(StreamOwned::new(connection, tcp))
}

/// Makes the handshake.
pub(crate) fn shake(mut stream: Secure) -> io::Result<Secure> {
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

pub(crate) type Other<S> = WebSocket<S>;

/// A client of the other implementation.
pub(crate) fn other(address: SocketAddr) -> Other<TcpStream> {
    over(tcp(address), address)
}

pub(crate) fn other_tls(address: SocketAddr) -> Other<Secure> {
    let stream = secure(tcp(address), client_config(), "127.0.0.1");
    over(stream.expect("no handshake fails"), address)
}

pub(crate) fn over<S: Read + Write>(stream: S, address: SocketAddr) -> Other<S> {
    let request = format!("ws://{address}/");
    match tungstenite::client(request, stream) {
        Ok((socket, _)) => socket,
        Err(error) => panic!("no handshake: {error}"),
    }
}

pub(crate) fn say<S: Read + Write>(socket: &mut Other<S>, text: &str) {
    socket.send(tungstenite::Message::text(text)).expect("a server that reads");
}

pub(crate) fn hear<S: Read + Write>(socket: &mut Other<S>) -> String {
    match socket.read().expect("a message") {
        tungstenite::Message::Text(text) => text.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Code and reason of the Close frame that comes next, which is answered.
pub(crate) fn hear_close<S: Read + Write>(socket: &mut Other<S>) -> (u16, String) {
    match socket.read().expect("a Close frame") {
        tungstenite::Message::Close(Some(frame)) => {
            // The answer goes out with the next call, which finds the end.
            while socket.read().is_ok() {}
            (frame.code.into(), frame.reason.to_string())
        }
        other => panic!("{other:?}"),
    }
}

/// Files that go with the test.
pub(crate) struct Files(PathBuf);

impl Files {
    pub(crate) fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("webscale-sockets-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Waits until something that nobody announces has become true.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what} did not come about");
        thread::yield_now();
    }
}
