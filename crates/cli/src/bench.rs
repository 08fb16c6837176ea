//! `webscale bench`: a load, and what came of it as text or JSON.

use std::fmt::Write;

use webscale_load::bench::outcome::{Generator, KernelUse, LatencySummary, Messages, Outcome};
use webscale_load::bench::{self, BenchError};
use webscale_load::histogram::Summary;
use webscale_load::report;

use crate::args::BenchArgs;
use crate::exit::Usage;
use crate::output;
use crate::progress::Stderr;

/// The load was made, and the outcome is not what it should be; the text has said so already.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotHeld(String);

pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let mut plan = args.plan()?;
    output::prepare(args.json.as_deref())?;
    output::prepare_file("--html", args.html.as_deref())?;
    output::prepare_file("--csv", args.csv.as_deref())?;
    let mut stderr = Stderr::new()?;
    crate::doctor::before_load(&plan, &mut stderr)?;
    args.machine.find_server(&mut plan, &mut stderr).map_err(failed)?;
    let outcome = bench::run(&plan, &mut stderr);
    stderr.finish();
    let outcome = outcome.map_err(failed)?;
    output::write_file(args.html.as_deref(), || report::html::html(&outcome))?;
    output::write_file(args.csv.as_deref(), || report::csv::csv(&outcome))?;
    output::report(args.json.as_deref(), &outcome, || text(&outcome))?;
    let verdict = &outcome.verdict;
    if let Some(why) = &verdict.stopped {
        return Err(NotHeld(format!("ended early: {why}")).into());
    }
    match (&verdict.saturated, verdict.problems.first()) {
        _ if verdict.interrupted => {
            Err(NotHeld("interrupted: the figures are of what was done until then".into()).into())
        }
        (Some(why), _) => Err(NotHeld(format!("the load generator was saturated: {why}")).into()),
        (None, Some(problem)) => Err(NotHeld(format!("the load was not borne: {problem}")).into()),
        (None, None) => Ok(()),
    }
}

/// Tells what was typed wrong from what went wrong.
pub(crate) fn failed(error: BenchError) -> anyhow::Error {
    match error {
        BenchError::Target(_)
        | BenchError::Url(_)
        | BenchError::Tls(_)
        | BenchError::SourceFamily { .. }
        | BenchError::Processor { .. } => anyhow::Error::new(Usage(error.to_string())),
        other => other.into(),
    }
}

/// A process of a load that several make.
pub(crate) fn run_part() -> anyhow::Result<()> {
    let input = std::io::BufReader::new(std::io::stdin());
    Ok(bench::run_part(input, std::io::stdout())?)
}

/// The outcome for people.
fn text(outcome: &Outcome) -> String {
    let mut text = String::new();
    connections(&mut text, outcome);
    messages(&mut text, outcome);
    if let Some(latency) = &outcome.latency_us {
        latencies(&mut text, outcome, latency);
    }
    usage(&mut text, outcome);
    verdict(&mut text, outcome);
    text
}

/// Writes one line; a `String` takes everything.
macro_rules! line {
    ($text:expr, $($arguments:tt)*) => {{
        let _ = writeln!($text, $($arguments)*);
    }};
}

fn connections(text: &mut String, outcome: &Outcome) {
    let connections = &outcome.connections;
    let (clients, opened, peak) = (connections.clients, connections.opened, connections.peak_open);
    line!(text, "{}", outcome.url);
    line!(text, "clients      {opened} of {clients} connected, at most {peak} at the same time");
    if connections.reconnected > 0 {
        line!(text, "             {} connected again", connections.reconnected);
    }
    if connections.resumed > 0 {
        line!(text, "             {} resumed a TLS session", connections.resumed);
    }
    if let Some(handshake) = &connections.handshake_us {
        line!(text, "handshake    {}", percentiles(handshake));
    }
}

fn messages(text: &mut String, outcome: &Outcome) {
    let messages = &outcome.messages;
    let seconds = outcome.measured_seconds;
    let rate = messages.sent as f64 / seconds;
    let megabytes = rate * outcome.payload_bytes as f64 / 1e6;
    let (sent, offered) = (messages.sent, messages.offered);
    if outcome.probe == "idle" {
        line!(text, "pings        {sent} of {offered} sent in {seconds:.1} s, {rate:.0}/s; no messages");
    } else {
        line!(
            text,
            "messages     {sent} of {offered} sent in {seconds:.1} s, {rate:.0}/s, {megabytes:.1} MB/s"
        );
    }
    if messages.awaited > 0 {
        line!(text, "answers      {} of {} awaited", messages.answered, messages.awaited);
    }
    if outcome.probe == "echo" {
        let Messages { lost, corrupt, reordered, .. } = messages;
        line!(text, "echoes       {lost} lost, {corrupt} corrupt, {reordered} out of order");
    }
    if let Some(closed) = &outcome.closed_loop {
        let percent = closed.accounted * 100.0;
        line!(text, "closed loop  Little's law accounts for {percent:.1} % of the clients' time");
    }
}

