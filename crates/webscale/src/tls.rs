//! TLS by rustls, over buffers that belong to the thread.
//!
//! The rest of the library sees three things: [`Tls`] and [`ClientTls`], the configurations; [`TlsStream::open_records`],
//! ciphertext in, plaintext out; [`TlsStream::seal`], the other way. A connection owns rustls' state (keys and
//! counters) and nothing else: no buffer.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionStore, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus,
    WriteTraffic,
};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, DistinguishedName, HandshakeKind, RootCertStore,
    ServerConfig, SignatureScheme, SupportedProtocolVersion, WantsVerifier,
};

use crate::egress::Sealed;

/// A TLS record's plaintext, at most (RFC 8446 §5.1).
const RECORD_PLAINTEXT: usize = 16 * 1024;
/// What sealing adds to a record, at most: header, explicit nonce, content type, tag.
const RECORD_OVERHEAD: usize = 64;
/// A TLS record as it travels, at most (RFC 8446 §5.2, RFC 5246 §6.2.3).
pub(crate) const RECORD_BYTES: usize = 5 + RECORD_PLAINTEXT + 2048;

const ALPN: &[u8] = b"http/1.1";
static VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

/// Why a TLS configuration could not be made: which file, and what is wrong with it.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsConfigError {
    /// The file could not be read, or holds no PEM.
    Pem(PathBuf, pem::Error),
    /// The certificate file holds no certificate.
    NoCertificate(PathBuf),
    /// The key is not the certificate's, or one of them is unusable.
    Unusable(rustls::Error),
    /// No file of root certificates was found on this system.
    NoSystemRoots,
    /// The host is neither a DNS name nor an IP address.
    HostName(String),
}

impl fmt::Display for TlsConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pem(path, pem::Error::Io(error)) => write!(f, "cannot read {}: {error}", path.display()),
            Self::Pem(path, pem::Error::NoItemsFound) => {
                write!(f, "{} holds no PEM private key (-----BEGIN PRIVATE KEY-----)", path.display())
            }
            Self::Pem(path, error) => write!(f, "{} is not valid PEM: {error}", path.display()),
            Self::NoCertificate(path) => {
                write!(f, "{} holds no PEM certificate (-----BEGIN CERTIFICATE-----)", path.display())
            }
            Self::Unusable(rustls::Error::InconsistentKeys(_)) => {
                f.write_str("the private key does not match the certificate")
            }
            Self::Unusable(error) => write!(f, "certificate or key cannot be used: {error}"),
            Self::NoSystemRoots => f.write_str("no root certificates found on this system; name a CA file"),
            Self::HostName(host) => write!(f, "{host:?} is neither a DNS name nor an IP address"),
        }
    }
}

impl std::error::Error for TlsConfigError {}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let fail = |error| TlsConfigError::Pem(path.to_owned(), error);
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(fail)?.collect::<Result<_, _>>().map_err(fail)?;
    if chain.is_empty() { Err(TlsConfigError::NoCertificate(path.to_owned())) } else { Ok(chain) }
}

/// A server's side of TLS: TLS 1.3 and 1.2, ALPN `http/1.1`, resumption by stateless tickets, no early data.
#[derive(Clone)]
pub struct Tls(Arc<ServerConfig>);

impl Tls {
    /// Reads a certificate chain (leaf first) and its private key, both PEM.
    ///
    /// # Errors
    /// [`TlsConfigError`]: a file that cannot be read or holds something else, or a key of another certificate.
    pub fn from_pem_files(
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, TlsConfigError> {
        let key = key.as_ref();
        let chain = certificates(certificate.as_ref())?;
        let key =
            PrivateKeyDer::from_pem_file(key).map_err(|error| TlsConfigError::Pem(key.to_owned(), error))?;
        Self::from_der(chain, key)
    }

    /// The same from PEM text in memory.
    ///
    /// # Errors
    /// [`TlsConfigError`]; its paths are `certificate` and `key`.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, TlsConfigError> {
        let fail = |what: &str| {
            let what = PathBuf::from(what);
            move |error| TlsConfigError::Pem(what, error)
        };
        let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(fail("certificate"))?;
        if chain.is_empty() {
            return Err(TlsConfigError::NoCertificate("certificate".into()));
        }
        Self::from_der(chain, PrivateKeyDer::from_pem_slice(key).map_err(fail("key"))?)
    }

    /// The same from DER in memory.
    ///
    /// # Errors
    /// [`TlsConfigError::Unusable`].
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsConfigError> {
        Self::build(chain, key).map_err(TlsConfigError::Unusable)
    }

