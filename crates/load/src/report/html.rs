//! The page of one load.

use super::advice;
use super::facts::{Fact, fact, host, run};
use super::page::{Figure, Page, Table, Tone};
use super::plot::{Axis, Band, LinePlot, Series};
use super::unit::Unit;
use crate::bench::judgement::{CORE_SHARE_MAX, LAG_SHARE_MAX};
use crate::bench::outcome::{Outcome, ServerUse};
use crate::bench::timeline::{Sample, ThreadShare, thinned, threads_of_server};
use crate::histogram::Summary;
use crate::measure::group;
use crate::observe::Phase;

/// Points of a line over time. More cannot be told apart, and each has a row in a table.
const POINTS_MAX: usize = 240;
/// Threads of the server that have a line of their own.
const THREADS_MAX: usize = 6;

/// The whole page: what it comes to, the figures that matter, the plots, and everything that a reader needs to do the
/// same again.
pub fn html(outcome: &Outcome) -> String {
    let mut page = Page::new("WebSocket load", &outcome.url, &load(outcome));
    verdict(&mut page, outcome);
    page.figures(&figures(outcome));
    let samples = thinned(&outcome.timeline, POINTS_MAX);
    page.section("Latency", &latency_note(outcome));
    page.plots(&[latency_over_time(outcome, &samples), latency_curve(outcome)]);
    page.table(&percentiles(outcome));
    page.section("Load", "What was due by the schedule, and what became of it.");
    page.plots(&load_plots(&samples));
    page.table(&counts(outcome));
    server(&mut page, outcome, &samples);
    page.section("Load generator", &generator_note(outcome));
    page.plots(&generator_plots(outcome, &samples));
    page.section("Made with", "");
    page.facts(&provenance(outcome));
    page.finish()
}

fn load(outcome: &Outcome) -> String {
    let clients = Unit::Count.format(outcome.connections.clients.into());
    let bytes = Unit::Bytes.format(outcome.payload_bytes as f64);
    let interval = Unit::Seconds.format(outcome.interval_seconds);
    let seconds = Unit::Seconds.format(outcome.measured_seconds);
    format!("{clients} clients, {bytes} every {interval} each, measured for {seconds}.")
}

fn verdict(page: &mut Page, outcome: &Outcome) {
    let verdict = &outcome.verdict;
    let clients = Unit::Count.format(outcome.connections.clients.into());
    let (tone, sentence) = match verdict.word() {
        "interrupted" if verdict.saturated.is_some() => (
            Tone::Warning,
            "Interrupted, and does not count: the load generator was saturated, not the server.".to_owned(),
        ),
        "interrupted" => {
            (Tone::Warning, "Interrupted: the figures are of what was done until then.".to_owned())
        }
        "saturated" => {
            (Tone::Warning, "Does not count: the load generator was saturated, not the server.".to_owned())
        }
        "failed" if verdict.broken.is_some() => (
            Tone::Warning,
            "Does not count: a process of the load was lost; the figures are of what was counted until then."
                .to_owned(),
        ),
        "failed" => (Tone::Bad, format!("Not held: the server did not bear {clients} clients.")),
        _ => (Tone::Good, format!("Held: the server bore {clients} clients.")),
    };
    let stopped = verdict.stopped.as_ref().map(|why| format!("Ended early: {why}"));
    let reasons: Vec<String> = verdict
        .broken
        .iter()
        .chain(&verdict.saturated)
        .chain(&verdict.problems)
        .cloned()
        .chain(stopped)
        .collect();
    page.verdict(tone, &sentence, &reasons);
}

