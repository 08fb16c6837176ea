//! Results go to stdout, or to a file; nothing else does.

use std::io::{self, IsTerminal, Write};

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
