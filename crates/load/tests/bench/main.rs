//! Loads on real servers over real sockets, each with a fault that the load has to find.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use webscale::Tls;
use webscale_load::bench::outcome::Outcome;
use webscale_load::bench::payload::{Kind, Payload};
use webscale_load::bench::timeline::Sample;
use webscale_load::bench::{BenchError, Plan, Probe, Trust, run};
use webscale_load::cert;
use webscale_load::observe::{Observer, Unobserved};
use webscale_load::schedule::Ramp;

mod answers;
mod endpoint;
mod ends;
mod server;

use server::{Behaviour, Running};

/// The server did what was asked of it. Whether this machine was too busy to make the load on time is no matter of a test.
fn assert_borne(outcome: &Outcome) {
    let verdict = &outcome.verdict;
    assert!(verdict.problems.is_empty() && !verdict.interrupted && verdict.stopped.is_none(), "{verdict:?}");
}

#[test]
fn every_message_is_counted_on_both_sides() {
    let server = Running::start(Behaviour::Consume, None);
    let outcome = run(&server.plan(), &mut Unobserved).unwrap();
    assert_eq!(outcome.connections.opened, 20);
    assert_eq!(outcome.connections.peak_open, 20);
    assert_eq!(outcome.connections.handshake_us.unwrap().count, 20);
    let messages = outcome.messages;
    assert_eq!(messages.offered, 20 * 12);
    assert_eq!((messages.sent, messages.awaited, messages.answered), (240, 240, 240));
    assert_eq!(outcome.latency_us.unwrap().corrected.count, 240);
    assert_eq!(messages.sent_in_all, 20 * 14);
    assert_borne(&outcome);
    assert_eq!(server.messages.load(Ordering::Relaxed), messages.sent_in_all);
}

#[test]
fn the_timeline_has_everything_once() {
    let sum =
        |outcome: &Outcome, figure: fn(&Sample) -> u64| outcome.timeline.iter().map(figure).sum::<u64>();
    let held = Running::load(Behaviour::Consume, |_| {});
    assert_eq!(sum(&held, |sample| sample.offered), 20 * 14);
    assert_eq!(sum(&held, |sample| sample.sent), held.messages.sent_in_all);
    assert_eq!(sum(&held, |sample| sample.answered), 20 * 14);
    assert!(held.timeline.windows(2).all(|pair| pair[0].at_seconds < pair[1].at_seconds));
    let turned_away = Running::load(Behaviour::TurnAway, |_| {});
    assert_eq!(sum(&turned_away, |sample| sample.clients.disconnected), 20);
    assert_eq!(sum(&turned_away, |sample| sample.errors.get("closed: 1008").copied().unwrap_or(0)), 20);
}

#[test]
fn the_first_message_waits_for_the_start() {
    let outcome = Running::load(Behaviour::Consume, |plan| plan.warmup = Duration::ZERO);
    assert_eq!(outcome.messages.sent, outcome.messages.sent_in_all);
    assert!(outcome.latency_us.unwrap().corrected.min > 0.0);
}

#[test]
fn a_sample_of_the_clients_is_probed() {
    let outcome = Running::load(Behaviour::Consume, |plan| plan.probe_one_in = Some(5));
    assert_eq!((outcome.messages.sent, outcome.messages.answered), (240, 48));
    let outcome = Running::load(Behaviour::Consume, |plan| plan.probe = Probe::Sink);
    assert_eq!((outcome.messages.sent, outcome.messages.awaited), (240, 0));
    assert_eq!(outcome.latency_us, None);
}

#[test]
fn echoes_over_tls_from_two_loops() {
    let pair = cert::self_signed(&[]).unwrap();
    let directory = Directory::new("ca");
    let (cert, key) = (directory.file("cert", &pair.cert_pem), directory.file("key", &pair.key_pem));
    let server = Running::start(Behaviour::Echo, Some(Tls::from_pem_files(&cert, &key).unwrap()));
    let plan = Plan {
        probe: Probe::Echo,
        payload: Payload::telemetry(),
        loops: vec![None, None],
        trust: Trust::CaFile(cert),
        pids: vec![std::process::id()],
        ..server.plan()
    };
    let outcome = run(&plan, &mut Unobserved).unwrap();
    assert_borne(&outcome);
    assert_eq!(
        (outcome.messages.answered, outcome.messages.corrupt, outcome.messages.reordered),
        (240, 0, 0)
    );
    // Server and load are one process here.
    let server_use = outcome.server.unwrap();
    assert!(server_use.handshake_cpu_us.unwrap() > 0.0 && server_use.cpu_us_per_message.unwrap() > 0.0);
    assert!(server_use.peak_pss_bytes >= server_use.memory_loaded.pss_bytes);

    let strangers = cert::issue(&[]).unwrap();
    let untrusted = Plan { trust: Trust::CaFile(directory.file("ca", &strangers.ca.cert_pem)), ..plan };
    let error = run(&untrusted, &mut Patient(Instant::now())).unwrap_err();
    assert!(error.to_string().contains("no client could connect: TLS"), "{error}");
}

/// Removed with all its files, also when a test fails.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("webscale-load-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Directory(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Waits long enough for any machine, but not for ever.
struct Patient(Instant);

impl Observer for Patient {
    fn stopped(&self) -> bool {
        self.0.elapsed() > Duration::from_secs(30)
    }
}

