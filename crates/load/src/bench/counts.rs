//! The server's own counts of a load: read before it, once all are connected, and after it, from where the server tells them
//! to Prometheus.

mod series;

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::outcome::Outcome;
use super::plan::Plan;
use crate::http;
pub use series::{Series, SeriesError};

/// How long a page may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How soon a server that has not counted everything yet is asked again.
const AGAIN: Duration = Duration::from_millis(50);

/// Where a server counts what came to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counting {
    /// `http://HOST:PORT/PATH`, a page for each of its processes that tells its own. Without any, nothing is held against
    /// anything.
    pub pages: Vec<String>,
    /// What it counts there, by its own names; with none, by those of a webscale server.
    pub names: Names,
}

/// What stands on the pages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// Opening handshakes so far.
    pub handshakes: Option<Series>,
    /// Messages of clients so far.
    pub messages: Option<Series>,
    /// Connections that are open now.
    pub open: Option<Series>,
}

impl Names {
    fn of_webscale() -> Names {
        Names {
            handshakes: Some(Series::named("webscale_handshakes_opened_total")),
            messages: Some(Series::named("webscale_messages_received_total")),
            open: Some(Series::named("webscale_connections")),
        }
    }
}

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
    /// It counts otherwise.
    #[error(
        "{0} has no {1}: --counts-opened, --counts-messages and --counts-open name what the server counts there"
    )]
    Missing(String, String),
}

/// What load and server counted from the first connection to the last message; none where the server does not count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Reconciled {
    /// Opening handshakes.
    pub handshakes: Option<Pair>,
    /// Connections that were open when all had connected.
    pub open: Option<Pair>,
    /// Messages of clients.
    pub messages: Option<Pair>,
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

impl Pair {
    /// What the server counted from one look to the other.
    fn new(load: u64, before: Option<u64>, now: Option<u64>) -> Option<Pair> {
        Some(Pair { load, server: now?.saturating_sub(before?) })
    }

    /// As a share of what the load counted.
    fn difference(self) -> f64 {
        match self.load.abs_diff(self.server) {
            0 => 0.0,
            difference => difference as f64 / self.load as f64,
        }
    }

    /// The server may still be at it.
    fn is_short(self) -> bool {
        self.server < self.load
    }
}

impl Reconciled {
    fn new(pairs: [Option<Pair>; 3], allowed: f64) -> Reconciled {
        let agrees = pairs.iter().flatten().all(|pair| pair.difference() <= allowed);
        let [handshakes, open, messages] = pairs;
        Reconciled { handshakes, open, messages, agrees }
    }

    /// What is wrong, if they disagree.
    fn problem(&self) -> Option<String> {
        let pairs = [
            (self.handshakes, "connections"),
            (self.open, "connections that were open together"),
            (self.messages, "messages"),
        ];
        let pairs = pairs.into_iter().filter_map(|(pair, what)| Some((pair?, what)));
        let (pair, what) =
            pairs.max_by(|(one, _), (other, _)| one.difference().total_cmp(&other.difference()))?;
        let why = match pair.is_short() {
            true => "some were lost, or --counts does not name all of its processes",
            false => "it has other clients, too",
        };
        let Pair { load, server } = pair;
        (!self.agrees).then(|| format!("the server counted {server} {what} and the load {load}: {why}"))
    }
}

/// A server's counts at one moment, of all pages together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct ServerCounts {
    handshakes: Option<u64>,
    messages: Option<u64>,
    open: Option<u64>,
}

/// Asks a server, as a load goes on, what it counts.
#[derive(Debug)]
pub(crate) struct Reconciliation<'a> {
    plan: &'a Plan,
    names: Names,
    before: ServerCounts,
    open: Option<Pair>,
    failed: Option<CountsError>,
}

impl<'a> Reconciliation<'a> {
    /// Before the first connection. None where there is no page to ask.
    pub(crate) fn begin(plan: &'a Plan) -> Result<Option<Self>, CountsError> {
        if plan.counts.pages.is_empty() {
            return Ok(None);
        }
        let given = &plan.counts.names;
        let names = if *given == Names::default() { Names::of_webscale() } else { given.clone() };
        let mut begun = Self { plan, names, before: ServerCounts::default(), open: None, failed: None };
        begun.before = begun.read()?;
        Ok(Some(begun))
    }

