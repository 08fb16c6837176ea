//! The server's own counts of a load: read before and after it from where a webscale server tells them to Prometheus.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::outcome::Outcome;
use super::plan::Plan;
use crate::http;

/// How long a page may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How soon a server that has not counted everything yet is asked again.
const AGAIN: Duration = Duration::from_millis(50);

const HANDSHAKES: &str = "webscale_handshakes_opened_total";
const MESSAGES: &str = "webscale_messages_received_total";

/// Why a server's counts could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CountsError {
    /// The URL is none that can be asked.
    #[error("{0}: counts are read from http://HOST:PORT/PATH")]
    Url(String),
    /// Nobody answers.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// It answers with something else.
    #[error("{0} answers {1:?}, not 200")]
    Status(String, String),
    /// Of another server.
    #[error("{0} has no {1}: that is what a webscale server counts")]
    Missing(String, &'static str),
}

/// What load and server counted from the first connection to the last message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Reconciled {
    /// Opening handshakes.
    pub handshakes: Pair,
    /// Messages of clients.
    pub messages: Pair,
    /// Both counted the same, or differ by no more than the share of failures that the load allows.
    pub agrees: bool,
}

/// One thing, counted twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// By the load.
    pub load: u64,
    /// By the server, of all its clients.
    pub server: u64,
}

impl Reconciled {
    fn new(handshakes: Pair, messages: Pair, allowed: f64) -> Reconciled {
        let agrees = [handshakes, messages].iter().all(|pair| pair.difference() <= allowed);
        Reconciled { handshakes, messages, agrees }
    }

    /// The server may still be at it.
    fn is_short(&self) -> bool {
        [self.handshakes, self.messages].iter().any(|pair| pair.server < pair.load)
    }

    /// What is wrong, if they disagree.
    pub(crate) fn problem(&self) -> Option<String> {
        let (pair, what) = match self.handshakes.difference() > self.messages.difference() {
            true => (self.handshakes, "connections"),
            false => (self.messages, "messages"),
        };
        let why = match pair.server < pair.load {
            true => "some were lost, or --counts does not name all of its processes",
            false => "it has other clients, too",
        };
        let Pair { load, server } = pair;
        (!self.agrees).then(|| format!("the server counted {server} {what} and the load {load}: {why}"))
    }
}

impl Pair {
    /// As a share of what the load counted.
    fn difference(self) -> f64 {
        match self.load.abs_diff(self.server) {
            0 => 0.0,
            difference => difference as f64 / self.load as f64,
        }
    }
}

/// A server's counts at one moment, of all pages together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ServerCounts {
    handshakes: u64,
    messages: u64,
}

impl ServerCounts {
    /// None where there is no page to ask.
    pub(crate) fn read(urls: &[String]) -> Result<Option<Self>, CountsError> {
        let mut sum = Self::default();
        for url in urls {
            let page = get(url)?;
            sum.handshakes += total(&page, HANDSHAKES).ok_or_else(|| missing(url, HANDSHAKES))?;
            sum.messages += total(&page, MESSAGES).ok_or_else(|| missing(url, MESSAGES))?;
        }
        Ok((!urls.is_empty()).then_some(sum))
    }

    /// What was counted since, of this load. A server that has not got to everything is given a moment.
    pub(crate) fn reconcile(self, plan: &Plan, outcome: &Outcome) -> Result<Reconciled, CountsError> {
        let connections = &outcome.connections;
        let opened = u64::from(connections.opened) + u64::from(connections.reconnected);
        let sent = outcome.messages.sent_in_all;
        let allowed = plan.stop.failures.unwrap_or(0.0);
        let until = Instant::now() + PATIENCE;
        loop {
            let now = Self::read(&plan.counts)?.unwrap_or_default();
            let handshakes = Pair { load: opened, server: now.handshakes.saturating_sub(self.handshakes) };
            let messages = Pair { load: sent, server: now.messages.saturating_sub(self.messages) };
            let reconciled = Reconciled::new(handshakes, messages, allowed);
            if !reconciled.is_short() || Instant::now() >= until {
                return Ok(reconciled);
            }
            thread::sleep(AGAIN);
        }
    }
}

fn missing(url: &str, name: &'static str) -> CountsError {
    CountsError::Missing(url.to_owned(), name)
}

/// The sum of a counter over all its series; none where there is no such.
fn total(page: &str, name: &str) -> Option<u64> {
    let of_it = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name).filter(|rest| rest.starts_with([' ', '{']))?;
        rest.rsplit_once(' ')?.1.parse::<u64>().ok()
    });
    of_it.reduce(u64::saturating_add)
}

/// Whether counts can be asked for there.
///
/// # Errors
/// [`CountsError::Url`].
pub fn check(url: &str) -> Result<(), CountsError> {
    parse(url).map(|_| ())
}

