//! How tables are drawn, on a terminal and elsewhere.

use comfy_table::{Table, presets};

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
