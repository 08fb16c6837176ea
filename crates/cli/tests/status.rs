//! `serve`: what it says of itself, on its port and beside it, and in its log.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ChildStderr;
use std::time::Duration;

mod common;
use common::{Server, assert_fails, children, webscale};

/// A server whose stderr is read, without TLS.
struct Watched {
    server: Server,
    address: String,
    stderr: BufReader<ChildStderr>,
}

impl Watched {
    fn start(flags: &[&str]) -> Self {
        let (server, stderr) = Server::start_heard(&[&["--plain", "--threads", "1"], flags].concat());
        let address = server.url.strip_prefix("ws://").unwrap().to_owned();
        Self { server, address, stderr }
    }

    fn pid(&self) -> u32 {
        self.server.child.id()
    }

    /// Where it says that its status is.
    fn status(&mut self) -> String {
        let mut line = String::new();
        self.stderr.read_line(&mut line).unwrap();
        line.trim_end().strip_prefix("status on http://").expect(&line).to_owned()
    }

    /// Has it end; its exit code, and what else stood on stderr.
    fn finish(mut self) -> (Option<i32>, String) {
        let (code, _) = self.server.finish();
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        (code, said)
    }
}

/// Head and body of the answer to a GET with these fields.
fn get(address: &str, path: &str, fields: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an end of the head");
    (head.to_owned(), body.to_owned())
}

fn status(address: &str, path: &str, fields: &str) -> String {
    get(address, path, fields).0["HTTP/1.1 ".len()..][..3].to_owned()
}

/// The value of a series that ends like this.
fn value(metrics: &str, series: &str) -> u64 {
    let line = metrics.lines().find(|line| line.starts_with(series)).expect("a series of that name");
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[test]
fn health_is_for_all_and_metrics_are_for_this_host() {
    let server = Watched::start(&[]);
    let (head, body) = get(&server.address, "/healthz", "");
    assert!(head.starts_with("HTTP/1.1 200 ") && body == "healthy\n", "{head}: {body}");
    let (head, body) = get(&server.address, "/metrics", "");
    assert!(head.contains("Content-Type: text/plain; version=0.0.4"), "{head}");
    let pid = server.pid();
    assert_eq!(value(&body, &format!("webscale_http_requests_total{{pid=\"{pid}\"}}")), 1);
    assert_eq!(value(&body, &format!("webscale_healthy{{pid=\"{pid}\"}}")), 1);
    for passed_on in ["X-Forwarded-For: 203.0.113.9\r\n", "Forwarded: for=203.0.113.9\r\n"] {
        assert_eq!(status(&server.address, "/metrics", passed_on), "403");
        assert_eq!(status(&server.address, "/healthz", passed_on), "200");
    }
    assert_eq!(status(&server.address, "/", ""), "426");
}

#[test]
fn metrics_can_be_for_everybody_or_nobody() {
    let server = Watched::start(&["--metrics", "anyone"]);
    assert_eq!(status(&server.address, "/metrics", "X-Forwarded-For: 203.0.113.9\r\n"), "200");
    let server = Watched::start(&["--metrics", "nobody", "--mode", "ingest"]);
    assert_eq!(status(&server.address, "/metrics", ""), "426");
    assert_eq!(status(&server.address, "/healthz", ""), "200");
}

#[test]
fn a_port_beside_tells_the_same_and_ends_with_the_server() {
    let mut server = Watched::start(&["--metrics", "nobody", "--status", "127.0.0.1:0"]);
    let beside = server.status();
    assert_eq!(get(&beside, "/healthz", "").1, "healthy\n");
    // Counted is what came to the service, not what was asked here.
    assert_eq!(status(&server.address, "/healthz", ""), "200");
    assert_eq!(value(&get(&beside, "/metrics", "").1, "webscale_http_requests_total"), 1);
    assert_eq!(status(&beside, "/", ""), "404");
    let (code, log) = server.finish();
    assert_eq!(code, Some(0));
    assert_eq!(log, "info: shutting down; a second signal ends at once\n");
    TcpStream::connect(beside).expect_err("nobody listens any more");
}

#[test]
fn each_process_answers_for_itself() {
    let mut server = Watched::start(&["--processes", "2", "--status", "127.0.0.1:0"]);
    let members = children(server.pid());
    let beside = [server.status(), server.status()];
    for address in &beside {
        let metrics = get(address, "/metrics", "").1;
        let of = |pid: &u32| metrics.contains(&format!("webscale_connections{{pid=\"{pid}\"}}"));
        assert_eq!(members.iter().filter(|pid| of(pid)).count(), 1, "{metrics}");
    }
    assert_ne!(get(&beside[0], "/metrics", "").1, get(&beside[1], "/metrics", "").1);
    assert_eq!(server.finish().0, Some(0));
}

#[test]
fn a_port_for_the_status_that_cannot_be_had() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serve = ["serve", "--plain", "--listen", "127.0.0.1:0", "--status"];
    assert_fails(&[&serve[..], &[&address]].concat(), 1, &["--status", &address, "another program"]);
    assert_fails(&[&serve[..], &["127.0.0.1:65535", "--processes", "2"]].concat(), 2, &["--status", "65535"]);
    assert_fails(&["serve", "--metrics", "friends"], 2, &["--metrics", "friends"]);
}

