//! The page of one load, of every kind.

use std::num::NonZeroU32;

use super::*;
use crate::bench::counts::Pair;
use crate::bench::outcome::CurvePoint;
use crate::bench::outcome::tests::good;
use crate::bench::timeline::{SampleLatency, ServerSample, ThreadShare};

fn second(at: u32) -> Sample {
    let phase = if at == 1 { Phase::Connecting } else { Phase::Measuring };
    let at_seconds = f64::from(at);
    let thread = |tid, share| ThreadShare { tid, name: "<loop>".into(), share };
    let threads = vec![thread(7, 0.3), thread(8, 0.1)];
    let server = Some(ServerSample { cpu_share: 0.4, threads, ..ServerSample::default() });
    Sample { at_seconds, length_seconds: 1.0, phase, offered: 100, sent: 99, server, ..Sample::default() }
}

#[test]
fn the_verdict_comes_first() {
    let held = html(&good());
    let at = |text: &str| held.find(text).unwrap_or_else(|| panic!("{text} is missing"));
    assert!(at("Held: the server bore 100 clients.") < at("Latency p99"));
    assert!(at("Latency p99") < at("Latency over time") && at("Latency over time") < at("Schedule lag"));
    let mut failed = good();
    failed.verdict.problems.push("3 of <b>100</b>".into());
    let text = html(&failed);
    assert!(text.contains("Not held") && text.contains("3 of &lt;b&gt;100&lt;/b&gt;"));
}

#[test]
fn both_counts_stand_side_by_side() {
    let pair = Some(Pair { load: 71, server: 70 });
    let counted = Some(Reconciled { handshakes: pair, open: None, messages: pair, agrees: false });
    let text = html(&Outcome { counted, ..good() });
    assert!(text.contains("they disagree"));
    assert_eq!(text.matches("<td>71</td><td>70</td>").count(), 2);
    assert!(!text.contains("open once all had connected"));
    assert!(!html(&good()).contains("both sides counted"));
}

#[test]
fn a_saturated_generator_is_marked() {
    let mut outcome = good();
    outcome.verdict.saturated = Some("its busiest thread used 95 % of a processor".into());
    outcome.timeline = (1..=4).map(second).collect();
    outcome.timeline[2].generator.saturated = true;
    let text = html(&outcome);
    assert!(text.contains("Does not count") && text.contains("95 % of a processor"));
    assert!(text.contains("generator saturated</li>") && text.contains("class=\"band hot\""));
}

#[test]
fn a_load_that_was_cut_short_says_why() {
    let mut outcome = good();
    outcome.verdict.stopped = Some("p99 latency was 300.0 ms, more than 200 ms".into());
    let text = html(&outcome);
    assert!(text.contains("Not held") && !text.contains("Held:"));
    assert!(text.contains("Ended early: p99 latency was 300.0 ms, more than 200 ms"));
    (outcome.verdict.stopped, outcome.verdict.interrupted) = (None, true);
    assert!(html(&outcome).contains("Interrupted: the figures are of what was done until then."));
    outcome.verdict.saturated = Some("its busiest thread used 95 % of a processor".into());
    let text = html(&outcome);
    assert!(text.contains("Interrupted, and does not count") && text.contains("95 % of a processor"));
}

#[test]
fn a_broken_load_is_not_the_servers_fault() {
    let mut outcome = good();
    outcome.verdict.broken = Some("process 2 of 3 ended".into());
    let text = html(&outcome);
    assert!(text.contains("Does not count: a process of the load was lost") && !text.contains("Not held"));
    assert!(text.contains("<li>process 2 of 3 ended</li>"));
}

#[test]
fn nothing_from_outside_becomes_markup() {
    let mut outcome = good();
    outcome.url = "ws://x/<script>alert(1)</script>".into();
    outcome.provenance.command = "webscale '<img src=x>'".into();
    outcome.timeline = (1..=3).map(second).collect();
    outcome.timeline[1].errors.insert("closed: <i>".into(), 1);
    let text = html(&outcome);
    assert_eq!(text.matches("<script>").count(), 1);
    for markup in ["<img", "<i>", "<loop>"] {
        assert!(!text.contains(markup), "{markup}");
    }
    assert!(text.contains("closed: &lt;i&gt;"));
}

