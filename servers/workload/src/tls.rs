//! TLS for the servers that use rustls' buffered connections.

use std::{path::Path, sync::Arc};

use rustls::{
    Error, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::NoServerSessionStorage,
};

/// TLS 1.3 and 1.2, ALPN `http/1.1`, resumption by stateless tickets, one for each client: as the library has it, so that a
/// handshake costs all servers the same.
///
/// # Errors
/// One sentence: a file cannot be read, is not PEM, or the key does not match the certificate.
pub fn server_config(cert: &Path, key: &Path) -> Result<ServerConfig, String> {
    let chain = certificates(cert)?;
    let private_key = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| pem_sentence("--key", key, "private key (PKCS#8, PKCS#1 or SEC1)", &error))?;
    // The provider is named, as the implicit one panics where a second one is compiled in.
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, private_key)
        .map_err(|error| match error {
            Error::InconsistentKeys(_) => {
                format!(
                    "--key {} does not match --cert {}: name the pair of files made together",
                    key.display(),
                    cert.display()
                )
            }
            error => {
                format!("--cert {} with --key {} cannot be used: {error}", cert.display(), key.display())
            }
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| error.to_string())?;
    config.send_tls13_tickets = 1;
    Ok(config)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| pem_sentence("--cert", file, "certificate", &error))?;
    if chain.is_empty() {
        return Err(pem_sentence("--cert", file, "certificate", &pem::Error::NoItemsFound));
    }
    Ok(chain)
}

fn pem_sentence(option: &str, file: &Path, wanted: &str, error: &pem::Error) -> String {
    let file = file.display();
    match error {
        pem::Error::Io(error) => format!("{option} {file} cannot be read: {error}"),
        pem::Error::NoItemsFound => format!("{option} {file} holds no {wanted} in PEM"),
        error => format!("{option} {file} is not PEM: {error}"),
    }
}
