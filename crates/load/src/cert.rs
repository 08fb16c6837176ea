//! Certificates for tests: a CA with a leaf below it, or one that signs itself.
//!
//! All are ECDSA P-256, for serverAuth, valid from one day ago (clocks differ) for [`VALID_DAYS`] days, which is the
//! most that clients accept of a leaf.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};

/// How long a certificate is valid, in days from now.
pub const VALID_DAYS: u64 = 397;
/// The names that every leaf has.
pub const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A name is neither a host name nor an IP address.
    #[error("{name:?} is neither a host name nor an IP address")]
    Name {
        /// The name as it was given.
        name: String,
    },
    /// Making a key or signing failed.
    #[error("making a certificate: {0}")]
    Sign(#[from] rcgen::Error),
    /// A file is there already.
    #[error("{path} is there already; --force replaces it", path = path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Writing failed.
    #[error("writing {path}: {source}", path = path.display())]
    Write {
        /// The file or the directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A certificate and its private key, both as PEM.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub cert_pem: String,
    /// The private key (PKCS #8).
    pub key_pem: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

/// A CA and a leaf that it signed.
#[derive(Debug, Clone)]
pub struct Issued {
    /// What a client is told to trust.
    pub ca: Pair,
    /// What a server shows.
    pub leaf: Pair,
}

/// Where [`Issued::write`] put everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The CA's certificate: `ca.pem`.
    pub ca_cert: PathBuf,
    /// The CA's key, mode 0600: `ca-key.pem`.
    pub ca_key: PathBuf,
    /// The leaf's certificate: `cert.pem`.
    pub cert: PathBuf,
    /// The leaf's key, mode 0600: `key.pem`.
    pub key: PathBuf,
}

/// Whether files that are there already may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// They stay, and nothing is written.
    Keep,
    /// They are replaced.
    Replace,
}

/// Makes a CA and a leaf for [`NAMES`] and `more_names` (host names or IP addresses).
///
/// # Errors
/// When a name is neither, or signing fails.
pub fn issue(more_names: &[String]) -> Result<Issued, CertError> {
    let issuer = CertifiedIssuer::self_signed(ca_params()?, new_key()?)?;

    let key = new_key()?;
    let mut params = leaf_params(more_names)?;
    params.use_authority_key_identifier_extension = true;
    let cert = params.signed_by(&key, &issuer)?;
    Ok(Issued {
        ca: Pair { cert_pem: issuer.pem(), key_pem: issuer.key().serialize_pem() },
        leaf: Pair { cert_pem: cert.pem(), key_pem: key.serialize_pem() },
    })
}

