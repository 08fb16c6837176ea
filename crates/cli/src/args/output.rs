//! Where a result goes.

use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Write the whole result as JSON, to FILE or else to stdout in place of the text
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub(crate) json: Option<PathBuf>,
    /// Write one HTML page with plots, which opens offline
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}