    fn build(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&VERSIONS)?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A ticket carries the session to the client: nothing is kept here, and no lock is shared by the loops.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        config.send_tls13_tickets = 1;
        Ok(Self(Arc::new(config)))
    }

    /// Takes a rustls configuration as it is. Its `max_early_data_size` must be 0: early data can be replayed.
    #[must_use]
    pub fn from_rustls(config: Arc<ServerConfig>) -> Self {
        Self(config)
    }

    pub(crate) fn accept(&self) -> Result<TlsStream, rustls::Error> {
        Ok(TlsStream::server(UnbufferedServerConnection::new(self.0.clone())?))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// A client's side of TLS.
#[derive(Clone)]
pub struct ClientTls(Arc<ClientConfig>);

impl ClientTls {
    /// Trusts the root certificates of the system.
    ///
    /// # Errors
    /// [`TlsConfigError::NoSystemRoots`], or what is wrong with the file that was found.
    pub fn system_roots() -> Result<Self, TlsConfigError> {
        ClientTlsBuilder::default().system_roots()
    }

    /// Trusts the certificates of one PEM file.
    ///
    /// # Errors
    /// [`TlsConfigError`]: the file cannot be read, or holds no certificate.
    pub fn from_ca_file(path: impl AsRef<Path>) -> Result<Self, TlsConfigError> {
        ClientTlsBuilder::default().ca_file(path)
    }

    /// Takes any certificate: for load tests of a server of one's own, and nothing else.
    ///
    /// # Errors
    /// [`TlsConfigError::Unusable`], should the provider lack a TLS version.
    pub fn insecure() -> Result<Self, TlsConfigError> {
        ClientTlsBuilder::default().insecure()
    }

    /// Begins a configuration that says more than whom to trust.
    #[must_use]
    pub fn builder() -> ClientTlsBuilder {
        ClientTlsBuilder::default()
    }

    fn with(mut config: ClientConfig) -> Self {
        config.alpn_protocols = vec![ALPN.to_vec()];
        // The library gathers entropy for 35 ms when it is first asked: now, and not in the first handshake. Should it
        // fail, that handshake says so.
        let _ = config.crypto_provider().secure_random.fill(&mut [0; 8]);
        Self(Arc::new(config))
    }

    /// The same without session resumption: every handshake is a full one.
    #[must_use]
    pub fn without_resumption(self) -> Self {
        let mut config = Arc::unwrap_or_clone(self.0);
        config.resumption = rustls::client::Resumption::disabled();
        Self(Arc::new(config))
    }

    /// The same, with its tickets and sessions in `store`: for configurations that share them, or a store that holds more
    /// than the default one's 8 tickets a server.
    #[must_use]
    pub fn session_store(self, store: Arc<dyn ClientSessionStore>) -> Self {
        let mut config = Arc::unwrap_or_clone(self.0);
        config.resumption = rustls::client::Resumption::store(store);
        Self(Arc::new(config))
    }

    /// Takes a rustls configuration as it is.
    #[must_use]
    pub fn from_rustls(config: Arc<ClientConfig>) -> Self {
        Self(config)
    }

    pub(crate) fn connect(&self, name: &ServerName<'static>) -> Result<TlsStream, rustls::Error> {
        Ok(TlsStream::client(UnbufferedClientConnection::new(self.0.clone(), name.clone())?))
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls")
    }
}

/// The TLS versions that a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TlsVersions {
    /// TLS 1.3, and 1.2 with servers that have no more.
    #[default]
    Both,
    /// TLS 1.2 alone.
    Tls12,
    /// TLS 1.3 alone.
    Tls13,
}

impl TlsVersions {
    fn list(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::Both => &VERSIONS,
            Self::Tls13 => &VERSIONS[..1],
            Self::Tls12 => &VERSIONS[1..],
        }
    }
}

/// Collects what a [`ClientTls`] is made of; whom to trust comes last.
///
/// ```
/// use webscale::{ClientTls, TlsVersions};
/// let tls = ClientTls::builder().versions(TlsVersions::Tls13).insecure()?;
/// # Ok::<(), webscale::TlsConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientTlsBuilder {
    versions: TlsVersions,
}

impl ClientTlsBuilder {
    /// The versions to speak; both by default.
    #[must_use]
    pub fn versions(mut self, versions: TlsVersions) -> Self {
        self.versions = versions;
        self
    }

