//! Files that live as long as a test.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;

/// An own directory below the system's temporary one; removed when dropped.
pub struct Directory(PathBuf);

impl Directory {
    /// A new, empty one.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("webscale-test-{}-{}", process::id(), NUMBER.fetch_add(1, Relaxed));
        let path = env::temp_dir().join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(path)
    }

    /// Writes a file and returns its path.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// The path of a file in it, which may not exist.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Default for Directory {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left behind lies in the temporary directory.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A certificate for `localhost` and 127.0.0.1 from a CA of its own.
pub struct Certificate {
    ca: CertificateDer<'static>,
    directory: Directory,
}

impl Certificate {
    /// A new one, with its files.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let directory = Directory::new();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate().expect("the system has randomness");
        let ca_cert = ca.self_signed(&ca_key).expect("the parameters are right");
        let mut leaf =
            CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
        leaf.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
        let key = KeyPair::generate().expect("the system has randomness");
        let cert = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).expect("the parameters are right");
        directory.write("cert.pem", &cert.pem());
        directory.write("key.pem", &key.serialize_pem());
        Self { ca: ca_cert.der().clone(), directory }
    }

    /// PEM file of the certificate.
    #[must_use]
    pub fn cert(&self) -> PathBuf {
        self.directory.path("cert.pem")
    }

    /// PEM file of its key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.directory.path("key.pem")
    }

    /// What a client trusts.
    #[must_use]
    pub fn ca(&self) -> &CertificateDer<'static> {
        &self.ca
    }
}

impl Default for Certificate {
    fn default() -> Self {
        Self::new()
    }
}

/// A path as an argument of a command.
pub(super) fn argument(path: &Path) -> &str {
    path.to_str().expect("the temporary directory's name is UTF-8")
}
