//! A server's configuration, which can change while it serves.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{
    NoClientAuth, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, UnbufferedServerConnection,
};

use super::client_auth::ClientAuth;
use super::identity::{ByName, Identity};
use super::session::NamingResolver;
use super::tickets::{FirstFew, TicketKeys};
use super::{ALPN, TlsConfigError, TlsStream, VERSIONS, provider};

/// A server's side of TLS: TLS 1.3 and 1.2, ALPN `http/1.1`, resumption by stateless tickets, no early data.
///
/// Clones are one and the same: keep one beside the server, and call [`Tls::reload`] when the certificate's files have
/// changed.
#[derive(Clone)]
pub struct Tls(Arc<Current>);

struct Current {
    /// Locked while it is made anew, so that of two reloads the one that read later stays.
    recipe: Mutex<Recipe>,
    /// Read once for each connection, when it is accepted.
    config: RwLock<Arc<ServerConfig>>,
    reloads: AtomicU64,
    reloads_failed: AtomicU64,
}

/// What a configuration is made of.
#[derive(Clone)]
struct Recipe {
    certificates: Certificates,
    auth: Option<ClientAuth>,
    tickets: Tickets,
}

#[derive(Clone)]
enum Tickets {
    /// With the keys of [`Tls::ticket_keys`].
    Shared(TicketKeys, Arc<dyn ProducesTickets>),
    /// With random keys, or a rustls configuration's.
    Own(Arc<dyn ProducesTickets>),
}

#[derive(Clone)]
enum Certificates {
    List(Vec<Identity>),
    /// Those of a rustls configuration.
    Resolver(Arc<dyn ResolvesServerCert>),
    /// A rustls configuration as it is.
    Whole(Arc<ServerConfig>),
}

impl Tls {
    /// Reads a certificate chain (leaf first) and its private key, both PEM.
    ///
    /// A certificate that has expired is taken: a clock that is wrong when the machine starts must not keep the server from
    /// starting.
    ///
    /// # Errors
    /// [`TlsConfigError`]: a file that cannot be read or holds something else, or a key of another certificate.
    pub fn from_pem_files(
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, TlsConfigError> {
        Self::from_many_pem_files([(certificate, key)])
    }

    /// The same with several certificates and their keys: a client is shown the first one that bears the name which it asks for
    /// (SNI, RFC 6066 §3) and that it can verify, or else the first one that it can verify. For a few of them: each new
    /// connection goes through the list.
    ///
    /// # Errors
    /// As [`Tls::from_pem_files`]; [`TlsConfigError::NoCertificate`] of an empty list.
    pub fn from_many_pem_files<C: AsRef<Path>, K: AsRef<Path>>(
        files: impl IntoIterator<Item = (C, K)>,
    ) -> Result<Self, TlsConfigError> {
        let identity = |(certificate, key): (C, K)| Identity::Files {
            certificate: certificate.as_ref().to_owned(),
            key: key.as_ref().to_owned(),
        };
        Self::with(files.into_iter().map(identity).collect())
    }

    /// The same from PEM text in memory.
    ///
    /// # Errors
    /// [`TlsConfigError`]; its paths are `certificate` and `key`.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, TlsConfigError> {
        let fail = |what: &str| {
            let what = PathBuf::from(what);
            move |error| TlsConfigError::Pem(what, error)
        };
        let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(fail("certificate"))?;
        if chain.is_empty() {
            return Err(TlsConfigError::NoCertificate("certificate".into()));
        }
        Self::from_der(chain, PrivateKeyDer::from_pem_slice(key).map_err(fail("key"))?)
    }

    /// The same from DER in memory.
    ///
    /// # Errors
    /// [`TlsConfigError::Identity`], [`TlsConfigError::Chain`].
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsConfigError> {
        Self::with(vec![Identity::held(chain, key)?])
    }

    /// Takes a rustls configuration as it is, but for early data, which can be replayed: none is accepted.
    #[must_use]
    pub fn from_rustls(config: Arc<ServerConfig>) -> Self {
        let mut config = Arc::unwrap_or_clone(config);
        let ticketer = config.ticketer.clone();
        config.ticketer = Arc::new(FirstFew(ticketer.clone()));
        config.cert_resolver = Arc::new(NamingResolver(config.cert_resolver));
        config.max_early_data_size = 0;
        let config = Arc::new(config);
        let (certificates, tickets) = (Certificates::Whole(config.clone()), Tickets::Own(ticketer));
        let recipe = Recipe { certificates, auth: None, tickets };
        Self::of(recipe, config)
    }

