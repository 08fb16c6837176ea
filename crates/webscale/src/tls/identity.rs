//! A server's certificates: where they come from, whether they are good, and which one a client is shown.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore};

use super::{TlsConfigError, certificates, private_key, provider};

/// A certificate chain with its key: where to read it, or as it was given.
#[derive(Clone)]
pub(super) enum Identity {
    Files { certificate: PathBuf, key: PathBuf },
    Held(Arc<CertifiedKey>),
}

impl Identity {
    pub(super) fn held(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsConfigError> {
        certify(chain, key, Path::new("certificate")).map(Self::Held)
    }

    pub(super) fn is_in_files(&self) -> bool {
        matches!(self, Self::Files { .. })
    }

    /// Reads it. With a time, it must be valid then.
    pub(super) fn load(&self, valid_at: Option<UnixTime>) -> Result<Arc<CertifiedKey>, TlsConfigError> {
        let (certified, path) = match self {
            Self::Files { certificate, key } => {
                (certify(certificates(certificate)?, private_key(key)?, certificate)?, certificate.as_path())
            }
            Self::Held(certified) => (certified.clone(), Path::new("certificate")),
        };
        if let (Some(now), Some(leaf)) = (valid_at, certified.cert.first()) {
            check_validity(leaf, now, path)?;
        }
        Ok(certified)
    }
}

/// The key must be the leaf's, and every certificate of the chain a certificate.
fn certify(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    path: &Path,
) -> Result<Arc<CertifiedKey>, TlsConfigError> {
    if let Some(place) =
        chain.iter().position(|certificate| ParsedCertificate::try_from(certificate).is_err())
    {
        return Err(TlsConfigError::Chain(path.to_owned(), place + 1));
    }
    let certified = CertifiedKey::from_der(chain, key, &provider());
    certified.map(Arc::new).map_err(|error| TlsConfigError::Identity(path.to_owned(), error))
}

/// A verifier looks at the time before it looks for an issuer, whom nobody knows here.
fn check_validity(leaf: &CertificateDer<'_>, now: UnixTime, path: &Path) -> Result<(), TlsConfigError> {
    use CertificateError::{ExpiredContext, NotValidYetContext};
    let verified = ParsedCertificate::try_from(leaf).and_then(|leaf| {
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &leaf,
            &RootCertStore::empty(),
            &[],
            now,
            &[],
        )
    });
    let Err(rustls::Error::InvalidCertificate(fault)) = verified else { return Ok(()) };
    let between = |later: UnixTime, earlier: UnixTime| later.as_secs().saturating_sub(earlier.as_secs());
    let path = path.to_owned();
    match fault {
        ExpiredContext { time, not_after } => {
            Err(TlsConfigError::Expired { path, seconds_ago: between(time, not_after) })
        }
        NotValidYetContext { time, not_before } => {
            Err(TlsConfigError::NotYetValid { path, in_seconds: between(not_before, time) })
        }
        // It ends before it begins.
        CertificateError::Expired => Err(TlsConfigError::Expired { path, seconds_ago: 0 }),
        _ => Ok(()),
    }
}

/// Shows a client the first certificate that bears the name which it asks for, and whose signatures it can verify.
#[derive(Debug)]
pub(super) struct ByName(pub(super) Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Where there is no choice, nothing has to be parsed and tried.
        if let [only] = self.0.as_slice() {
            return Some(only.clone());
        }
        let can_verify =
            |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let named = name.and_then(|name| self.0.iter().filter(|key| bears(key, &name)).find(can_verify));
        named.or_else(|| self.0.iter().find(can_verify)).or_else(|| self.0.first()).cloned()
    }
}

fn bears(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let leaf = key.cert.first().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
    leaf.is_some_and(|leaf| verify_server_name(&leaf, name).is_ok())
}