    /// As [`ClientTls::system_roots`].
    ///
    /// # Errors
    /// [`TlsConfigError::NoSystemRoots`], or what is wrong with the file that was found.
    pub fn system_roots(self) -> Result<ClientTls, TlsConfigError> {
        // Debian and Alpine, Fedora, openSUSE.
        const BUNDLES: [&str; 3] = [
            "/etc/ssl/certs/ca-certificates.crt",
            "/etc/pki/tls/certs/ca-bundle.crt",
            "/etc/ssl/ca-bundle.pem",
        ];
        let found = BUNDLES.iter().map(Path::new).find(|path| path.exists());
        self.ca_file(found.ok_or(TlsConfigError::NoSystemRoots)?)
    }

    /// As [`ClientTls::from_ca_file`].
    ///
    /// # Errors
    /// [`TlsConfigError`]: the file cannot be read, or holds no certificate.
    pub fn ca_file(self, path: impl AsRef<Path>) -> Result<ClientTls, TlsConfigError> {
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(certificates(path.as_ref())?);
        if added == 0 {
            return Err(TlsConfigError::NoCertificate(path.as_ref().to_owned()));
        }
        let builder = self.begin(provider())?;
        Ok(ClientTls::with(builder.with_root_certificates(roots).with_no_client_auth()))
    }

    /// As [`ClientTls::insecure`].
    ///
    /// # Errors
    /// [`TlsConfigError::Unusable`], should the provider lack a TLS version.
    pub fn insecure(self) -> Result<ClientTls, TlsConfigError> {
        let provider = provider();
        let builder = self.begin(provider.clone())?.dangerous();
        let verifier = Arc::new(TakeAny(provider));
        Ok(ClientTls::with(builder.with_custom_certificate_verifier(verifier).with_no_client_auth()))
    }

    fn begin(
        self,
        provider: Arc<CryptoProvider>,
    ) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, TlsConfigError> {
        ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions.list())
            .map_err(TlsConfigError::Unusable)
    }
}

/// Verifies that the server has the key of the certificate it shows, and nothing about that certificate.
#[derive(Debug)]
struct TakeAny(Arc<CryptoProvider>);

impl ServerCertVerifier for TakeAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}

/// What the peer's side of a stream is at, after records were opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PeerSide {
    Open,
    /// It sent close_notify: nothing follows.
    Finished,
}

/// What [`TlsStream::open_records`] found.
pub(crate) struct Opened {
    /// Bytes of the input that are done with; the rest is an incomplete record.
    pub(crate) consumed: usize,
    pub(crate) peer: PeerSide,
}

/// rustls' state of one connection, on the heap: connections that are not TLS do not pay for it.
pub(crate) enum TlsStream {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

impl TlsStream {
    fn server(connection: UnbufferedServerConnection) -> Self {
        Self::Server(Box::new(connection))
    }

    fn client(connection: UnbufferedClientConnection) -> Self {
        Self::Client(Box::new(connection))
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        match self {
            Self::Server(connection) => connection.is_handshaking(),
            Self::Client(connection) => connection.is_handshaking(),
        }
    }

    /// Whether the handshake resumed an earlier session; known once it is done.
    pub(crate) fn is_resumed(&self) -> bool {
        let kind = match self {
            Self::Server(connection) => connection.handshake_kind(),
            Self::Client(connection) => connection.handshake_kind(),
        };
        kind == Some(HandshakeKind::Resumed)
    }

