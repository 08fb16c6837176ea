//! Session tickets that every process of a service can open.

use std::cell::Cell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use rustls::server::ProducesTickets;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};

use super::TlsConfigError;

/// Six hours, as rustls' own keys.
const PERIOD: Duration = Duration::from_secs(6 * 60 * 60);
/// A ticket lives a week at most (RFC 8446 §4.6.1), and for two periods here.
const PERIOD_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60 / 2);
/// Tickets of one `ClientHello` that are looked at. Clients send one or two; there is room for hundreds.
const TICKETS_MAX: u32 = 4;
/// The number of the period, in front of a ticket.
const NUMBER_BYTES: usize = 8;

/// The keys of session tickets (RFC 8446 §4.6.1, RFC 5077), made from a secret: who has the same secret, in whatever process
/// or on whatever machine, resumes the sessions of all. For [`Tls::ticket_keys`](crate::Tls::ticket_keys).
///
/// A key seals tickets for one [period](TicketKeys::period), and opens them for one more; then their clients make a full
/// handshake, and get new ones. The key of a period follows from the secret and the number of the period since 1970
/// (HKDF-SHA256), so that all who have the secret change keys at the same moment and need not talk to each other; their clocks
/// may differ by a period. Tickets are sealed with AES-256-GCM-SIV.
///
/// Who learns the secret can read all tickets of all times, and with them what was said in resumed sessions of TLS 1.2;
/// TLS 1.3 always agrees on a fresh key. Keep it as you keep the private key, and change it now and then. Without
/// `TicketKeys`, each [`Tls`](crate::Tls) has random keys of its own, and forgets them.
///
/// ```
/// # fn load() -> Result<webscale::Tls, webscale::TlsConfigError> {
/// use webscale::{TicketKeys, Tls};
/// Tls::from_pem_files("cert.pem", "key.pem")?.ticket_keys(TicketKeys::from_file("ticket.secret")?)
/// # }
/// ```
#[derive(Clone)]
pub struct TicketKeys {
    secret: Prk,
    /// Where the secret stands, if it is read again by a reload.
    file: Option<PathBuf>,
    period: Duration,
    clock: Arc<dyn TimeProvider>,
}

impl TicketKeys {
    /// The least bytes of a secret.
    pub const SECRET_BYTES_MIN: usize = 32;

    /// Keys from a secret: at least 32 bytes from a good generator.
    ///
    /// # Errors
    /// [`TlsConfigError::ShortSecret`].
    pub fn new(secret: &[u8]) -> Result<Self, TlsConfigError> {
        if secret.len() < Self::SECRET_BYTES_MIN {
            return Err(TlsConfigError::ShortSecret(secret.len()));
        }
        let secret = Salt::new(HKDF_SHA256, b"webscale session tickets").extract(secret);
        Ok(Self { secret, file: None, period: PERIOD, clock: Arc::new(DefaultTimeProvider) })
    }

