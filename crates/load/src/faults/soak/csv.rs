//! A soak's samples as comma-separated values.

use super::{Sample, SoakReport};
use crate::report::csv::{Column, by_name, figure, table};

const COLUMNS: [Column<Sample>; 17] = [
    ("at_seconds", |sample| format!("{:.3}", sample.seconds)),
    ("server_pss_bytes", |sample| sample.pss_bytes.to_string()),
    ("server_descriptors", |sample| sample.descriptors.to_string()),
    ("connections_open", |sample| sample.open.to_string()),
    ("connections_accepted", |sample| sample.accepted.to_string()),
    ("connections_closed", |sample| sample.closed.values().sum::<u64>().to_string()),
    ("closed_by_cause", |sample| by_name(&sample.closed)),
    ("server_cpu", |sample| format!("{:.4}", sample.server_cpu)),
    ("server_waited", |sample| format!("{:.4}", sample.server_waited)),
    ("stolen", |sample| format!("{:.4}", sample.stolen)),
    ("clients_cpu", |sample| format!("{:.4}", sample.clients_cpu)),
    ("pace", |sample| format!("{:.3}", sample.pace)),
    ("honest_answered", |sample| sample.honest_answered.to_string()),
    ("honest_lost", |sample| sample.honest_lost.to_string()),
    ("honest_corrupt", |sample| sample.honest_corrupt.to_string()),
    ("honest_disconnected", |sample| sample.honest_disconnected.to_string()),
    ("honest_p99_us", |sample| figure(sample.honest_p99_seconds.map(|seconds| seconds * 1e6))),
];

/// A line of names, and one line for each sample.
pub fn csv(report: &SoakReport) -> String {
    table(&COLUMNS, &report.samples, &report.word().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::soaked;
    use super::*;
    use crate::report::csv::names;
    use crate::report::csv::tests::documented;

    #[test]
    fn every_sample_has_every_column() {
        let mut report = soaked(3);
        report.samples[1].honest_p99_seconds = None;
        let text = csv(&report);
        let lines: Vec<&str> = text.split_terminator("\r\n").collect();
        assert_eq!(lines.len(), 4);
        for line in &lines {
            assert_eq!(line.split(',').count(), names(&COLUMNS).len(), "{line}");
        }
        assert!(lines[1].contains(",peer=7; timeout=1,") && lines[1].ends_with(",2500.0,passed"), "{text}");
        assert!(lines[2].ends_with(",,passed"), "{text}");
        report.verdict = None;
        assert!(csv(&report).ends_with(",interrupted\r\n"));
    }

    #[test]
    fn every_column_is_documented_in_its_place() {
        assert_eq!(documented(include_str!("../../../../../docs/soak-csv.md")), names(&COLUMNS));
    }
}
