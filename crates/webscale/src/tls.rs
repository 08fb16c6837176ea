//! TLS by rustls, over buffers that belong to the thread.
//!
//! The rest of the library sees three things: [`Tls`] and [`ClientTls`], the configurations; [`TlsStream::open_records`],
//! ciphertext in, plaintext out; [`TlsStream::seal`], the other way. A connection owns rustls' state (keys and
//! counters) and nothing else: no buffer.

mod client;
mod server;
mod session;
mod stream;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, SupportedProtocolVersion};

pub(crate) use client::server_name;
pub use client::{ClientTls, ClientTlsBuilder, TlsVersions};
pub use server::{ClientAuth, Tls};
pub use session::TlsSession;
pub(crate) use stream::{Incoming, Opened, PeerSide, RECORD_BYTES, TlsStream};

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

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsConfigError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| TlsConfigError::Pem(path.to_owned(), error))
}

fn roots(path: &Path) -> Result<RootCertStore, TlsConfigError> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates(path)?);
    if added == 0 { Err(TlsConfigError::NoCertificate(path.to_owned())) } else { Ok(roots) }
}
