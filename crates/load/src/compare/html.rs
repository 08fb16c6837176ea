//! The page of a comparison: the table with the article's figures beside, bars with their ranges, and the steps towards
//! the most clients.

use super::figures::Spread;
use super::report::{Comparison, ServerReport};
use super::runner::{Purpose, Run};
use super::table::{heads, noise, notes, rejected, rows};
use crate::capacity::html::plots;
use crate::capacity::search::Step;
use crate::capacity::{Find, StepReport};
use crate::report::bars::{Bar, BarPlot};
use crate::report::facts::{Fact, fact, host, processors};
use crate::report::page::{Fold, Page, Table, Tone};
use crate::report::unit::Unit;

/// One page that needs nothing else.
pub fn html(comparison: &Comparison) -> String {
    let names: Vec<&str> = comparison.servers.iter().map(|server| server.contestant.name()).collect();
    let mut page = Page::new("WebSocket servers compared", &names.join(", "), LOAD);
    verdict(&mut page, comparison);
    page.section("Figures", "");
    page.table(&table(comparison));
    page.plots(&bars(comparison));
    page.list(&notes(comparison));
    let rejected: Vec<String> = rejected(comparison).map(|(run, why)| format!("{run}: {why}")).collect();
    if !rejected.is_empty() {
        let fold = Fold {
            tone: Tone::Warning,
            word: "rejected".into(),
            heading: runs(rejected.len()),
            note: "whose figures do not count".into(),
            open: false,
        };
        page.fold(&fold, |page| page.list(&rejected));
    }
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
        (server.contestant.name().to_owned(), format!("{}{stopped}", server.description))
    };
    page.facts(&comparison.servers.iter().map(described).collect::<Vec<_>>());
    page.section("Made with", "");
    page.facts(&facts(comparison));
    page.finish()
}

const LOAD: &str =
    "Clients over TLS, each sending 10 kB of JSON a second, which the server parses into a struct.";

fn verdict(page: &mut Page, comparison: &Comparison) {
    let missing = comparison.missing();
    let rejected = match rejected(comparison).count() {
        0 => None,
        1 => Some("A run was rejected and does not count.".to_owned()),
        count => Some(format!("{} were rejected and do not count.", runs(count))),
    };
    let (tone, sentence) = match () {
        () if comparison.interrupted => {
            (Tone::Warning, "Interrupted: the figures are of what was done until then.")
        }
        () if !missing.is_empty() => (Tone::Bad, "Not every server could be measured."),
        () if comparison.shortened.is_some() => {
            (Tone::Warning, "Measured briefly: the ranges are wider than they need be.")
        }
        () => (Tone::Good, "Every server was measured to the end."),
    };
    let reasons: Vec<String> = missing.into_iter().chain(rejected).chain(noise(comparison)).collect();
    page.verdict(tone, sentence, &reasons);
}

fn runs(count: usize) -> String {
    if count == 1 { "1 run".to_owned() } else { format!("{count} runs") }
}

fn table(comparison: &Comparison) -> Table {
    let columns = [String::new()].into_iter().chain(heads(comparison)).collect();
    let mut table = Table { columns, ..Table::default() };
    for (name, cells) in rows(comparison) {
        // What belongs to the row above stays indented.
        table.row([name.replace("  ", "\u{a0}\u{a0}")].into_iter().chain(cells));
    }
    table
}

fn bars(comparison: &Comparison) -> Vec<String> {
    type Of = fn(&ServerReport) -> Option<f64>;
    type Range = fn(&ServerReport) -> Option<Spread>;
    let name = |server: &ServerReport| server.contestant.name().to_owned();
    let at_least = |server: &ServerReport| match server.max_clients_at_least {
        true => format!("{}, at least", server.contestant.name()),
        false => server.contestant.name().to_owned(),
    };
    let plot = |title: &str, unit, value: Of, range: Range, name: &dyn Fn(&ServerReport) -> String| {
        let bar = |(colour, server): (usize, &ServerReport)| Bar {
            name: name(server),
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
            &name,
        ),
        plot("CPU of a 128-byte echo", Unit::Microseconds, |s| s.echo_cpu_us, |s| s.echo_spread, &name),
        plot("CPU of a handshake", Unit::Microseconds, |s| s.handshake_cpu_us, |s| s.handshake_spread, &name),
        plot("Memory a client", Unit::Bytes, |s| s.memory_bytes_per_client, |_| None, &name),
        plot("Latency p99", Unit::Microseconds, |s| Some(s.latency_us?.p99), |_| None, &name),
        plot("Most clients held", Unit::Count, |s| s.max_clients.map(f64::from), |_| None, &at_least),
    ]
}

/// The steps of each server that was searched.
fn steps(comparison: &Comparison) -> Vec<String> {
    let limit = Some(comparison.settings.latency_limit.as_secs_f64());
    let of = |server: &ServerReport| {
        let runs = comparison
            .runs
            .iter()
            .filter(|run| run.purpose == Purpose::Capacity && run.server == server.contestant);
        let steps: Vec<StepReport> = runs.map(step).collect();
        let lead = format!("{}: ", server.contestant.name());
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
        processors(comparison.processors),
    ];
    own.into_iter().chain(host(&machine.host)).collect()
}
