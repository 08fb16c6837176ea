//! What is typed, and the plan or the refusal that comes of it.

use std::time::Duration;

use clap::{CommandFactory, Parser};
use webscale_load::bench::plan::Model;
use webscale_load::bench::{Plan, Probe};
use webscale_load::schedule::Ramp;

use crate::args::{Args, Command};

const URL: &str = "ws://127.0.0.1:9";

/// The plan, or what is said in its place.
fn plan(flags: &[&str]) -> Result<Plan, String> {
    let typed = [&["webscale", "bench", URL], flags].concat();
    let args = Args::try_parse_from(typed).map_err(|error| error.to_string())?;
    let Command::Bench(args) = args.command else { unreachable!("bench was typed") };
    args.plan().map_err(|error| error.to_string())
}

/// Each of `cases` is refused, in words that contain the second part.
fn refused(cases: &[(&[&str], &str)]) {
    for (flags, words) in cases {
        let said = plan(flags).map(drop).expect_err(&format!("{flags:?} is refused"));
        assert!(said.contains(words), "{flags:?}: {said}");
    }
}

#[test]
fn flags_are_consistent() {
    Args::command().debug_assert();
}

#[test]
fn the_rate_is_shared_by_the_clients() {
    assert_eq!(plan(&[]).unwrap().interval, Duration::from_secs(1));
    let plan_of = |rate| plan(&["--clients", "50", "--rate", rate]).unwrap().interval;
    assert_eq!(plan_of("200/s"), Duration::from_millis(250));
    assert_eq!(plan_of("60/m"), Duration::from_secs(50));
    refused(&[
        (&["--rate", "5/s", "--interval", "1s"], "--interval"),
        (&["--rate", "0/s"], "above zero"),
        (&["--rate", "99999999999999/s"], "too high"),
        (&["--interval", "0s"], "--interval must be above zero"),
        (&["--duration", "0s"], "--duration must be above zero"),
    ]);
    assert_eq!(plan(&["--duration", "3d"]).unwrap().duration, Duration::from_secs(3 * 86_400));
}

#[test]
fn clients_arrive_as_asked() {
    let ramp = |flags| plan(flags).unwrap().ramp;
    let over = Duration::from_secs(10);
    assert_eq!(ramp(&[]), Ramp::AtOnce);
    assert_eq!(ramp(&["--ramp", "10s"]), Ramp::Linear(over));
    assert_eq!(ramp(&["--ramp", "10s", "--ramp-steps", "4"]), Ramp::Steps { over, steps: 4 });
    assert_eq!(ramp(&["--connect-rate", "200/s"]), Ramp::Rate(200.0));
    refused(&[
        (&["--connect-rate", "200/s", "--ramp", "10s"], "--ramp"),
        (&["--connect-rate", "200/s", "--ramp-steps", "2"], "--ramp-steps"),
        (&["--ramp-steps", "4"], "--ramp"),
        (&["--ramp", "0s", "--ramp-steps", "4"], "--ramp must be above zero"),
    ]);
}

#[test]
fn a_closed_loop_is_asked_for() {
    let asked = plan(&["--closed", "--think", "20ms", "--probe", "echo"]).unwrap();
    assert_eq!((asked.model, asked.interval), (Model::Closed, Duration::from_millis(20)));
    assert_eq!(plan(&["--closed"]).unwrap().interval, Duration::ZERO);
    refused(&[
        (&["--think", "1s"], "--closed"),
        (&["--closed", "--interval", "1s"], "--interval"),
        (&["--closed", "--rate", "5/s"], "--rate"),
        (&["--closed", "--probe", "sink"], "--probe sink"),
        (&["--closed", "--ack-every", "2"], "--ack-every 1"),
        (&["--closed", "--sample", "2"], "--sample"),
    ]);
}

#[test]
fn answers_are_chosen() {
    assert_eq!(plan(&["--probe", "none"]).unwrap().probe, Probe::Sink);
    assert_eq!(plan(&["--ack-every", "5"]).unwrap().probe.ack_every(), Some(5));
    refused(&[
        (&["--ack-every", "0"], "--ack-every"),
        (&["--ack-every", "2", "--probe", "echo"], "--probe"),
        (&["--probe", "echo", "--sample", "2"], "--sample"),
    ]);
}

#[test]
fn templates_are_checked() {
    assert_eq!(plan(&["--template", "{client}/{seq}"]).unwrap().payload.len(), 3);
    refused(&[
        (&["--template", "ab {nobody}"], "--template, at byte 3: {nobody} is no field"),
        (&["--template", "@/nonexistent"], "@/nonexistent: No such file"),
        (&["--template", "x", "--size", "5"], "--size"),
        (&["--template", "x", "--payload", "x"], "--payload"),
    ]);
}
