//! `webscale payload`: the message of the workload.

use crate::args::PayloadArgs;
use crate::output;

pub(crate) fn run(args: &PayloadArgs) -> anyhow::Result<()> {
    let mut text = workload::payload(args.seed);
    // A file or a pipe gets exactly the message; a person's prompt starts on its own line.
    if output::stdout_is_terminal() {
        text.push('\n');
    }
    output::print(&text)?;
    Ok(())
}
