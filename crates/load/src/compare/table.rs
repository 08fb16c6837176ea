//! The article's table, for people.

use std::fmt::Write;
use std::ops::Range;

use comfy_table::{CellAlignment, Table};

use super::figures::{Difference, Spread};
use super::report::{Comparison, Ratio, ServerReport};
use super::runner::Purpose;
use crate::table::{Look, wrap};

/// The whole comparison as text: the table, then what has to be known to read it.
pub fn text(comparison: &Comparison, look: Look) -> String {
    let mut text = String::new();
    for table in tables(comparison, look) {
        let _ = writeln!(text, "{table}\n");
    }
    for server in &comparison.servers {
        text += &wrap(&format!("{}: {}", server.contestant.name(), server.description), "  ");
        if let Some(why) = &server.stopped_by {
            text += &wrap(&format!("  more clients were stopped by {why}"), "    ");
        }
    }
    let missing = comparison.missing();
    let missing = missing.iter().map(|what| format!("Not measured: {what}"));
    let rejected = rejected(comparison).map(|(run, why)| format!("A run was rejected ({run}): {why}."));
    let notes = notes(comparison).into_iter().chain(rejected).chain([machine(comparison)]);
    let notes = missing.chain(noise(comparison)).chain(notes);
    text.push('\n');
    notes.for_each(|note| text += &wrap(&note, "  "));
    text
}

/// The rows that say something: each with its name, a cell for each server, and one for each column of the article.
pub(super) fn rows(comparison: &Comparison) -> Vec<(&'static str, Vec<String>)> {
    let servers = &comparison.servers;
    let articles = || servers.iter().filter(|server| server.article.is_some());
    let row = |figure: &Figure| {
        let cells: Vec<Option<String>> = servers.iter().map(figure.cell).collect();
        if figure.is_optional && cells.iter().all(Option::is_none) {
            return None;
        }
        let cells = cells.into_iter().map(|cell| cell.unwrap_or_else(|| "–".into()));
        let beside = articles().map(|server| (figure.article)(server).unwrap_or_default());
        Some((figure.name, cells.chain(beside).collect()))
    };
    FIGURES.iter().filter_map(row).collect()
}

/// The names above the cells.
pub(super) fn heads(comparison: &Comparison) -> Vec<String> {
    let names = comparison.servers.iter().map(|server| server.contestant.name().to_owned());
    let articles = comparison.servers.iter().filter(|server| server.article.is_some());
    names.chain(articles.map(|server| format!("article: {}", server.contestant.name()))).collect()
}

