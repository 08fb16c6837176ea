//! The article's table, for people.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table};

use super::figures::Spread;
use super::report::{Comparison, ServerReport};
use crate::table::Look;

/// The whole comparison as text: the table, then what has to be known to read it.
pub fn text(comparison: &Comparison, look: Look) -> String {
    let mut text = format!("{}\n\n", table(comparison, look));
    for server in &comparison.servers {
        let _ = writeln!(text, "{}: {}", server.name, server.description);
        if let Some(why) = &server.stopped_by {
            let _ = writeln!(text, "  more clients were stopped by {why}");
        }
        if let Some(error) = &server.error {
            let _ = writeln!(text, "  failed: {error}");
        }
    }
    notes(&mut text, comparison);
    text
}

fn table(comparison: &Comparison, look: Look) -> Table {
    let servers = &comparison.servers;
    let articles: Vec<&ServerReport> = servers.iter().filter(|server| server.article.is_some()).collect();
    let mut table = look.table();
    let names = servers.iter().map(|server| server.name.to_owned());
    let article_names = articles.iter().map(|server| format!("article: {}", server.name));
    table.set_header(["".to_owned()].into_iter().chain(names).chain(article_names));
    for figure in FIGURES {
        let cells = servers.iter().map(|server| (figure.cell)(server).unwrap_or_else(|| "–".into()));
        let beside = articles.iter().map(|server| (figure.article)(server).unwrap_or_default());
        table.add_row([figure.name.to_owned()].into_iter().chain(cells).chain(beside));
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
}

impl Figure {
    const fn new(name: &'static str, cell: fn(&ServerReport) -> Option<String>) -> Figure {
        Figure { name, cell, article: |_| None }
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
    },
    Figure::new("peak PSS, 100 clients, MB", |s| Some(megabytes(s.peak_pss_bytes?))),
    Figure::new("memory a client, kB", |s| Some(kilobytes(s.memory_bytes_per_client?))),
    Figure::new("kernel memory a client, both ends, kB", |s| Some(kilobytes(s.kernel_bytes_per_client?))),
    Figure::new("CPU-s per million 10 kB messages", |s| spread(s.cpu_spread, 1)),
    Figure::new("  against tokio", |s| ratio(s.against_tokio?.cpu)),
    Figure::new("CPU of a 128-byte echo, µs", |s| spread(s.echo_spread, 1)),
    Figure::new("  against tokio", |s| ratio(s.against_tokio?.echo)),
    Figure::new("CPU of a handshake, µs", |s| spread(s.handshake_spread, 0)),
    Figure::new("  against tokio", |s| ratio(s.against_tokio?.handshake)),
    Figure::new("latency p50, ms", |s| Some(milliseconds(s.latency_us?.p50))),
    Figure::new("latency p99, ms", |s| Some(milliseconds(s.latency_us?.p99))),
    Figure::new("latency p99.9, ms", |s| Some(milliseconds(s.latency_us?.p999))),
    Figure {
        name: "most clients held",
        cell: |s| Some(s.max_clients?.to_string()),
        article: |s| Some(format!("about {}", s.article?.max_clients)),
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

fn ratio(ratios: Option<Spread>) -> Option<String> {
    spread(ratios, 2)
}

pub(super) fn notes(text: &mut String, comparison: &Comparison) {
    let machine = &comparison.machine;
    let mut line = |note: String| {
        let _ = writeln!(text, "{note}");
    };
    line(String::new());
    line("Medians (range) of interleaved runs. Latency counts from when a message was due.".into());
    line("The article's figures are from a Raspberry Pi 4; kB and MB are 1000 and 1000² bytes.".into());
    if comparison.runs.iter().any(|run| run.outcome.kernel.connected.slab_bytes.is_none()) {
        line("Kernel memory is that of socket buffers alone: the slab caches are for root to read.".into());
    }
    if !comparison.interrupted && comparison.servers.iter().all(|server| server.peak_heap_bytes.is_none()) {
        line("No peak heap: heaptrack is not installed, or could not be used.".into());
    }
    if let Some(noise) = &comparison.noise {
        let percent = (noise.cpu_ratio - 1.0).abs() * 100.0;
        line(format!("Noise floor: {} twice differed by {percent:.1} % in CPU.", noise.server));
    }
    let disturbed = comparison.runs.iter().filter_map(|run| run.outcome.disturbed());
    if let Some(spread) = Spread::of(disturbed) {
        let (runs, all, most) = (spread.runs, comparison.runs.len(), spread.max);
        line(format!(
            "In {runs} of {all} runs other programs disturbed, with up to {most:.1} processors: run it again."
        ));
    }
    if let Some(shortened) = &comparison.shortened {
        line(format!("Shortened by {shortened}."));
    }
    match comparison.processors {
        Some(apart) => line(format!("Server on processor {}, load on {}.", apart.server, apart.load)),
        None => line("Server and load shared one processor.".into()),
    }
    for (run, why) in comparison.rejected().filter(|(run, _)| run.purpose != super::runner::Purpose::Capacity)
    {
        let (server, purpose) = (run.server, format!("{:?}", run.purpose).to_lowercase());
        line(format!("A run was rejected ({server}, {purpose}): {why}."));
    }
    let (cpu, cpus, kernel) = (&machine.host.cpu, machine.host.cpus, &machine.host.kernel);
    let rustc = &machine.rustc;
    line(format!("{cpu}, {cpus} processors, Linux {kernel}, {rustc}."));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::contestant::Contestant;
    use crate::compare::machine::{Apart, Machine};
    use crate::compare::report::Row;
    use crate::compare::settings::Settings;

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
            stopped_by: Some("descriptors (RLIMIT_NOFILE is 20000)".into()),
        };
        let rows = [row(Contestant::Tokio, None), row(Contestant::Webscale, Some("load: the server ended"))];
        Comparison {
            servers: rows.iter().map(|row| ServerReport::new(row, &[])).collect(),
            noise: None,
            shortened: None,
            interrupted: false,
            processors: Some(Apart { server: 0, load: 1 }),
            machine: Machine::read(std::path::Path::new("/")).unwrap(),
            settings: Settings::full(vec![Contestant::Tokio, Contestant::Webscale]),
            runs: Vec::new(),
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
        assert!(text.contains("failed: load: the server ended"));
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
        let lines = text(&comparison(), Look::Lines);
        assert!(lines.contains('│') && lines.contains("2.35") && lines.contains("article: tokio"));
    }

    #[test]
    fn spreads_show_their_range() {
        let some = Spread::of([46.12, 45.88, 46.04]);
        assert_eq!(spread(some, 1).unwrap(), "46.0 (45.9–46.1)");
        assert_eq!(spread(Spread::of([46.12]), 1).unwrap(), "46.1");
        assert_eq!(spread(None, 1), None);
    }

    #[test]
    fn json_has_the_documented_names() {
        let json = serde_json::to_value(comparison()).unwrap();
        let server = json["servers"][0].as_object().unwrap();
        for field in [
            "name",
            "compile_seconds",
            "binary_bytes",
            "dependencies",
            "peak_memory_bytes",
            "memory_bytes_per_client",
            "kernel_bytes_per_client",
            "cpu_seconds_per_million_messages",
            "handshake_cpu_us",
            "latency_us",
            "max_clients",
            "stopped_by",
        ] {
            assert!(server.contains_key(field), "{field}");
        }
        assert_eq!(server["peak_memory_bytes"], 1_230_000);
        assert!(!comparison().is_complete());
    }
}