#[test]
fn a_load_is_held_against_what_the_server_counted() {
    let mut server = Watched::start(&["--processes", "2", "--status", "127.0.0.1:0"]);
    let urls = [server.status(), server.status()].map(|address| format!("http://{address}/metrics"));
    let url = format!("ws://{}", server.address);
    let load =
        ["bench", &url, "--clients", "20", "--interval", "50ms", "--warmup", "100ms", "--duration", "200ms"];
    let more = ["--probe", "echo", "--size", "64", "--latency-limit", "60s", "--counts", &urls[0]];
    let both = webscale(&[&load[..], &more, &["--counts", &urls[1]]].concat());
    let text = String::from_utf8(both.stdout).unwrap();
    assert!(text.contains("server's own agrees: 20 connections, 20 at once, 120 messages\n"), "{text}");
    assert!(both.status.success());
    let idle = ["bench", &url, "--clients", "20", "--duration", "200ms", "--idle", "--ping-every", "50ms"];
    let idle = webscale(&[&idle[..], &["--counts", &urls[0], "--counts", &urls[1]]].concat());
    let text = String::from_utf8(idle.stdout).unwrap();
    assert!(text.contains("server's own agrees: 20 connections, 20 at once, 0 messages\n"), "{text}");
    assert_fails(
        &["bench", &url, "--counts", "https://h/metrics"],
        2,
        &["--counts", "http://HOST:PORT/PATH"],
    );
    assert_fails(
        &["bench", &url, "--counts", &format!("http://{}/", server.address)],
        1,
        &["--counts", "426"],
    );
    let by_name = |name| ["bench", &url, "--counts", &urls[0], "--counts-messages", name];
    assert_fails(&by_name("messages"), 1, &["--counts", &urls[0], "has no messages"]);
    assert_fails(&by_name("me{ss}"), 2, &["--counts-messages", "label="]);
    assert_fails(&["bench", &url, "--counts-open", "open"], 2, &["--counts <URL>"]);
}

/// Answers two requests for counts as a server of another make whose counts grew by so many.
fn counter(grown: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for counted in [0, grown] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            assert!(head.any(|line| line.is_empty()));
            write!(stream, "HTTP/1.0 200 OK\r\n\r\nws_opened{{path=\"/\"}} {counted}.0\n").unwrap();
        }
    });
    url
}

#[test]
fn a_server_that_counted_other_messages_than_were_sent_has_not_borne_the_load() {
    let server = Watched::start(&[]);
    let url = format!("ws://{}", server.address);
    let load =
        ["bench", &url, "--clients", "2", "--interval", "50ms", "--warmup", "0s", "--duration", "200ms"];
    let more = ["--size", "64", "--latency-limit", "60s", "--json", "-", "--counts", &counter(1000)];
    let output = webscale(&[&load[..], &more, &["--counts-opened", "ws_opened{path=\"/\"}"]].concat());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("counted 1000 connections and the load 2: it has other clients"), "{stderr}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["counted"]["agrees"], false);
    assert!(json["counted"]["messages"].is_null() && json["counted"]["open"].is_null());
    assert!(json["verdict"]["problems"][0].as_str().unwrap().contains("1000"), "{json}");
    assert_eq!(server.finish().0, Some(0));
}
