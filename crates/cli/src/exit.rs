//! How the command ends: the one place that chooses an exit code.

use std::io::{self, Write};
use std::process::ExitCode;

/// What was typed cannot be done, whatever the machine's state: exit code 2, as for a flag that does not exist.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Nothing was found wrong, but not everything could be told: exit code 3.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Undecided(pub(crate) String);

/// Reports the outcome on stderr and chooses the exit code: 0 done, 1 the run failed, 2 usage, 3 undecided.
pub(crate) fn finish(outcome: anyhow::Result<()>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    if is_broken_pipe(&error) {
        // Who reads our output has seen enough (`| head`).
        return ExitCode::SUCCESS;
    }
    // Nobody may read stderr any more, as after SIGHUP.
    let _ = writeln!(io::stderr(), "webscale: {}", sentence(&error));
    ExitCode::from(match () {
        () if error.is::<Usage>() => 2,
        () if error.is::<Undecided>() => 3,
        () => 1,
    })
}

/// The error and its causes, each said once: many errors say their cause themselves.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    error.chain().skip(1).map(ToString::to_string).fold(error.to_string(), |text, cause| {
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<crate::output::StdoutError>()
        .is_some_and(|e| e.0.kind() == io::ErrorKind::BrokenPipe)
}
