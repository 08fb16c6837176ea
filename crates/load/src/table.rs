//! How tables are drawn, on a terminal and elsewhere, and lines broken.

use comfy_table::{Table, presets};

/// What the widest line takes, in characters.
const WIDTH: usize = 80;

/// How a table is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// With lines, for a terminal.
    Lines,
    /// As Markdown, for everything else.
    Plain,
}

impl Look {
    /// An empty table.
    pub(crate) fn table(self) -> Table {
        let mut table = Table::new();
        table.load_style(match self {
            Look::Lines => presets::UTF8_FULL_CONDENSED,
            Look::Plain => presets::ASCII_MARKDOWN,
        });
        table
    }
}

/// Breaks lines between words; what goes on is indented.
pub(crate) fn wrap(text: &str, indent: &str) -> String {
    let mut wrapped = String::new();
    for line in text.lines() {
        let mut length = 0;
        for (nth, word) in line.split(' ').enumerate() {
            let width = word.chars().count();
            if length > 0 && length + 1 + width > WIDTH {
                wrapped.push('\n');
                wrapped.push_str(indent);
                length = indent.len();
            } else if nth > 0 {
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
        assert_eq!(wrap("  a  b", ""), "  a  b\n");
    }
}
