//! The page of one load.

mod server;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::advice;
use super::facts::{Fact, fact, host, run};
use super::page::{Figure, Page, Table, Tone};
use super::plot::{Axis, Band, LinePlot, Series};
use super::unit::{Unit, bytes_a_client};
use crate::bench::counts::Reconciled;
use crate::bench::judgement::{CORE_SHARE_MAX, LAG_SHARE_MAX, failures};
use crate::bench::outcome::{Conclusion, Failure, Outcome};
use crate::bench::plan::{Model, Probe};
use crate::bench::timeline::{Points, Sample, thinned};
use crate::histogram::Summary;
use crate::observe::Phase;

/// Points of a line over time. More cannot be told apart, and each has a row in a table.
const POINTS_MAX: usize = 240;
/// Kinds of errors that have a line of their own: with two more there would be two of a colour.
const KINDS_MAX: usize = 6;

/// The whole page: what it comes to, the figures that matter, the plots, and everything that a reader needs to do the
/// same again.
pub fn html(outcome: &Outcome) -> String {
    let mut page = Page::new("WebSocket load", &outcome.url, &load(outcome));
    verdict(&mut page, outcome);
    page.figures(&figures(outcome));
    let samples = thinned(&outcome.timeline, POINTS_MAX);
    page.section("Latency", &latency_note(outcome));
    if outcome.latency_us.is_some() {
        page.plots(&[latency_over_time(outcome, &samples), latency_curve(outcome)]);
    }
    page.table(&percentiles(outcome));
    page.section("Load", "What was due, and what became of it.");
    page.plots(&load_plots(outcome, &samples));
    page.tables(&[clients(outcome), messages(outcome)]);
    if let Some(counted) = &outcome.counted {
        page.table(&both_counts(counted));
    }
    let failed = failed(outcome);
    if !failed.is_empty() {
        page.note("Connections that failed, by kind, and what was said of the first one of each:");
        page.facts(&failed);
    }
    server::section(&mut page, outcome, &samples);
    page.section("Load generator", &generator_note(outcome));
    page.plots(&generator_plots(outcome, &samples));
    page.section("Made with", "");
    page.facts(&provenance(outcome));
    page.finish()
}

fn asked_for(outcome: &Outcome) -> String {
    match outcome.connections.clients {
        1 => "1 client".to_owned(),
        clients => format!("{} clients", Unit::Count.format(clients.into())),
    }
}

fn load(outcome: &Outcome) -> String {
    let clients = asked_for(outcome);
    let bytes = Unit::Bytes.format(outcome.payload_bytes as f64);
    let interval = Unit::Seconds.format(outcome.interval_seconds);
    let seconds = Unit::Seconds.format(outcome.measured_seconds);
    let what = match outcome.model {
        _ if outcome.probe == Probe::Idle => format!("held open, each with a ping every {interval}"),
        Model::Open => format!("each with {bytes} every {interval}"),
        Model::Closed if outcome.interval_seconds == 0.0 => {
            format!("each with {bytes} as soon as the last message was answered")
        }
        Model::Closed => format!("each with {bytes} a further {interval} after every answer"),
    };
    format!("{clients}, {what}; measured for {seconds}.")
}

fn verdict(page: &mut Page, outcome: &Outcome) {
    let verdict = &outcome.verdict;
    let clients = asked_for(outcome);
    let (tone, sentence) = match verdict.conclusion() {
        Conclusion::Interrupted if verdict.saturated.is_some() => (
            Tone::Warning,
            "Interrupted, and does not count: the load generator was saturated, not the server.".to_owned(),
        ),
        Conclusion::Interrupted => {
            (Tone::Warning, "Interrupted: the figures are of what was done until then.".to_owned())
        }
        Conclusion::Saturated => {
            (Tone::Warning, "Does not count: the load generator was saturated, not the server.".to_owned())
        }
        Conclusion::Broken => (
            Tone::Warning,
            "Does not count: a process of the load was lost; the figures are of what was counted until then."
                .to_owned(),
        ),
        Conclusion::Failed => (Tone::Bad, format!("Not held: the server did not bear {clients}.")),
        Conclusion::Held if verdict.tolerated && !failures(outcome).is_empty() => (
            Tone::Good,
            format!("Held: the server bore {clients}; what failed stayed within --max-failures."),
        ),
        Conclusion::Held => (Tone::Good, format!("Held: the server bore {clients}.")),
    };
    let borne = if verdict.tolerated { failures(outcome) } else { Vec::new() };
    let stopped = verdict.stopped.as_ref().map(|why| format!("Ended early: {why}"));
    let reasons: Vec<String> = verdict
        .broken
        .iter()
        .chain(&verdict.saturated)
        .chain(&verdict.problems)
        .chain(&borne)
        .cloned()
        .chain(stopped)
        .collect();
    page.verdict(tone, &sentence, &reasons);
}

