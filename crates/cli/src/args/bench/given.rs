//! Values that may stand in a file.

use std::fs;

use crate::exit::Usage;

/// The text that was typed, or that of the file in `@FILE`.
pub(super) fn text(flag: &str, typed: &str) -> anyhow::Result<String> {
    let Some(path) = typed.strip_prefix('@') else { return Ok(typed.into()) };
    fs::read_to_string(path).map_err(|error| Usage(format!("{flag} {typed}: {error}")).into())
}