    /// All have connected, of whom so many are open.
    pub(crate) fn connected(&mut self, open: u32) {
        let before = self.before.open;
        if before.is_none() {
            return;
        }
        match self.until_enough(|now| [Pair::new(open.into(), before, now.open)]) {
            Ok([pair]) => self.open = pair,
            Err(error) => self.failed = Some(error),
        }
    }

    /// What came of it all, which becomes a part of the load's outcome.
    pub(crate) fn end(self, outcome: &mut Outcome) {
        let connections = &outcome.connections;
        let opened = u64::from(connections.opened) + u64::from(connections.reconnected);
        let sent = outcome.messages.sent_in_all;
        let before = self.before;
        let counted = self.until_enough(|now| {
            let handshakes = Pair::new(opened, before.handshakes, now.handshakes);
            [handshakes, Pair::new(sent, before.messages, now.messages)]
        });
        match (counted, self.failed) {
            (Err(error), _) | (_, Some(error)) => {
                outcome.verdict.problems.push(format!("the server's counts: {error}"));
            }
            (Ok([handshakes, messages]), None) => {
                let allowed = self.plan.stop.failures.unwrap_or(0.0);
                let counted = Reconciled::new([handshakes, self.open, messages], allowed);
                outcome.verdict.problems.extend(counted.problem());
                outcome.counted = Some(counted);
            }
        }
    }

    fn read(&self) -> Result<ServerCounts, CountsError> {
        let Names { handshakes, messages, open } = &self.names;
        let mut sum = ServerCounts::default();
        for url in &self.plan.counts.pages {
            let page = get(url)?;
            add(&mut sum.handshakes, handshakes.as_ref(), url, &page)?;
            add(&mut sum.messages, messages.as_ref(), url, &page)?;
            add(&mut sum.open, open.as_ref(), url, &page)?;
        }
        Ok(sum)
    }

    /// A server that has not got to everything is given a moment.
    fn until_enough<const N: usize>(
        &self,
        pairs: impl Fn(ServerCounts) -> [Option<Pair>; N],
    ) -> Result<[Option<Pair>; N], CountsError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let pairs = pairs(self.read()?);
            if !pairs.iter().flatten().any(|pair| pair.is_short()) || Instant::now() >= until {
                return Ok(pairs);
            }
            thread::sleep(AGAIN);
        }
    }
}