    /// Opens all whole records at the front of `input`, decrypting in place. Plaintext goes to `sink`, record by
    /// record; what TLS itself has to say (handshake, alerts) to `out`, also when this fails.
    ///
    /// # Errors
    /// The peer broke TLS, or the handshake cannot succeed. The stream is of no use then.
    pub(crate) fn open_records(
        &mut self,
        input: &mut [u8],
        out: &mut Sealed,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<Opened, rustls::Error> {
        match self {
            Self::Server(connection) => {
                open(connection, |c, input| c.process_tls_records(input), input, out, sink)
            }
            Self::Client(connection) => {
                open(connection, |c, input| c.process_tls_records(input), input, out, sink)
            }
        }
    }

    /// Seals `plaintext` behind what is in `out`. `kept` is the incomplete record that [`TlsStream::open_records`] left:
    /// rustls remembers places in it. False: the stream cannot carry data (any more).
    pub(crate) fn seal(&mut self, plaintext: &[u8], kept: &mut Vec<u8>, out: &mut Sealed) -> bool {
        self.write(Payload::Data(plaintext), kept, out)
    }

    /// Tells the peer that nothing follows (RFC 8446 §6.1).
    pub(crate) fn seal_close(&mut self, kept: &mut Vec<u8>, out: &mut Sealed) {
        self.write(Payload::CloseNotify, kept, out);
    }

    fn write(&mut self, payload: Payload<'_>, kept: &mut Vec<u8>, out: &mut Sealed) -> bool {
        match self {
            Self::Server(connection) => {
                write(connection, |c, input| c.process_tls_records(input), payload, kept, out)
            }
            Self::Client(connection) => {
                write(connection, |c, input| c.process_tls_records(input), payload, kept, out)
            }
        }
    }
}

/// `process_tls_records` of either role.
type Process<C, D> = for<'c, 'i> fn(&'c mut C, &'i mut [u8]) -> UnbufferedStatus<'c, 'i, D>;

fn open<C, D>(
    connection: &mut C,
    process: Process<C, D>,
    input: &mut [u8],
    out: &mut Sealed,
    sink: &mut dyn FnMut(&[u8]),
) -> Result<Opened, rustls::Error> {
    let mut consumed = 0;
    let mut peer = PeerSide::Open;
    loop {
        let UnbufferedStatus { mut discard, state } = process(connection, &mut input[consumed..]);
        let mut more = true;
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    sink(record.payload);
                }
            }
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
            // What was encoded lies in `out`, which reaches the socket before anything else does.
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => peer = PeerSide::Finished,
            // Early data is off in every configuration made here; in one that was handed in it is not read.
            Ok(_) => more = false,
            Err(error) => {
                // rustls has an alert for the peer, which comes before any further input is looked at.
                if let Ok(ConnectionState::EncodeTlsData(data)) =
                    process(connection, &mut input[consumed + discard..]).state
                {
                    encode(data, out);
                }
                return Err(error);
            }
        }
        consumed += discard;
        if !more {
            return Ok(Opened { consumed, peer });
        }
    }
}

#[derive(Clone, Copy)]
enum Payload<'a> {
    Data(&'a [u8]),
    CloseNotify,
}

fn write<C, D>(
    connection: &mut C,
    process: Process<C, D>,
    payload: Payload<'_>,
    kept: &mut Vec<u8>,
    out: &mut Sealed,
) -> bool {
    loop {
        let UnbufferedStatus { discard, state } = process(connection, kept);
        let written = match state {
            Ok(ConnectionState::EncodeTlsData(data)) => {
                encode(data, out);
                None
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                None
            }
            Ok(ConnectionState::WriteTraffic(traffic)) => Some(encrypt(traffic, payload, out)),
            Ok(ConnectionState::PeerClosed) => None,
            Ok(_) | Err(_) => Some(false),
        };
        kept.drain(..discard);
        if let Some(written) = written {
            return written;
        }
    }
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, out: &mut Sealed) {
    emit(out, |room| {
        data.encode(room).map_err(|error| match error {
            EncodeError::InsufficientSize(size) => Some(size),
            EncodeError::AlreadyEncoded => None,
        })
    });
}

/// False: the keys are used up.
fn encrypt<D>(mut traffic: WriteTraffic<'_, D>, payload: Payload<'_>, out: &mut Sealed) -> bool {
    let before = out.as_slice().len();
    let room = match payload {
        Payload::Data(bytes) => bytes.len() + (bytes.len() / RECORD_PLAINTEXT + 1) * RECORD_OVERHEAD,
        Payload::CloseNotify => RECORD_OVERHEAD,
    };
    out.spare(room);
    emit(out, |room| {
        let result = match payload {
            Payload::Data(bytes) => traffic.encrypt(bytes, room),
            Payload::CloseNotify => traffic.queue_close_notify(room),
        };
        result.map_err(|error| match error {
            EncryptError::InsufficientSize(size) => Some(size),
            EncryptError::EncryptExhausted => None,
        })
    });
    out.as_slice().len() > before
}

/// Runs `encode` on the spare room of `out`, and again with more if that is too little.
fn emit(out: &mut Sealed, mut encode: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>) {
    let mut room = 0;
    for _ in 0..2 {
        match encode(out.spare(room)) {
            Ok(written) => return out.advance(written),
            Err(Some(InsufficientSizeError { required_size })) => room = required_size,
            Err(None) => return,
        }
    }
}

/// The name that a certificate must bear: a DNS name, or an IP address.
pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>, TlsConfigError> {
    ServerName::try_from(host.to_owned()).map_err(|_| TlsConfigError::HostName(host.to_owned()))
}
