//! Results go to stdout, or to a file; nothing else does.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::exit::Usage;

/// Writing to stdout failed.
#[derive(Debug, thiserror::Error)]
#[error("writing to stdout: {0}")]
pub(crate) struct StdoutError(pub(crate) io::Error);

/// Writes `text` to stdout as it is.
pub(crate) fn print(text: &str) -> Result<(), StdoutError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(StdoutError)
}

/// Whether a person reads stdout.
pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Makes sure that a result can be written where `--json` says, before hours are spent on it. What the file held is lost,
/// as it would be in the end.
pub(crate) fn prepare(json: Option<&Path>) -> anyhow::Result<()> {
    match json {
        Some(path) if path == Path::new("-") => Ok(()),
        path => prepare_file("--json", path),
    }
}

/// The same for the file that `flag` names.
pub(crate) fn prepare_file(flag: &str, path: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    fs::write(path, "").map_err(|error| Usage(format!("{flag} {}: {error}", path.display())).into())
}

/// Writes `text` to a file, if one was named.
pub(crate) fn write_file(path: Option<&Path>, text: impl FnOnce() -> String) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    fs::write(path, text()).with_context(|| format!("writing {}", path.display()))
}

/// Writes a result where `--json` says: as JSON to a file or to stdout (`-`), and as `text` to stdout unless JSON goes
/// there, whether or not the file can be written.
pub(crate) fn report<T: Serialize>(
    json: Option<&Path>,
    result: &T,
    text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    if json == Some(Path::new("-")) {
        return Ok(print(&encoded(result)?)?);
    }
    let written = match json {
        Some(_) => encoded(result).and_then(|encoded| write_file(json, || encoded)),
        None => Ok(()),
    };
    let printed = print(&text());
    written.and(printed.map_err(Into::into))
}

fn encoded<T: Serialize>(result: &T) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(result)? + "\n")
}

/// The first error of several outputs, all of which were tried: one that fails does not take the others with it.
pub(crate) fn all<const N: usize>(written: [anyhow::Result<()>; N]) -> anyhow::Result<()> {
    written.into_iter().collect()
}
