//! Clients whose certificate was revoked.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{CertifiedIssuer, KeyPair};
use webscale::{ClientAuth, ClientTls, Message, Target, TlsVersions};

use super::authority::{Authority, authority, authority_params, list};
use super::certificates::Made;
use super::identity::{VERSIONS, issued, serving, showing};
use super::support::{Event, Files, Serving, builder, client, failure, until, visit};

/// A client with the certificate of this serial number.
fn numbered(files: &Files, authority: &Authority, versions: TlsVersions, number: u64) -> ClientTls {
    let (made, key) = issued(authority, |params| params.serial_number = Some(number.into()));
    showing(files, &(made.pem() + &authority.pem()), &key, versions)
}

/// An authority, its file, and the file with this list.
fn ours(files: &Files, list: impl FnOnce(&Authority) -> String) -> (Authority, PathBuf, PathBuf) {
    let ours = authority("ours");
    let (ca, crl) = (files.write("ca.pem", &ours.pem()), files.write("crl.pem", &list(&ours)));
    (ours, ca, crl)
}

#[test]
fn who_was_revoked_gets_the_alert_that_says_so() {
    for (versions, _) in VERSIONS {
        let files = Files::new("revoked");
        let (ours, ca, crl) = ours(&files, |ours| list(ours, &[2, 4], 3000));
        let [good, revoked] = [1, 2].map(|number| numbered(&files, &ours, versions, number));
        let anonymous = ClientTls::builder().versions(versions).insecure().unwrap();
        for auth in [ClientAuth::required(&ca), ClientAuth::optional(&ca)] {
            let (serving, seen, url) = serving(Some(auth.unwrap().crl_file(&crl).unwrap()));
            let target = |tls: &ClientTls| Target::with_tls(&url, tls.clone()).unwrap();
            let words = failure(target(&revoked));
            assert!(
                words.contains("received fatal alert") && words.contains("CertificateRevoked"),
                "{words}"
            );
            until("the count", || serving.closed_by("tls") == 1);
            assert!(seen.try_recv().is_err(), "the handler was asked");
            visit(&Arc::new(target(&good)));
            serving.shut_down();
        }
        let auth = ClientAuth::optional(&ca).unwrap().crl_file(&crl).unwrap();
        let (serving, _seen, url) = serving(Some(auth));
        visit(&Arc::new(Target::with_tls(&url, anonymous).unwrap()));
        serving.shut_down();
    }
}

#[test]
fn the_list_is_read_again() {
    let files = Files::new("list");
    let (ours, ca, crl) = ours(&files, |ours| list(ours, &[], 3000));
    let known = numbered(&files, &ours, TlsVersions::Tls13, 7);
    let auth = ClientAuth::required(ca).unwrap().crl_file(&crl).unwrap();
    let tls = Made::new(&["127.0.0.1"]).write(&files).client_certificates(auth).unwrap();
    let (serving, _events) = Serving::obedient(builder().tls(tls.clone()));
    let url = serving.secure_url();
    let target = Target::with_tls(&url, known).unwrap();

    let (client, events) = client();
    client.connect(&Arc::new(target.clone()), None, 1).unwrap();
    let (_, established) = events.opened();
    files.write("crl.pem", "no PEM");
    assert!(tls.reload().unwrap_err().to_string().contains("crl.pem"));
    visit(&Arc::new(target.clone()));
    files.write("crl.pem", &list(&ours, &[7], 3000));
    // What replaces the certificate alone goes on to ask, and reads the list again.
    tls.replace(&Made::new(&["127.0.0.1"]).in_memory()).unwrap();
    assert!(failure(target.clone()).contains("CertificateRevoked"));
    files.write("crl.pem", &list(&ours, &[], 3000));
    tls.reload().unwrap();
    visit(&Arc::new(target));
    established.send(Message::Text("still here")).unwrap();
    assert_eq!(events.text(), (1, "still here".into()));
    serving.shut_down();
}

#[test]
fn whom_no_list_in_force_speaks_of_is_turned_away() {
    let files = Files::new("unknown");
    let (ours, ca, crl) = ours(&files, |ours| list(ours, &[], 2003));
    let root = authority("root");
    let below = CertifiedIssuer::signed_by(authority_params("below"), KeyPair::generate().unwrap(), &root);
    let mut params = authority_params("revoked");
    params.serial_number = Some(9.into());
    let revoked = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &root);
    let (below, revoked) = (below.unwrap(), revoked.unwrap());
    files.write("ca.pem", &(ours.pem() + &root.pem()));
    let of = |authority| numbered(&files, authority, TlsVersions::Tls13, 1);
    let clients = [&ours, &root, &below, &revoked].map(of);
    let fates = |lists: &[&str]| {
        files.write("crl.pem", &lists.concat());
        let auth = ClientAuth::required(&ca).unwrap().crl_file(&crl).unwrap();
        let (_serving, _seen, url) = serving(Some(auth));
        let fate = |tls: &ClientTls| {
            let target = Target::with_tls(&url, tls.clone()).unwrap();
            let (client, events) = client();
            client.connect(&Arc::new(target), None, 1).unwrap();
            match events.next() {
                Event::Opened(..) => "in",
                Event::Closed(_, close) if close.to_string().contains("Revoked") => "revoked",
                Event::Closed(_, close) if close.to_string().contains("UnknownCA") => "unknown",
                other => panic!("{other:?}"),
            }
        };
        clients.each_ref().map(fate)
    };
    let [run_out, of_ours] = [2003, 3000].map(|until| list(&ours, &[], until));
    let (of_root, of_below) = (list(&root, &[9], 3000), list(&below, &[], 3000));
    assert_eq!(fates(&[&run_out]), ["unknown"; 4]);
    assert_eq!(fates(&[&of_ours]), ["in", "unknown", "unknown", "unknown"]);
    assert_eq!(fates(&[&of_ours, &of_root]), ["in", "in", "unknown", "revoked"]);
    assert_eq!(fates(&[&of_ours, &of_root, &of_below]), ["in", "in", "in", "revoked"]);
}

#[test]
fn files_that_are_no_list() {
    let files = Files::new("no-list");
    let (ours, ca, _) = ours(&files, |_| String::new());
    let error = |text: &str| {
        let crl = files.write("crl.pem", text);
        ClientAuth::required(&ca).unwrap().crl_file(crl).unwrap_err().to_string()
    };
    for (text, word) in [
        ("no PEM", "BEGIN X509 CRL"),
        (&ours.pem(), "BEGIN X509 CRL"),
        ("-----BEGIN X509 CRL-----\nMAA=\n", "not valid PEM"),
        ("-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n", "cannot be used"),
    ] {
        let error = error(text);
        assert!(error.contains("crl.pem") && error.contains(word), "{error}");
    }
    let missing =
        ClientAuth::required(&ca).unwrap().crl_file(files.path("none.pem")).unwrap_err().to_string();
    assert!(missing.contains("none.pem") && missing.contains("No such file"), "{missing}");
}
