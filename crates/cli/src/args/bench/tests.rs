//! What is typed, and the plan or the refusal that comes of it.

use std::time::Duration;

use clap::{CommandFactory, Parser};
use webscale_load::bench::endpoint::{Compression, Header};
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
fn a_load_without_a_message_is_refused() {
    let few = ["--clients", "3", "--duration", "1s", "--interval"];
    assert_eq!(plan(&[&few[..], &["3s"]].concat()).unwrap().interval, Duration::from_secs(3));
    refused(&[(&[&few[..], &["1m"]].concat(), "every 20 s in all")]);
    assert_eq!(plan(&["--clients", "1", "--duration", "1s", "--idle"]).unwrap().probe, Probe::Idle);
}

#[test]
fn a_process_that_is_not_there_is_refused() {
    assert_eq!(plan(&["--pid", "1"]).unwrap().pids, [1]);
    refused(&[(&["--pid", "0"], "--pid 0: there is no such process")]);
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
fn clients_send_in_ticks_where_asked() {
    assert_eq!(plan(&["--tick", "2ms"]).unwrap().tick, Duration::from_millis(2));
    assert_eq!(plan(&[]).unwrap().tick, Duration::ZERO);
    refused(&[(&["--tick", "2ms", "--closed"], "--tick"), (&["--tick", "2"], "no unit")]);
}

#[test]
fn idle_clients_send_pings_alone() {
    let idle = plan(&["--idle", "--ping-every", "5s", "--clients", "5000"]).unwrap();
    assert_eq!((idle.probe, idle.interval, idle.one_probed_in()), (Probe::Idle, Duration::from_secs(5), 1));
    assert_eq!(plan(&["--idle"]).unwrap().interval, Duration::from_secs(20));
    refused(&[
        (&["--idle", "--probe", "echo"], "--idle"),
        (&["--idle", "--interval", "1s"], "--idle"),
        (&["--idle", "--closed"], "--idle"),
        (&["--ping-every", "5s"], "--idle"),
    ]);
}

#[test]
fn answers_are_chosen() {
    assert_eq!(plan(&["--probe", "none"]).unwrap().probe, Probe::Sink);
    assert_eq!(plan(&["--ack-every", "5"]).unwrap().probe.ack_every(), Some(5));
    refused(&[
        (&["--ack-every", "0"], "whole number from 1"),
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

#[test]
fn the_opening_handshake_is_checked() {
    let flags = ["--header", "X-Id: {client}", "--origin", "https://a.example", "--subprotocol", "mqtt"];
    let asked = plan(&flags).unwrap().handshake;
    let names: Vec<&str> = asked.headers.iter().map(Header::name).collect();
    assert_eq!((names, asked.subprotocols), (vec!["X-Id", "Origin"], vec!["mqtt".to_owned()]));
    refused(&[
        (&["--header", "X-Id"], "NAME: VALUE"),
        (&["--header", "Upgrade: h2c"], "belongs to the handshake"),
        (&["--header", "Authorization: x", "--bearer", "y"], "Authorization is given twice"),
        (&["--header", "origin: x", "--origin", "y"], "Origin is given twice"),
        (&["--subprotocol", "a b"], "--subprotocol"),
        (&["--basic", "user"], "USER:PASSWORD"),
        (&["--basic", "u:p", "--bearer", "x"], "--bearer"),
        (&["--bearer", "env:WEBSCALE_NO_SUCH_VARIABLE"], "env:WEBSCALE_NO_SUCH_VARIABLE"),
        (&["--bearer", "@/nonexistent"], "No such file"),
        (&["--bearer", "@/dev/null"], "--bearer: that is empty"),
    ]);
    // A secret does not stand in what is said of it.
    let said = plan(&["--header", "X-Token: se\u{7}cret"]).map(drop).unwrap_err();
    assert!(said.contains("X-Token") && !said.contains("cret"), "{said}");
}

#[test]
fn compression_is_offered_as_asked() {
    let offered = |flag| plan(&[flag]).unwrap().handshake.compression;
    assert_eq!(plan(&[]).unwrap().handshake.compression, None);
    assert_eq!(offered("--deflate"), Some(Compression::default()));
    let asked = offered("--deflate=level=6,takeover,client_max_window_bits=12,threshold=64").unwrap();
    let expected = Compression {
        level: 6,
        threshold: 64,
        client_takeover: true,
        server_takeover: true,
        client_window_bits: 12,
        ..Compression::default()
    };
    assert_eq!(asked, expected);
    refused(&[
        (&["--deflate=level=10"], "level must be 1 to 9"),
        (&["--deflate=server_max_window_bits=8"], "9 to 15"),
        (&["--deflate=nonsense"], "no parameter"),
    ]);
}

#[test]
fn flags_of_tls_need_tls() {
    for flags in
        [&["--sni", "a.example"][..], &["--tls-version", "1.2"], &["--resume", "50%"], &["--system-roots"]]
    {
        refused(&[(flags, "wss://")]);
        let typed = [&["webscale", "bench", "wss://127.0.0.1:9"], flags].concat();
        let Command::Bench(args) = Args::try_parse_from(typed).unwrap().command else {
            unreachable!("bench")
        };
        args.plan().unwrap();
    }
    refused(&[(&["--client-cert", "x"], "--client-key"), (&["--client-key", "x"], "--client-cert")]);
    refused(&[(&["--client-cert", "x", "--client-key", "y"], "wss://")]);
    refused(&[(&["--tls-version", "1.1"], "1.1"), (&["--resume", "2"], "more than all")]);
}

#[test]
fn limits_that_end_a_load() {
    let asked = plan(&["--max-failures", "1%", "--stop-above-p99", "250ms", "--reconnect"]).unwrap();
    assert_eq!((asked.stop.failures, asked.stop.p99), (Some(0.01), Some(Duration::from_millis(250))));
    assert!(asked.reconnect);
    refused(&[(&["--max-failures", "200%"], "more than all"), (&["--stop-above-p99", "5"], "no unit")]);
}
