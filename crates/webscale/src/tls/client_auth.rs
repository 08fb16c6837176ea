//! Which clients must show a certificate.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};

use super::{TlsConfigError, provider, roots};

/// Whose certificates clients are asked for.
#[derive(Clone)]
pub struct ClientAuth {
    ca_file: PathBuf,
    crl_file: Option<PathBuf>,
    is_required: bool,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientAuth {
    /// Only clients with a certificate that leads to one in this PEM file connect.
    ///
    /// # Errors
    /// [`TlsConfigError`]: the file cannot be read, or holds no certificate of an authority.
    pub fn required(ca_file: impl AsRef<Path>) -> Result<Self, TlsConfigError> {
        Self::read(ca_file.as_ref(), None, true)
    }

    /// A client may also have none. One that shows a certificate which is not good is turned away all the same.
    ///
    /// # Errors
    /// [`TlsConfigError`], as of [`ClientAuth::required`].
    pub fn optional(ca_file: impl AsRef<Path>) -> Result<Self, TlsConfigError> {
        Self::read(ca_file.as_ref(), None, false)
    }

    /// The same without clients whose certificate, or that of an authority between it and the CA file, stands in a
    /// certificate revocation list (RFC 5280 §5) of this PEM file. [`Tls::reload`](crate::Tls::reload) reads the file again.
    ///
    /// Who cannot be judged is turned away: every authority that signed a certificate of the client's chain needs its list
    /// here, and a list counts until its `nextUpdate`. One that has run out is taken, now and by a reload, and lets none of
    /// its authority's clients in: put a newer one in its place in time.
    ///
    /// # Errors
    /// [`TlsConfigError`]: a file that cannot be read, holds no list, or one that is broken.
    pub fn crl_file(self, crl_file: impl AsRef<Path>) -> Result<Self, TlsConfigError> {
        Self::read(&self.ca_file, Some(crl_file.as_ref()), self.is_required)
    }

    fn read(ca_file: &Path, crl_file: Option<&Path>, is_required: bool) -> Result<Self, TlsConfigError> {
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca_file)?), provider());
        if let Some(path) = crl_file {
            builder = builder.with_crls(crls(path)?).enforce_revocation_expiration();
        }
        if !is_required {
            builder = builder.allow_unauthenticated();
        }
        let verifier = builder.build().map_err(|error| match (error, crl_file) {
            (VerifierBuilderError::InvalidCrl(error), Some(path)) => {
                TlsConfigError::Crl(path.to_owned(), error)
            }
            // Without roots there would be nobody to let in, and `roots` has found one.
            _ => TlsConfigError::NoCertificate(ca_file.to_owned()),
        })?;
        let (ca_file, crl_file) = (ca_file.to_owned(), crl_file.map(Path::to_owned));
        Ok(Self { ca_file, crl_file, is_required, verifier })
    }

    /// The same with what stands in the files now.
    pub(super) fn read_again(&self) -> Result<Self, TlsConfigError> {
        Self::read(&self.ca_file, self.crl_file.as_deref(), self.is_required)
    }

    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        self.verifier.clone()
    }
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = if self.is_required { "required" } else { "optional" };
        write!(f, "ClientAuth({asked}, {}", self.ca_file.display())?;
        self.crl_file.iter().try_for_each(|path| write!(f, ", but for {}", path.display()))?;
        f.write_str(")")
    }
}

fn crls(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsConfigError> {
    let fail = |error| TlsConfigError::Pem(path.to_owned(), error);
    let lists = CertificateRevocationListDer::pem_file_iter(path).map_err(fail)?;
    let lists: Vec<_> = lists.collect::<Result<_, _>>().map_err(fail)?;
    if lists.is_empty() { Err(TlsConfigError::NoCrl(path.to_owned())) } else { Ok(lists) }
}
