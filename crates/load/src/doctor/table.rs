//! The examination for people: a table, and below it what has to be done.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table};

use super::check::{Check, Mend, Value, Verdict};
use super::{Diagnosis, Need, Role};
use crate::measure::group::names;
use crate::table::{Look, wrap};

/// The table, and what mends what is short or tight.
pub fn text(diagnosis: &Diagnosis, look: Look) -> String {
    let need = &diagnosis.need;
    let mut text = wrap(&format!("{} clients, {}", need.clients, ends(need)), "");
    let _ = writeln!(text, "\n{}", table(&diagnosis.checks, look));
    for verdict in [Verdict::Short, Verdict::Tight, Verdict::Unknown] {
        for check in diagnosis.with(verdict) {
            explain(&mut text, check);
        }
    }
    text.push('\n');
    notes(diagnosis).iter().for_each(|note| text += &wrap(note, ""));
    let summary = if diagnosis.fits {
        format!("{} clients fit.", need.clients)
    } else {
        let short: Vec<&str> = diagnosis.with(Verdict::Short).map(|check| check.name).collect();
        format!("{} clients do not fit: {}.", need.clients, short.join("; "))
    };
    text + &wrap(&summary, "")
}

fn ends(need: &Need) -> String {
    let server = match need.server.as_slice() {
        [] => "the server".to_owned(),
        pids => format!("the server ({})", names(pids)),
    };
    match need.role {
        Role::Server => format!("{server} on this machine"),
        Role::Load => "the load on this machine".to_owned(),
        Role::Both => format!("{server} and the load on this machine"),
    }
}

/// What holds of the table as a whole.
fn notes(diagnosis: &Diagnosis) -> Vec<String> {
    let mut notes = Vec::new();
    let mends = || diagnosis.checks.iter().flat_map(|check| &check.mend).map(Mend::to_string);
    if mends().any(|mend| mend.contains("sysctl -w")) {
        notes.push(
            "What sysctl -w sets is lost when the machine starts again: /etc/sysctl.d keeps it.".to_owned(),
        );
    }
    if mends().any(|mend| mend.contains("--pid $$") || mend.starts_with("ulimit")) {
        notes
            .push("A limit that is set in a shell is that of what the shell starts from then on.".to_owned());
    }
    if diagnosis.need.role == Role::Load {
        let clients = diagnosis.need.clients;
        notes
            .push(format!("On the server's machine:\n    webscale doctor --role server --clients {clients}"));
    }
    notes
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
        let line = format!("{lead}{command}");
        // What is to be typed stands in one line, however long.
        *text += &if let Mend::Command(_) = command { line + "\n" } else { wrap(&line, "    ") };
    }
}