/// One table, or as many as it takes for a terminal that is too narrow, each with the names of the rows.
fn tables(comparison: &Comparison, look: Look) -> Vec<Table> {
    let (heads, rows) = (heads(comparison), rows(comparison));
    // Cells break between words where they have to.
    let width = |texts: &mut dyn Iterator<Item = &str>| {
        texts.flat_map(str::split_whitespace).map(|word| word.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = heads
        .iter()
        .enumerate()
        .map(|(at, head)| width(&mut rows.iter().map(|(_, cells)| cells[at].as_str()).chain([head.as_str()])))
        .collect();
    let parts = parts(&widths, look.columns());
    parts.into_iter().map(|part| table(&heads[part.clone()], &rows, part, look)).collect()
}

/// Which columns stand beside each other behind the names of the rows.
fn parts(widths: &[usize], room: Option<usize>) -> Vec<Range<usize>> {
    // A cell has a space on both sides, and a line behind it.
    const AROUND: usize = 3;
    const NAMES: usize = 24;
    let room = room.unwrap_or(usize::MAX);
    let mut parts: Vec<Range<usize>> = Vec::new();
    let mut taken = usize::MAX;
    for (at, width) in widths.iter().enumerate() {
        taken = taken.saturating_add(width + AROUND);
        match parts.last_mut().filter(|_| taken <= room) {
            Some(part) => part.end = at + 1,
            None => {
                parts.push(at..at + 1);
                taken = 1 + NAMES + AROUND + width + AROUND;
            }
        }
    }
    parts
}

fn table(heads: &[String], rows: &[(&'static str, Vec<String>)], part: Range<usize>, look: Look) -> Table {
    let mut table = look.table();
    table.set_header([String::new()].iter().chain(heads));
    for (name, cells) in rows {
        let cells = &cells[part.clone()];
        // Of most figures the article says nothing.
        if cells.iter().any(|cell| !cell.is_empty()) {
            table.add_row([(*name).to_owned()].iter().chain(cells));
        }
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// One line of the table.
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) cell: fn(&ServerReport) -> Option<String>,
    pub(super) article: fn(&ServerReport) -> Option<String>,
    /// It is left out where no server has it.
    pub(super) is_optional: bool,
}

impl Figure {
    const fn new(name: &'static str, cell: fn(&ServerReport) -> Option<String>) -> Figure {
        Figure { name, cell, article: |_| None, is_optional: false }
    }

    /// Below a figure, how it compares to tokio's.
    const fn against(cell: fn(&ServerReport) -> Option<String>) -> Figure {
        Figure { is_optional: true, ..Figure::new("  against tokio", cell) }
    }
}

pub(super) const FIGURES: [Figure; 18] = [
    Figure::new("compile time, s", |s| Some(format!("{:.1}", s.compile_seconds?))),
    Figure::new("binary, stripped, MB", |s| Some(megabytes(s.binary_bytes?))),
    Figure::new("dependencies linked", |s| Some(s.dependencies?.to_string())),
    Figure {
        name: "peak heap, 100 clients, MB",
        cell: |s| Some(megabytes(s.peak_heap_bytes?)),
        article: |s| Some(megabytes(s.article?.peak_memory_bytes)),
        is_optional: false,
    },
    Figure::new("peak PSS, 100 clients, MB", |s| Some(megabytes(s.peak_pss_bytes?))),
    Figure::new("memory a client, kB", |s| Some(kilobytes(s.memory_bytes_per_client?))),
    Figure::new("kernel memory a client, both ends, kB", |s| Some(kilobytes(s.kernel_bytes_per_client?))),
    Figure::new("CPU-s per million 10 kB messages", |s| spread(s.cpu_spread, 1)),
    Figure::against(|s| ratio(s.against_tokio?.cpu)),
    Figure::new("CPU of a 128-byte echo, µs", |s| spread(s.echo_spread, 1)),
    Figure::against(|s| ratio(s.against_tokio?.echo)),
    Figure::new("CPU of a handshake, µs", |s| spread(s.handshake_spread, 0)),
    Figure::against(|s| ratio(s.against_tokio?.handshake)),
    Figure::new("latency p50, ms", |s| Some(milliseconds(s.latency_us?.p50))),
    Figure::new("latency p99, ms", |s| Some(milliseconds(s.latency_us?.p99))),
    Figure::new("latency p99.9, ms", |s| Some(milliseconds(s.latency_us?.p999))),
    Figure {
        name: "most clients held",
        cell: |s| Some(format!("{}{}", if s.max_clients_at_least { "≥ " } else { "" }, s.max_clients?)),
        article: |s| Some(format!("about {}", s.article?.max_clients)),
        is_optional: false,
    },
    Figure::new("stopped by", |s| Some(s.stopped_by.as_ref()?.split(" (").next()?.to_owned())),
];

fn megabytes(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / 1e6)
}

fn kilobytes(bytes: f64) -> String {
    format!("{:.1}", bytes / 1e3)
}

fn milliseconds(us: f64) -> String {
    format!("{:.2}", us / 1e3)
}

/// Median and range: `46.1 (45.8–46.4)`.
fn spread(spread: Option<Spread>, digits: usize) -> Option<String> {
    let Spread { median, min, max, runs } = spread?;
    let range = if runs > 1 { format!(" ({min:.digits$}–{max:.digits$})") } else { String::new() };
    Some(format!("{median:.digits$}{range}"))
}

fn ratio(ratio: Option<Ratio>) -> Option<String> {
    let ratio = ratio?;
    let sign = match ratio.difference {
        Difference::Less | Difference::More => "",
        Difference::None => " =",
        Difference::Unclear => " ?",
    };
    Some(spread(Some(ratio.spread), 2)? + sign)
}

/// How far the same server is from itself.
pub(super) fn noise(comparison: &Comparison) -> Option<String> {
    if let Some(noise) = &comparison.noise {
        let (server, percent) = (noise.server.name(), noise.share() * 100.0);
        return Some(format!(
            "Noise floor: {server} twice in a row differed by {percent:.1} % in CPU; less than that is no difference."
        ));
    }
    let was_tried = comparison.runs.iter().any(|run| run.purpose == Purpose::Noise);
    was_tried.then(|| "Noise floor: unknown, as a run that was made for it was rejected.".to_owned())
}

/// What has to be known to read the figures.
pub(super) fn notes(comparison: &Comparison) -> Vec<String> {
    let mut notes = vec![
        "Medians (range) of interleaved runs. Latency counts from when a message was due.".to_owned(),
        "kB and MB are 1000 and 1000² bytes.".to_owned(),
    ];
    if comparison.servers.iter().any(|server| server.article.is_some()) {
        notes.push("The article's figures are from a Raspberry Pi 4.".to_owned());
    }
    if comparison.servers.iter().any(|server| server.against_tokio.is_some()) {
        notes.push(
            "Against tokio: ratios of runs next to each other; = no difference (all within 5 %), ? not told from noise."
                .to_owned(),
        );
    }
    if comparison.runs.iter().any(|run| run.outcome.kernel.connected.slab_bytes.is_none()) {
        notes.push(
            "Kernel memory is that of socket buffers alone: the slab caches are for root to read.".into(),
        );
    }
    if !comparison.interrupted && comparison.servers.iter().all(|server| server.peak_heap_bytes.is_none()) {
        notes.push("No peak heap: heaptrack is not installed, or could not be used.".into());
    }
    let disturbed = comparison.runs.iter().filter_map(|run| run.outcome.disturbed());
    if let Some(spread) = Spread::of(disturbed) {
        let (runs, all, most) = (spread.runs, comparison.runs.len(), spread.max);
        notes.push(format!(
            "In {runs} of {all} runs other programs disturbed, with up to {most:.1} processors: run it again."
        ));
    }
    if let Some(shortened) = &comparison.shortened {
        notes.push(format!("Shortened by {shortened}."));
    }
    if let (None, Some(_)) = (comparison.processors, comparison.runs.first()) {
        notes.push("Server and load shared one processor.".into());
    }
    notes
}

/// Runs that do not count, of which those towards the most clients are part of the search.
pub(super) fn rejected(comparison: &Comparison) -> impl Iterator<Item = (String, &str)> {
    let runs = comparison.rejected().filter(|(run, _)| run.purpose != Purpose::Capacity);
    runs.map(|(run, why)| (format!("{}, {}", run.server.name(), run.purpose.words()), why))
}

fn machine(comparison: &Comparison) -> String {
    let host = &comparison.machine.host;
    let (cpu, cpus, kernel, rustc) = (&host.cpu, host.cpus, &host.kernel, &comparison.machine.rustc);
    let apart = comparison.processors.map_or_else(String::new, |apart| {
        format!(" Server on processor {}, load on {}.", apart.server, apart.load)
    });
    let noun = if cpus == 1 { "processor" } else { "processors" };
    format!("{cpu}, {cpus} {noun}, Linux {kernel}, {rustc}.{apart}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::outcome::tests::good;
    use crate::compare::contestant::Contestant;
    use crate::compare::figures::Line;
    use crate::compare::machine::{Apart, Machine};
    use crate::compare::report::{Against, LatencyFigures, Noise, Row};
    use crate::compare::runner::Run;
    use crate::compare::settings::Settings;
    use crate::report::documented::{assert_documented, json};

    fn comparison() -> Comparison {
        let row = |contestant, error: Option<&str>| Row {
            contestant,
            build: Some(crate::compare::build::Build {
                binary: "x".into(),
                compile_seconds: 41.27,
                binary_bytes: 2_345_678,
                dependencies: 31,
            }),
            error: error.map(str::to_owned),
            peak_heap_bytes: Some(1_230_000),
            max_clients: Some(19_000),
            max_clients_confirmed: true,
            max_clients_at_least: false,
            stopped_by: Some("descriptors (RLIMIT_NOFILE is 20000)".into()),
        };
        let rows = [row(Contestant::Tokio, None), row(Contestant::Webscale, Some("load: the server ended"))];
        Comparison {
            servers: rows.iter().map(|row| ServerReport::new(row, &[], None)).collect(),
            noise: None,
            shortened: None,
            interrupted: false,
            processors: Some(Apart { server: 0, load: 1 }),
            machine: Machine::read(std::path::Path::new("/")).unwrap(),
            settings: Settings::full(vec![Contestant::Tokio, Contestant::Webscale]),
            runs: Vec::new(),
        }
    }

    fn run(purpose: Purpose) -> Run {
        Run {
            server: Contestant::Tokio,
            purpose,
            round: 0,
            rejected: None,
            server_messages: None,
            server_connections: None,
            binding: None,
            outcome: good(),
            descriptors: None,
        }
    }

    #[test]
    fn what_is_known_stands_in_the_table_and_the_rest_is_a_dash() {
        let text = text(&comparison(), Look::Plain);
        let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap().replace(' ', "");
        assert_eq!(line("compile time"), "|compiletime,s|41.3|41.3||");
        assert_eq!(line("peak heap"), "|peakheap,100clients,MB|1.23|1.23|5.20|");
        assert_eq!(line("latency p99,"), "|latencyp99,ms|–|–||");
        assert!(line("most clients").contains("about25000"));
        assert!(text.contains("Not measured: webscale: load: the server ended"));
        assert!(text.contains("Not measured: tokio: no run of the main load counts: none was made"));
        assert!(!text.contains("against tokio") && text.contains("Raspberry Pi"), "{text}");
        let mut without = comparison();
        without.servers.remove(0);
        assert!(!super::text(&without, Look::Plain).contains("Raspberry Pi"));
        assert_eq!(line("| stopped by"), "|stoppedby|descriptors|descriptors||");
        assert!(text.contains("stopped by descriptors (RLIMIT_NOFILE is 20000)"));
    }

    #[test]
    fn the_page_has_the_tables_figures() {
        let page = crate::compare::html::html(&comparison());
        for part in ["about 25000", "2.35", "article: tokio", "load: the server ended", "19,000"] {
            assert!(page.contains(part), "{part}");
        }
    }

    #[test]
    fn both_looks_have_the_same_figures() {
        let lines = text(&comparison(), Look::Lines { columns: 200 });
        assert!(lines.contains('│') && lines.contains("2.35") && lines.contains("article: tokio"));
    }

    #[test]
    fn a_narrow_terminal_has_several_tables() {
        let text = text(&comparison(), Look::Lines { columns: 60 });
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let tables: Vec<&str> = text.lines().filter(|line| line.starts_with('│')).collect();
        assert!(tables.iter().all(|line| line.chars().count() <= 60), "{text}");
        // The last one is the article's.
        assert_eq!(text.matches("compile time, s").count(), 1, "{text}");
        assert_eq!(text.matches("peak heap, 100").count(), 2, "{text}");
        assert_eq!(text.matches("41.3").count(), 2, "{text}");
    }

    #[test]
    fn columns_are_parted_where_they_do_not_fit() {
        let whole = 0..3;
        assert_eq!(parts(&[5, 5, 5], None), [whole]);
        // 28 for the names, 8 for each.
        assert_eq!(parts(&[5, 5, 5], Some(44)), [0..2, 2..3]);
        assert_eq!(parts(&[50, 5, 5], Some(44)), [0..1, 1..3]);
        assert!(parts(&[], Some(44)).is_empty());
    }

    #[test]
    fn ratios_say_whether_they_are_a_difference() {
        let of = |difference| {
            let spread = Spread::of([0.97, 1.01]).unwrap();
            ratio(Some(Ratio { spread, difference })).unwrap()
        };
        assert_eq!(of(Difference::None), "0.99 (0.97–1.01) =");
        assert_eq!(of(Difference::Unclear), "0.99 (0.97–1.01) ?");
        assert_eq!(of(Difference::Less), "0.99 (0.97–1.01)");
    }

    #[test]
    fn what_may_be_more_is_marked() {
        let mut comparison = comparison();
        comparison.servers[0].max_clients_at_least = true;
        let text = text(&comparison, Look::Plain);
        assert!(text.contains("≥ 19000 |") && text.matches("19000").count() == 2, "{text}");
        let page = crate::compare::html::html(&comparison);
        assert_eq!(page.matches("<th scope=\"row\">tokio, at least</th>").count(), 1);
    }

    #[test]
    fn spreads_show_their_range() {
        let some = Spread::of([46.12, 45.88, 46.04]);
        assert_eq!(spread(some, 1).unwrap(), "46.0 (45.9–46.1)");
        assert_eq!(spread(Spread::of([46.12]), 1).unwrap(), "46.1");
        assert_eq!(spread(None, 1), None);
    }

    #[test]
    fn every_field_is_documented_and_every_documented_field_is_there() {
        let mut comparison = comparison();
        let spread = Spread::of([1.0]).unwrap();
        let ratio = Some(Ratio { spread, difference: Difference::None });
        let server = &mut comparison.servers[0];
        assert_eq!(server.peak_memory_bytes, Some(1_230_000));
        server.memory_line = Some(Line { slope: 1.0, intercept: 1.0, r_squared: 1.0 });
        server.latency_us = Some(LatencyFigures { p50: 1.0, p99: 1.0, p999: 1.0 });
        server.against_tokio = Some(Against { cpu: ratio, echo: None, handshake: None });
        server.cpu_spread = Some(spread);
        comparison.noise = Some(Noise { server: Contestant::Tokio, cpu_ratio: 1.0, p50_ratio: None });
        comparison.runs.push(run(Purpose::Load));
        let page = include_str!("../../../../docs/compare-json.md");
        assert_documented(page, &[json(&comparison)], &["outcome"]);
    }

    #[test]
    fn what_was_rejected_and_what_is_missing_is_told() {
        let mut comparison = comparison();
        comparison.runs = vec![
            Run { rejected: Some("it was late".into()), ..run(Purpose::Noise) },
            Run { rejected: Some("of the search".into()), ..run(Purpose::Capacity) },
        ];
        let text = text(&comparison, Look::Plain);
        assert!(text.contains("A run was rejected (tokio, noise floor): it was late."), "{text}");
        assert!(text.contains("Noise floor: unknown") && !text.contains("of the search"), "{text}");
        let page = crate::compare::html::html(&comparison);
        assert!(
            page.contains("A run was rejected and does not count")
                && page.contains("tokio, noise floor: it was late")
        );
        assert_eq!(page.matches("Noise floor: unknown").count(), 1);
        assert!(!comparison.is_complete());
        comparison.servers.iter_mut().for_each(|server| {
            (server.error, server.cpu_spread, server.echo_spread) =
                (None, Spread::of([1.0]), Spread::of([1.0]));
            server.peak_pss_bytes = Some(5_000_000);
        });
        assert!(comparison.is_complete());
        comparison.servers[0].echo_spread = None;
        let behind = Run { rejected: Some("it fell behind".into()), ..run(Purpose::Echo) };
        comparison.runs.push(behind);
        assert_eq!(comparison.missing(), ["tokio: no run of the 128-byte echo counts: it fell behind"]);
        let server = &mut comparison.servers[0];
        (server.echo_spread, server.peak_pss_bytes) = (Spread::of([1.0]), None);
        assert_eq!(comparison.missing(), ["tokio: no run of the memory counts: none was made"]);
        let server = &mut comparison.servers[0];
        (server.peak_pss_bytes, server.peak_heap_bytes) = (Some(5_000_000), None);
        assert!(comparison.is_complete());
        comparison.runs.push(Run { rejected: Some("it was late".into()), ..run(Purpose::Heap) });
        assert_eq!(comparison.missing(), ["tokio: no run of the peak heap counts: it was late"]);
    }
}
