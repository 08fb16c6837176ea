//! Certificates that change while the server serves, and the choice among several.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, SignatureAlgorithm, date_time_ymd};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::sign::SingleCertAndKey;
use webscale::{ClientAuth, ClientTls, Message, Target, Tls, TlsConfigError, TlsVersions};

use super::authority::authority;
use super::identity::identity;
use super::support::{
    self, Files, Other, Secure, Serving, builder, certified, client, failure, hear, over, say, secure,
    server_config, tcp, visit,
};

/// A certificate that signs itself.
pub(crate) struct Made {
    cert: String,
    key: String,
    der: CertificateDer<'static>,
}

impl Made {
    pub(crate) fn new(names: &[&str]) -> Self {
        Self::with(names, |_| {})
    }

    fn with(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::signed(&KeyPair::generate().unwrap(), names, change)
    }

    fn of_kind(kind: &'static SignatureAlgorithm, names: &[&str]) -> Self {
        Self::signed(&KeyPair::generate_for(kind).unwrap(), names, |_| {})
    }

    fn signed(key: &KeyPair, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let made = params.self_signed(key).unwrap();
        Self { cert: made.pem(), key: key.serialize_pem(), der: made.der().clone() }
    }

    fn expired() -> Self {
        Self::with(&["127.0.0.1"], |params| {
            (params.not_before, params.not_after) = (date_time_ymd(1999, 1, 1), date_time_ymd(2000, 1, 1));
        })
    }

    fn not_yet_valid() -> Self {
        Self::with(&["127.0.0.1"], |params| params.not_before = date_time_ymd(4000, 1, 1))
    }

    pub(crate) fn in_memory(&self) -> Tls {
        Tls::from_pem(self.cert.as_bytes(), self.key.as_bytes()).unwrap()
    }

    pub(crate) fn write(&self, files: &Files) -> Tls {
        Tls::from_pem_files(files.write("cert.pem", &self.cert), files.write("key.pem", &self.key)).unwrap()
    }
}

/// A client that trusts these, and resumes nothing.
fn trusting(made: &[&Made]) -> ClientConfig {
    let mut config = support::trusting(made.iter().map(|made| &made.der), default_provider());
    config.resumption = Resumption::disabled();
    config
}

fn rustls_tls() -> Tls {
    Tls::from_rustls(Arc::new(server_config(Arc::new(SingleCertAndKey::from(certified())))))
}

/// The certificate that a client is shown which asks for this name.
fn connect(config: &ClientConfig, address: SocketAddr, name: &str) -> (CertificateDer<'static>, Secure) {
    let stream = secure(tcp(address), config.clone(), name).expect("no handshake fails");
    let leaf = stream.conn.peer_certificates().unwrap()[0].clone().into_owned();
    (leaf, stream)
}

/// Connects, and has an echo.
fn look(config: &ClientConfig, address: SocketAddr) -> (CertificateDer<'static>, Other<Secure>) {
    let (leaf, stream) = connect(config, address, "127.0.0.1");
    let mut socket = over(stream, address);
    echo(&mut socket);
    (leaf, socket)
}

fn echo(socket: &mut Other<Secure>) {
    say(socket, "still here");
    assert_eq!(hear(socket), "still here");
}

#[test]
fn a_hundred_swaps_under_load_lose_nothing() {
    let files = Files::new("swaps");
    let made = [Made::new(&["127.0.0.1"]), Made::new(&["127.0.0.1"])];
    let tls = made[0].write(&files);
    let (serving, _events) = Serving::obedient(builder().threads(2).tls(tls.clone()));
    let (config, address) = (trusting(&[&made[0], &made[1]]), serving.address);
    let mut old: Vec<_> = (0..4).map(|_| look(&config, address).1).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = || {
            let mut seen = [0, 0];
            while !done.load(Relaxed) {
                let (leaf, _) = look(&config, address);
                seen[made.iter().position(|made| made.der == leaf).expect("the old one or the new one")] += 1;
            }
            seen
        };
        let loads = [scope.spawn(load), scope.spawn(load)];
        for swap in 1..=100 {
            let made = &made[swap % 2];
            made.write(&files);
            tls.reload().unwrap();
            assert!(look(&config, address).0 == made.der, "the new one at once, on every loop");
            echo(&mut old[swap % 4]);
        }
        done.store(true, Relaxed);
        for load in loads {
            let seen = load.join().expect("no client fails");
            assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
        }
    });
    let metrics = serving.handle.metrics();
    assert_eq!((metrics.certificate_reloads, metrics.certificate_reloads_failed), (100, 0));
    assert_eq!(serving.closed_by("tls"), 0);
    old.iter_mut().for_each(echo);
    serving.shut_down();
}

