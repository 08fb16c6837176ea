//! A client's configuration.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, SignatureScheme};

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
        // Debian and Alpine, Fedora, openSUSE.
        const BUNDLES: [&str; 3] = [
            "/etc/ssl/certs/ca-certificates.crt",
            "/etc/pki/tls/certs/ca-bundle.crt",
            "/etc/ssl/ca-bundle.pem",
        ];
        let found = BUNDLES.iter().map(Path::new).find(|path| path.exists());
        Self::from_ca_file(found.ok_or(TlsConfigError::NoSystemRoots)?)
    }

    /// Trusts the certificates of one PEM file.
    ///
    /// # Errors
    /// [`TlsConfigError`]: the file cannot be read, or holds no certificate.
    pub fn from_ca_file(path: impl AsRef<Path>) -> Result<Self, TlsConfigError> {
        let roots = roots(path.as_ref())?;
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_protocol_versions(&VERSIONS).map_err(TlsConfigError::Unusable)?;
        Ok(Self::with(builder.with_root_certificates(roots).with_no_client_auth()))
    }

    /// Takes any certificate: for load tests of a server of one's own, and nothing else.
    ///
    /// # Errors
    /// [`TlsConfigError::Unusable`], should the provider lack a TLS version.
    pub fn insecure() -> Result<Self, TlsConfigError> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(provider.clone());
        let builder = builder.with_protocol_versions(&VERSIONS).map_err(TlsConfigError::Unusable)?;
        let verifier = Arc::new(TakeAny(provider));
        Ok(Self::with(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()))
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
        let (chain, key) = (certificates(certificate.as_ref())?, private_key(key.as_ref())?);
        let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(TlsConfigError::Unusable)?;
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
