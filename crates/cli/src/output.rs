//! Results go to stdout, or to a file; nothing else does.

use std::fs::{self, File};
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

/// A flag that names a file for a result, and that file where it was given.
pub(crate) type Wanted<'a> = (&'static str, Option<&'a Path>);

impl OutputArgs {
    /// Makes sure that a result can be written to every file, before hours are spent on it, and leaves each as it was: a load
    /// that fails at once costs nobody the report of the last one.
    pub(crate) fn prepare(&self) -> anyhow::Result<()> {
        self.prepare_with([])
    }

    /// The same with the files of further flags.
    pub(crate) fn prepare_with<const N: usize>(&self, more: [Wanted<'_>; N]) -> anyhow::Result<()> {
        let json = self.json.as_deref().filter(|path| *path != Path::new(STDOUT));
        let wanted: Vec<Wanted<'_>> =
            [("--json", json), ("--html", self.html.as_deref())].into_iter().chain(more).collect();
        differ(&wanted)?;
        all(wanted.into_iter().map(|(flag, path)| prepare_file(flag, path)))
    }
}

/// The same for the file of `--json` alone, which may be stdout.
pub(crate) fn prepare_json(json: Option<&Path>) -> anyhow::Result<()> {
    prepare_file("--json", json.filter(|path| *path != Path::new(STDOUT)))
}

fn prepare_file(flag: &str, path: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    if path == Path::new(STDOUT) {
        return Err(Usage(format!("{flag} needs a file: --json alone can go to stdout")).into());
    }
    try_writing(path).map_err(|error| Usage(format!("{flag} {}: {error}", path.display())).into())
}

/// Whether the file can be opened as the result will; one that this makes is gone again.
fn try_writing(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        // Whoever reads a pipe would take the first closing for the end.
        Ok(there) if is_stream(&there) => Ok(()),
        Ok(_) => File::options().append(true).open(path).map(drop),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            File::create_new(path)?;
            fs::remove_file(path)
        }
        Err(error) => Err(error),
    }
}

/// A pipe or a device, which holds nothing that could be lost.
fn is_stream(file: &fs::Metadata) -> bool {
    !file.is_file() && !file.is_dir()
}

/// No two results go to one file, where the later would take the place of the earlier.
fn differ(wanted: &[Wanted<'_>]) -> anyhow::Result<()> {
    let mut seen: Vec<(&str, &Path)> = Vec::new();
    for (flag, path) in wanted.iter().filter_map(|(flag, path)| path.map(|path| (*flag, path))) {
        let holds = fs::metadata(path).map_or(true, |there| !is_stream(&there));
        if let Some((other, _)) = seen.iter().find(|(_, other)| holds && *other == path) {
            return Err(Usage(format!("{other} and {flag} name the same file, {}", path.display())).into());
        }
        seen.push((flag, path));
    }
    Ok(())
}

/// Writes `text` to a file, if one was named.
pub(crate) fn write_file(path: Option<&Path>, text: impl FnOnce() -> String) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    write_whole(path, &text()).with_context(|| format!("writing {}", path.display()))
}

/// Leaves no part of a result: it would be worse than none.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    let written = file.write_all(text.as_bytes());
    if written.is_err() && file.metadata()?.is_file() {
        fs::remove_file(path)?;
    }
    written
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
pub(crate) fn all(written: impl IntoIterator<Item = anyhow::Result<()>>) -> anyhow::Result<()> {
    let mut failed: Vec<anyhow::Error> = written.into_iter().filter_map(Result::err).collect();
    if failed.len() <= 1 {
        return failed.pop().map_or(Ok(()), Err);
    }
    let text = failed.iter().map(sentence).collect::<Vec<_>>().join("; ");
    if failed.iter().all(anyhow::Error::is::<Usage>) { Err(Usage(text).into()) } else { bail!(text) }
}
