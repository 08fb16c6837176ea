//! How tables are drawn, on a terminal and elsewhere, and lines broken.

use comfy_table::{ContentArrangement, Table, presets};

/// What the widest line takes, in characters.
const WIDTH: usize = 80;
/// No column could be read in a narrower table.
const COLUMNS_MIN: usize = 40;

/// How a table is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// With lines, for a terminal.
    Lines {
        /// How wide the terminal is.
        columns: usize,
    },
    /// As Markdown, for everything else.
    Plain,
}

impl Look {
    /// An empty table.
    pub(crate) fn table(self) -> Table {
        let mut table = Table::new();
        match self {
            Look::Lines { columns } => {
                let width = u16::try_from(columns.max(COLUMNS_MIN)).unwrap_or(u16::MAX);
                table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
                table.load_style(presets::UTF8_FULL_CONDENSED);
            }
            Look::Plain => {
                table.load_style(presets::ASCII_MARKDOWN);
            }
        }
        table
    }

    /// How many characters stand beside each other, if that is bounded.
    pub(crate) fn columns(self) -> Option<usize> {
        match self {
            Look::Lines { columns } => Some(columns.max(COLUMNS_MIN)),
            Look::Plain => None,
        }
    }
}

/// Breaks lines between words; what goes on is indented.
pub(crate) fn wrap(text: &str, indent: &str) -> String {
    wrap_at(WIDTH, text, indent)
}

/// The same for lines of so many characters. A line keeps the spaces with which it begins.
pub fn wrap_at(columns: usize, text: &str, indent: &str) -> String {
    let mut wrapped = String::new();
    for line in text.lines() {
        let words = line.trim_start_matches(' ');
        let lead = line.len() - words.len();
        wrapped.push_str(&line[..lead]);
        let (mut length, mut is_first) = (lead, true);
        for word in words.split(' ') {
            let width = word.chars().count();
            if !is_first && length + 1 + width > columns {
                wrapped.push('\n');
                wrapped.push_str(indent);
                length = indent.len();
            } else if !is_first {
                wrapped.push(' ');
                length += 1;
            }
            wrapped.push_str(word);
            length += width;
            is_first = false;
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
        assert_eq!(wrap_at(8, "  one two\nsix", "    "), "  one\n    two\nsix\n");
        assert_eq!(wrap_at(1, "one two", ""), "one\ntwo\n");
        assert_eq!(wrap("  a  b", ""), "  a  b\n");
    }
}