/// Adds what a page says of a counter, if that is asked for.
fn add(sum: &mut Option<u64>, series: Option<&Series>, url: &str, page: &str) -> Result<(), CountsError> {
    let Some(series) = series else { return Ok(()) };
    let total = series.total(page).ok_or_else(|| CountsError::Missing(url.to_owned(), series.to_string()))?;
    *sum = Some(sum.unwrap_or(0).saturating_add(total));
    Ok(())
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

    /// Of a webscale server.
    fn page(handshakes: u64, open: u64, messages: u64) -> String {
        format!(
            "HTTP/1.1 200 OK\r\n\r\nwebscale_handshakes_opened_total{{pid=\"1\"}} {handshakes}\n\
             webscale_connections{{pid=\"1\"}} {open}\nwebscale_messages_received_total{{pid=\"1\"}} {messages}\n"
        )
    }

    /// 100 clients, and this many messages.
    fn outcome(messages: u64) -> Outcome {
        let mut outcome = super::super::outcome::tests::good();
        outcome.messages.sent_in_all = messages;
        outcome
    }

    fn plan(pages: Vec<String>, names: Names) -> Plan {
        Plan { counts: Counting { pages, names }, ..Plan::new("ws://127.0.0.1:9") }
    }

    /// What comes of a load of 100 clients with this many messages.
    fn reconciled(plan: &Plan, messages: u64) -> Outcome {
        let mut reconciliation = Reconciliation::begin(plan).unwrap().unwrap();
        reconciliation.connected(100);
        let mut outcome = outcome(messages);
        reconciliation.end(&mut outcome);
        outcome
    }

    #[test]
    fn a_load_is_what_came_between_two_looks_at_all_pages() {
        let one = pages(vec![page(3, 1, 10), page(63, 61, 10), page(63, 1, 10)]);
        let other = pages(vec![page(1, 0, 0), page(41, 40, 0), page(41, 0, 7)]);
        let outcome = reconciled(&plan(vec![one, other], Names::default()), 7);
        let counted = outcome.counted.unwrap();
        assert!(counted.agrees && outcome.verdict.held(), "{outcome:?}");
        let hundred = Some(Pair { load: 100, server: 100 });
        assert_eq!((counted.handshakes, counted.open), (hundred, hundred));
        assert_eq!(counted.messages, Some(Pair { load: 7, server: 7 }));
    }

    #[test]
    fn a_server_that_is_behind_is_asked_again_and_more_than_ours_disagrees() {
        let answers = [page(0, 0, 0), page(99, 99, 0), page(99, 100, 0), page(99, 0, 0), page(100, 0, 1)];
        let outcome = reconciled(&plan(vec![pages(answers.to_vec())], Names::default()), 0);
        let counted = outcome.counted.unwrap();
        assert!(!counted.agrees);
        assert_eq!(counted.messages, Some(Pair { load: 0, server: 1 }));
        let problem = &outcome.verdict.problems[0];
        assert!(problem.contains("1 messages and the load 0: it has other clients"), "{problem}");
    }

    /// The page of a server of another make, by its own names, in chunks and in HTTP/1.0.
    #[test]
    fn other_servers_count_by_other_names() {
        let body = |count: u64| {
            format!("# TYPE ws_in counter\nws_in{{type=\"text\"}} {count}.0\nws_in{{type=\"pong\"}} 9\n")
        };
        let chunked = |body: String| {
            let (one, other) = body.split_at(30);
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{one}\r\n{:X};a=b\r\n{other}\r\n0\r\n\r\n",
                one.len(),
                other.len()
            )
        };
        let server = pages(vec![chunked(body(5)), format!("HTTP/1.0 200 OK\r\n\r\n{}", body(12))]);
        let names = Names { messages: Some("ws_in{type=\"text\"}".parse().unwrap()), ..Names::default() };
        let outcome = reconciled(&plan(vec![server], names), 7);
        let counted = outcome.counted.unwrap();
        assert_eq!((counted.handshakes, counted.open, counted.agrees), (None, None, true));
        assert_eq!(counted.messages, Some(Pair { load: 7, server: 7 }));
    }

    #[test]
    fn a_page_that_cannot_be_read_any_more_is_a_problem() {
        let outcome = reconciled(&plan(vec![pages(vec![page(0, 0, 0)])], Names::default()), 0);
        assert!(outcome.counted.is_none());
        assert!(outcome.verdict.problems[0].starts_with("the server's counts: http://"), "{outcome:?}");
    }

    #[test]
    fn what_is_allowed_to_fail_may_be_missing() {
        let pair = |server| Some(Pair { load: 100, server });
        let problem = |pairs, allowed| Reconciled::new(pairs, allowed).problem();
        assert_eq!(problem([pair(99), None, pair(101)], 0.01), None);
        let words = problem([pair(98), pair(100), pair(101)], 0.01).unwrap();
        assert!(words.contains("98 connections and the load 100: some"), "{words}");
        let words = problem([pair(100), pair(97), None], 0.0).unwrap();
        assert!(words.contains("97 connections that were open together"), "{words}");
        assert!(problem([None, None, pair(99)], 0.0).unwrap().contains("99 messages"));
    }

    #[test]
    fn pages_that_tell_nothing_are_named() {
        let words = |url: &str| {
            let plan = plan(vec![url.to_owned()], Names::default());
            Reconciliation::begin(&plan).unwrap_err().to_string()
        };
        assert!(words("wss://h/").contains("http://HOST:PORT/PATH"));
        assert!(words("http://h/a b").contains("http://HOST:PORT/PATH"));
        assert!(words(&pages(vec!["HTTP/1.1 403 Forbidden\r\n\r\nno".into()])).contains("403"));
        let missing = words(&pages(vec!["HTTP/1.1 200 OK\r\n\r\nup 1\n".into()]));
        assert!(missing.contains("webscale_handshakes_opened_total: --counts-opened"), "{missing}");
        assert!(Reconciliation::begin(&Plan::new("ws://127.0.0.1:9")).unwrap().is_none());
    }
}
