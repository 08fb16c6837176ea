//! What TLS tells of a client: the name it asks for, what was agreed on, its certificate.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use rcgen::{Certificate, CertificateParams, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};
use webscale::{
    Accept, ClientAuth, ClientTls, Handler, Message, Peer, Reject, Request, Target, TlsSession, TlsVersions,
};

use super::authority::{Authority, authority};
use super::support::{CERTIFICATE, Files, Serving, builder, failure, until, visit};

/// Passes on what each client's TLS came to.
struct Doorman(Sender<Option<TlsSession>>);

impl Handler for Doorman {
    type Session = ();

    fn open(&self, request: &Request<'_>) -> Result<Accept<()>, Reject> {
        let _ = self.0.send(request.tls().cloned());
        Ok(().into())
    }

    fn message(&self, peer: &mut Peer<'_, ()>, message: Message<'_>) {
        let _ = peer.send(message);
    }
}

/// A client's configuration with a certificate of `authority`, and that certificate.
pub(crate) fn identity(
    files: &Files,
    authority: &Authority,
    is_expired: bool,
    versions: TlsVersions,
) -> (ClientTls, Vec<u8>) {
    let (made, key) = issued(authority, |params| {
        if is_expired {
            (params.not_before, params.not_after) = (date_time_ymd(1999, 1, 1), date_time_ymd(2000, 1, 1));
        }
    });
    (showing(files, &made.pem(), &key, versions), made.der().to_vec())
}

/// A client's certificate, after `change`, and its key.
pub(crate) fn issued(
    authority: &Authority,
    change: impl FnOnce(&mut CertificateParams),
) -> (Certificate, KeyPair) {
    let mut params = CertificateParams::new(vec!["device-7".into()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, authority).unwrap(), key)
}

pub(crate) fn showing(files: &Files, chain: &str, key: &KeyPair, versions: TlsVersions) -> ClientTls {
    let (cert, key) = (files.write("shown.pem", chain), files.write("shown.key", &key.serialize_pem()));
    ClientTls::builder().versions(versions).insecure().unwrap().identity(cert, key).unwrap()
}

pub(crate) fn serving(auth: Option<ClientAuth>) -> (Serving, Receiver<Option<TlsSession>>, String) {
    let tls = CERTIFICATE.0.clone();
    let tls = match auth {
        Some(auth) => tls.client_certificates(auth).unwrap(),
        None => tls,
    };
    let (sender, seen) = channel();
    let serving = Serving::new(builder().tls(tls), Doorman(sender));
    let url = serving.secure_url();
    (serving, seen, url)
}

pub(crate) const VERSIONS: [(TlsVersions, &str); 2] =
    [(TlsVersions::Tls13, "TLSv1_3"), (TlsVersions::Tls12, "TLSv1_2")];

#[test]
fn names_and_choices_are_told() {
    for (versions, name) in VERSIONS {
        let (serving, seen, url) = serving(None);
        let tls = ClientTls::builder().versions(versions).insecure().unwrap();
        let target = Target::with_tls(&url, tls).unwrap();
        // Without a name, with one, and with one where the session is resumed.
        visit(&Arc::new(target.clone()));
        let named = Arc::new(target.server_name("Chat.Example").unwrap());
        visit(&named);
        visit(&named);
        let sessions: Vec<TlsSession> = seen.try_iter().map(|session| session.expect("TLS")).collect();
        let names: Vec<_> = sessions.iter().map(TlsSession::server_name).collect();
        assert_eq!(names, [None, Some("chat.example"), Some("chat.example")]);
        let resumed: Vec<_> = sessions.iter().map(TlsSession::is_resumed).collect();
        assert_eq!(resumed, [false, false, true]);
        for session in &sessions {
            assert_eq!((session.alpn(), session.version()), (Some(&b"http/1.1"[..]), name));
            assert!(session.cipher_suite().starts_with("TLS"), "{session:?}");
            assert!(session.client_certificates().is_empty());
        }
        serving.shut_down();
    }
    let (sender, seen) = channel();
    let serving = Serving::new(builder(), Doorman(sender));
    visit(&Arc::new(Target::from_url(&serving.url()).unwrap()));
    assert!(seen.try_recv().expect("a client came").is_none(), "no TLS");
    serving.shut_down();
}

#[test]
fn each_connection_shows_its_certificate_to_the_handler() {
    for (versions, _) in VERSIONS {
        let (files, authority) = (Files::new("good"), authority("ours"));
        let ca = files.write("ca.pem", &authority.pem());
        let (tls, certificate) = identity(&files, &authority, false, versions);
        for auth in [ClientAuth::required(&ca).unwrap(), ClientAuth::optional(&ca).unwrap()] {
            let (serving, seen, url) = serving(Some(auth));
            let target =
                Arc::new(Target::with_tls(&url, tls.clone()).unwrap().server_name("a.example").unwrap());
            visit(&target);
            visit(&target);
            // The client would resume, but where certificates are asked for nobody may.
            for _ in 0..2 {
                let session = seen.try_recv().expect("a client came").expect("TLS");
                let shown: Vec<&[u8]> = session.client_certificates().iter().map(AsRef::as_ref).collect();
                assert_eq!((session.is_resumed(), shown), (false, vec![&certificate[..]]), "{versions:?}");
            }
            serving.shut_down();
        }
    }
}

#[test]
fn who_has_none_or_a_wrong_one_gets_an_alert_and_is_counted() {
    for (versions, _) in VERSIONS {
        let (files, ours) = (Files::new("bad"), authority("ours"));
        let ca = files.write("ca.pem", &ours.pem());
        let none = ClientTls::builder().versions(versions).insecure().unwrap();
        let (stranger, _) = identity(&files, &authority("theirs"), false, versions);
        let (expired, _) = identity(&files, &ours, true, versions);
        let (serving, seen, url) = serving(Some(ClientAuth::required(&ca).unwrap()));
        let cases = [(none.clone(), "Required"), (stranger, "UnknownCA"), (expired, "CertificateExpired")];
        for (number, (tls, alert)) in (1..).zip(cases) {
            let words = failure(Target::with_tls(&url, tls).unwrap());
            // TLS 1.2 has no alert for a missing certificate.
            let is_told =
                words.contains(alert) || (alert == "Required" && words.contains("HandshakeFailure"));
            assert!(
                words.starts_with("TLS failed: received fatal alert") && is_told,
                "{versions:?}: {words}"
            );
            until("the count", || serving.closed_by("tls") == number);
        }
        assert!(seen.try_recv().is_err(), "the handler was asked");
        serving.shut_down();

        let (serving, seen, url) = self::serving(Some(ClientAuth::optional(&ca).unwrap()));
        visit(&Arc::new(Target::with_tls(&url, none).unwrap()));
        let session = seen.try_recv().expect("a client came").expect("TLS");
        assert!(session.client_certificates().is_empty());
        serving.shut_down();
    }
}

#[test]
fn files_that_are_no_authority() {
    let files = Files::new("files");
    let error = ClientAuth::required(files.path("missing.pem")).unwrap_err().to_string();
    assert!(error.contains("missing.pem"), "{error}");
    let error = ClientAuth::optional(files.write("key.pem", "no PEM")).unwrap_err().to_string();
    assert!(error.contains("key.pem"), "{error}");
}
