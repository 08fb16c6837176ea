//! What a server sees of a load's opening handshakes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::thread;

use std::time::Duration;
use webscale::{Accept, ClientAuth, Deflate, Handler, Message, Peer, Reject, Request, Server, Tls};
use webscale_load::bench::endpoint::{Compression, Handshake, Header, TlsOptions, TlsVersion};
use webscale_load::bench::payload::{Kind, Payload};
use webscale_load::bench::{Plan, Probe, run};
use webscale_load::cert;
use webscale_load::observe::Unobserved;
use webscale_load::schedule::Ramp;

use super::server::{Behaviour, Running};
use super::{Directory, assert_borne};

/// Accepts who says all that is wanted, and remembers each path.
#[derive(Default)]
struct Doorkeeper {
    paths: Arc<Mutex<BTreeSet<String>>>,
}

impl Handler for Doorkeeper {
    type Session = ();

    fn open(&self, request: &Request<'_>) -> Result<Accept<()>, Reject> {
        let number = request.path().rsplit('/').next().unwrap_or_default();
        let expected = [
            ("x-device", format!("device {number}")),
            ("authorization", "Basic dXNlcjpzZWNyZXQ=".into()),
            ("x-constant", "{client}".into()),
        ];
        for (name, value) in expected {
            if request.header(name) != Some(value.as_bytes()) {
                return Err(Reject::new(403, format!("{name} is wrong")));
            }
        }
        if !request.protocols().eq(["first", "second"]) || request.query() != Some("q=1") {
            return Err(Reject::new(400, "protocols or query are wrong"));
        }
        self.paths.lock().unwrap().insert(request.path().into());
        Ok(Accept::new(()).protocol("second"))
    }

    fn message(&self, peer: &mut Peer<'_, ()>, message: Message<'_>) {
        peer.send(message).unwrap();
    }
}

#[test]
fn each_client_says_who_it_is() {
    let keeper = Doorkeeper::default();
    let paths = Arc::clone(&keeper.paths);
    let server =
        Server::builder().listen("127.0.0.1:0").threads(1).deflate(Deflate::default()).build(keeper).unwrap();
    let (handle, address) = (server.handle(), server.local_addr());
    let running = thread::spawn(move || server.run().unwrap());
    let headers = vec![
        Header::parse("X-Device: device {client}").unwrap(),
        Header::parse("X-Constant: {{client}").unwrap(),
        Header::basic("user:secret"),
    ];
    let plan = Plan {
        clients: 12,
        interval: Duration::from_millis(50),
        settle: Duration::ZERO,
        warmup: Duration::ZERO,
        duration: Duration::from_millis(200),
        latency_limit: Duration::from_secs(60),
        probe: Probe::Echo,
        payload: Payload::telemetry(),
        handshake: Handshake {
            headers,
            subprotocols: vec!["first".into(), "second".into()],
            compression: Some(Compression { threshold: 0, ..Compression::default() }),
        },
        ..Plan::new(format!("ws://{address}/devices/{{client}}?q=1"))
    };
    let outcome = run(&plan, &mut Unobserved).unwrap();
    handle.shutdown();
    running.join().unwrap();
    assert_borne(&outcome);
    let expected: BTreeSet<String> = (0..12).map(|client| format!("/devices/{client}")).collect();
    assert_eq!(*paths.lock().unwrap(), expected);
    let compressed = outcome.compressed.unwrap();
    assert_eq!(compressed.sent.messages, outcome.messages.sent_in_all);
    assert!(compressed.sent.share().unwrap() < 1.0 && compressed.received.messages > 0, "{compressed:?}");
    // Compressed, or these would be more.
    let plain = outcome.messages.sent_in_all * plan.payload.len() as u64;
    assert!(handle.metrics().bytes_in < plain, "{} of {plain}", handle.metrics().bytes_in);
}

fn secure() -> Running {
    let pair = cert::self_signed(&[]).unwrap();
    Running::start(
        Behaviour::Consume,
        Some(Tls::from_pem(pair.cert_pem.as_bytes(), pair.key_pem.as_bytes()).unwrap()),
    )
}

#[test]
fn a_share_of_the_handshakes_resumes() {
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let server = secure();
        let tls = TlsOptions { version: Some(version), resume: 0.5, ..TlsOptions::default() };
        // One after the other, so that there are tickets.
        let plan = Plan { tls, ramp: Ramp::Linear(Duration::from_secs(1)), ..server.plan() };
        let outcome = run(&plan, &mut Unobserved).unwrap();
        let resumed = outcome.connections.resumed.unwrap();
        assert!((1..=10).contains(&resumed), "{version:?}: {resumed}");
        assert_eq!(server.handle.metrics().resumed, resumed);
        assert_borne(&outcome);
    }
    let server = secure();
    let outcome = run(&server.plan(), &mut Unobserved).unwrap();
    assert_eq!((outcome.connections.resumed, server.handle.metrics().resumed), (None, 0));
    // One client has nobody's ticket.
    let tls = TlsOptions { resume: 1.0, ..TlsOptions::default() };
    let outcome = run(&Plan { tls, clients: 1, ..server.plan() }, &mut Unobserved).unwrap();
    let text = webscale_load::report::text::text(&outcome);
    assert!(text.contains("0 handshakes resumed") && text.contains("slower --ramp"), "{text}");
}

/// With nothing to do, what is measured is the load's own time: the floor below which it sees nothing.
#[test]
fn an_empty_echo_shows_the_floor() {
    let outcome = Running::load(Behaviour::Echo, |plan| {
        plan.probe = Probe::Echo;
        plan.payload = Payload::filler(0, Kind::Binary);
    });
    let latency = outcome.latency_us.unwrap();
    let uncorrected = latency.uncorrected.unwrap();
    assert_eq!((latency.corrected.count, uncorrected.count), (240, 240));
    assert!(uncorrected.min > 0.0);
    // The one counts from an earlier time than the other.
    assert!(latency.corrected.p50 >= uncorrected.p50 && latency.corrected.max >= uncorrected.max);
    assert_eq!((outcome.messages.lost, outcome.messages.corrupt, outcome.messages.reordered), (0, 0, 0));
}

#[test]
fn a_server_may_ask_for_a_certificate() {
    let issued = cert::issue(&[]).unwrap();
    let directory = Directory::new("identity");
    let [ca, certificate, key] = [
        directory.file("ca", &issued.ca.cert_pem),
        directory.file("cert", &issued.leaf.cert_pem),
        directory.file("key", &issued.leaf.key_pem),
    ];
    let tls = Tls::from_pem_files(&certificate, &key).unwrap();
    let tls = tls.client_certificates(ClientAuth::required(&ca).unwrap()).unwrap();
    let server = Running::start(Behaviour::Consume, Some(tls));
    let stranger = run(&server.plan(), &mut Unobserved).unwrap_err().to_string();
    assert!(stranger.contains("no client could connect: TLS"), "{stranger}");
    let tls = TlsOptions { identity: Some((certificate, key)), ..TlsOptions::default() };
    let outcome = run(&Plan { tls, ..server.plan() }, &mut Unobserved).unwrap();
    assert_borne(&outcome);
}
