//! Results go to stdout, or to a file; nothing else does.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, bail};
use serde::Serialize;
use webscale_load::table::Look;

use crate::args::OutputArgs;
use crate::exit::{Usage, sentence};

/// As a file's name: standard output.
const STDOUT: &str = "-";

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

/// How tables are drawn on stdout.
pub(crate) fn look() -> Look {
    if !stdout_is_terminal() {
        return Look::Plain;
    }
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
    let columns = size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
    Look::Lines { columns: columns.unwrap_or(80) }
}

impl OutputArgs {
    /// Makes sure that a result can be written to every file, before hours are spent on it. What the files held is lost, as
    /// it would be in the end.
    pub(crate) fn prepare(&self) -> anyhow::Result<()> {
        all([prepare_json(self.json.as_deref()), prepare_file("--html", self.html.as_deref())])
    }
}

/// The same for the file of `--json`, which may be stdout.
pub(crate) fn prepare_json(json: Option<&Path>) -> anyhow::Result<()> {
    prepare_file("--json", json.filter(|path| *path != Path::new(STDOUT)))
}

/// The same for the file that `flag` names.
pub(crate) fn prepare_file(flag: &str, path: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    if path == Path::new(STDOUT) {
        return Err(Usage(format!("{flag} needs a file: --json alone can go to stdout")).into());
    }
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
    if json == Some(Path::new(STDOUT)) {
        return Ok(print(&encoded(result)?)?);
    }
    let written = match json {
        Some(_) => encoded(result).and_then(|encoded| write_file(json, || encoded)),
        None => Ok(()),
    };
    all([written, print(&text()).map_err(Into::into)])
}

fn encoded<T: Serialize>(result: &T) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(result)? + "\n")
}

/// Every failure of several outputs, all of which were tried: one that fails does not take the others with it.
pub(crate) fn all<const N: usize>(written: [anyhow::Result<()>; N]) -> anyhow::Result<()> {
    let mut failed: Vec<anyhow::Error> = written.into_iter().filter_map(Result::err).collect();
    if failed.len() <= 1 {
        return failed.pop().map_or(Ok(()), Err);
    }
    let text = failed.iter().map(sentence).collect::<Vec<_>>().join("; ");
    if failed.iter().all(anyhow::Error::is::<Usage>) { Err(Usage(text).into()) } else { bail!(text) }
}