fn figures(outcome: &Outcome) -> Vec<Figure> {
    let connections = &outcome.connections;
    let (rate, bytes) = outcome.sent_rates();
    let (what, note) = match outcome.probe {
        Probe::Idle => ("Pings", "no messages".to_owned()),
        _ => {
            let bytes = Unit::Bytes.format(bytes);
            ("Messages", format!("{bytes} of payload a second"))
        }
    };
    let mut figures = vec![
        Figure::new(
            "Clients open",
            Unit::Count.format(connections.peak_open.into()),
            format!("of {}, at the same time", Unit::Count.format(connections.clients.into())),
        ),
        Figure::new(what, Unit::PerSecond.format(rate), note),
        Figure::new(
            "Failures",
            Unit::Count.format(outcome.failure_count() as f64),
            "of connections and messages",
        ),
    ];
    if let Some(latency) = &outcome.latency_us {
        let (us, corrected) = (|us| Unit::Microseconds.format(us), &latency.corrected);
        figures.push(Figure::new(
            "Latency p50",
            us(corrected.p50),
            format!("half of the {}s", outcome.sent_noun()),
        ));
        let limit = us(outcome.latency_limit_seconds * 1e6);
        figures.push(Figure::new("Latency p99", us(corrected.p99), format!("limit {limit}")));
    }
    if let Some(server) = &outcome.server {
        let each = server.cpu_us_per_message.map_or_else(String::new, |us| {
            format!("{} a {}", Unit::Microseconds.format(us), outcome.sent_noun())
        });
        figures.push(Figure::new("Server CPU", Unit::Processor.format(server.cpu_share), each));
        let (idle, loaded) = (server.memory_idle.pss_bytes, server.memory_loaded.pss_bytes);
        let each = bytes_a_client(loaded, idle, connections.opened)
            .map_or_else(String::new, |each| format!("{each} a client"));
        figures.push(Figure::new(
            "Server memory",
            Unit::Bytes.format(server.memory_loaded.pss_bytes as f64),
            each,
        ));
    }
    let share = Unit::Processor.format(outcome.generator.busiest_thread);
    figures.push(Figure::new("Generator", share, "of a processor, busiest thread"));
    figures
}

fn latency_note(outcome: &Outcome) -> String {
    let how = match outcome.probe {
        Probe::Sink => return "No answer was expected, so there is no latency.".into(),
        Probe::Ping if outcome.probe_one_in > 1 => format!(
            "Taken by pings that one client in {} sends right behind its message: the pong comes back after the message \
             was read.",
            outcome.probe_one_in
        ),
        Probe::Ping => {
            "Taken by a ping right behind each message: the pong comes back after the message was read."
                .into()
        }
        Probe::Idle => "Taken by the pings that keep the connections alive.".into(),
        Probe::Echo => "Taken by the echo of each message, whose bytes were compared.".into(),
        Probe::Ack { every } if every.get() == 1 => "Taken by the server's answer to each message.".into(),
        Probe::Ack { every } => {
            format!("Taken by the server's answers, one to every {every} messages of a client.")
        }
    };
    let what = match outcome.model {
        Model::Open => {
            format!(
                "Corrected latency counts from when a {0} was due by the schedule, so that a server which stands still \
                 cannot hide what waited; uncorrected latency counts from when the {0} was sent.",
                outcome.sent_noun()
            )
        }
        Model::Closed => {
            "In a closed loop a message is due when the last one was answered: a server that stands still is asked less \
             often, and most of that does not show. Corrected latency counts from when the message was due, uncorrected \
             latency from when it was sent."
                .to_owned()
        }
    };
    format!("{how} {what}")
}

