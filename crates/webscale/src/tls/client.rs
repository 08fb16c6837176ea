//! A client's configuration.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionStore, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, DistinguishedName, SignatureScheme,
    SupportedProtocolVersion, WantsVerifier,
};

use super::{ALPN, TlsConfigError, TlsStream, VERSIONS, certificates, private_key, provider, roots};

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

    /// Shows the server a certificate, where it asks for one: a chain (leaf first) and its private key, both PEM.
    ///
    /// # Errors
    /// [`TlsConfigError`]: a file that cannot be read or holds something else, or a key of another certificate.
    pub fn identity(
        self,
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, TlsConfigError> {
        let path = certificate.as_ref();
        let (chain, key) = (certificates(path)?, private_key(key.as_ref())?);
        let certified = CertifiedKey::from_der(chain, key, &provider())
            .map_err(|error| TlsConfigError::Identity(path.to_owned(), error))?;
        let mut config = Arc::unwrap_or_clone(self.0);
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
        Ok(Self(Arc::new(config)))
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
        let roots = roots(path.as_ref())?;
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

/// The name that a certificate must bear: a DNS name, or an IP address.
pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>, TlsConfigError> {
    ServerName::try_from(host.to_owned()).map_err(|_| TlsConfigError::HostName(host.to_owned()))
}
