//! The server's own account: what `GET /metrics` says of its connections.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, StreamOwned};

use super::attacker::tls;
use super::figure::{Bar, Figure};

/// A server that says nothing for so long says nothing.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a server has counted at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Account {
    accepted: u64,
    /// By cause.
    closed: BTreeMap<String, u64>,
}

impl Account {
    /// Asks the server, over a connection of its own.
    pub(crate) fn ask(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Account> {
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let connection = tls::connection(config).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, socket);
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Account::parse(&text).ok_or_else(|| io::Error::other("the server has no /metrics"))
    }

    /// Reads Prometheus' text format.
    fn parse(text: &str) -> Option<Account> {
        let mut account = Account::default();
        let mut is_told = false;
        for line in text.lines() {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<u64>() else { continue };
            if name.starts_with("webscale_connections_accepted_total") {
                (account.accepted, is_told) = (value, true);
            } else if let Some(rest) = name.strip_prefix("webscale_connections_closed_total{cause=\"") {
                account.closed.insert(rest.split('"').next()?.to_owned(), value);
            }
        }
        is_told.then_some(account)
    }

    fn closed(&self, cause: &str) -> u64 {
        self.closed.get(cause).copied().unwrap_or(0)
    }

    /// Whether what came since `before` is what was expected: `ends` connections at least that ended so, and none without a
    /// cause. Each of the two connections that asked is counted as begun by its own answer and as ended by the next.
    pub(crate) fn figures(&self, before: &Account, ends: &[(&str, u64)]) -> Vec<Figure> {
        let ended = ends.iter().map(|(cause, count)| {
            let counted = self.closed(cause).saturating_sub(before.closed(cause));
            Figure::count(format!("counted by the server as {cause}"), counted, Bar::AtLeast(*count as f64))
        });
        let sum = |account: &Account| account.closed.values().sum::<u64>();
        let (accepted, closed) =
            (self.accepted.saturating_sub(before.accepted), sum(self).saturating_sub(sum(before)));
        let name = "connections taken and not counted as ended";
        let without = Figure::count(name, accepted.abs_diff(closed), Bar::Exactly(0.0));
        ended.chain([without]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(accepted: u64, timeout: u64, http: u64) -> Account {
        let text = format!(
            "HTTP/1.1 200 OK\r\n\r\n# HELP webscale_connections_accepted_total x\n\
             webscale_connections_accepted_total{{pid=\"7\"}} {accepted}\n\
             webscale_connections_closed_total{{cause=\"timeout\",pid=\"7\"}} {timeout}\n\
             webscale_connections_closed_total{{cause=\"http\"}} {http}\n"
        );
        Account::parse(&text).unwrap()
    }

    fn misses(before: &Account, after: &Account, ends: &[(&str, u64)]) -> usize {
        after.figures(before, ends).iter().filter(|figure| !figure.holds).count()
    }

    #[test]
    fn what_ended_is_held_against_what_was_begun() {
        let before = account(101, 0, 0);
        assert_eq!(misses(&before, &account(152, 50, 1), &[("timeout", 50)]), 0);
        assert_eq!(misses(&before, &account(152, 49, 1), &[("timeout", 50)]), 2);
        assert_eq!(misses(&before, &account(152, 49, 2), &[("timeout", 50)]), 1);
        assert_eq!(misses(&before, &account(152, 50, 1), &[("protocol", 1)]), 1);
    }

    #[test]
    fn a_server_that_tells_nothing_has_no_account() {
        assert_eq!(Account::parse("HTTP/1.1 404 Not Found\r\n\r\n"), None);
    }
}