/// Host, and path.
fn parse(url: &str) -> Result<(&str, &str), CountsError> {
    let wrong = || CountsError::Url(url.to_owned());
    let place = url.strip_prefix("http://").ok_or_else(wrong)?;
    let (host, path) = place.split_at(place.find('/').unwrap_or(place.len()));
    // A request in which such bytes stand would be another one.
    let is_fine = !host.is_empty() && place.bytes().all(|byte| byte > b' ' && byte != 0x7f);
    is_fine.then_some((host, if path.is_empty() { "/" } else { path })).ok_or_else(wrong)
}

/// The body that is found there.
fn get(url: &str) -> Result<String, CountsError> {
    let (host, path) = parse(url)?;
    let answer = connect(host).and_then(|stream| http::get(stream, host, path));
    let answer = answer.map_err(|error| CountsError::Io(url.to_owned(), error))?;
    match answer.status() {
        Ok(200) => Ok(answer.body),
        _ => Err(CountsError::Status(url.to_owned(), answer.status_line)),
    }
}

fn connect(host: &str) -> io::Result<TcpStream> {
    let named_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let authority = if named_port { host.to_owned() } else { format!("{host}:80") };
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in authority.to_socket_addrs()? {
        match http::connect(address, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// A server that answers so to one request after the other.
    fn pages(answers: Vec<String>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/metrics", listener.local_addr().unwrap());
        thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    request.extend(byte);
                }
                assert!(request.starts_with(b"GET /metrics HTTP/1.1\r\n"));
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        url
    }

    fn page(handshakes: u64, messages: u64) -> String {
        format!(
            "HTTP/1.1 200 OK\r\n\r\n# HELP {MESSAGES} x\n{HANDSHAKES}{{pid=\"1\"}} {handshakes}\n\
             {HANDSHAKES}_of_others 77\n{MESSAGES}{{pid=\"1\"}} {messages}\n{MESSAGES}{{pid=\"2\"}} 5\n"
        )
    }

    /// 100 clients, and this many messages.
    fn outcome(messages: u64) -> Outcome {
        let mut outcome = super::super::outcome::tests::good();
        outcome.messages.sent_in_all = messages;
        outcome
    }

    fn plan(counts: Vec<String>) -> Plan {
        Plan { counts, ..Plan::new("ws://127.0.0.1:9") }
    }

    #[test]
    fn a_load_is_what_came_between_two_looks_at_all_pages() {
        let plan = plan(vec![pages(vec![page(3, 10), page(63, 10)]), pages(vec![page(1, 0), page(41, 7)])]);
        let before = ServerCounts::read(&plan.counts).unwrap().unwrap();
        assert_eq!(before, ServerCounts { handshakes: 4, messages: 20 });
        let reconciled = before.reconcile(&plan, &outcome(7)).unwrap();
        assert!(reconciled.agrees && reconciled.problem().is_none(), "{reconciled:?}");
        assert_eq!(reconciled.handshakes, Pair { load: 100, server: 100 });
    }

    #[test]
    fn a_server_that_is_behind_is_asked_again_and_more_than_ours_disagrees() {
        let plan = plan(vec![pages(vec![page(0, 0), page(99, 0), page(100, 1)])]);
        let before = ServerCounts::read(&plan.counts).unwrap().unwrap();
        let reconciled = before.reconcile(&plan, &outcome(0)).unwrap();
        assert!(!reconciled.agrees);
        assert_eq!(reconciled.messages, Pair { load: 0, server: 1 });
        let problem = reconciled.problem().unwrap();
        assert!(problem.contains("1 messages and the load 0: it has other clients"), "{problem}");
    }

    #[test]
    fn what_is_allowed_to_fail_may_be_missing() {
        let pair = |server| Pair { load: 100, server };
        let problem =
            |handshakes, messages, allowed| Reconciled::new(handshakes, messages, allowed).problem();
        assert_eq!(problem(pair(99), pair(101), 0.01), None);
        assert!(
            problem(pair(98), pair(101), 0.01).unwrap().contains("98 connections and the load 100: some")
        );
        assert!(problem(pair(100), pair(99), 0.0).unwrap().contains("99 messages"));
    }

    #[test]
    fn pages_that_tell_nothing_are_named() {
        let words = |url: &str| ServerCounts::read(&[url.to_owned()]).unwrap_err().to_string();
        assert!(words("wss://h/").contains("http://HOST:PORT/PATH"));
        assert!(words("http://h/a b").contains("http://HOST:PORT/PATH"));
        assert!(words(&pages(vec!["HTTP/1.1 403 Forbidden\r\n\r\nno".into()])).contains("403"));
        assert!(words(&pages(vec!["HTTP/1.1 200 OK\r\n\r\nup 1\n".into()])).contains(HANDSHAKES));
        assert_eq!(ServerCounts::read(&[]).unwrap(), None);
    }
}