#[test]
fn what_is_no_good_changes_nothing_and_is_named() {
    let files = Files::new("no-good");
    let (old, new, stranger) = (Made::new(&["127.0.0.1"]), Made::new(&["127.0.0.1"]), Made::new(&["a"]));
    let tls = old.write(&files);
    let (serving, _events) = Serving::obedient(builder().tls(tls.clone()));
    let config = trusting(&[&old, &new]);
    let (expired, future) = (Made::expired(), Made::not_yet_valid());
    let broken = format!("{}-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", new.cert);
    let cases: [(&str, &str, &[&str]); 7] = [
        ("no PEM", &new.key, &["cert.pem", "holds no PEM certificate"]),
        ("-----BEGIN CERTIFICATE-----\nMAA=\n", &new.key, &["cert.pem", "not valid PEM"]),
        (&broken, &new.key, &["cert.pem", "certificate 2"]),
        (&new.cert, "no PEM", &["key.pem"]),
        (&new.cert, &stranger.key, &["cert.pem", "does not match"]),
        (&expired.cert, &expired.key, &["cert.pem", "expired", "days ago"]),
        (&future.cert, &future.key, &["cert.pem", "not valid before", "days from now"]),
    ];
    for (number, (cert, key, words)) in (1..).zip(cases) {
        files.write("cert.pem", cert);
        files.write("key.pem", key);
        let error = tls.reload().unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        assert_eq!(serving.handle.metrics().certificate_reloads_failed, number);
        assert!(look(&config, serving.address).0 == old.der);
    }
    std::fs::remove_file(files.path("key.pem")).unwrap();
    assert!(tls.reload().unwrap_err().to_string().contains("key.pem"));
    new.write(&files);
    tls.reload().unwrap();
    assert_eq!(serving.handle.metrics().certificate_reloads, 1);
    assert!(look(&config, serving.address).0 == new.der);
    serving.shut_down();
}

#[test]
fn certificates_in_memory_are_replaced_by_others() {
    let (old, new, expired) = (Made::new(&["127.0.0.1"]), Made::new(&["127.0.0.1"]), Made::expired());
    let tls = old.in_memory();
    let (serving, _events) = Serving::obedient(builder().tls(tls.clone()));
    assert!(tls.reload().unwrap_err().to_string().contains("nothing to reload"));
    assert!(tls.replace(&expired.in_memory()).unwrap_err().to_string().contains("expired"));
    let config = trusting(&[&old, &new]);
    assert!(look(&config, serving.address).0 == old.der);
    tls.replace(&new.in_memory()).unwrap();
    assert!(look(&config, serving.address).0 == new.der);
    let metrics = serving.handle.metrics();
    assert_eq!((metrics.certificate_reloads, metrics.certificate_reloads_failed), (1, 2));
    serving.shut_down();
}

#[test]
fn the_authority_of_clients_is_read_again_too() {
    let (files, old, new) = (Files::new("authority"), authority("old"), authority("new"));
    let ca = files.write("ca.pem", &old.pem());
    let (of_old, _) = identity(&files, &old, false, TlsVersions::Tls13);
    let (of_new, _) = identity(&files, &new, false, TlsVersions::Tls13);
    let tls = Made::new(&["127.0.0.1"]).write(&files);
    let tls = tls.client_certificates(ClientAuth::required(&ca).unwrap()).unwrap();
    let (serving, _events) = Serving::obedient(builder().tls(tls.clone()));
    let url = serving.secure_url();
    let target = |tls| Target::with_tls(&url, tls).unwrap();

    let (client, events) = client();
    client.connect(&Arc::new(target(of_old.clone())), None, 1).unwrap();
    let (_, established) = events.opened();
    assert!(failure(target(of_new.clone())).contains("UnknownCA"));
    files.write("ca.pem", "no PEM");
    assert!(tls.reload().unwrap_err().to_string().contains("ca.pem"));
    files.write("ca.pem", &new.pem());
    tls.reload().unwrap();
    assert!(failure(target(of_old)).contains("UnknownCA"));
    client.connect(&Arc::new(target(of_new)), None, 2).unwrap();
    assert_eq!(events.opened().0, 2);
    established.send(Message::Text("still here")).unwrap();
    assert_eq!(events.text(), (1, "still here".into()));
    serving.shut_down();
}

