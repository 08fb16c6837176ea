//! docs/limits.md tells the truth.

use std::fs;
use std::time::Duration;

use webscale::{Limits, Snapshot};

/// The rows of the table: the cells of each.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// A default as [`Limits`] shows it, from how people write it.
fn debug_of(cell: &str) -> String {
    match cell.rsplit_once(' ') {
        Some((number, "KiB")) => (number.parse::<usize>().unwrap() << 10).to_string(),
        Some((number, "MiB")) => (number.parse::<usize>().unwrap() << 20).to_string(),
        Some((number, "s")) => format!("{:?}", Duration::from_secs(number.parse().unwrap())),
        _ if cell == "off" => usize::MAX.to_string(),
        _ if cell == "close" => "Close".to_owned(),
        _ if cell == "a quarter of the memory" => {
            (webscale_sys::limits::memory().unwrap_or(u64::MAX) / 4).to_string()
        }
        _ => cell.to_owned(),
    }
}

#[test]
fn the_documented_limits_are_those_of_the_code() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/limits.md");
    let text = fs::read_to_string(file).unwrap();
    let defaults = format!("{:#?}", Limits::default());
    let fields: Vec<(&str, &str)> =
        defaults.lines().filter_map(|line| line.trim().strip_suffix(',')?.split_once(": ")).collect();
    let rows = rows(&text);
    let documented: Vec<_> = rows.iter().map(|row| quoted(row[0]).next().unwrap()).collect();
    let names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
    assert_eq!(documented, names, "docs/limits.md has other limits than the struct, or another order");
    for (row, (name, default)) in rows.iter().zip(fields) {
        assert_eq!(debug_of(row[1]), default, "{name}: docs/limits.md has another default");
        assert_eq!(row.len(), 5, "{name}");
    }
}

#[test]
fn the_documented_counters_exist() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/limits.md");
    let text = fs::read_to_string(file).unwrap();
    let counters = Snapshot::default().prometheus(&[]);
    let series: Vec<&str> = counters.lines().filter_map(|line| line.strip_prefix("webscale_")).collect();
    for row in rows(&text) {
        for counter in quoted(row[3]) {
            let line = format!("{counter} 0");
            assert!(series.contains(&line.as_str()), "{counter} is no counter");
        }
    }
}
