//! The examination for people: a table, and below it what has to be done.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table};

use super::check::{Check, Value, Verdict};
use super::{Diagnosis, Role};
use crate::table::Look;

/// What the widest line takes, in characters.
const WIDTH: usize = 80;

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

/// Breaks lines between words; what goes on is indented.
fn wrap(text: &str, indent: &str) -> String {
    let mut wrapped = String::new();
    for line in text.lines() {
        let mut length = 0;
        for word in line.split(' ') {
            let width = word.chars().count();
            if length > 0 && length + 1 + width > WIDTH {
                wrapped.push('\n');
                wrapped.push_str(indent);
                length = indent.len();
            } else if length > 0 {
                wrapped.push(' ');
                length += 1;
            }
            wrapped.push_str(word);
            length += width;
        }
        wrapped.push('\n');
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_break_between_words() {
        let text = wrap(&"word ".repeat(40), "  ");
        assert!(
            text.lines().all(|line| line.chars().count() <= WIDTH) && text.lines().count() == 3,
            "{text}"
        );
        assert_eq!(wrap("a\n\nb", ""), "a\n\nb\n");
    }
}