fn figures(outcome: &Outcome) -> Vec<Figure> {
    let (connections, messages) = (&outcome.connections, &outcome.messages);
    let rate = |count: u64| count as f64 / outcome.measured_seconds;
    let megabytes = Unit::Bytes.format(rate(messages.sent) * outcome.payload_bytes as f64);
    let mut figures = vec![
        Figure::new(
            "Clients open",
            Unit::Count.format(connections.peak_open.into()),
            format!("of {}, at the same time", Unit::Count.format(connections.clients.into())),
        ),
        Figure::new("Messages", Unit::PerSecond.format(rate(messages.sent)), format!("{megabytes} a second")),
    ];
    if let Some(latency) = &outcome.latency_us {
        let (us, corrected) = (|us| Unit::Microseconds.format(us), &latency.corrected);
        figures.push(Figure::new("Latency p50", us(corrected.p50), "half of the messages"));
        let limit = us(outcome.latency_limit_seconds * 1e6);
        figures.push(Figure::new("Latency p99", us(corrected.p99), format!("limit {limit}")));
    }
    if let Some(server) = &outcome.server {
        let each = server
            .cpu_us_per_message
            .map_or_else(String::new, |us| format!("{} a message", Unit::Microseconds.format(us)));
        figures.push(Figure::new("Server CPU", Unit::Processor.format(server.cpu_share), each));
        let each = memory_per_client(server, connections.opened)
            .map_or_else(String::new, |bytes| format!("{} a client", Unit::Bytes.format(bytes)));
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

/// What a client adds to the server's memory under load.
fn memory_per_client(server: &ServerUse, opened: u32) -> Option<f64> {
    let more = server.memory_loaded.pss_bytes.saturating_sub(server.memory_idle.pss_bytes);
    (opened > 0).then(|| more as f64 / f64::from(opened))
}

fn latency_note(outcome: &Outcome) -> String {
    let how = match outcome.probe {
        "sink" => return "No answer was expected, so there is no latency.".into(),
        "ping" if outcome.probe_one_in > 1 => format!(
            "Taken by pings that one client in {} sends right behind its message: the pong comes back after the message \
             was read.",
            outcome.probe_one_in
        ),
        "ping" => {
            "Taken by a ping right behind each message: the pong comes back after the message was read."
                .into()
        }
        "echo" => "Taken by the echo of each message, whose bytes were compared.".into(),
        _ => format!("Taken by the answer to every {}. message.", outcome.ack_every.unwrap_or(1)),
    };
    format!(
        "{how} Corrected latency counts from when a message was due by the schedule, so that a server which stands still \
         cannot hide what waited; uncorrected latency counts from when the message was sent."
    )
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
    let corrected = |figure: fn(&crate::bench::timeline::Points) -> f64| {
        move |sample: &Sample| Some(figure(&sample.latency_us.as_ref()?.corrected))
    };
    let lines = vec![
        series("p50", samples, corrected(|points| points.p50)),
        series("p99", samples, corrected(|points| points.p99)),
        series("max", samples, corrected(|points| points.max)),
        series("p99 uncorrected", samples, |sample| Some(sample.latency_us.as_ref()?.uncorrected.p99))
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
            Series::new("uncorrected", curve.iter().map(|point| Some(point.uncorrected_us)).collect())
                .dashed(),
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
        "Percentiles of the measured part (HDR histogram, three digits)",
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

fn load_plots(samples: &[Sample]) -> Vec<String> {
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
        over_time("Messages a second", samples, Unit::PerSecond, rates).html(),
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

/// A line for each kind of error that there was.
fn errors(samples: &[Sample]) -> Vec<Series> {
    let kinds: std::collections::BTreeSet<&String> =
        samples.iter().flat_map(|sample| sample.errors.keys()).collect();
    let line = |kind: &String| {
        series(kind, samples, |sample| {
            Some(sample.errors.get(kind).copied().unwrap_or(0) as f64 / sample.length_seconds.max(1e-3))
        })
    };
    kinds.into_iter().map(line).collect()
}

fn counts(outcome: &Outcome) -> Table {
    let (connections, messages) = (&outcome.connections, &outcome.messages);
    let mut table =
        Table::new("Counts; of messages, those that were due in the measured part", &["", "count"]);
    let rows = [
        ("clients asked for", u64::from(connections.clients)),
        ("connected", connections.opened.into()),
        ("open at the same time, at most", connections.peak_open.into()),
        ("could not connect", connections.failed_count()),
        ("disconnected", connections.disconnected_count()),
        ("messages due", messages.offered),
        ("messages sent", messages.sent),
        ("refused: the server did not read", messages.refused),
        ("answers awaited", messages.awaited),
        ("answered", messages.answered),
        ("not answered", messages.unanswered),
        ("lost", messages.lost),
        ("out of order", messages.reordered),
        ("corrupt", messages.corrupt),
        ("messages sent in all, warm-up included", messages.sent_in_all),
    ];
    let counted = outcome.counted.map(|counted| {
        [
            ("connections, as the server counted them", counted.handshakes),
            ("open at the same time, as the server counted them", counted.open),
            ("messages in all, as the server counted them", counted.messages),
        ]
    });
    let counted = counted.into_iter().flatten().filter_map(|(name, pair)| Some((name, pair?.server)));
    for (name, count) in rows.into_iter().chain(counted) {
        table.row([name.to_owned(), Unit::Count.format(count as f64)]);
    }
    table
}

fn server(page: &mut Page, outcome: &Outcome, samples: &[Sample]) {
    let Some(server) = &outcome.server else {
        page.section(
            "Server",
            "Its processes were not measured: they are not on this machine, or were not to be.",
        );
        return;
    };
    page.section("Server", &format!("{}, measured from outside.", processes(server)));
    page.plots(&[
        LinePlot {
            description: "Of one processor, by thread; the busiest have a line.".into(),
            ..over_time("Server CPU", samples, Unit::Processor, cpu_lines(samples))
        }
        .html(),
        LinePlot {
            description:
                "PSS of the server's processes, and what all sockets of the machine take in the kernel."
                    .into(),
            ..over_time("Memory", samples, Unit::Bytes, memory_lines(samples))
        }
        .html(),
    ]);
    page.table(&server_table(outcome, server));
}

fn processes(server: &ServerUse) -> String {
    let of = if server.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", server.threads) };
    format!("The server is {} with {of}", group::names(&server.pids))
}

/// All threads together, and the busiest ones.
fn cpu_lines(samples: &[Sample]) -> Vec<Series> {
    let busiest = threads_of_server(samples.iter());
    let all = series("all threads", samples, |sample| Some(sample.server.as_ref()?.cpu_share));
    let of = |tid: u32| {
        move |sample: &Sample| {
            let threads = &sample.server.as_ref()?.threads;
            Some(threads.iter().find(|thread| thread.tid == tid).map_or(0.0, |thread| thread.share))
        }
    };
    let one =
        |thread: &ThreadShare| series(format!("{} ({})", thread.name, thread.tid), samples, of(thread.tid));
    let lines =
        if busiest.len() > 1 { busiest.iter().take(THREADS_MAX).map(one).collect() } else { Vec::new() };
    [all].into_iter().chain(lines).collect()
}

/// Memory is read less often than once a second where that takes long: a line goes on as it was last known.
fn memory_lines(samples: &[Sample]) -> Vec<Series> {
    let line = |name, bytes: fn(&Sample) -> Option<u64>| {
        let mut known = None;
        let values = samples.iter().map(|sample| {
            known = bytes(sample).or(known);
            known.map(|bytes| bytes as f64)
        });
        Series::new(name, values.collect())
    };
    vec![
        line("server", |sample| sample.server.as_ref()?.pss_bytes),
        line("kernel, sockets", |sample| sample.kernel_socket_bytes),
    ]
}

fn server_table(outcome: &Outcome, server: &ServerUse) -> Table {
    let messages = outcome.messages.sent.max(1) as f64;
    let opened = f64::from(outcome.connections.opened.max(1));
    let bytes = |bytes: u64| Unit::Bytes.format(bytes as f64);
    let each_client =
        |after: u64, before: u64| Unit::Bytes.format(after.saturating_sub(before) as f64 / opened);
    let (idle, kernel) = (server.memory_idle.pss_bytes, &outcome.kernel);
    let mut table = Table::new("", &["", "in all", "a client", "a message"]);
    let mut row = |cells: [String; 4]| table.row(cells);
    let none = String::new;
    row([
        "CPU time, measured part".into(),
        Unit::Seconds.format(server.cpu_seconds),
        none(),
        server.cpu_us_per_message.map_or_else(none, |us| Unit::Microseconds.format(us)),
    ]);
    let handshake = server.handshake_cpu_us.map_or_else(none, |us| Unit::Microseconds.format(us));
    row(["CPU time, opening handshakes".into(), none(), handshake, none()]);
    row(["memory, idle".into(), bytes(idle), none(), none()]);
    let connected = server.memory_connected.pss_bytes;
    row(["memory, connected".into(), bytes(connected), each_client(connected, idle), none()]);
    let loaded = server.memory_loaded.pss_bytes;
    row(["memory, loaded".into(), bytes(loaded), each_client(loaded, idle), none()]);
    row([
        "memory, at most".into(),
        bytes(server.peak_pss_bytes),
        each_client(server.peak_pss_bytes, idle),
        none(),
    ]);
    let (before, after) = (kernel.idle.total_bytes(), kernel.loaded.total_bytes());
    row(["kernel, all sockets, loaded".into(), bytes(after), each_client(after, before), none()]);
    row(["descriptors".into(), Unit::Count.format(server.descriptors as f64), none(), none()]);
    let switches = server.switches.all() as f64;
    row([
        "context switches".into(),
        Unit::Count.format(switches),
        none(),
        format!("{:.3}", switches / messages),
    ]);
    table
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::outcome::CurvePoint;
    use crate::bench::outcome::tests::good;
    use crate::bench::timeline::{Points, SampleLatency, ServerSample};

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
        assert!(
            text.contains("Does not count: a process of the load was lost") && !text.contains("Not held")
        );
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
            sample.latency_us = Some(SampleLatency { corrected: points, uncorrected: points });
            (sample.lag_p99_us, sample.kernel_socket_bytes) = (Some(5.0), Some(6));
            sample
        };
        outcome.timeline = (1..=1000).map(full).collect();
        outcome.latency_curve = [0.5, 0.9, 1.0]
            .map(|quantile| CurvePoint { quantile, corrected_us: 9.0, uncorrected_us: 8.0 })
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
        (outcome.latency_us, outcome.probe, outcome.schedule_lag_us) = (None, "sink", None);
        assert!(html(&outcome).contains("No answer was expected"));
    }
}