/// Makes a certificate for [`NAMES`] and `more_names` that signs itself, for a server that was given none.
///
/// # Errors
/// When a name is neither a host name nor an IP address, or signing fails.
pub fn self_signed(more_names: &[String]) -> Result<Pair, CertError> {
    let key = new_key()?;
    let cert = leaf_params(more_names)?.self_signed(&key)?;
    Ok(Pair { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
}

/// Makes a leaf that the CA with this key (PEM) signed, and that expired half a day ago: for clients that are to be refused.
pub(crate) fn expired(ca_key_pem: &str) -> Result<Pair, CertError> {
    let issuer = Issuer::new(ca_params()?, KeyPair::from_pem(ca_key_pem)?);
    let (key, now) = (new_key()?, SystemTime::now());
    let mut params = leaf_params(&[])?;
    (params.not_before, params.not_after) = ((now - 2 * DAY).into(), (now - DAY / 2).into());
    let cert = params.signed_by(&key, &issuer)?;
    Ok(Pair { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
}

/// Makes another CA and leaf in the place of what stands in `files`.
pub(crate) fn renew(files: &Files) -> Result<(), CertError> {
    let directory = files.cert.parent().unwrap_or(&files.cert);
    issue(&[])?.write(directory, Existing::Replace).map(drop)
}

impl Issued {
    /// Writes the four files of [`Files`] into `directory`, which is made if it is not there.
    ///
    /// # Errors
    /// [`CertError::Exists`] before anything is written, or when writing fails.
    pub fn write(&self, directory: &Path, existing: Existing) -> Result<Files, CertError> {
        let files = Files {
            ca_cert: directory.join("ca.pem"),
            ca_key: directory.join("ca-key.pem"),
            cert: directory.join("cert.pem"),
            key: directory.join("key.pem"),
        };
        let contents = [
            (&files.ca_cert, &self.ca.cert_pem, PUBLIC),
            (&files.ca_key, &self.ca.key_pem, SECRET),
            (&files.cert, &self.leaf.cert_pem, PUBLIC),
            (&files.key, &self.leaf.key_pem, SECRET),
        ];
        let present = contents.iter().find(|(path, ..)| path.symlink_metadata().is_ok());
        if let (Existing::Keep, Some((path, ..))) = (existing, present) {
            return Err(CertError::Exists { path: path.to_path_buf() });
        }
        let failed = |path: &Path, source| CertError::Write { path: path.to_owned(), source };
        fs::create_dir_all(directory).map_err(|source| failed(directory, source))?;
        for (path, pem, mode) in contents {
            write_file(path, pem, mode, existing).map_err(|source| failed(path, source))?;
        }
        Ok(files)
    }
}

const PUBLIC: u32 = 0o644;
const SECRET: u32 = 0o600;

fn write_file(path: &Path, pem: &str, mode: u32, existing: Existing) -> io::Result<()> {
    if existing == Existing::Replace {
        // A new file, because one that is opened keeps its mode and whoever else has it open.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()
}

fn ca_params() -> Result<CertificateParams, CertError> {
    let mut params = valid_now(CertificateParams::new(Vec::new())?);
    params.distinguished_name = common_name("webscale test CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn leaf_params(more_names: &[String]) -> Result<CertificateParams, CertError> {
    let mut names: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    for name in more_names {
        if !is_name(name) {
            return Err(CertError::Name { name: name.clone() });
        }
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let mut params = valid_now(CertificateParams::new(names)?);
    params.distinguished_name = common_name(more_names.first().map_or("localhost", String::as_str));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // A test of client certificates shows it, too.
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

/// An IP address, or labels of letters, digits and hyphens (RFC 1123 §2.1), the first of which may be `*`.
fn is_name(name: &str) -> bool {
    if name.parse::<std::net::IpAddr>().is_ok() {
        return true;
    }
    let labels = name.strip_prefix("*.").unwrap_or(name);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.len() <= 253 && labels.split('.').all(is_label)
}

fn new_key() -> Result<KeyPair, CertError> {
    Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    // X.520 ends a common name at 64 characters; clients read the alternative names, not this one.
    distinguished.push(DnType::CommonName, name.chars().take(64).collect::<String>());
    distinguished
}

fn valid_now(mut params: CertificateParams) -> CertificateParams {
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * u32::try_from(VALID_DAYS).unwrap_or(u32::MAX)).into();
    params
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

    use super::*;

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("webscale-cert-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        directory
    }

    fn der(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    /// Verifies as a client does that trusts `ca`, `days` from now.
    fn verify(ca: &str, leaf: &str, name: &str, days: i64) -> Result<(), rustls::Error> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(der(ca)).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let at = Duration::from_secs(seconds.checked_add_signed(days * 86_400).unwrap());
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let now = UnixTime::since_unix_epoch(at);
        verifier.verify_server_cert(&der(leaf), &[], &name, &[], now).map(drop)
    }

    #[test]
    fn a_client_that_trusts_the_ca_accepts_every_name() {
        let issued = issue(&["bench.example".into(), "10.1.2.3".into()]).unwrap();
        let (ca, leaf) = (&issued.ca.cert_pem, &issued.leaf.cert_pem);
        for name in ["localhost", "127.0.0.1", "::1", "bench.example", "10.1.2.3"] {
            verify(ca, leaf, name, 0).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        assert!(verify(ca, leaf, "elsewhere.example", 0).is_err());
        let stranger = issue(&[]).unwrap();
        assert!(verify(&stranger.ca.cert_pem, leaf, "localhost", 0).is_err());
    }

    #[test]
    fn valid_from_a_day_ago_for_397_days() {
        let issued = issue(&[]).unwrap();
        let at = |days| verify(&issued.ca.cert_pem, &issued.leaf.cert_pem, "localhost", days).is_ok();
        assert!(!at(-2) && at(0) && at(396) && !at(398));
    }

    #[test]
    fn the_keys_belong_to_the_certificates() {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        for pair in [issue(&[]).unwrap().leaf, self_signed(&[]).unwrap()] {
            let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).unwrap();
            rustls::ServerConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![der(&pair.cert_pem)], key)
                .unwrap();
        }
    }

    #[test]
    fn self_signed_is_accepted_by_who_pins_it() {
        let pair = self_signed(&["a.example".into()]).unwrap();
        verify(&pair.cert_pem, &pair.cert_pem, "a.example", 0).unwrap();
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for name in ["", "a b", "-a.example", "a..b", "é.example", "a/b", "*"] {
            let error = issue(&[name.to_owned()]).unwrap_err();
            assert!(matches!(error, CertError::Name { .. }), "{name}: {error}");
        }
        assert!(is_name("*.example.org") && is_name("fe80::1") && is_name("x"));
    }

    #[test]
    fn key_files_are_for_the_owner_alone() {
        let directory = directory("mode");
        let files = issue(&[]).unwrap().write(&directory, Existing::Keep).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&files.key), mode(&files.ca_key)), (0o600, 0o600));
        assert_eq!(mode(&files.cert) & 0o600, 0o600);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn existing_files_are_kept_unless_forced() {
        let directory = directory("keep");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("key.pem"), "mine").unwrap();
        let issued = issue(&[]).unwrap();
        let error = issued.write(&directory, Existing::Keep).unwrap_err();
        assert!(error.to_string().contains("key.pem") && error.to_string().contains("--force"), "{error}");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);

        let files = issued.write(&directory, Existing::Replace).unwrap();
        assert_eq!(fs::read_to_string(&files.key).unwrap(), issued.leaf.key_pem);
        assert_eq!(fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_key_is_not_printed() {
        let text = format!("{:?}", self_signed(&[]).unwrap());
        assert!(text.contains("BEGIN CERTIFICATE") && !text.contains("PRIVATE KEY"));
    }

    #[test]
    fn an_expired_leaf_is_of_the_ca_and_was_valid_once() {
        let issued = issue(&[]).unwrap();
        let expired = expired(&issued.ca.key_pem).unwrap();
        let verified = |days| verify(&issued.ca.cert_pem, &expired.cert_pem, "localhost", days);
        assert!(verified(0).unwrap_err().to_string().contains("expired"));
        assert_eq!(verified(-1), Ok(()));
    }
}