/// A plot over the time of the load, with its phases and the generator's faults set off.
fn over_time(title: &str, samples: &[Sample], unit: Unit, series: Vec<Series>) -> LinePlot {
    let seconds = samples.iter().map(|sample| sample.at_seconds).collect();
    LinePlot { series, bands: bands(samples), ..LinePlot::over_time(title, seconds, unit) }
}

fn series(name: impl Into<String>, samples: &[Sample], figure: impl Fn(&Sample) -> Option<f64>) -> Series {
    Series::new(name, samples.iter().map(figure).collect())
}

fn bands(samples: &[Sample]) -> Vec<Band> {
    let begin = |sample: &Sample| sample.at_seconds - sample.length_seconds;
    let measured = |sample: &Sample| sample.phase == Phase::Measuring;
    let runs = samples.chunk_by(|one, other| measured(one) == measured(other));
    let outside = runs.filter(|run| !measured(&run[0])).map(|run| (run, "not measured", false));
    let saturated = |sample: &Sample| sample.generator.saturated;
    let runs = samples.chunk_by(|one, other| saturated(one) == saturated(other));
    let hot = runs.filter(|run| saturated(&run[0])).map(|run| (run, "generator saturated", true));
    let band = |(run, name, alarming): (&[Sample], &str, bool)| Band {
        from: begin(&run[0]),
        to: run[run.len() - 1].at_seconds,
        name: name.to_owned(),
        alarming,
    };
    outside.chain(hot).map(band).collect()
}

fn latency_over_time(outcome: &Outcome, samples: &[Sample]) -> String {
    let corrected = |figure: fn(&Points) -> f64| {
        move |sample: &Sample| Some(figure(&sample.latency_us.as_ref()?.corrected))
    };
    let lines = vec![
        series("p50", samples, corrected(|points| points.p50)),
        series("p99", samples, corrected(|points| points.p99)),
        series("max", samples, corrected(|points| points.max)),
        series("p99 uncorrected", samples, |sample| Some(sample.latency_us.as_ref()?.uncorrected?.p99))
            .dashed(),
    ];
    LinePlot {
        description: "Corrected, second by second; logarithmic.".into(),
        y_axis: Axis::Log,
        limit: Some((outcome.latency_limit_seconds * 1e6, "limit of p99".into())),
        ..over_time("Latency over time", samples, Unit::Microseconds, lines)
    }
    .html()
}

/// The width is logarithmic in what is left above a percentile: each nine takes the same room.
fn latency_curve(outcome: &Outcome) -> String {
    let curve = &outcome.latency_curve;
    // The slowest message has nothing above it: it stands at half a message.
    let count = outcome.latency_us.map_or(1, |latency| latency.corrected.count).max(1) as f64;
    let place = |quantile: f64| 1.0 / (1.0 - quantile).max(0.5 / count);
    let nines = [0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999];
    let most = place(1.0);
    let labels = nines.iter().filter(|nine| 1.0 / (1.0 - **nine) <= most * 0.7);
    let plot = LinePlot {
        description: "The share of messages that was answered within a time; logarithmic both ways.".into(),
        x_name: "percentile".into(),
        x_unit: Unit::Percentile,
        x_axis: Axis::Log,
        x_labels: labels.map(|nine| (place(*nine), Unit::Percentile.format(*nine))).collect(),
        y_axis: Axis::Log,
        series: vec![
            Series::new("corrected", curve.iter().map(|point| Some(point.corrected_us)).collect()),
            Series::new("uncorrected", curve.iter().map(|point| point.uncorrected_us).collect()).dashed(),
        ],
        ..LinePlot::over_time("Latency by percentile", Vec::new(), Unit::Microseconds)
    };
    let names = curve.iter().map(|point| Unit::Percentile.format(point.quantile)).collect();
    LinePlot { x: curve.iter().map(|point| place(point.quantile)).collect(), x_texts: names, ..plot }.html()
}

