//! TLS of hostile clients: they trust anybody, and every handshake is a full one.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};

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
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = builder.with_safe_default_protocol_versions()?;
    let mut config =
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody)).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
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
