//! `serve`: certificates that change, and certificates of clients.

use std::fs;
use std::io::BufRead;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

#[path = "../../webscale/tests/sockets/authority.rs"]
mod authority;
mod common;
use authority::{authority, list};
use common::{Directory, Server, assert_fails, children, webscale};
use rcgen::{CertificateParams, KeyPair};
use webscale::{Client, ClientTls, Close, Handler, Message, Peer, Target};

/// Says how a connection went.
struct Teller(Sender<Result<(), String>>);

impl Handler for Teller {
    type Session = ();

    fn opened(&self, _: &mut Peer<'_, ()>) {
        let _ = self.0.send(Ok(()));
    }

    fn message(&self, _: &mut Peer<'_, ()>, _: Message<'_>) {}

    fn close(&self, (): (), close: Close) {
        let _ = self.0.send(Err(close.to_string()));
    }
}

/// A client, and what becomes of it: it is open, or the words of its end.
fn connect(url: &str, tls: ClientTls) -> (Client<Teller>, Result<(), String>) {
    let (teller, outcome) = channel();
    let client = Client::builder().build(Teller(teller)).unwrap();
    client.connect(&Arc::new(Target::with_tls(url, tls).unwrap()), None, ()).unwrap();
    (client, outcome.recv().unwrap())
}

fn outcome(url: &str, tls: ClientTls) -> Result<(), String> {
    connect(url, tls).1
}

/// A client whose connection stays open, and whether it came back with a ticket.
fn visit(url: &str, tls: &ClientTls) -> (Client<Teller>, bool) {
    let (client, outcome) = connect(url, tls.clone());
    assert_eq!(outcome, Ok(()));
    let is_resumed = client.handle().metrics().resumed == 1;
    (client, is_resumed)
}

/// How many sockets a process has.
fn sockets(pid: u32) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

fn make(directory: &Directory, names: &[&str]) {
    for below in names {
        assert!(webscale(&["cert", "--directory", &directory.file(below)]).status.success());
    }
}

/// Copies the files of one certificate to where the server looks for them.
fn install(directory: &Directory, from: &str) {
    for name in ["cert.pem", "key.pem", "ca.pem"] {
        fs::copy(directory.file(&format!("{from}/{name}")), directory.file(name)).unwrap();
    }
}

#[test]
fn a_hang_up_has_every_process_read_its_files_again() {
    let directory = Directory::new("reload");
    make(&directory, &["one", "other"]);
    let trusting = |below: &str| ClientTls::from_ca_file(directory.file(&format!("{below}/ca.pem"))).unwrap();
    for processes in [1, 2] {
        install(&directory, "one");
        let (cert, key) = (directory.file("cert.pem"), directory.file("key.pem"));
        let count = processes.to_string();
        let args = ["--cert", &cert, "--key", &key, "--processes", &count, "--threads", "1"];
        let (server, mut stderr) = Server::start_heard(&args);
        // One line of each process.
        let mut reload = |words: &[&str]| {
            server.signal("HUP");
            for _ in 0..processes {
                let mut line = String::new();
                stderr.read_line(&mut line).unwrap();
                assert!(words.iter().all(|word| line.contains(word)), "{line}");
            }
        };
        // With several processes, whoever answers.
        let all = |tls: ClientTls| (0..4 * processes).all(|_| outcome(&server.url, tls.clone()).is_ok());
        assert!(all(trusting("one")));
        fs::write(&cert, "no PEM").unwrap();
        reload(&["cert.pem", "holds no PEM certificate", "in use stay"]);
        assert!(all(trusting("one")));
        install(&directory, "other");
        reload(&["certificates reloaded"]);
        assert!(all(trusting("other")));
        assert!(outcome(&server.url, trusting("one")).unwrap_err().contains("TLS failed"));
        assert_eq!(server.finish().0, Some(0));
    }
}

#[test]
fn clients_show_certificates_where_that_was_asked_for() {
    let directory = Directory::new("client-ca");
    make(&directory, &["one", "other"]);
    install(&directory, "one");
    let anonymous = ClientTls::insecure().unwrap();
    let known = |below: &str| {
        let file = |name: &str| directory.file(&format!("{below}/{name}"));
        anonymous.clone().identity(file("cert.pem"), file("key.pem")).unwrap()
    };
    let ca = directory.file("ca.pem");
    for more in [&[][..], &["--processes", "2", "--threads", "1"]] {
        let required = Server::start(&[&["--client-ca", &ca], more].concat());
        let optional = Server::start(&[&["--client-ca", &ca, "--client-ca-optional"], more].concat());
        for server in [&required, &optional] {
            assert_eq!(outcome(&server.url, known("one")), Ok(()));
            assert!(outcome(&server.url, known("other")).unwrap_err().contains("TLS failed"));
        }
        assert!(outcome(&required.url, anonymous.clone()).unwrap_err().contains("CertificateRequired"));
        assert_eq!(outcome(&optional.url, anonymous.clone()), Ok(()));
    }
    // The authority is read again, also where the server's certificate is in no file.
    let (server, mut stderr) =
        Server::start_heard(&["--client-ca", &ca, "--processes", "2", "--threads", "1"]);
    install(&directory, "other");
    server.signal("HUP");
    for _ in 0..2 {
        stderr.read_line(&mut String::new()).unwrap();
    }
    assert_eq!(outcome(&server.url, known("other")), Ok(()));
    assert!(outcome(&server.url, known("one")).unwrap_err().contains("TLS failed"));
}