    /// Asks clients for a certificate, which [`TlsSession::client_certificates`](crate::TlsSession::client_certificates)
    /// shows to the handler. A client whose certificate is not good, or that has none where one is required, gets TLS's
    /// alert and no connection.
    ///
    /// Every connection shows its certificate anew: sessions are not resumed, so that one which has expired ends with the
    /// connection that it opened.
    ///
    /// What [`Tls::from_rustls`] was given is replaced by the library's configuration, but for the server's certificates: ask
    /// for clients' ones there.
    ///
    /// # Errors
    /// [`TlsConfigError::Unusable`], should the provider lack something; and as [`Tls::from_pem_files`], whose files are
    /// read again.
    pub fn client_certificates(self, auth: ClientAuth) -> Result<Self, TlsConfigError> {
        Self::make(Recipe { auth: Some(auth), ..self.own_recipe() })
    }

    /// Seals session tickets with keys that other processes and machines have too. Without it, tickets are good for all loops
    /// of this process, and for no other. A reload leaves the keys as they are, but for those of [`TicketKeys::from_file`].
    ///
    /// Where clients are asked for certificates, there are no tickets. What [`Tls::from_rustls`] was given is replaced, as by
    /// [`Tls::client_certificates`].
    ///
    /// # Errors
    /// As [`Tls::client_certificates`].
    pub fn ticket_keys(self, keys: TicketKeys) -> Result<Self, TlsConfigError> {
        Self::make(Recipe { tickets: Tickets::shared(keys)?, ..self.own_recipe() })
    }

    /// Reads all files again: certificates, keys, the authorities and revocation lists of clients' certificates, and the
    /// secret of tickets. Connections that are accepted from here on get what they hold now; those that are there live on.
    /// Nothing changes when something is wrong: a file that cannot be read, a key of another certificate, a certificate that
    /// is not valid now, a secret that is too short.
    ///
    /// [`Snapshot::certificate_reloads`](crate::Snapshot::certificate_reloads) counts them. Reads files: do not call it from a
    /// handler.
    ///
    /// # Errors
    /// [`TlsConfigError`], which names the file and says what is wrong; [`TlsConfigError::NoFiles`] where there are none.
    pub fn reload(&self) -> Result<(), TlsConfigError> {
        self.change(
            |recipe| if recipe.is_in_files() { recipe.read_again() } else { Err(TlsConfigError::NoFiles) },
        )
    }

    /// Takes over what `other` is made of, as [`Tls::reload`] does: for certificates that are in no file. Files are read
    /// again.
    ///
    /// What `other` does not say stays as it is: whose certificates clients are asked for, unless it has
    /// [`Tls::client_certificates`] of its own, and the keys of session tickets, unless it has [`Tls::ticket_keys`].
    ///
    /// A configuration of [`Tls::from_rustls`] is taken as it is, in place of another one of that kind, or where no client is
    /// asked for a certificate.
    ///
    /// # Errors
    /// As [`Tls::reload`]; [`TlsConfigError::ClientAuthLost`] where a rustls configuration, which does not show whether it
    /// asks for certificates, stands on one side, and clients may have been asked for them until now.
    pub fn replace(&self, other: &Self) -> Result<(), TlsConfigError> {
        let other = other.recipe();
        self.change(|recipe| recipe.replaced_by(other)?.read_again())
    }

    fn with(identities: Vec<Identity>) -> Result<Self, TlsConfigError> {
        let ticketer = aws_lc_rs::Ticketer::new().map_err(TlsConfigError::Unusable)?;
        let (certificates, tickets) = (Certificates::List(identities), Tickets::Own(ticketer));
        Self::make(Recipe { certificates, auth: None, tickets })
    }

    fn make(recipe: Recipe) -> Result<Self, TlsConfigError> {
        let config = recipe.make(None)?;
        Ok(Self::of(recipe, config))
    }

    fn of(recipe: Recipe, config: Arc<ServerConfig>) -> Self {
        Self(Arc::new(Current {
            recipe: Mutex::new(recipe),
            config: RwLock::new(config),
            reloads: AtomicU64::new(0),
            reloads_failed: AtomicU64::new(0),
        }))
    }

