//! Which clients must show a certificate.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::{TlsConfigError, provider, roots};

/// Whose certificates clients are asked for.
#[derive(Clone)]
pub struct ClientAuth {
    ca_file: PathBuf,
    is_required: bool,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientAuth {
    /// Only clients with a certificate that leads to one in this PEM file connect.
    ///
    /// # Errors
    /// [`TlsConfigError`]: the file cannot be read, or holds no certificate of an authority.
    pub fn required(ca_file: impl AsRef<Path>) -> Result<Self, TlsConfigError> {
        Self::read(ca_file.as_ref(), true)
    }

    /// A client may also have none. One that shows a certificate which is not good is turned away all the same.
    ///
    /// # Errors
    /// [`TlsConfigError`], as of [`ClientAuth::required`].
    pub fn optional(ca_file: impl AsRef<Path>) -> Result<Self, TlsConfigError> {
        Self::read(ca_file.as_ref(), false)
    }

    fn read(ca_file: &Path, is_required: bool) -> Result<Self, TlsConfigError> {
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca_file)?), provider());
        let builder = if is_required { builder } else { builder.allow_unauthenticated() };
        // Without roots there would be nobody to let in, and `roots` has found one.
        let verifier = builder.build().map_err(|_| TlsConfigError::NoCertificate(ca_file.to_owned()))?;
        Ok(Self { ca_file: ca_file.to_owned(), is_required, verifier })
    }

    /// The same with what stands in the file now.
    pub(super) fn read_again(&self) -> Result<Self, TlsConfigError> {
        Self::read(&self.ca_file, self.is_required)
    }

    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        self.verifier.clone()
    }
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = if self.is_required { "required" } else { "optional" };
        write!(f, "ClientAuth({asked}, {})", self.ca_file.display())
    }
}