#[test]
fn changed_bytes_are_found() {
    let outcome = Running::load(Behaviour::Corrupt, |plan| plan.probe = Probe::Echo);
    // 14 messages a client, of which 3 are numbered 4, 8, 12.
    assert_eq!((outcome.messages.corrupt, outcome.messages.reordered), (60, 0));
    assert_eq!(outcome.messages.answered, 240);
    assert!(!outcome.verdict.held());
}

#[test]
fn swapped_echoes_are_found() {
    let outcome = Running::load(Behaviour::Swap, |plan| plan.probe = Probe::Echo);
    assert_eq!((outcome.messages.reordered, outcome.messages.corrupt), (20 * 7, 0));
    assert!(outcome.verdict.problems.iter().any(|problem| problem.contains("out of order")));
}

#[test]
fn user_given_bytes_are_sent_as_they_are() {
    let payload = Payload::fixed(b"{\"a\":1}".to_vec(), Kind::Text).unwrap();
    let outcome = Running::load(Behaviour::Echo, |plan| {
        plan.probe = Probe::Echo;
        plan.payload = payload;
    });
    assert_eq!((outcome.messages.answered, outcome.messages.corrupt), (240, 0));
}

#[test]
fn disconnects_are_counted_by_code() {
    let outcome = Running::load(Behaviour::TurnAway, |_| {});
    let closed = &outcome.connections.disconnected[&1008];
    assert_eq!(closed.count, 20);
    assert!(closed.example.contains("enough"), "{}", closed.example);
    assert!(outcome.verdict.problems.iter().any(|problem| problem.contains("1008")));
}

#[test]
fn a_pause_of_the_server_shows_in_the_latency() {
    const PAUSE: Duration = Duration::from_millis(300);
    let outcome = Running::load(Behaviour::Pause(PAUSE), |_| {});
    let worst = outcome.latency_us.unwrap().corrected.max;
    assert!(worst > 250_000.0, "{worst} µs");
}

#[test]
fn a_limit_that_was_passed_is_a_problem() {
    let outcome = Running::load(Behaviour::Consume, |plan| plan.latency_limit = Duration::from_nanos(1));
    assert!(!outcome.verdict.held());
    assert!(outcome.verdict.problems.iter().any(|problem| problem.contains("p99 latency")));
}

#[test]
fn clients_arrive_in_every_shape() {
    let over = Duration::from_millis(100);
    for ramp in [Ramp::Linear(over), Ramp::Steps { over, steps: 4 }, Ramp::Rate(400.0)] {
        let outcome = Running::load(Behaviour::Consume, |plan| plan.ramp = ramp);
        assert_eq!((outcome.connections.opened, outcome.connections.peak_open), (20, 20), "{ramp:?}");
        // The last one comes after three quarters of the time, at the earliest.
        assert!(outcome.connections.connect_seconds >= 0.047, "{ramp:?}");
    }
}

#[test]
fn several_sources_are_used_in_turn() {
    let outcome = Running::load(Behaviour::Consume, |plan| {
        plan.sources = vec!["127.0.0.2".parse().unwrap(), "127.0.0.3".parse().unwrap()];
    });
    assert_eq!(outcome.connections.opened, 20);
}

struct StopsAtOnce;

impl Observer for StopsAtOnce {
    fn stopped(&self) -> bool {
        true
    }
}

#[test]
fn the_user_may_end_it() {
    let server = Running::start(Behaviour::Consume, None);
    let plan = Plan { duration: Duration::from_secs(3600), ..server.plan() };
    let outcome = run(&plan, &mut StopsAtOnce).unwrap();
    assert!(outcome.verdict.interrupted && !outcome.verdict.held());
}

#[test]
fn nobody_listens() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = run(&Plan::new(format!("ws://127.0.0.1:{port}/")), &mut Unobserved).unwrap_err();
    assert!(error.to_string().to_lowercase().contains("refused"), "{error}");
}

#[test]
fn a_web_server_is_no_websocket_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        assert!(client.read(&mut head).unwrap() > 0);
        client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    });
    let error = run(&Plan { clients: 1, ..Plan::new(url) }, &mut Unobserved).unwrap_err();
    server.join().unwrap();
    assert!(matches!(&error, BenchError::NoClient { said, .. } if said.contains("200")), "{error}");
}

#[test]
fn a_process_that_is_not_there() {
    let server = Running::start(Behaviour::Consume, None);
    let error = run(&Plan { pids: vec![u32::MAX], ..server.plan() }, &mut Unobserved).unwrap_err();
    assert!(error.to_string().contains("is gone"), "{error}");
}

#[test]
fn a_process_that_is_not_the_server() {
    let mut idle = Command::new("sleep").arg("600").spawn().unwrap();
    // A stopped process takes no time for certain, not even to start.
    assert!(Command::new("kill").args(["-STOP", &idle.id().to_string()]).status().unwrap().success());
    let outcome = Running::load(Behaviour::Consume, |plan| plan.pids = vec![idle.id()]);
    idle.kill().unwrap();
    idle.wait().unwrap();
    let problems = outcome.verdict.problems.join("\n");
    assert!(problems.contains("it is not the server"), "{problems}");
}

#[test]
fn a_processor_that_is_not_there() {
    let plan = Plan { loops: vec![Some(1 << 20)], ..Plan::new("ws://127.0.0.1:9") };
    let error = run(&plan, &mut Unobserved).unwrap_err().to_string();
    assert!(error.contains("processor 1048576") && error.contains("may use"), "{error}");
}
