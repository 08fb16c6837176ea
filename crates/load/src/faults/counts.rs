//! What the server itself counted: GET /metrics, over TLS.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, StreamOwned};

use super::attacker::tls;
use super::figure::{Bar, Figure};
use crate::http::{self, Answer};

/// What a server that lives takes to answer, at most.
const PATIENCE: Duration = Duration::from_secs(10);
const PREFIX: &str = "webscale_";

/// Counters and gauges by their names, without the prefix that all have, and their own label's value where they have one:
/// `connections_closed_total/timeout`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Counts(BTreeMap<String, u64>);

/// GET, over a connection of its own.
pub(crate) fn get(address: SocketAddr, config: &Arc<ClientConfig>, path: &str) -> io::Result<Answer> {
    let connection = tls::connection(config).map_err(io::Error::other)?;
    http::get(StreamOwned::new(connection, http::connect(address, PATIENCE)?), "localhost", path)
}

impl Counts {
    /// Asks the server, over a connection that counts too.
    pub(crate) fn ask(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Counts> {
        let answer = get(address, config, "/metrics")?;
        match answer.status()? {
            200 => Ok(Counts::parse(&answer.body)),
            status => Err(io::Error::other(format!("/metrics is answered with {status}"))),
        }
    }

    pub(super) fn parse(body: &str) -> Counts {
        Counts(body.lines().filter_map(sample).collect())
    }

    /// The one of this name; 0 if there is none.
    pub(crate) fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Of all parts of this name.
    pub(crate) fn sum(&self, name: &str) -> u64 {
        self.parts(name).map(|(_, value)| value).sum()
    }

    /// The parts of this name.
    pub(crate) fn parts(&self, name: &str) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().filter_map(move |(key, value)| {
            let part = key.strip_prefix(name)?.strip_prefix('/')?;
            Some((part, *value))
        })
    }

    /// Connections that ended with this cause.
    pub(crate) fn closed(&self, cause: &str) -> u64 {
        self.get(&format!("connections_closed_total/{cause}"))
    }

    /// Whether what came since `before` is what was expected: `ends` connections at least that ended so, and none without a
    /// cause. Who asks is open while the answer is written, both times.
    pub(crate) fn figures(&self, before: &Counts, ends: &[(&str, u64)]) -> Vec<Figure> {
        let ended = ends.iter().map(|(cause, count)| {
            let counted = self.closed(cause).saturating_sub(before.closed(cause));
            Figure::count(format!("counted by the server as {cause}"), counted, Bar::AtLeast(*count as f64))
        });
        let without = self.open().abs_diff(before.open());
        let without = Figure::count("connections taken and not counted as ended", without, Bar::Exactly(0.0));
        ended.chain([without]).collect()
    }

    /// Connections accepted, less those closed by reason.
    pub(crate) fn open(&self) -> u64 {
        self.get("connections_accepted_total").saturating_sub(self.sum("connections_closed_total"))
    }
}

/// A line such as `webscale_connections_closed_total{cause="timeout",pid="7"} 12`.
fn sample(line: &str) -> Option<(String, u64)> {
    let (series, value) = line.strip_prefix(PREFIX)?.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, labels)) = series.split_once('{') else { return Some((series.to_owned(), value)) };
    let mut own = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
    let key = match own.find(|(label, _)| *label != "pid") {
        Some((_, part)) => format!("{name}/{}", part.trim_matches('"')),
        None => name.to_owned(),
    };
    Some((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_told_apart_by_their_own_label() {
        let counts = Counts::parse(
            "# HELP webscale_connections TCP connections that exist now.\n\
             # TYPE webscale_connections gauge\n\
             webscale_connections{pid=\"7\"} 3\n\
             webscale_connections_accepted_total 10\n\
             webscale_connections_closed_total{cause=\"peer\",pid=\"7\"} 5\n\
             webscale_connections_closed_total{cause=\"timeout\",pid=\"7\"} 2\n\
             other_connections 9\n",
        );
        assert_eq!((counts.get("connections"), counts.get("nothing")), (3, 0));
        assert_eq!((counts.closed("peer"), counts.closed("timeout"), counts.closed("tls")), (5, 2, 0));
        assert_eq!((counts.sum("connections_closed_total"), counts.open()), (7, 3));
    }

    fn counts(accepted: u64, timeout: u64, http: u64) -> Counts {
        Counts::parse(&format!(
            "webscale_connections_accepted_total{{pid=\"7\"}} {accepted}\n\
             webscale_connections_closed_total{{cause=\"timeout\",pid=\"7\"}} {timeout}\n\
             webscale_connections_closed_total{{cause=\"http\"}} {http}\n"
        ))
    }

    fn misses(before: &Counts, after: &Counts, ends: &[(&str, u64)]) -> usize {
        after.figures(before, ends).iter().filter(|figure| !figure.holds).count()
    }

    #[test]
    fn what_ended_is_held_against_what_was_begun() {
        let before = counts(101, 0, 0);
        assert_eq!(misses(&before, &counts(152, 50, 1), &[("timeout", 50)]), 0);
        assert_eq!(misses(&before, &counts(152, 49, 1), &[("timeout", 50)]), 2);
        assert_eq!(misses(&before, &counts(152, 49, 2), &[("timeout", 50)]), 1);
        assert_eq!(misses(&before, &counts(152, 50, 1), &[("protocol", 1)]), 1);
    }
}
