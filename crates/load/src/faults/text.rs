//! The rows for people.

use std::fmt::Write;

use super::report::{Report, RowReport};
use crate::table::Look;

/// One row, with all its figures.
pub fn row(row: &RowReport) -> String {
    let mut text = format!("{:>2} {}: {} ({:.1} s)", row.number, row.name, row.verdict.word(), row.seconds);
    for line in &row.done {
        let _ = write!(text, "\n     {line}");
    }
    for figure in &row.figures {
        let mark = if figure.holds { ' ' } else { '!' };
        let _ = write!(text, "\n   {mark} {figure}");
    }
    for why in
        row.verdict.why().iter().filter(|why| !row.figures.iter().any(|figure| figure.to_string() == **why))
    {
        let _ = write!(text, "\n   ! {why}");
    }
    text
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
    let [passed, failed, disturbed, skipped] =
        ["passed", "FAILED", "disturbed", "skipped"].map(|word| report.count(word));
    let _ = writeln!(
        text,
        "{}, {} scale: {passed} passed, {failed} failed, {disturbed} disturbed, {skipped} skipped{}",
        report.server,
        report.scale.either("full", "a tenth of the"),
        if report.interrupted { ", interrupted" } else { "" }
    );
    text
}