/// The distributions side by side: a telephone has the room for that, and not for all percentiles in one row.
fn percentiles(outcome: &Outcome) -> Table {
    let all: [(&str, Option<Summary>); 4] = [
        ("corrected", outcome.latency_us.map(|latency| latency.corrected)),
        ("uncorrected", outcome.latency_us.and_then(|latency| latency.uncorrected)),
        ("sent late by", outcome.schedule_lag_us),
        ("opening handshake", outcome.connections.handshake_us),
    ];
    let (names, summaries): (Vec<&str>, Vec<Summary>) =
        all.into_iter().filter_map(|(name, summary)| Some((name, summary?))).unzip();
    let mut table = Table::new(
        "Percentiles of the measured part (HDR histogram, three digits or half a microsecond)",
        &[&[""], &names[..]].concat(),
    );
    let mut row = |name: &str, figure: fn(&Summary) -> f64, unit: Unit| {
        let cells = summaries.iter().map(|summary| unit.format(figure(summary)));
        table.row([name.to_owned()].into_iter().chain(cells));
    };
    row("p50", |summary| summary.p50, Unit::Microseconds);
    row("p90", |summary| summary.p90, Unit::Microseconds);
    row("p99", |summary| summary.p99, Unit::Microseconds);
    row("p99.9", |summary| summary.p999, Unit::Microseconds);
    row("p99.99", |summary| summary.p9999, Unit::Microseconds);
    row("max", |summary| summary.max, Unit::Microseconds);
    row("mean", |summary| summary.mean, Unit::Microseconds);
    row("count", |summary| summary.count as f64, Unit::Count);
    table
}

fn load_plots(outcome: &Outcome, samples: &[Sample]) -> Vec<String> {
    let rate = |figure: fn(&Sample) -> u64| {
        move |sample: &Sample| Some(figure(sample) as f64 / sample.length_seconds.max(1e-3))
    };
    let rates = vec![
        series("sent", samples, rate(|sample| sample.sent)),
        series("answered", samples, rate(|sample| sample.answered)),
        series("due", samples, rate(|sample| sample.offered)).dashed(),
    ];
    let clients = vec![
        series("open", samples, |sample| Some(sample.clients.open.into())),
        series("connecting", samples, |sample| Some(sample.clients.connecting.into())),
    ];
    let mut plots = vec![
        over_time(
            if outcome.probe == Probe::Idle { "Pings a second" } else { "Messages a second" },
            samples,
            Unit::PerSecond,
            rates,
        )
        .html(),
        over_time("Clients", samples, Unit::Count, clients).html(),
    ];
    if samples.iter().any(|sample| sample.error_count() > 0) {
        plots.push(
            LinePlot {
                wide: true,
                ..over_time("Errors a second", samples, Unit::PerSecond, errors(samples))
            }
            .html(),
        );
    }
    plots
}

/// A line for each of the most frequent kinds of errors, and one for all others.
fn errors(samples: &[Sample]) -> Vec<Series> {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for (kind, count) in samples.iter().flat_map(|sample| &sample.errors) {
        *sums.entry(kind).or_default() += count;
    }
    let mut kinds: Vec<(&str, u64)> = sums.into_iter().collect();
    kinds.sort_by_key(|(_, count)| Reverse(*count));
    let (frequent, others) = kinds.split_at(kinds.len().min(KINDS_MAX));
    let line = |name: &str, kinds: &[(&str, u64)]| {
        series(name, samples, |sample| {
            let of = |kind: &str| sample.errors.get(kind).copied().unwrap_or(0);
            let count: u64 = kinds.iter().map(|(kind, _)| of(kind)).sum();
            Some(count as f64 / sample.length_seconds.max(1e-3))
        })
    };
    let lines = frequent.iter().map(|kind| line(kind.0, std::slice::from_ref(kind)));
    lines.chain((!others.is_empty()).then(|| line("others", others))).collect()
}

fn clients(outcome: &Outcome) -> Table {
    let connections = &outcome.connections;
    let resumed = connections.resumed.map(|resumed| ("resumed a TLS session", resumed));
    let rows = [
        ("asked for", connections.clients.into()),
        ("connected", connections.opened.into()),
        ("open at the same time, at most", connections.peak_open.into()),
        ("attempts to connect that failed", connections.failed_count()),
        ("disconnected", connections.disconnected_count()),
        ("connected again", connections.reconnected.into()),
    ];
    counts("Clients", &rows.into_iter().chain(resumed).collect::<Vec<_>>())
}