    /// The same from a file, all bytes of which are the secret: `head -c 32 /dev/urandom > ticket.secret`.
    /// [`Tls::reload`](crate::Tls::reload) reads it again; the tickets of another secret are no good from then on.
    ///
    /// # Errors
    /// [`TlsConfigError::Secret`], [`TlsConfigError::ShortSecret`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TlsConfigError> {
        let path = path.as_ref();
        let secret = std::fs::read(path).map_err(|error| TlsConfigError::Secret(path.to_owned(), error))?;
        Ok(Self { file: Some(path.to_owned()), ..Self::new(&secret)? })
    }

    pub(super) fn is_in_file(&self) -> bool {
        self.file.is_some()
    }

    /// The same with the secret that its file holds now.
    pub(super) fn read_again(&self) -> Result<Self, TlsConfigError> {
        match &self.file {
            Some(file) => {
                Ok(Self { period: self.period, clock: self.clock.clone(), ..Self::from_file(file)? })
            }
            None => Ok(self.clone()),
        }
    }

    /// How long a key seals tickets, between a second and three and a half days; outside of that, the nearer of the two.
    /// Default six hours. All who share the secret need the same.
    #[must_use]
    pub fn period(self, period: Duration) -> Self {
        Self { period: period.clamp(Duration::from_secs(1), PERIOD_MAX), ..self }
    }

    #[cfg(test)]
    pub(crate) fn clock(self, clock: Arc<dyn TimeProvider>) -> Self {
        Self { clock, ..self }
    }

    pub(super) fn ticketer(&self) -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
        let number = self.number().ok_or(rustls::Error::FailedToGetCurrentTime)?;
        let held = Held::derive(self, number).map_err(|_| rustls::Error::General("no ticket key".into()))?;
        Ok(Arc::new(Ticketer { keys: self.clone(), held: RwLock::new(Arc::new(held)) }))
    }

    /// The number of the present period.
    fn number(&self) -> Option<u64> {
        Some(self.clock.current_time()?.as_secs() / self.period.as_secs().max(1))
    }

    fn derive(&self, number: u64) -> Result<RandomizedNonceKey, Unspecified> {
        let (period, number) = (self.period.as_secs().to_be_bytes(), number.to_be_bytes());
        let mut key = [0; 32];
        self.secret.expand(&[&period, &number], &AES_256_GCM_SIV)?.fill(&mut key)?;
        RandomizedNonceKey::new(&AES_256_GCM_SIV, &key)
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys").field("period", &self.period).finish_non_exhaustive()
    }
}

/// The keys of the present period, and of those beside it: the last one's tickets are still good, and a clock that is ahead
/// of ours has the next one's. The present one's comes first.
struct Held([(u64, RandomizedNonceKey); 3]);

impl Held {
    fn derive(keys: &TicketKeys, number: u64) -> Result<Self, Unspecified> {
        let of = |number| keys.derive(number).map(|key| (number, key));
        Ok(Self([of(number)?, of(number.wrapping_sub(1))?, of(number.wrapping_add(1))?]))
    }

    /// The number of the present period, when it was derived.
    fn number(&self) -> u64 {
        let [(number, _), ..] = &self.0;
        *number
    }

    fn seal(&self, session: &[u8]) -> Option<Vec<u8>> {
        let [(number, key), ..] = &self.0;
        let number = number.to_be_bytes();
        let mut sealed = session.to_vec();
        let nonce = key.seal_in_place_append_tag(Aad::from(number), &mut sealed).ok()?;
        Some([&number[..], nonce.as_ref(), &sealed].concat())
    }

    fn open(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (number, rest) = ticket.split_first_chunk::<NUMBER_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let (_, key) = self.0.iter().find(|(held, _)| held.to_be_bytes() == *number)?;
        let mut sealed = sealed.to_vec();
        let session = key.open_in_place(Nonce::from(nonce), Aad::from(*number), &mut sealed).ok()?;
        let length = session.len();
        sealed.truncate(length);
        Some(sealed)
    }
}

struct Ticketer {
    keys: TicketKeys,
    /// Derived once a period.
    held: RwLock<Arc<Held>>,
}

impl Ticketer {
    fn held(&self) -> Option<Arc<Held>> {
        let number = self.keys.number()?;
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner).clone();
        if held.number() == number {
            return Some(held);
        }
        let new = Arc::new(Held::derive(&self.keys, number).ok()?);
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = new.clone();
        Some(new)
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.keys.period.as_secs() * 2).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.held()?.seal(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.held()?.open(cipher)
    }
}

impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.keys.fmt(f)
    }
}

thread_local! {
    static TICKETS_LEFT: Cell<u32> = const { Cell::new(0) };
}

/// This thread's next call into rustls may read a `ClientHello`.
pub(super) fn expect_hello() {
    TICKETS_LEFT.set(TICKETS_MAX);
}

/// Looks at the first tickets of a `ClientHello`, and at no more: opening hundreds of them would cost as much as several
/// handshakes.
#[derive(Debug)]
pub(super) struct FirstFew(pub(super) Arc<dyn ProducesTickets>);

