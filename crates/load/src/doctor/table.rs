//! The examination for people: a table, and below it what has to be done.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table};

use super::check::{Check, Value, Verdict};
use super::{Diagnosis, Role};
use crate::table::{Look, wrap};

/// The table, and what mends what is short or tight.
pub fn text(diagnosis: &Diagnosis, look: Look) -> String {
    let need = &diagnosis.need;
    let ends = match need.role {
        Role::Server => "the server on this machine",
        Role::Load => "the load on this machine",
        Role::Both => "server and load on this machine",
    };
    let mut text = format!("{} clients, {ends}\n\n{}\n", need.clients, table(&diagnosis.checks, look));
    for verdict in [Verdict::Short, Verdict::Tight, Verdict::Unknown] {
        for check in diagnosis.with(verdict) {
            explain(&mut text, check);
        }
    }
    let summary = if diagnosis.fits {
        format!("\n{} clients fit.\n", need.clients)
    } else {
        let short: Vec<&str> = diagnosis.with(Verdict::Short).map(|check| check.name).collect();
        format!("\n{} clients do not fit: {}.\n", need.clients, short.join("; "))
    };
    text + &wrap(&summary, "")
}

fn table(checks: &[Check], look: Look) -> Table {
    let mut table = look.table();
    table.set_header(["", "now", "needed", "verdict"]);
    for check in checks {
        let cell = |value: &Option<Value>| value.as_ref().map_or("–".to_owned(), Value::to_string);
        table.add_row([
            check.name.to_owned(),
            cell(&check.now),
            cell(&check.needed),
            check.verdict.word().into(),
        ]);
    }
    for column in table.column_iter_mut().skip(1).take(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn explain(text: &mut String, check: &Check) {
    let line = format!("{}: {} ({})", check.verdict.word(), check.name, check.note);
    let _ = write!(text, "\n{}", wrap(&line, "  "));
    for (place, command) in check.mend.iter().enumerate() {
        let lead = if place == 0 { "    " } else { " or " };
        let _ = writeln!(text, "{lead}{command}");
    }
}