#[test]
fn clients_are_asked_for_certificates_whatever_replaces_the_servers() {
    let (files, ours) = (Files::new("still-asked"), authority("ours"));
    let ca = files.write("ca.pem", &ours.pem());
    let (known, _) = identity(&files, &ours, false, TlsVersions::Tls13);
    let anonymous = ClientTls::insecure().unwrap();
    let asking = |tls: Tls, auth: ClientAuth| tls.client_certificates(auth).unwrap();
    let required = || ClientAuth::required(&ca).unwrap();
    let in_memory = || Made::new(&["127.0.0.1"]).in_memory();
    let (tls, of_rustls) = (asking(in_memory(), required()), rustls_tls());
    let (serving, _events) = Serving::obedient(builder().tls(tls.clone()));
    let url = serving.secure_url();
    let target = |tls: &ClientTls| Target::with_tls(&url, tls.clone()).unwrap();
    let asks = || {
        visit(&Arc::new(target(&known)));
        assert!(failure(target(&anonymous)).contains("CertificateRequired"));
    };
    asks();
    tls.replace(&in_memory()).unwrap();
    asks();
    // Nobody can see whether a rustls configuration asks.
    let error = tls.replace(&rustls_tls()).unwrap_err().to_string();
    assert!(error.contains("Tls::client_certificates"), "{error}");
    asks();
    tls.replace(&asking(rustls_tls(), required())).unwrap();
    asks();
    // Who says so is asked for less.
    tls.replace(&asking(in_memory(), ClientAuth::optional(&ca).unwrap())).unwrap();
    visit(&Arc::new(target(&anonymous)));
    serving.shut_down();

    let tls = of_rustls;
    assert!(matches!(tls.replace(&in_memory()), Err(TlsConfigError::ClientAuthLost)));
    tls.replace(&rustls_tls()).unwrap();
    tls.replace(&asking(in_memory(), required())).unwrap();
    assert!(matches!(tls.replace(&rustls_tls()), Err(TlsConfigError::ClientAuthLost)));
    in_memory().replace(&rustls_tls()).unwrap();
}

#[test]
fn among_several_the_name_and_the_signature_decide() {
    let files = Files::new("names");
    let made = [
        Made::of_kind(&PKCS_ED25519, &["first.example", "127.0.0.1"]),
        Made::new(&["second.example", "*.second.example", "127.0.0.1"]),
        Made::of_kind(&PKCS_ED25519, &["second.example"]),
    ];
    let pairs = made.iter().enumerate().map(|(number, made)| {
        let file = |what: &str, text: &str| files.write(&format!("{what}-{number}.pem"), text);
        (file("cert", &made.cert), file("key", &made.key))
    });
    let tls = Tls::from_many_pem_files(pairs).unwrap();
    let (serving, _events) = Serving::obedient(builder().tls(tls));
    let config = trusting(&[&made[0], &made[1], &made[2]]);
    for (name, place) in
        [("first.example", 0), ("second.example", 1), ("www.SECOND.example", 1), ("127.0.0.1", 0)]
    {
        let (leaf, _) = connect(&config, serving.address, name);
        assert!(leaf == made[place].der, "{name}");
    }
    // Who cannot verify Ed25519 gets what it can.
    let mut provider = default_provider();
    let ecdsa = provider
        .signature_verification_algorithms
        .mapping
        .iter()
        .find(|(scheme, _)| *scheme == rustls::SignatureScheme::ECDSA_NISTP256_SHA256);
    provider.signature_verification_algorithms.mapping = std::slice::from_ref(ecdsa.unwrap());
    let config = support::trusting([&made[1].der], provider);
    assert!(connect(&config, serving.address, "127.0.0.1").0 == made[1].der);
    assert!(Tls::from_many_pem_files::<&str, &str>([]).is_err());
    serving.shut_down();
}