impl ProducesTickets for FirstFew {
    fn enabled(&self) -> bool {
        self.0.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        TICKETS_LEFT.set(TICKETS_LEFT.get().checked_sub(1)?);
        self.0.decrypt(cipher)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use rustls::pki_types::UnixTime;

    use super::*;

    /// A clock that the test turns, in seconds since 1970.
    #[derive(Debug, Default)]
    pub(crate) struct Hand(AtomicU64);

    impl Hand {
        pub(crate) fn turn(&self, to: u64) {
            self.0.store(to, Relaxed);
        }
    }

    impl TimeProvider for Hand {
        fn current_time(&self) -> Option<UnixTime> {
            Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Relaxed))))
        }
    }

    const HOUR: u64 = 3600;

    fn ticketer(secret: u8, now: u64) -> (Arc<dyn ProducesTickets>, Arc<Hand>) {
        let hand = Arc::new(Hand::default());
        hand.turn(now);
        let keys = TicketKeys::new(&[secret; 32]).unwrap().clock(hand.clone());
        (keys.ticketer().unwrap(), hand)
    }

    #[test]
    fn who_has_the_secret_opens_what_others_sealed() {
        let (one, _) = ticketer(1, 1000 * HOUR);
        let (other, _) = ticketer(1, 1000 * HOUR);
        let (stranger, _) = ticketer(2, 1000 * HOUR);
        for session in [&b""[..], b"a session", &[7; 5000]] {
            let ticket = one.encrypt(session).unwrap();
            assert_eq!(other.decrypt(&ticket).as_deref(), Some(session));
            assert_eq!(stranger.decrypt(&ticket), None);
            assert_ne!(one.encrypt(session).unwrap(), ticket, "two tickets of one session look alike");
        }
        let keys = TicketKeys::new(&[1; 32]).unwrap().period(Duration::from_secs(60));
        let ticket = one.encrypt(b"a session").unwrap();
        assert_eq!(keys.ticketer().unwrap().decrypt(&ticket), None, "another period, other keys");
    }

    #[test]
    fn a_key_seals_for_a_period_and_opens_for_one_more() {
        let (ticketer, hand) = ticketer(1, 600 * HOUR);
        let ticket = ticketer.encrypt(b"a session").unwrap();
        for (hour, is_good) in
            [(601, true), (605, true), (606, true), (611, true), (612, false), (9999, false)]
        {
            hand.turn(hour * HOUR);
            assert_eq!(ticketer.decrypt(&ticket).is_some(), is_good, "hour {hour}");
        }
        // Another machine's clock is a period behind, but not two.
        for (hour, is_good) in [(599, true), (594, true), (593, false)] {
            hand.turn(hour * HOUR);
            assert_eq!(ticketer.decrypt(&ticket).is_some(), is_good, "hour {hour}");
        }
        assert_eq!(ticketer.lifetime(), 12 * 3600);
    }

    #[test]
    fn what_is_changed_or_cut_is_no_ticket() {
        let (ticketer, _) = ticketer(1, 1000 * HOUR);
        let ticket = ticketer.encrypt(b"a session").unwrap();
        for place in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[place] ^= 1;
            assert_eq!(ticketer.decrypt(&changed), None, "byte {place}");
            assert_eq!(ticketer.decrypt(&ticket[..place]), None, "{place} bytes");
        }
        assert_eq!(ticketer.decrypt(&[ticket, vec![0]].concat()), None);
    }

    #[test]
    fn secrets_and_periods_have_bounds() {
        assert!(TicketKeys::new(&[1; 31]).unwrap_err().to_string().contains("31 bytes"));
        let missing = TicketKeys::from_file("/nonexistent").unwrap_err().to_string();
        assert!(missing.contains("/nonexistent"), "{missing}");
        let lifetime = |period| {
            let keys = TicketKeys::new(&[1; 32]).unwrap().period(period);
            keys.ticketer().unwrap().lifetime()
        };
        assert_eq!((lifetime(Duration::ZERO), lifetime(Duration::MAX)), (2, 7 * 24 * 3600));
        let shown = format!("{:?}", TicketKeys::new(&[0xAB; 32]).unwrap());
        assert!(!shown.contains("171") && !shown.to_lowercase().contains("abab"), "{shown}");
    }
}