#[test]
fn clients_that_were_revoked_are_turned_away_by_every_process() {
    let directory = Directory::new("client-crl");
    let authority = authority("ours");
    let mut params = CertificateParams::new(vec!["device-7".into()]).unwrap();
    params.serial_number = Some(7.into());
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, &authority).unwrap().pem();
    let write = |name: &str, text: &str| directory.write(name, text.as_bytes());
    let (cert, key) = (write("cert.pem", &cert), write("key.pem", &key.serialize_pem()));
    let device = ClientTls::insecure().unwrap().identity(cert, key).unwrap();
    let (ca, crl) = (write("ca.pem", &authority.pem()), directory.file("crl.pem"));
    for processes in [1, 2] {
        write("crl.pem", &list(&authority, &[], 3000));
        let count = processes.to_string();
        let (server, mut stderr) = Server::start_heard(&[
            "--client-ca",
            &ca,
            "--client-crl",
            &crl,
            "--processes",
            &count,
            "--threads",
            "1",
        ]);
        assert_eq!(outcome(&server.url, device.clone()), Ok(()));
        write("crl.pem", &list(&authority, &[7], 3000));
        server.signal("HUP");
        for _ in 0..processes {
            let mut line = String::new();
            stderr.read_line(&mut line).unwrap();
            assert!(line.contains("certificates reloaded"), "{line}");
        }
        // With several processes, whoever answers.
        for _ in 0..4 * processes {
            let words = outcome(&server.url, device.clone()).unwrap_err();
            assert!(words.contains("CertificateRevoked"), "{words}");
        }
    }
    assert_fails(&["serve", "--client-ca", &ca, "--client-crl", &ca], 2, &["ca.pem", "X509 CRL"]);
    assert_fails(&["serve", "--client-crl", &crl], 2, &["--client-ca"]);
}

#[test]
fn authorities_that_cannot_be_used() {
    let directory = Directory::new("client-ca-bad");
    let garbage = directory.write("garbage", b"no PEM");
    assert_fails(&["serve", "--client-ca", &garbage], 2, &["garbage", "PEM"]);
    assert_fails(&["serve", "--client-ca", "/nonexistent"], 2, &["/nonexistent", "No such file"]);
    assert_fails(&["serve", "--client-ca", &garbage, "--plain"], 2, &["--plain"]);
    assert_fails(&["serve", "--client-ca-optional"], 2, &["--client-ca"]);
}

#[test]
fn a_session_of_one_process_is_resumed_at_the_other() {
    let server = Server::start(&["--processes", "2", "--threads", "1"]);
    let processes = children(server.child.id());
    let counts = || processes.iter().map(|pid| sockets(*pid)).collect::<Vec<_>>();
    let tls = ClientTls::insecure().unwrap();
    let mut clients = vec![visit(&server.url, &tls).0];
    let idle = counts();
    // The kernel chooses the process; a hundred times the same one is not to be expected.
    while counts().iter().zip(&idle).any(|(now, idle)| now == idle) {
        assert!(clients.len() < 100, "all connections went to one process");
        let (client, is_resumed) = visit(&server.url, &tls);
        assert!(is_resumed, "client {}", clients.len());
        clients.push(client);
    }
}

#[test]
fn a_hang_up_has_every_process_read_the_ticket_secret_again() {
    let directory = Directory::new("secret-again");
    for processes in [1, 2] {
        let secret = directory.write("secret", &[1; 32]);
        let count = processes.to_string();
        let (server, mut stderr) =
            Server::start_heard(&["--processes", &count, "--threads", "1", "--ticket-secret", &secret]);
        let mut reload = |secret: &[u8], words: &[&str]| {
            directory.write("secret", secret);
            server.signal("HUP");
            for _ in 0..processes {
                let mut line = String::new();
                stderr.read_line(&mut line).unwrap();
                assert!(words.iter().all(|word| line.contains(word)), "{line}");
            }
        };
        let tls = ClientTls::insecure().unwrap();
        // Each time with the ticket of the last one.
        let is_resumed = || visit(&server.url, &tls).1;
        let visits = 4 * processes;
        assert!(!is_resumed() && (0..visits).all(|_| is_resumed()));
        reload(&[1; 31], &["31 bytes", "what is in use stays"]);
        assert!((0..visits).all(|_| is_resumed()));
        reload(&[2; 32], &["ticket secret reloaded"]);
        assert!(!is_resumed() && (0..visits).all(|_| is_resumed()));
        assert_eq!(server.finish().0, Some(0));
    }
}

#[test]
fn servers_with_the_same_secret_resume_the_sessions_of_each_other() {
    let directory = Directory::new("ticket-secret");
    let [one, other] = [1, 2].map(|byte| directory.write(&format!("secret-{byte}"), &[byte; 32]));
    let start = |secret: &str| Server::start(&["--threads", "1", "--ticket-secret", secret]);
    let tls = ClientTls::insecure().unwrap();
    // The client keeps tickets by the name that it asks for, which is the same for all.
    let is_resumed = |secret: &str| visit(&start(secret).url, &tls).1;
    assert_eq!(
        [is_resumed(&one), is_resumed(&one), is_resumed(&other), is_resumed(&other)],
        [false, true, false, true]
    );
    let short = directory.write("short", b"secret");
    assert_fails(&["serve", "--ticket-secret", &short], 2, &["6 bytes", "32"]);
    assert_fails(&["serve", "--ticket-secret", "/nonexistent"], 2, &["/nonexistent", "No such file"]);
    assert_fails(&["serve", "--ticket-secret", &one, "--plain"], 2, &["--plain"]);
    assert_fails(&["serve", "--ticket-secret", &one, "--client-ca", "a"], 2, &["--client-ca"]);
}
