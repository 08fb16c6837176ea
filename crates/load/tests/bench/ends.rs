//! Connections that are lost and made again, and loads that end before their time.

use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::time::Duration;

use webscale_load::bench::stop::StopConditions;
use webscale_load::bench::{BenchError, Plan, Probe, run};
use webscale_load::observe::{Observer, Progress, Unobserved};
use webscale_load::schedule::Ramp;

use super::assert_borne;
use super::server::{Behaviour, Running};

/// Nobody waits for this.
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn clients_that_were_turned_away_come_back() {
    let server = Running::start(Behaviour::TurnAway, None);
    let outcome = run(&Plan { reconnect: true, ..server.plan() }, &mut Unobserved).unwrap();
    let connections = &outcome.connections;
    let lost = connections.disconnected[&1008].count;
    assert_eq!(connections.opened, 20);
    assert!(connections.reconnected > 0 && u64::from(connections.reconnected) <= lost, "{connections:?}");
    assert_eq!(server.handle.metrics().opened, u64::from(connections.opened + connections.reconnected));
    assert!(connections.peak_open <= 20);
    // What is sent before the server's close has arrived is not handled.
    assert!((3 * lost..=outcome.messages.sent_in_all).contains(&server.messages.load(Ordering::Relaxed)));
    assert!(!outcome.verdict.held());
}

/// A connection that was of no use is one more reason to wait longer before the next.
#[test]
fn a_server_that_turns_everybody_out_again_is_not_stormed() {
    let outcome = Running::load(Behaviour::Revolve, |plan| {
        plan.reconnect = true;
        plan.duration = Duration::from_secs(2);
    });
    // The eighth pause would have come after 12 s at the earliest, and without any growth there are twenty in this time.
    let reconnected = outcome.connections.reconnected;
    assert!((20..=20 * 8).contains(&reconnected), "{reconnected}");
    assert!(outcome.connections.disconnected[&1013].count > 20);
}

#[test]
fn where_nobody_gets_in_a_long_ramp_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    drop(listener);
    // The second half of the clients would come an hour later.
    let ramp = Ramp::Steps { over: 2 * HOUR, steps: 2 };
    let error = run(&Plan { clients: 400, ramp, ..Plan::new(url) }, &mut Unobserved).unwrap_err();
    assert!(matches!(&error, BenchError::NoClient { said, .. } if said.contains("refused")), "{error}");
}

#[test]
fn too_many_failures_end_a_load() {
    let outcome = Running::load(Behaviour::TurnAway, |plan| {
        plan.reconnect = true;
        plan.duration = HOUR;
        plan.stop = StopConditions { failures: Some(0.1), p99: None };
    });
    let why = outcome.verdict.stopped.as_ref().unwrap();
    assert!(why.contains("connections failed, more than 10 %"), "{why}");
    assert!(!outcome.verdict.held());
}

#[test]
fn failures_within_the_limit_are_borne() {
    let outcome = Running::load(Behaviour::Corrupt, |plan| {
        plan.probe = Probe::Echo;
        plan.stop = StopConditions { failures: Some(0.5), p99: None };
    });
    assert_eq!(outcome.messages.corrupt, 60);
    assert!(outcome.verdict.tolerated, "{:?}", outcome.verdict);
    assert_borne(&outcome);
}

/// Ends a load when answers have been timed.
#[derive(Default)]
struct Impatient(bool);

impl Observer for Impatient {
    fn progress(&mut self, progress: &Progress) {
        self.0 |= progress.latency.is_some();
    }

    fn stopped(&self) -> bool {
        self.0
    }
}

/// Those messages that are on their way when a load is ended would have been answered: they are not quick ones.
#[test]
fn who_ends_a_load_makes_no_answer_quicker() {
    let server = Running::start(Behaviour::Acknowledge(2), None);
    let probe = Probe::Ack { every: 1.try_into().unwrap() };
    let outcome = run(&Plan { probe, duration: HOUR, ..server.plan() }, &mut Impatient::default()).unwrap();
    assert!(outcome.verdict.interrupted);
    assert!(outcome.messages.answered > 0 && outcome.messages.unanswered > 0, "{:?}", outcome.messages);
    // The third message, which is the first measured one, is answered with the sixth at the earliest.
    let latency = outcome.latency_us.unwrap().corrected;
    assert!(latency.min >= 149_000.0, "{latency:?}");
}

#[test]
fn slow_answers_end_a_load() {
    let outcome = Running::load(Behaviour::Consume, |plan| {
        plan.duration = HOUR;
        plan.stop = StopConditions { failures: None, p99: Some(Duration::from_nanos(1)) };
    });
    let why = outcome.verdict.stopped.as_ref().unwrap();
    assert!(why.contains("p99 latency"), "{why}");
    // What was due later is not missing, neither in all nor in a second.
    assert!(outcome.messages.offered < 3600 * 20 * 20);
    let due: u64 = outcome.timeline.iter().map(|sample| sample.offered).sum();
    assert_eq!(due, outcome.messages.offered + 20 * 2);
    assert!(!outcome.verdict.held() && !outcome.verdict.interrupted);
}