    fn recipe(&self) -> Recipe {
        self.0.recipe.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same of a rustls configuration that is no longer taken as it is.
    fn own_recipe(&self) -> Recipe {
        let mut recipe = self.recipe();
        if let Certificates::Whole(config) = recipe.certificates {
            recipe.certificates = Certificates::Resolver(config.cert_resolver.clone());
        }
        recipe
    }

    fn change(
        &self,
        again: impl FnOnce(&Recipe) -> Result<Recipe, TlsConfigError>,
    ) -> Result<(), TlsConfigError> {
        let mut recipe = self.0.recipe.lock().unwrap_or_else(PoisonError::into_inner);
        let made = again(&recipe).and_then(|new| Ok((new.make(Some(UnixTime::now()))?, new)));
        let counter = if made.is_ok() { &self.0.reloads } else { &self.0.reloads_failed };
        counter.fetch_add(1, Relaxed);
        let (config, new) = made?;
        *self.0.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        *recipe = new;
        Ok(())
    }

    /// How often it changed, and how often it should have and did not.
    pub(crate) fn reloads(&self) -> (u64, u64) {
        (self.0.reloads.load(Relaxed), self.0.reloads_failed.load(Relaxed))
    }

    pub(crate) fn accept(&self) -> Result<TlsStream, rustls::Error> {
        let config = self.0.config.read().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(TlsStream::server(UnbufferedServerConnection::new(config)?))
    }
}

impl Recipe {
    fn is_in_files(&self) -> bool {
        let certificate = match &self.certificates {
            Certificates::List(identities) => identities.iter().any(Identity::is_in_files),
            Certificates::Resolver(_) | Certificates::Whole(_) => false,
        };
        certificate || self.auth.is_some() || self.tickets.is_in_file()
    }

    /// What `new` says, and what this one does where `new` says nothing.
    fn replaced_by(&self, new: Self) -> Result<Self, TlsConfigError> {
        match (&self.certificates, &new.certificates) {
            (Certificates::Whole(_), Certificates::Whole(_)) => Ok(new),
            (Certificates::Whole(_), _) if new.auth.is_some() => Ok(new),
            (_, Certificates::Whole(_)) if self.auth.is_none() => Ok(new),
            (Certificates::Whole(_), _) | (_, Certificates::Whole(_)) => Err(TlsConfigError::ClientAuthLost),
            _ => Ok(Self {
                auth: new.auth.or_else(|| self.auth.clone()),
                tickets: match new.tickets {
                    Tickets::Shared(..) => new.tickets,
                    Tickets::Own(_) => self.tickets.clone(),
                },
                ..new
            }),
        }
    }

    fn read_again(&self) -> Result<Self, TlsConfigError> {
        let auth = self.auth.as_ref().map(ClientAuth::read_again).transpose()?;
        Ok(Self { auth, tickets: self.tickets.read_again()?, ..self.clone() })
    }

    /// With a time, the certificates must be valid then.
    fn make(&self, valid_at: Option<UnixTime>) -> Result<Arc<ServerConfig>, TlsConfigError> {
        let resolver = match &self.certificates {
            Certificates::List(identities) => {
                let keys = identities.iter().map(|identity| identity.load(valid_at));
                let keys = keys.collect::<Result<Vec<_>, _>>()?;
                if keys.is_empty() {
                    return Err(TlsConfigError::NoCertificate("an empty list".into()));
                }
                Arc::new(NamingResolver(Arc::new(ByName(keys))))
            }
            Certificates::Resolver(resolver) => resolver.clone(),
            Certificates::Whole(config) => return Ok(config.clone()),
        };
        self.config(resolver).map_err(TlsConfigError::Unusable)
    }

    fn config(&self, resolver: Arc<dyn ResolvesServerCert>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let verifier = self.auth.as_ref().map_or_else(|| Arc::new(NoClientAuth) as _, ClientAuth::verifier);
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&VERSIONS)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A ticket carries the session to the client: nothing is kept here. What the loops share is the lock on the tickets'
        // keys, which they only read until a period ends.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // Who resumes shows no certificate, and each ticket begets another: one that expired would live on for ever.
        if self.auth.is_some() {
            config.send_tls13_tickets = 0;
        } else {
            let (Tickets::Shared(_, ticketer) | Tickets::Own(ticketer)) = &self.tickets;
            config.ticketer = Arc::new(FirstFew(ticketer.clone()));
            config.send_tls13_tickets = 1;
        }
        Ok(Arc::new(config))
    }
}

impl Tickets {
    fn shared(keys: TicketKeys) -> Result<Self, TlsConfigError> {
        let ticketer = keys.ticketer().map_err(TlsConfigError::Unusable)?;
        Ok(Self::Shared(keys, ticketer))
    }

    fn is_in_file(&self) -> bool {
        matches!(self, Self::Shared(keys, _) if keys.is_in_file())
    }

    fn read_again(&self) -> Result<Self, TlsConfigError> {
        match self {
            Self::Shared(keys, _) if keys.is_in_file() => Self::shared(keys.read_again()?),
            _ => Ok(self.clone()),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}
