//! A server's configuration.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    NoClientAuth, NoServerSessionStorage, ResolvesServerCert, UnbufferedServerConnection,
    WebPkiClientVerifier,
};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::session::NamingResolver;
use super::{ALPN, TlsConfigError, TlsStream, VERSIONS, certificates, private_key, provider, roots};

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
        let chain = certificates(certificate.as_ref())?;
        Self::from_der(chain, private_key(key.as_ref())?)
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
        let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(TlsConfigError::Unusable)?;
        let resolver = NamingResolver(Arc::new(SingleCertAndKey::from(certified)));
        Self::build(Arc::new(resolver), Arc::new(NoClientAuth)).map_err(TlsConfigError::Unusable)
    }

    fn build(
        resolver: Arc<dyn ResolvesServerCert>,
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> Result<Self, rustls::Error> {
        let asks_clients = verifier.offer_client_auth();
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&VERSIONS)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A ticket carries the session to the client: nothing is kept here, and no lock is shared by the loops.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // Who resumes shows no certificate, and each ticket begets another: one that expired would live on for ever.
        if asks_clients {
            config.send_tls13_tickets = 0;
        } else {
            config.ticketer = aws_lc_rs::Ticketer::new()?;
            config.send_tls13_tickets = 1;
        }
        Ok(Self(Arc::new(config)))
    }

    /// Asks clients for a certificate, which [`TlsSession::client_certificates`](crate::TlsSession::client_certificates)
    /// shows to the handler. A client whose certificate is not good, or that has none where one is required, gets TLS's
    /// alert and no connection.
    ///
    /// Every connection shows its certificate anew: sessions are not resumed, so that one which has expired ends with the
    /// connection that it opened.
    ///
    /// What [`Tls::from_rustls`] was given is replaced by the library's configuration, but for the server's certificates: ask
    /// for clients' ones there.
    ///
    /// # Errors
    /// [`TlsConfigError::Unusable`], should the provider lack something.
    pub fn client_certificates(self, auth: ClientAuth) -> Result<Self, TlsConfigError> {
        Self::build(self.0.cert_resolver.clone(), auth.0).map_err(TlsConfigError::Unusable)
    }

    /// Takes a rustls configuration as it is, but for early data, which can be replayed: none is accepted.
    #[must_use]
    pub fn from_rustls(config: Arc<ServerConfig>) -> Self {
        let mut config = Arc::unwrap_or_clone(config);
        config.cert_resolver = Arc::new(NamingResolver(config.cert_resolver));
        config.max_early_data_size = 0;
        Self(Arc::new(config))
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

/// Whose certificates clients are asked for.
#[derive(Clone)]
pub struct ClientAuth(Arc<dyn ClientCertVerifier>);

impl ClientAuth {
    /// Only clients with a certificate that leads to one in this PEM file connect.
    ///
    /// # Errors
    /// [`TlsConfigError`]: the file cannot be read, or holds no certificate of an authority.
    pub fn required(ca_file: impl AsRef<Path>) -> Result<Self, TlsConfigError> {
        Self::new(ca_file.as_ref(), true)
    }

    /// A client may also have none. One that shows a certificate which is not good is turned away all the same.
    ///
    /// # Errors
    /// [`TlsConfigError`], as of [`ClientAuth::required`].
    pub fn optional(ca_file: impl AsRef<Path>) -> Result<Self, TlsConfigError> {
        Self::new(ca_file.as_ref(), false)
    }

    fn new(ca_file: &Path, is_required: bool) -> Result<Self, TlsConfigError> {
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca_file)?), provider());
        let builder = if is_required { builder } else { builder.allow_unauthenticated() };
        // Without roots there would be nobody to let in, and `roots` has found one.
        let verifier = builder.build().map_err(|_| TlsConfigError::NoCertificate(ca_file.to_owned()))?;
        Ok(Self(verifier))
    }
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientAuth")
    }
}
