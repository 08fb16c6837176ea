//! What counts as an answer, and what a closed loop makes of it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use webscale_load::bench::payload::{Kind, Payload};
use webscale_load::bench::plan::Model;
use webscale_load::bench::template::Template;
use webscale_load::bench::{BenchError, Plan, Probe, run};
use webscale_load::observe::Unobserved;

use super::assert_borne;
use super::server::{Behaviour, Running};

fn ack(every: u32) -> Probe {
    Probe::Ack { every: every.try_into().unwrap() }
}

#[test]
fn lost_echoes_are_counted_and_those_behind_them_are_in_order() {
    let server = Running::start(Behaviour::Lose, None);
    // What is lost is awaited for as long as the limit says.
    let plan = Plan { probe: Probe::Echo, latency_limit: Duration::from_secs(1), ..server.plan() };
    let outcome = run(&plan, &mut Unobserved).unwrap();
    let messages = outcome.messages;
    // 14 messages a client, of which 3 are numbered 4, 8, 12; 2 of the 14 are of the warm-up.
    assert_eq!((messages.lost, messages.reordered, messages.corrupt), (20 * 3, 0, 0));
    assert_eq!((messages.awaited, messages.answered), (240, 240 - 60));
    assert!(outcome.verdict.problems.iter().any(|problem| problem == "60 echoes were lost"));
}

/// The load has megabytes for a server that is behind. Who would not read while they wait could not be sent echoes, and a server
/// that cannot send them does not read either.
#[test]
fn a_server_that_was_behind_and_its_load_do_not_wait_for_each_other() {
    let outcome = Running::load(Behaviour::Dawdle(Duration::from_millis(500)), |plan| {
        (plan.probe, plan.clients, plan.interval) = (Probe::Echo, 2, Duration::from_millis(2));
        plan.payload = Payload::filler(64 << 10, Kind::Text);
        plan.latency_limit = Duration::from_secs(20);
    });
    let messages = outcome.messages;
    assert!(messages.awaited > 0);
    assert_eq!((messages.lost, messages.answered), (0, messages.awaited), "{messages:?}");
}

/// A greeting is no echo, and what a server says of its own is counted once and spoils no echo that follows.
#[test]
fn what_a_server_says_of_its_own_is_no_echo() {
    for (model, interval) in
        [(Model::Open, Duration::from_millis(50)), (Model::Closed, Duration::from_millis(5))]
    {
        let outcome = Running::load(Behaviour::Talk(7), |plan| {
            (plan.probe, plan.model, plan.interval) = (Probe::Echo, model, interval);
        });
        let messages = outcome.messages;
        let most = messages.sent_in_all / 7;
        assert!((most.saturating_sub(20)..=most).contains(&messages.corrupt), "{messages:?}");
        assert_eq!((messages.reordered, messages.lost, messages.answered), (0, 0, messages.awaited));
    }
    let outcome = Running::load(Behaviour::Talk(1000), |plan| plan.probe = Probe::Echo);
    assert_eq!(outcome.messages.corrupt, 0);
    assert_borne(&outcome);
}

#[test]
fn acknowledged_messages_are_timed() {
    let outcome = Running::load(Behaviour::Acknowledge(7), |plan| plan.probe = ack(7));
    let messages = outcome.messages;
    // Of the 14 messages of a client the 7th and the 14th, both measured.
    assert_eq!((messages.sent_in_all, messages.awaited, messages.answered), (280, 40, 40));
    assert_eq!(outcome.probe, ack(7));
    assert_eq!(outcome.latency_us.unwrap().corrected.count, 40);
    assert_borne(&outcome);
}

#[test]
fn templates_come_back_as_they_were_sent() {
    let text = r#"{"client": {client}, "n": {seq}, "at": "{timestamp:rfc3339}", "x": "{random:20}{random_int:1-6}"}"#;
    for kind in [Kind::Text, Kind::Binary] {
        let outcome = Running::load(Behaviour::Echo, |plan| {
            plan.probe = Probe::Echo;
            plan.payload = Payload::template(Template::parse(text).unwrap(), kind);
        });
        assert_eq!((outcome.messages.answered, outcome.messages.corrupt), (240, 0));
    }
}

/// Ten messages of a client have a number of one digit, and two of those are of the warm-up.
#[test]
fn the_bytes_of_messages_of_different_lengths_are_counted() {
    let outcome = Running::load(Behaviour::Consume, |plan| {
        plan.payload = Payload::template(Template::parse("{seq}").unwrap(), Kind::Text);
    });
    assert_eq!((outcome.messages.sent, outcome.messages.bytes), (240, 20 * (8 + 2 * 4)));
    let (rate, bytes) = outcome.sent_rates();
    assert!((bytes / rate - 16.0 / 12.0).abs() < 1e-9, "{bytes} of {rate}");
}

/// A client sends when it has its answer, so that the times of all messages fill the time of all clients.
#[test]
fn a_closed_loop_obeys_littles_law() {
    for (think, probe) in [(Duration::from_millis(5), Probe::Ping), (Duration::ZERO, Probe::Echo)] {
        let server = Running::start(Behaviour::Echo, None);
        let plan = Plan { model: Model::Closed, interval: think, probe, ..server.plan() };
        let outcome = run(&plan, &mut Unobserved).unwrap();
        let messages = outcome.messages;
        assert!(messages.sent > 0 && messages.sent == messages.offered);
        assert_eq!((messages.answered, messages.unanswered), (messages.sent, 0));
        assert_eq!(server.messages.load(Ordering::Relaxed), messages.sent_in_all);
        // From one due time to the next: these fill the time, but for what the two ends cut off.
        let latency = outcome.latency_us.unwrap().corrected;
        let cycle = |us: f64| us / 1e6 + think.as_secs_f64();
        let filled = latency.count as f64 * cycle(latency.mean);
        let whole = 20.0 * plan.duration.as_secs_f64();
        let rounding = whole / 100.0;
        assert!((filled - whole).abs() <= 20.0 * cycle(latency.max) + rounding, "{filled} of {whole}");
        // The law knows of the time from the sending on.
        let accounted = outcome.closed_loop.unwrap().accounted * whole;
        assert!(accounted > 0.0 && accounted <= filled + rounding, "{accounted} of {filled}");
    }
}

#[test]
fn a_closed_loop_needs_answers() {
    let closed = Plan { model: Model::Closed, ..Plan::new("ws://127.0.0.1:9") };
    for probe in [Probe::Sink, ack(2)] {
        let plan = Plan { probe, ..closed.clone() };
        assert!(matches!(run(&plan, &mut Unobserved), Err(BenchError::NotAnswered)));
    }
    let plan = Plan { probe_one_in: Some(2), ..closed };
    assert!(matches!(run(&plan, &mut Unobserved), Err(BenchError::NotAnswered)));
}
