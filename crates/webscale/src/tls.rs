//! TLS by rustls, over buffers that belong to the thread.
//!
//! The rest of the library sees three things: [`Tls`] and [`ClientTls`], the configurations; [`TlsStream::open_records`],
//! ciphertext in, plaintext out; [`TlsStream::seal`], the other way. A connection owns rustls' state (keys and
//! counters) and nothing else: no buffer.

mod client;
mod client_auth;
mod identity;
mod record;
mod server;
mod session;
mod stream;
mod tickets;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CertRevocationListError, RootCertStore, SupportedProtocolVersion};

pub(crate) use client::server_name;
pub use client::{ClientTls, ClientTlsBuilder, TlsVersions};
pub use client_auth::ClientAuth;
pub use server::Tls;
pub use session::TlsSession;
pub(crate) use stream::{Incoming, Opened, PeerSide, RECORD_BYTES, TlsStream};
pub use tickets::TicketKeys;
#[cfg(test)]
pub(crate) use tickets::tests::Hand;

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
    /// A certificate of the chain in this file is none; its place, from 1.
    Chain(PathBuf, usize),
    /// The key is not that of the certificate in this file, or one of them is unusable.
    Identity(PathBuf, rustls::Error),
    /// The certificate is no longer valid.
    Expired {
        /// Its file.
        path: PathBuf,
        /// How long since.
        seconds_ago: u64,
    },
    /// The certificate is not valid yet; or the clock is wrong.
    NotYetValid {
        /// Its file.
        path: PathBuf,
        /// How long until then.
        in_seconds: u64,
    },
    /// The file of the tickets' secret cannot be read.
    Secret(PathBuf, io::Error),
    /// The tickets' secret has only so many bytes.
    ShortSecret(usize),
    /// The file holds no certificate revocation list.
    NoCrl(PathBuf),
    /// A certificate revocation list of this file is broken, or of a kind that is not understood.
    Crl(PathBuf, CertRevocationListError),
    /// There is no file to reload.
    NoFiles,
    /// Clients are asked for certificates, or may be, and nothing says that they would be after [`Tls::replace`].
    ClientAuthLost,
    /// The provider lacks something.
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
            Self::Chain(path, place) => write!(f, "certificate {place} in {} is broken", path.display()),
            Self::Identity(path, rustls::Error::InconsistentKeys(_)) => {
                write!(f, "the private key does not match the certificate in {}", path.display())
            }
            Self::Identity(path, error) => {
                write!(f, "the certificate in {}, or its key, cannot be used: {error}", path.display())
            }
            Self::Expired { path, seconds_ago } => {
                write!(f, "the certificate in {} expired {} ago", path.display(), Span(*seconds_ago))
            }
            Self::NotYetValid { path, in_seconds } => {
                let (path, span) = (path.display(), Span(*in_seconds));
                write!(
                    f,
                    "the certificate in {path} is not valid before {span} from now, or the clock is wrong"
                )
            }
            Self::Secret(path, error) => write!(f, "cannot read {}: {error}", path.display()),
            Self::ShortSecret(bytes) => {
                let least = TicketKeys::SECRET_BYTES_MIN;
                write!(
                    f,
                    "a secret of {bytes} bytes can be guessed: it wants {least} or more, all of them random"
                )
            }
            Self::NoCrl(path) => {
                write!(f, "{} holds no PEM certificate revocation list (-----BEGIN X509 CRL-----)", path.display())
            }
            Self::Crl(path, error) => {
                write!(f, "a certificate revocation list in {} cannot be used: {error:?}", path.display())
            }
            Self::ClientAuthLost => f.write_str(
                "the configuration in use asks clients for certificates, or may, and the new one does not say whose: \
                 state it there with Tls::client_certificates",
            ),
            Self::NoFiles => f.write_str("nothing was read from a file: there is nothing to reload"),
            Self::Unusable(error) => write!(f, "TLS cannot be set up: {error}"),
            Self::NoSystemRoots => f.write_str("no root certificates found on this system; name a CA file"),
            Self::HostName(host) => write!(f, "{host:?} is neither a DNS name nor an IP address"),
        }
    }
}

impl std::error::Error for TlsConfigError {}

/// Seconds, in the greatest unit that fits twice.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 3] = [(86_400, "days"), (3600, "hours"), (60, "minutes")];
        let unit = UNITS.into_iter().find(|(seconds, _)| self.0 / seconds >= 2);
        let (seconds, name) = unit.unwrap_or((1, "seconds"));
        write!(f, "{} {name}", self.0 / seconds)
    }
}

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
