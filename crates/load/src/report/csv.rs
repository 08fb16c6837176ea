//! A load's seconds as comma-separated values (RFC 4180), for spreadsheets and plotting programs.

use std::collections::BTreeMap;

use crate::bench::outcome::Outcome;
use crate::bench::timeline::{Sample, SampleLatency, ServerSample};

/// A column's name, and what it holds of a sample.
pub(crate) type Column<S> = (&'static str, fn(&S) -> String);

const COLUMNS: [Column<Sample>; 30] = [
    ("at_seconds", |sample| format!("{:.3}", sample.at_seconds)),
    ("length_seconds", |sample| format!("{:.3}", sample.length_seconds)),
    ("phase", |sample| sample.phase.name().replace(' ', "_")),
    ("clients_open", |sample| sample.clients.open.to_string()),
    ("clients_connecting", |sample| sample.clients.connecting.to_string()),
    ("clients_failed", |sample| sample.clients.failed.to_string()),
    ("clients_disconnected", |sample| sample.clients.disconnected.to_string()),
    ("offered", |sample| sample.offered.to_string()),
    ("sent", |sample| sample.sent.to_string()),
    ("answered", |sample| sample.answered.to_string()),
    ("errors", |sample| sample.error_count().to_string()),
    ("errors_by_kind", |sample| by_name(&sample.errors)),
    ("corrected_p50_us", |sample| latency(sample, |latency| Some(latency.corrected.p50))),
    ("corrected_p90_us", |sample| latency(sample, |latency| Some(latency.corrected.p90))),
    ("corrected_p99_us", |sample| latency(sample, |latency| Some(latency.corrected.p99))),
    ("corrected_max_us", |sample| latency(sample, |latency| Some(latency.corrected.max))),
    ("uncorrected_p50_us", |sample| latency(sample, |latency| Some(latency.uncorrected?.p50))),
    ("uncorrected_p90_us", |sample| latency(sample, |latency| Some(latency.uncorrected?.p90))),
    ("uncorrected_p99_us", |sample| latency(sample, |latency| Some(latency.uncorrected?.p99))),
    ("uncorrected_max_us", |sample| latency(sample, |latency| Some(latency.uncorrected?.max))),
    ("lag_p99_us", |sample| figure(sample.lag_p99_us)),
    ("generator_cpu", |sample| format!("{:.4}", sample.generator.cpu_share)),
    ("generator_busiest_thread", |sample| format!("{:.4}", sample.generator.busiest_thread)),
    ("generator_saturated", |sample| sample.generator.saturated.to_string()),
    ("server_cpu", |sample| server(sample, |server| Some(format!("{:.4}", server.cpu_share)))),
    ("server_threads", |sample| server(sample, |server| Some(threads(server)))),
    ("server_pss_bytes", |sample| server(sample, |server| Some(server.pss_bytes?.to_string()))),
    ("server_descriptors", |sample| server(sample, |server| Some(server.descriptors?.to_string()))),
    ("server_switches_per_second", |sample| {
        server(sample, |server| Some(figure(server.switches_per_second)))
    }),
    ("kernel_socket_bytes", |sample| {
        sample.kernel_socket_bytes.map_or_else(String::new, |bytes| bytes.to_string())
    }),
];

/// The name of the column behind those of a sample: what the whole run came to, the same in every row.
const RUN: &str = "run";

/// A line of names, and one line for each sample of the timeline.
pub fn csv(outcome: &Outcome) -> String {
    table(&COLUMNS, &outcome.timeline, outcome.verdict.conclusion().word())
}

/// The names of all columns.
pub(crate) fn names<S>(columns: &[Column<S>]) -> Vec<String> {
    columns.iter().map(|(name, _)| (*name).to_owned()).chain([RUN.to_owned()]).collect()
}

/// A line of names, and one line for each sample of a run that came to `run`.
pub(crate) fn table<S>(columns: &[Column<S>], samples: &[S], run: &str) -> String {
    let rows = samples.iter().map(|sample| {
        let figures = columns.iter().map(|(_, figure)| figure(sample));
        figures.chain([run.to_owned()]).collect()
    });
    [names(columns)].into_iter().chain(rows).map(|row| line(&row)).collect()
}

/// Counts by their names, in one field; without those that are zero.
pub(crate) fn by_name(counts: &BTreeMap<String, u64>) -> String {
    let counts = counts.iter().filter(|(_, count)| **count > 0);
    counts.map(|(name, count)| format!("{name}={count}")).collect::<Vec<_>>().join("; ")
}

fn line(fields: &[String]) -> String {
    let fields: Vec<String> = fields.iter().map(|text| field(text)).collect();
    format!("{}\r\n", fields.join(","))
}

fn field(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn threads(server: &ServerSample) -> String {
    let thread = |thread: &crate::bench::timeline::ThreadShare| {
        format!("{}[{}]={:.3}", thread.name, thread.tid, thread.share)
    };
    server.threads.iter().map(thread).collect::<Vec<_>>().join("; ")
}

fn latency(sample: &Sample, figure_of: impl Fn(&SampleLatency) -> Option<f64>) -> String {
    figure(sample.latency_us.as_ref().and_then(figure_of))
}

fn server(sample: &Sample, figure_of: impl Fn(&ServerSample) -> Option<String>) -> String {
    sample.server.as_ref().and_then(figure_of).unwrap_or_default()
}

/// To a tenth; empty where there is none.
pub(crate) fn figure(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| format!("{value:.1}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bench::outcome::tests::good;
    use crate::bench::timeline::ThreadShare;
    use crate::observe::Phase;

    #[test]
    fn every_row_has_every_column() {
        let mut outcome = good();
        let threads = vec![ThreadShare { tid: 7, name: "a,\"b\"".into(), share: 0.5 }];
        outcome.timeline = vec![
            Sample::default(),
            Sample {
                server: Some(ServerSample { cpu_share: 0.5, threads, ..ServerSample::default() }),
                lag_p99_us: Some(12.34),
                ..Sample::default()
            },
        ];
        let text = csv(&outcome);
        let lines: Vec<&str> = text.split_terminator("\r\n").collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0].split(',').count(), names(&COLUMNS).len());
        assert_eq!(lines[1].split(',').count(), names(&COLUMNS).len());
        assert!(lines[1].ends_with(",held"), "{text}");
        assert!(lines[2].contains(",12.3,") && lines[2].contains("\"a,\"\"b\"\"[7]=0.500\""), "{text}");
    }

    #[test]
    fn a_saturated_run_says_so_in_every_row() {
        let mut outcome = good();
        outcome.timeline = vec![Sample::default()];
        outcome.verdict.saturated = Some("busy".into());
        assert!(csv(&outcome).ends_with(",saturated\r\n"));
        outcome.verdict.saturated = None;
        outcome.verdict.stopped = Some("slow".into());
        assert!(csv(&outcome).ends_with(",failed\r\n"));
        outcome.timeline.clear();
        assert_eq!(csv(&outcome).lines().count(), 1);
    }

    #[test]
    fn a_phase_is_called_the_same_in_json() {
        for phase in [Phase::Connecting, Phase::Resting, Phase::WarmingUp, Phase::Measuring, Phase::Draining]
        {
            let sample = Sample { phase, ..Sample::default() };
            let (_, name) = COLUMNS[2];
            assert_eq!(serde_json::to_value(&sample).unwrap()["phase"], name(&sample));
        }
    }

    #[test]
    fn every_column_is_documented_in_its_place() {
        assert_eq!(documented(include_str!("../../../../docs/bench-csv.md")), names(&COLUMNS));
    }

    /// The columns that a page of the documentation names, in its order.
    pub(crate) fn documented(page: &str) -> Vec<String> {
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        rows.map(str::to_owned).collect()
    }
}
