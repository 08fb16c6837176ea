//! Values that may stand in a file or in the environment.

use std::{env, fs};

use crate::exit::Usage;

/// The text that was typed, or that of the file in `@FILE`.
pub(super) fn text(flag: &str, typed: &str) -> anyhow::Result<String> {
    let Some(path) = typed.strip_prefix('@') else { return Ok(typed.into()) };
    fs::read_to_string(path).map_err(|error| Usage(format!("{flag} {typed}: {error}")).into())
}

/// The same without the line end that files have; also from the environment, as `env:NAME`: what is typed can be read
/// by everybody on the machine.
pub(super) fn secret(flag: &str, typed: &str) -> anyhow::Result<String> {
    let secret = match typed.strip_prefix("env:") {
        Some(name) => env::var(name).map_err(|error| Usage(format!("{flag} {typed}: {error}")))?,
        None => text(flag, typed)?,
    };
    Ok(secret.trim_end_matches(['\r', '\n']).into())
}