fn messages(outcome: &Outcome) -> Table {
    let messages = &outcome.messages;
    let what = if outcome.probe == Probe::Idle { "Pings" } else { "Messages" };
    let compressed = outcome.compressed.map(|compressed| {
        [
            ("sent compressed, warm-up included", compressed.sent.messages),
            ("received compressed, warm-up included", compressed.received.messages),
        ]
    });
    counts(
        &format!("{what} that were due in the measured part"),
        &[
            &[
                ("due", messages.offered),
                ("sent", messages.sent),
                ("refused: the server did not read", messages.refused),
                ("answers awaited", messages.awaited),
                ("answered", messages.answered),
                ("not answered", messages.unanswered),
                ("lost echoes, warm-up included", messages.lost),
                ("echoes out of order, warm-up included", messages.reordered),
                ("corrupt echoes, warm-up included", messages.corrupt),
                ("sent in all, warm-up included", messages.sent_in_all),
            ][..],
            compressed.as_ref().map_or(&[], |rows| &rows[..]),
        ]
        .concat(),
    )
}

/// The whole load as both sides counted it.
fn both_counts(counted: &Reconciled) -> Table {
    let agrees = if counted.agrees { "they agree" } else { "they disagree" };
    let mut table =
        Table::new(format!("In all, as both sides counted: {agrees}"), &["", "by the load", "by the server"]);
    let rows = [
        ("connections", counted.handshakes),
        ("open once all had connected", counted.open),
        ("messages", counted.messages),
    ];
    for (name, pair) in rows.into_iter().filter_map(|(name, pair)| Some((name, pair?))) {
        let counts = [pair.load, pair.server].map(|count| Unit::Count.format(count as f64));
        table.row([name.to_owned()].into_iter().chain(counts));
    }
    table
}

fn counts(caption: &str, rows: &[(&str, u64)]) -> Table {
    let mut table = Table::new(caption, &["", "count"]);
    for (name, count) in rows {
        table.row([(*name).to_owned(), Unit::Count.format(*count as f64)]);
    }
    table
}

/// What failed, by kind, and what was said of the first one.
fn failed(outcome: &Outcome) -> Vec<Fact> {
    let told = |name: String, failure: &Failure| {
        let count = Unit::Count.format(failure.count as f64);
        fact(&name, format!("{count}: {}", failure.example))
    };
    let connections = &outcome.connections;
    let failed = connections.failed.iter().map(|(kind, failure)| told(format!("failed: {kind}"), failure));
    let closed =
        connections.disconnected.iter().map(|(code, failure)| told(format!("closed: {code}"), failure));
    failed.chain(closed).collect()
}

fn generator_note(outcome: &Outcome) -> String {
    let advice = advice::cheaper(outcome).map_or_else(String::new, |lines| format!(" {}.", lines.join(" ")));
    let (core, lag) = (CORE_SHARE_MAX * 100.0, LAG_SHARE_MAX * 100.0);
    format!(
        "Latency is the server's only as long as the generator is on time: its busiest thread below {core:.0} % of a \
         processor, and messages sent no later than {lag:.0} % of the latency limit after they were due (p99).{advice}"
    )
}

fn generator_plots(outcome: &Outcome, samples: &[Sample]) -> Vec<String> {
    let cpu = vec![
        series("busiest thread", samples, |sample| Some(sample.generator.busiest_thread)),
        series("all threads", samples, |sample| Some(sample.generator.cpu_share)),
    ];
    let lag = vec![series("sent late by, p99", samples, |sample| sample.lag_p99_us)];
    vec![
        LinePlot {
            limit: Some((CORE_SHARE_MAX, "saturated".into())),
            ..over_time("Generator CPU", samples, Unit::Processor, cpu)
        }
        .html(),
        LinePlot {
            limit: Some((outcome.latency_limit_seconds * LAG_SHARE_MAX * 1e6, "saturated".into())),
            ..over_time("Schedule lag", samples, Unit::Microseconds, lag)
        }
        .html(),
    ]
}

fn provenance(outcome: &Outcome) -> Vec<Fact> {
    let [busy, interrupts, stolen] =
        [outcome.machine.busy, outcome.machine.interrupts, outcome.machine.stolen]
            .map(|share| Unit::Processor.format(share));
    let machine = format!("{busy} busy, {interrupts} in interrupts, {stolen} stolen, while it was measured");
    let others = outcome.other_programs.map(|others| {
        fact("other programs", format!("{others:.2} processors, neither the server nor the load"))
    });
    let all =
        [run(&outcome.provenance), host(&outcome.provenance.host), vec![fact("whole machine", machine)]];
    all.into_iter().flatten().chain(others).collect()
}
