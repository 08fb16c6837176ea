//! The page of a comparison: the table with the article's figures beside, bars with their ranges, and the steps towards
//! the most clients.

use super::figures::Spread;
use super::report::{Comparison, ServerReport};
use super::runner::{Purpose, Run};
use super::table::{FIGURES, notes};
use crate::capacity::html::plots;
use crate::capacity::search::Step;
use crate::capacity::{Find, StepReport};
use crate::report::bars::{Bar, BarPlot};
use crate::report::facts::{Fact, fact, host};
use crate::report::page::{Page, Table, Tone};
use crate::report::unit::Unit;

/// One page that needs nothing else.
pub fn html(comparison: &Comparison) -> String {
    let names: Vec<&str> = comparison.servers.iter().map(|server| server.name).collect();
    let mut page = Page::new("WebSocket servers compared", &names.join(", "), LOAD);
    verdict(&mut page, comparison);
    page.section("Figures", "Medians, with the range of interleaved runs in parentheses. The article's are from a Raspberry Pi 4.");
    page.table(&table(comparison));
    page.plots(&bars(comparison));
    let steps = steps(comparison);
    if !steps.is_empty() {
        page.section(
            "Most clients",
            "Every step of the search, each with a fresh server; of equal numbers the last counts.",
        );
        page.plots(&steps);
    }
    page.section("What is compared", "");
    let described = |server: &ServerReport| {
        let stopped = server
            .stopped_by
            .as_ref()
            .map_or(String::new(), |why| format!("; more clients were stopped by {why}"));
        (server.name.to_owned(), format!("{}{stopped}", server.description))
    };
    page.facts(&comparison.servers.iter().map(described).collect::<Vec<_>>());
    page.section("Made with", "");
    page.facts(&facts(comparison));
    page.finish()
}

const LOAD: &str =
    "Clients over TLS, each sending 10 kB of JSON a second, which the server parses into a struct.";

fn verdict(page: &mut Page, comparison: &Comparison) {
    let failed = comparison.servers.iter().filter_map(|server| Some((server.name, server.error.as_ref()?)));
    let failed: Vec<String> = failed.map(|(name, error)| format!("{name}: {error}")).collect();
    let noise = comparison.noise.as_ref().map(|noise| {
        let percent = (noise.cpu_ratio - 1.0).abs() * 100.0;
        format!(
            "Noise floor: {} twice differed by {percent:.1} % in CPU; less is no difference.",
            noise.server
        )
    });
    let reasons =
        [failed.clone(), noise.into_iter().collect(), comparison.shortened.iter().cloned().collect()]
            .concat();
    let (tone, sentence) = match () {
        () if comparison.interrupted => {
            (Tone::Warning, "Interrupted: the figures are of what was done until then.")
        }
        () if !failed.is_empty() => (Tone::Bad, "Not every server could be measured."),
        () if comparison.shortened.is_some() => {
            (Tone::Warning, "Measured briefly: the ranges are wider than they need be.")
        }
        () => (Tone::Good, "Every server was measured to the end."),
    };
    page.verdict(tone, sentence, &reasons);
}

fn table(comparison: &Comparison) -> Table {
    let articles = || comparison.servers.iter().filter(|server| server.article.is_some());
    let names = comparison.servers.iter().map(|server| server.name.to_owned());
    let beside = articles().map(|server| format!("article: {}", server.name));
    let columns = [String::new()].into_iter().chain(names).chain(beside).collect();
    let mut table = Table { columns, ..Table::default() };
    for figure in FIGURES {
        let cells =
            comparison.servers.iter().map(|server| (figure.cell)(server).unwrap_or_else(|| "–".into()));
        let beside = articles().map(|server| (figure.article)(server).unwrap_or_default());
        // What belongs to the row above stays indented.
        table.row([figure.name.replace("  ", "\u{a0}\u{a0}")].into_iter().chain(cells).chain(beside));
    }
    table
}

fn bars(comparison: &Comparison) -> Vec<String> {
    type Of = fn(&ServerReport) -> Option<f64>;
    type Range = fn(&ServerReport) -> Option<Spread>;
    let plot = |title: &str, unit, value: Of, range: Range| {
        let bar = |(colour, server): (usize, &ServerReport)| Bar {
            name: server.name.to_owned(),
            value: value(server),
            range: range(server).map(|spread| (spread.min, spread.max)),
            colour,
            ..Bar::default()
        };
        let bars = comparison.servers.iter().enumerate().map(bar).collect();
        BarPlot { title: title.into(), description: String::new(), unit, bars }.html()
    };
    vec![
        plot(
            "CPU of a 10 kB message",
            Unit::Microseconds,
            |s| s.cpu_seconds_per_million_messages,
            |s| s.cpu_spread,
        ),
        plot("CPU of a 128-byte echo", Unit::Microseconds, |s| s.echo_cpu_us, |s| s.echo_spread),
        plot("CPU of a handshake", Unit::Microseconds, |s| s.handshake_cpu_us, |s| s.handshake_spread),
        plot("Memory a client", Unit::Bytes, |s| s.memory_bytes_per_client, |_| None),
        plot("Latency p99", Unit::Microseconds, |s| Some(s.latency_us?.p99), |_| None),
        plot("Most clients held", Unit::Count, |s| s.max_clients.map(f64::from), |_| None),
    ]
}

/// The steps of each server that was searched.
fn steps(comparison: &Comparison) -> Vec<String> {
    let limit = Some(comparison.settings.latency_limit.as_secs_f64());
    let of = |server: &ServerReport| {
        let runs = comparison
            .runs
            .iter()
            .filter(|run| run.purpose == Purpose::Capacity && run.server == server.name);
        let steps: Vec<StepReport> = runs.map(step).collect();
        let lead = format!("{}: ", server.name);
        if steps.is_empty() { Vec::new() } else { plots(&lead, &steps, Find::Clients, limit).to_vec() }
    };
    comparison.servers.iter().flat_map(of).collect()
}

fn step(run: &Run) -> StepReport {
    let step = Step { value: run.outcome.connections.clients, whole: false };
    StepReport::new(step, &run.outcome, run.binding.clone())
}

fn facts(comparison: &Comparison) -> Vec<Fact> {
    let machine = &comparison.machine;
    let own = vec![
        fact("command", &machine.command),
        fact("commit", &machine.commit),
        fact("compiler", &machine.rustc),
    ];
    let mut text = String::new();
    notes(&mut text, comparison);
    let notes = text.lines().filter(|line| !line.is_empty()).map(|line| fact("note", line));
    own.into_iter().chain(host(&machine.host)).chain(notes).collect()
}
