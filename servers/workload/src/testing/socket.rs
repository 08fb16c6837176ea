//! A client: tungstenite, blocking, over TCP or rustls.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    version::{TLS12, TLS13},
};
use tungstenite::WebSocket;

use super::{Certificate, TIMEOUT};

/// A client after its opening handshake.
pub type Client = WebSocket<Stream>;

/// How to connect.
pub struct Connect<'a> {
    address: SocketAddr,
    certificate: Option<&'a Certificate>,
    version: &'static SupportedProtocolVersion,
    piece_bytes: usize,
}

impl<'a> Connect<'a> {
    /// To that address; with TLS 1.3 where there is a certificate to trust.
    #[must_use]
    pub fn to(address: SocketAddr, certificate: Option<&'a Certificate>) -> Self {
        Self { address, certificate, version: &TLS13, piece_bytes: usize::MAX }
    }

    /// With TLS 1.2.
    #[must_use]
    pub fn tls_12(self) -> Self {
        Self { version: &TLS12, ..self }
    }

    /// Whatever is sent is sent in pieces of that size.
    #[must_use]
    pub fn in_pieces_of(self, bytes: usize) -> Self {
        Self { piece_bytes: bytes, ..self }
    }

    /// Connects without a WebSocket handshake.
    ///
    /// # Panics
    /// The server does not accept.
    #[must_use]
    pub fn stream(&self) -> Stream {
        let tcp = TcpStream::connect(self.address).expect("the server accepts");
        tcp.set_nodelay(true).expect("an open socket");
        tcp.set_read_timeout(Some(TIMEOUT)).expect("an open socket");
        tcp.set_write_timeout(Some(TIMEOUT)).expect("an open socket");
        let pieces = Pieces { tcp, bytes_max: self.piece_bytes };
        match self.certificate {
            None => Stream::Plain(pieces),
            Some(certificate) => {
                let config = Arc::new(client_config(certificate, self.version));
                let name = "localhost".try_into().expect("a host name");
                let tls = ClientConnection::new(config, name).expect("the configuration is right");
                Stream::Tls(Box::new(StreamOwned::new(tls, pieces)))
            }
        }
    }

    /// Connects and shakes hands.
    ///
    /// # Panics
    /// The server does not accept, or refuses the handshake.
    #[must_use]
    pub fn client(&self) -> Client {
        let (client, _) =
            tungstenite::client("ws://localhost/", self.stream()).expect("the server shakes hands");
        client
    }
}

fn client_config(certificate: &Certificate, version: &'static SupportedProtocolVersion) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.ca().clone()).expect("a CA's certificate");
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version that the provider has")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// TCP with or without TLS.
pub enum Stream {
    /// TCP alone.
    Plain(Pieces),
    /// TLS over TCP.
    Tls(Box<StreamOwned<ClientConnection, Pieces>>),
}

impl Stream {
    /// The protocol that was agreed on by ALPN.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => stream.conn.alpn_protocol(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// A TCP stream that sends no more than so many bytes at once.
pub struct Pieces {
    tcp: TcpStream,
    bytes_max: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        uninterrupted(|| self.tcp.read(buffer))
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        uninterrupted(|| self.tcp.write(&bytes[..bytes.len().min(self.bytes_max)]))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

/// A socket with a timeout says EINTR when the process was stopped and goes on, signal handler or not (signal(7)).
fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
