//! Values that may stand in a file or in the environment.

use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::exit::Usage;

/// No file that is read whole is longer; some have no end.
pub(super) const FILE_BYTES_MAX: usize = 1 << 30;

/// What a file holds that was typed so, or stdin as `-`.
pub(super) fn file(typed: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut read = |input: &mut dyn Read| input.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
    let read = match path == Path::new("-") {
        true => read(&mut io::stdin().lock()),
        false => File::open(path).and_then(|mut file| read(&mut file)),
    };
    match read {
        Ok(_) if bytes.len() <= FILE_BYTES_MAX => Ok(bytes),
        Ok(_) => Err(Usage(format!("{typed}: more than {FILE_BYTES_MAX} bytes")).into()),
        Err(error) => Err(Usage(format!("{typed}: {error}")).into()),
    }
}

/// The text that was typed, or that of the file in `@FILE`.
pub(super) fn text(flag: &str, typed: &str) -> anyhow::Result<String> {
    let Some(path) = typed.strip_prefix('@') else { return Ok(typed.into()) };
    let typed = format!("{flag} {typed}");
    let bytes = file(&typed, Path::new(path))?;
    String::from_utf8(bytes).map_err(|_| Usage(format!("{typed}: not UTF-8")).into())
}

/// The same without the line end that files have; also from the environment, as `env:NAME`: what is typed can be read
/// by everybody on the machine.
pub(super) fn secret(flag: &str, typed: &str) -> anyhow::Result<String> {
    let secret = match typed.strip_prefix("env:") {
        Some(name) => env::var(name).map_err(|error| Usage(format!("{flag} {typed}: {error}")))?,
        None => text(flag, typed)?,
    };
    match secret.trim_end_matches(['\r', '\n']) {
        "" => Err(Usage(format!("{flag}: that is empty")).into()),
        secret => Ok(secret.into()),
    }
}
