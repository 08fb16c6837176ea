//! Where a result goes.

use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Write the whole result as JSON, to FILE or else to stdout in place of the text
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-", value_parser = file)]
    pub(crate) json: Option<PathBuf>,
    /// Write one HTML page with plots, which opens offline
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// A URL behind `--json` was meant for the command.
pub(crate) fn file(text: &str) -> Result<PathBuf, String> {
    match text.contains("://") {
        true => Err("that is a URL and no file: put it before --json, or write --json=-".into()),
        false => Ok(text.into()),
    }
}