#[test]
fn every_plot_has_its_figures_in_a_table() {
    let mut outcome = good();
    let points = Points { p50: 1.0, p90: 2.0, p99: 3.0, max: 4.0 };
    let full = |at| {
        let mut sample = second(at);
        sample.latency_us = Some(SampleLatency { corrected: points, uncorrected: Some(points) });
        (sample.lag_p99_us, sample.kernel_socket_bytes) = (Some(5.0), Some(6));
        sample
    };
    outcome.timeline = (1..=1000).map(full).collect();
    outcome.latency_curve = [0.5, 0.9, 1.0]
        .map(|quantile| CurvePoint { quantile, corrected_us: 9.0, uncorrected_us: Some(8.0) })
        .to_vec();
    let text = html(&outcome);
    let plots = text.matches("<figure data-plot").count();
    assert_eq!((plots, text.matches("<summary>Table").count()), (6, 6));
    assert_eq!(text.matches("role=\"img\"><title>").count(), 6);
    assert!(text.contains("<th scope=\"row\">p90</th>") && text.contains("<th scope=\"row\">max</th>"));
    assert!(text.len() < 1_000_000, "{}", text.len());
}

#[test]
fn a_load_without_answers_has_no_latency() {
    let mut outcome = good();
    (outcome.latency_us, outcome.probe, outcome.schedule_lag_us) = (None, Probe::Sink, None);
    let text = html(&outcome);
    assert!(text.contains("No answer was expected") && !text.contains("Latency over time"));
}

#[test]
fn each_kind_of_load_is_called_what_it_is() {
    let told = |change: fn(&mut Outcome)| {
        let mut outcome = good();
        change(&mut outcome);
        html(&outcome)
    };
    assert!(told(|_| {}).contains("100 clients, each with 10.2 kB every 1 s; measured for 10 s."));
    let idle = told(|it| (it.probe, it.payload_bytes, it.interval_seconds) = (Probe::Idle, 0, 20.0));
    assert!(idle.contains("half of the pings") && idle.contains("from when a ping was due"));
    assert!(!idle.contains("a message"), "{idle}");
    assert!(idle.contains("held open, each with a ping every 20 s") && idle.contains("<span>Pings</span>"));
    assert!(idle.contains("pings that keep the connections alive") && !idle.contains("0 B a second"));
    let closed = told(|it| (it.model, it.interval_seconds) = (Model::Closed, 0.0));
    assert!(closed.contains("as soon as the last message was answered") && !closed.contains("every 0 s"));
    assert!(closed.contains("a server that stands still is asked less often"));
    assert!(told(|it| it.connections.clients = 1).contains("the server bore 1 client."));
    let every = told(|it| it.probe = Probe::Ack { every: NonZeroU32::new(10).unwrap() });
    assert!(every.contains("one to every 10 messages of a client"));
}

#[test]
fn what_failed_is_told_also_where_it_is_tolerated() {
    let mut outcome = good();
    outcome.messages.refused = 7;
    let failure = |example: &str| Failure { count: 3, example: example.into() };
    outcome.connections.failed.insert("refused".into(), failure("<nobody>"));
    outcome.connections.disconnected.insert(1006, failure("lost"));
    outcome.verdict.tolerated = true;
    let text = html(&outcome);
    assert!(text.contains("<span>Failures</span><b>13</b>"));
    assert!(text.contains("within --max-failures.") && text.contains("<li>7 messages could not be sent"));
    assert!(text.contains("failed: refused</th><td>3: &lt;nobody&gt;</td>"));
    assert!(text.contains("closed: 1006</th><td>3: lost</td>"));
    assert!(!html(&good()).contains("Connections that failed"));
}

#[test]
fn memory_is_drawn_as_last_known_until_the_server_is_gone() {
    let mut samples: Vec<Sample> = (1..=4).map(second).collect();
    samples[0].server.as_mut().unwrap().pss_bytes = Some(5);
    samples[2].server = None;
    let lines = server::memory_lines(&samples);
    assert_eq!(lines[0].values, [Some(5.0), Some(5.0), None, None]);
}

#[test]
fn of_many_kinds_of_errors_each_line_has_its_colour() {
    let mut samples: Vec<Sample> = (1..=3).map(second).collect();
    samples[1].errors = (0..10).map(|kind| (format!("closed: 400{kind}"), kind + 1)).collect();
    let lines = errors(&samples);
    let names: Vec<&str> = lines.iter().map(|line| line.name.as_str()).collect();
    assert_eq!(names[..2], ["closed: 4009", "closed: 4008"]);
    assert_eq!((names.len(), names[6], lines[6].values[1]), (7, "others", Some(1.0 + 2.0 + 3.0 + 4.0)));
    samples[1].errors.retain(|_, count| *count < 3);
    assert_eq!(errors(&samples).len(), 2);
}
