//! The rows for people.

use std::fmt::Write;

use super::report::{Report, RowReport, Tally};
use crate::table::{Look, wrap};

/// One row: what was done, what was measured, and what is wrong.
pub fn row(row: &RowReport) -> String {
    let mut text = format!("{} {}: {} ({:.0} s)\n", row.number, row.name, row.verdict.word(), row.seconds);
    for line in &row.done {
        text += &indented(line);
    }
    let figures = row.figures.iter().filter(|figure| figure.holds).map(ToString::to_string);
    let figures = figures.collect::<Vec<_>>().join("; ");
    if !figures.is_empty() {
        text += &indented(&figures);
    }
    for why in row.verdict.why() {
        text += &indented(&format!("! {why}"));
    }
    text.truncate(text.trim_end().len());
    text
}

fn indented(line: &str) -> String {
    format!("  {}", wrap(line, "    "))
}

/// The table of all rows, and what it comes to.
pub fn text(report: &Report, look: Look) -> String {
    let mut table = look.table();
    table.set_header(["", "what was done", "expected", "verdict"]);
    for row in &report.rows {
        table.add_row([&row.number.to_string(), row.name, row.expected, row.verdict.word()]);
    }
    let mut text = format!("{table}\n\n");
    for row in report.rows.iter().filter(|row| !row.verdict.why().is_empty()) {
        let _ = writeln!(text, "{} {}: {}", row.number, row.verdict.word(), row.verdict.why().join("; "));
    }
    let Tally { passed, failed, disturbed, skipped } = report.tally();
    let summary = format!(
        "{}, {} scale: {passed} passed, {failed} failed, {disturbed} disturbed, {skipped} skipped{}{}",
        report.server,
        report.scale.either("full", "a tenth of the"),
        if report.timed { "" } else { "; times were not judged" },
        if report.interrupted { ", interrupted" } else { "" }
    );
    text + &wrap(&summary, "  ")
}