fn latencies(text: &mut String, outcome: &Outcome, latency: &LatencySummary) {
    let what = match outcome.probe {
        "ping" if outcome.probe_one_in == 1 => "pings behind the messages".to_owned(),
        "ping" => format!("pings behind the messages of one client in {}", outcome.probe_one_in),
        "idle" => "pings".to_owned(),
        "ack" => format!("answers to each {}. message", outcome.ack_every.unwrap_or(1)),
        probe => format!("{probe}es"),
    };
    line!(text, "latency      {}", percentiles(&latency.corrected));
    line!(
        text,
        "             from when {} was due, by {what}",
        if outcome.probe == "idle" { "a ping" } else { "a message" }
    );
    if let Some(uncorrected) = &latency.uncorrected {
        line!(text, "uncorrected  {}", percentiles(uncorrected));
    }
}

fn usage(text: &mut String, outcome: &Outcome) {
    if let Some(server) = &outcome.server {
        let per_message =
            server.cpu_us_per_message.map_or_else(String::new, |us| format!(", {us:.1} µs a message"));
        line!(text, "server CPU   {:.1} % of a core{per_message}", server.cpu_share * 100.0);
        if let Some(us) = server.handshake_cpu_us {
            line!(text, "             {us:.0} µs a handshake");
        }
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let (idle, loaded) = (server.memory_idle.pss_bytes, server.memory_loaded.pss_bytes);
        line!(
            text,
            "server PSS   {:.1} MB idle, {:.1} MB connected, {:.1} MB loaded, {:.1} MB at most",
            megabytes(idle),
            megabytes(server.memory_connected.pss_bytes),
            megabytes(loaded),
            megabytes(server.peak_pss_bytes)
        );
    }
    let (machine, generator) = (&outcome.machine, &outcome.generator);
    line!(
        text,
        "generator    {:.1} % of a core in its busiest thread{}",
        generator.busiest_thread * 100.0,
        costs(generator)
    );
    if let Some(share) = outcome.generator_to_server() {
        line!(text, "             {share:.2} of the server's CPU");
    }
    if let Some(lag) = &outcome.schedule_lag_us {
        line!(text, "sent late by {}", percentiles(lag));
    }
    let KernelUse { idle, loaded, .. } = &outcome.kernel;
    let (bytes, sockets) = (loaded.total_bytes().saturating_sub(idle.total_bytes()), loaded.tcp_in_use);
    line!(text, "kernel       {:.1} MB more for sockets, of which {sockets} are in use", bytes as f64 / 1e6);
    line!(
        text,
        "machine      {:.1} % busy, {:.1} % in interrupts, {:.1} % stolen",
        machine.busy * 100.0,
        machine.interrupts * 100.0,
        machine.stolen * 100.0
    );
    if let Some(others) = outcome.other_programs.filter(|share| *share > 0.2) {
        line!(text, "disturbed    other programs took {others:.1} processors");
    }
}

/// What the load cost its maker.
fn costs(generator: &Generator) -> String {
    let mut text = String::new();
    if let Some(us) = generator.cpu_us_per_message {
        text += &format!(", {us:.1} µs a message");
    }
    if let Some(bytes) = generator.pss_bytes_per_client {
        text += &format!(", {:.1} kB a client", bytes / 1e3);
    }
    if generator.processes > 1 {
        text += &format!(", {} processes", generator.processes);
    }
    text
}

fn verdict(text: &mut String, outcome: &Outcome) {
    let verdict = &outcome.verdict;
    if let Some(why) = &verdict.saturated {
        line!(text, "rejected     the generator was saturated: {why}");
    }
    for problem in &verdict.problems {
        line!(text, "problem      {problem}");
    }
    if let Some(why) = &verdict.stopped {
        line!(text, "ended early  {why}");
    }
    if verdict.interrupted {
        line!(text, "interrupted  before the end");
    }
    if verdict.held() {
        line!(text, "verdict      held");
    }
}

fn percentiles(summary: &Summary) -> String {
    let points = [("p50", summary.p50), ("p99", summary.p99), ("p99.9", summary.p999), ("max", summary.max)];
    points.map(|(name, us)| format!("{name} {}", time(us))).join("  ")
}

/// A time that is given in µs, with three digits or so.
fn time(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{us:.0} µs"),
        us if us < 1e5 => format!("{:.2} ms", us / 1e3),
        us if us < 1e6 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_meaning() {
        let texts = [12.3, 1_234.0, 250_000.0, 2_500_000.0].map(time);
        assert_eq!(texts, ["12 µs", "1.23 ms", "250 ms", "2.50 s"]);
    }
}
