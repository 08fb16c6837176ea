//! TLS of hostile clients: they trust anybody, and every handshake is a full one.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WantsClientCert};
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, DEFAULT_VERSIONS, DigitallySignedStruct, Error,
    SignatureScheme, SupportedProtocolVersion,
};

use crate::cert::Pair;

/// Checks nothing: it is the server that is asked to work, not we.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// The configuration of hostile clients.
pub(crate) fn hostile() -> Result<Arc<ClientConfig>, Error> {
    with_provider(aws_lc_rs::default_provider())
}

/// The same, with the key exchange alone that costs a server most.
pub(crate) fn costly() -> Result<Arc<ClientConfig>, Error> {
    let kx_groups = vec![aws_lc_rs::kx_group::SECP384R1];
    with_provider(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() })
}

fn with_provider(provider: CryptoProvider) -> Result<Arc<ClientConfig>, Error> {
    Ok(Arc::new(common(trusting(provider, DEFAULT_VERSIONS)?.with_no_client_auth())))
}

/// The same, by clients that show a certificate when they are asked for one.
pub(crate) fn showing(pair: &Pair) -> Result<Arc<ClientConfig>, Error> {
    let unreadable = |_| Error::General("a certificate made here cannot be read".into());
    let cert = CertificateDer::from_pem_slice(pair.cert_pem.as_bytes()).map_err(unreadable)?;
    let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).map_err(unreadable)?;
    let builder = trusting(aws_lc_rs::default_provider(), DEFAULT_VERSIONS)?;
    Ok(Arc::new(common(builder.with_client_auth_cert(vec![cert], key)?)))
}

/// The same of TLS 1.2 alone, with AES-256-GCM and the right to have its keys.
pub(super) fn of_tls_1_2() -> Result<Arc<ClientConfig>, Error> {
    let cipher_suites = vec![TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384];
    let provider = CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() };
    let mut config = common(trusting(provider, &[&rustls::version::TLS12])?.with_no_client_auth());
    config.enable_secret_extraction = true;
    Ok(Arc::new(config))
}

type Trusting = ConfigBuilder<ClientConfig, WantsClientCert>;

fn trusting(
    provider: CryptoProvider,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<Trusting, Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = builder.with_protocol_versions(versions)?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody)))
}

fn common(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    config
}

/// The client's side of one connection.
pub(crate) fn connection(config: &Arc<ClientConfig>) -> Result<ClientConnection, Error> {
    let name = ServerName::try_from("localhost").map_err(|_| Error::General("no name".into()))?;
    let mut connection = ClientConnection::new(config.clone(), name)?;
    // How much is on its way is for the script to say.
    connection.set_buffer_limit(None);
    Ok(connection)
}

/// The first flight of a handshake, as a client sends it.
pub(crate) fn hello(config: &Arc<ClientConfig>) -> Result<Vec<u8>, Error> {
    let mut hello = Vec::new();
    let written = connection(config)?.write_tls(&mut hello);
    written.map_err(|error| Error::General(error.to_string()))?;
    Ok(hello)
}
