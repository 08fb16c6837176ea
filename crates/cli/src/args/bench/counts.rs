//! What the server itself counted, to be held against the load's counts.

use webscale_load::bench::counts::{Counting, CountsError, Names, Series, check};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The server's own counts")]
pub(crate) struct CountsArgs {
    /// Hold the load's counts against those that the server tells Prometheus here, http://HOST:PORT/metrics; repeat it for
    /// each process that tells its own. Exit code 1 where they differ by more than --max-failures, which is not at all by
    /// default
    #[arg(long, value_name = "URL", value_parser = page)]
    counts: Vec<String>,
    /// There the server counts opening handshakes under this name, as NAME or NAME{label="value"} [default: with none of these
    /// three, the names of `webscale serve`]
    #[arg(long, value_name = "NAME", requires = "counts")]
    counts_opened: Option<Series>,
    /// And open connections under this one
    #[arg(long, value_name = "NAME", requires = "counts")]
    counts_open: Option<Series>,
    /// And messages of clients under this one
    #[arg(long, value_name = "NAME", requires = "counts")]
    counts_messages: Option<Series>,
}

fn page(url: &str) -> Result<String, CountsError> {
    check(url).map(|()| url.to_owned())
}

impl CountsArgs {
    pub(super) fn counting(&self) -> Counting {
        Counting {
            pages: self.counts.clone(),
            names: Names {
                handshakes: self.counts_opened.clone(),
                messages: self.counts_messages.clone(),
                open: self.counts_open.clone(),
            },
        }
    }
}
