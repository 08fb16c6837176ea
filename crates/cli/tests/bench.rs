//! `bench` against `serve`, as the real binaries run.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

mod common;
use common::{Directory, Server, assert_fails, children, signal, until_measuring, webscale, words};

/// Flags of a load that takes about a second, with a limit that no machine misses.
const SHORT: &str = "--clients 10 --interval 50ms --warmup 100ms --duration 500ms --latency-limit 60s";

fn short<'a>(url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["bench", url], &words(SHORT)[..], &["--size", "300"], more].concat()
}

fn json(args: &[&str]) -> serde_json::Value {
    let output = webscale(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn echo_without_tls_as_json() {
    let server = Server::start(&["--mode", "echo", "--plain"]);
    assert!(server.url.starts_with("ws://"), "{}", server.url);
    let result = json(&short(&server.url, &["--probe", "echo", "--json"]));
    assert_eq!(result["connections"]["opened"], 10);
    assert_eq!(result["messages"]["answered"], 100);
    assert_eq!((&result["messages"]["corrupt"], &result["messages"]["unanswered"]), (&0.into(), &0.into()));
    assert_eq!(result["latency_us"]["corrected"]["count"], 100);
    let (code, last) = server.finish();
    assert_eq!((code, last.as_str()), (Some(0), "echoed 120 messages, 0 failed, 10 connections"));
}

#[test]
fn pings_behind_the_json_message_over_tls() {
    let server = Server::start(&["--mode", "ingest"]);
    let pid = server.child.id().to_string();
    let flags = words("--clients 10 --duration 1s --latency-limit 60s --pid");
    let output = webscale(&[&["bench", &server.url], &flags[..], &[&pid]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for part in ["10 of 10 connected", "10 of 10 sent", "server CPU", "server PSS", "verdict      held"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (code, last) = server.finish();
    assert_eq!((code, last.as_str()), (Some(0), "parsed 30 messages, 0 failed, 10 connections"));
}

#[test]
fn the_processes_of_the_server_are_found() {
    let server = Server::start(&["--plain", "--processes", "2"]);
    let output = webscale(&short(&server.url, &["--json"]));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let mut members = children(server.child.id());
    members.sort_unstable();
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let found: Vec<u32> = serde_json::from_value(result["server"]["pids"].clone()).unwrap();
    assert_eq!(members.len(), 2);
    assert!(members.iter().all(|pid| found.contains(pid) && stderr.contains(&pid.to_string())), "{stderr}");
    assert!(result["server"]["threads"].as_u64() >= Some(2) && result["other_programs"].is_number());

    let one = members[0].to_string();
    let result = json(&short(&server.url, &["--json", "--pid", &one, "--pid", &members[1].to_string()]));
    assert_eq!(result["server"]["pids"], serde_json::json!(members));
    let result = json(&short(&server.url, &["--json", "--no-pid"]));
    assert!(result["server"].is_null(), "{result}");
    assert_fails(&["bench", &server.url, "--no-pid", "--pid", &one], 2, &["--no-pid", "--pid"]);
}

/// What the process of [`owner_process`] is told, in its environment: which port is the server's.
const OWNER: &str = "WEBSCALE_TEST_OWNER";

/// Not a test: a server's first process, this very program. It has the listener; a second one, which it starts for the first
/// client, does the work and gets no more of each connection than its bytes.
#[test]
fn owner_process() {
    if env::var(OWNER).is_err() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("\nlistening on ws://{}", listener.local_addr().unwrap());
    let mut worker: Option<Server> = None;
    for client in listener.incoming().map(Result::unwrap) {
        let worker = worker.get_or_insert_with(|| {
            let worker = Server::start(&["--plain"]);
            println!("started {}", worker.child.id());
            worker
        });
        let server =
            TcpStream::connect(worker.url.trim_start_matches("ws://").trim_end_matches('/')).unwrap();
        for (mut from, mut to) in
            [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
        {
            thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
        }
    }
}

/// Ended with what it started when dropped.
struct Owner(Child);

impl Drop for Owner {
    fn drop(&mut self) {
        let started = children(self.0.id());
        let _ = self.0.kill();
        let _ = self.0.wait();
        started.into_iter().for_each(|pid| signal(pid, "KILL"));
    }
}

#[test]
fn what_the_servers_process_starts_is_the_server() {
    let owner = Command::new(env::current_exe().unwrap())
        .args(["--exact", "owner_process", "--nocapture"])
        .env(OWNER, "")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut owner = Owner(owner);
    let mut lines = BufReader::new(owner.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut said = |what: &str| lines.find_map(|line| line.strip_prefix(what).map(str::to_owned)).unwrap();
    let url = said("listening on ");
    let result = json(&short(&url, &["--json"]));
    let worker: u32 = said("started ").parse().unwrap();
    assert_eq!(result["server"]["pids"], serde_json::json!([owner.0.id(), worker]));
    let workers_threads = fs::read_dir(format!("/proc/{worker}/task")).unwrap().count() as u64;
    assert!(result["server"]["threads"].as_u64().unwrap() > workers_threads);
    assert_eq!(result["verdict"]["problems"], serde_json::json!([]));
}

#[test]
fn a_page_and_the_seconds_go_to_files() {
    let directory = Directory::new("bench-files");
    let (page, seconds) = (directory.file("page.html"), directory.file("seconds.csv"));
    let server = Server::start(&["--plain"]);
    let url = format!("{}/?token=s3cret", server.url);
    let output = webscale(&short(&url, &["--html", &page, "--csv", &seconds, "--bearer", "s3cret-too"]));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8(output.stdout).unwrap().contains("verdict      held"));

    let page = fs::read_to_string(page).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    assert!(page.contains("<svg") && page.contains("Held: the server bore 10 clients."));
    for load in ["http://", "https://", " src=", "<link", "@import", "url("] {
        assert!(!page.contains(load), "{load} would be loaded from elsewhere");
    }

    let seconds = fs::read_to_string(seconds).unwrap();
    let (header, rows) = seconds.split_once('\n').unwrap();
    assert!(header.starts_with("at_seconds,length_seconds,phase,clients_open,"), "{header}");
    let columns = header.split(',').count();
    assert!(rows.lines().count() >= 3 && rows.contains(",measuring,10,"), "{rows}");
    assert!(rows.lines().all(|row| row.split(',').count() == columns && row.ends_with(",held")), "{rows}");
    assert!([&page, &seconds].iter().all(|text| !text.contains("s3cret-too")));
}

#[test]
fn where_nothing_can_be_written_no_load_is_made() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let directory = Directory::new("bench-unwritable");
    for flag in ["--html", "--csv", "--json"] {
        let inside = directory.file("absent/file");
        assert_fails(&["bench", &url, flag, &inside], 2, &[flag, &inside, "No such file"]);
        let itself = directory.file("");
        assert_fails(&["bench", &url, flag, &itself], 2, &[flag, &itself, "directory"]);
    }
    for flag in ["--html", "--csv"] {
        assert_fails(&["bench", &url, flag, "-"], 2, &[flag, "--json alone"]);
    }
    let (page, seconds) = (directory.file("absent/page"), directory.file("absent/seconds"));
    assert_fails(&["bench", &url, "--html", &page, "--csv", &seconds], 2, &[&page, &seconds]);
    let same = directory.file("same");
    assert_fails(&["bench", &url, "--html", &same, "--csv", &same], 2, &["--html and --csv", &same]);
    // Nobody came.
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_load_that_fails_leaves_files_as_they_were() {
    let directory = Directory::new("bench-untouched");
    let (page, result) = (directory.file("page.html"), directory.file("result.json"));
    directory.write("page.html", b"the last load");
    let url = format!("ws://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let more = ["--html", &page, "--json", &result, "--csv", "/dev/null"];
    assert_fails(&short(&url, &more), 1, &["no client could connect"]);
    assert_eq!(fs::read_to_string(&page).unwrap(), "the last load");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_message_may_come_from_stdin() {
    let server = Server::start(&["--mode", "echo", "--plain"]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_webscale"))
        .args(["bench", &server.url, "--clients", "1", "--warmup", "0s", "--duration", "200ms"])
        .args(["--latency-limit", "60s", "--interval", "50ms", "--probe", "echo", "--payload", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"from stdin").unwrap();
    let output = child.wait_with_output().unwrap();
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&result["payload_bytes"], &result["messages"]["corrupt"]), (&10.into(), &0.into()));
    assert!(output.status.success());
}

#[test]
fn the_result_goes_to_a_file_and_the_text_to_stdout() {
    let directory = Directory::new("bench-json");
    let server = Server::start(&["--plain"]);
    let file = directory.file("result.json");
    let payload = directory.write("payload", b"{\"a\": [1, 2]}");
    let args =
        [&["bench", &server.url], &words(SHORT)[..], &["--payload", &payload, "--json", &file]].concat();
    let output = webscale(&args);
    assert!(String::from_utf8(output.stdout).unwrap().contains("verdict      held"));
    let result: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(result["payload_bytes"], 13);
}

#[test]
fn certificates_are_checked_when_asked() {
    let directory = Directory::new("bench-ca");
    let here = directory.file("");
    assert!(webscale(&["cert", "--directory", &here]).status.success());
    let (cert, key, ca) = (directory.file("cert.pem"), directory.file("key.pem"), directory.file("ca.pem"));
    let server = Server::start(&["--cert", &cert, "--key", &key]);
    json(&short(&server.url, &["--ca", &ca, "--json"]));
    let stranger = Server::start(&[]);
    assert_fails(&short(&stranger.url, &["--ca", &ca]), 1, &["no client could connect", "certificate"]);
}

/// A load that has begun to measure, and what it says from then on.
fn measuring(args: &[&str]) -> (Child, BufReader<ChildStderr>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_webscale"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    until_measuring(&mut stderr);
    (child, stderr)
}

/// A server that stops for a second: whoever counts from the intended time sees it.
#[test]
fn a_stopped_server_shows_in_the_corrected_latency() {
    let server = Server::start(&["--plain"]);
    let flags = words("--clients 10 --interval 50ms --warmup 0s --duration 4s --latency-limit 60s --json");
    let (child, progress) = measuring(&[&["bench", &server.url], &flags[..]].concat());
    signal(server.child.id(), "STOP");
    thread::sleep(Duration::from_secs(1));
    signal(server.child.id(), "CONT");
    let rest: Vec<String> = progress.lines().map(Result::unwrap).collect();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{rest:?}");
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let corrected = &result["latency_us"]["corrected"];
    assert!(corrected["max"].as_f64().unwrap() > 900_000.0, "{corrected}");
    // A quarter of the messages was due while it stood still.
    assert!(corrected["p90"].as_f64().unwrap() > 400_000.0, "{corrected}");
    // Counted from the time of sending, most messages know nothing of it.
    let uncorrected = &result["latency_us"]["uncorrected"];
    assert!(uncorrected["p50"].as_f64().unwrap() < corrected["p90"].as_f64().unwrap(), "{uncorrected}");
}

const DAY: &str = "--clients 5 --interval 50ms --warmup 100ms --duration 1d";

#[test]
fn a_server_that_dies_is_told_of() {
    let server = Server::start(&["--plain"]);
    let (child, _stderr) = measuring(&[&["bench", &server.url, "--json"], &words(DAY)[..]].concat());
    let pid = server.child.id();
    signal(pid, "KILL");
    let output = child.wait_with_output().unwrap();
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let problems: Vec<String> = serde_json::from_value(result["verdict"]["problems"].clone()).unwrap();
    assert_eq!(problems[0], format!("the server's process {pid} ended under the load"));
    assert!(problems.iter().any(|problem| problem.contains("no client was left")), "{problems:?}");
    // What it was before is known.
    assert_eq!(result["server"]["pids"], serde_json::json!([pid]));
    assert!(result["server"]["memory_loaded"]["pss_bytes"].as_u64() > Some(0), "{result}");
}

#[test]
fn a_server_that_stands_still_ends_a_load_that_is_not_to_wait() {
    let server = Server::start(&["--plain"]);
    let more = ["--stop-above-p99", "1s", "--latency-limit", "1s"];
    let (child, mut stderr) = measuring(&[&["bench", &server.url][..], &words(DAY), &more].concat());
    signal(server.child.id(), "STOP");
    let output = child.wait_with_output().unwrap();
    signal(server.child.id(), "CONT");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(output.status.code(), Some(1), "{rest}");
    assert!(rest.contains("ended early") && rest.contains("more than 1000 ms"), "{rest}");
}

#[test]
fn a_limit_that_was_passed_ends_it() {
    let server = Server::start(&["--mode", "echo", "--plain"]);
    let path = format!("{}/{{client}}", server.url.trim_end_matches('/'));
    let flags = ["--size", "8", "--interval", "10ms", "--duration", "1d", "--stop-above-p99", "1us"];
    assert_fails(&[&["bench", &path], &flags[..]].concat(), 1, &["ended early", "p99 latency"]);
}

#[test]
fn interrupted_it_still_reports() {
    reports_at("INT");
    reports_at("HUP");
}

fn reports_at(name: &str) {
    let server = Server::start(&["--plain"]);
    // Whoever runs the tests may ignore SIGHUP, and the child would as well.
    let child = Command::new("env")
        .args(["--default-signal=HUP", env!("CARGO_BIN_EXE_webscale")])
        .args(["bench", &server.url, "--clients", "5", "--duration", "1h"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (output, rest) = signalled(child, name);
    assert_eq!(output.status.code(), Some(1), "{rest}");
    assert!(rest.contains("interrupted"), "{rest}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("5 of 5 connected"));
}

/// Sends a signal to a load that has begun. What came of it, and what it said then.
fn signalled(mut child: Child, name: &str) -> (Output, String) {
    // Its first line of progress says that it takes signals.
    let mut stderr = child.stderr.take().unwrap();
    let mut first = [0; 1];
    stderr.read_exact(&mut first).unwrap();
    signal(child.id(), name);
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    (child.wait_with_output().unwrap(), rest)
}

#[test]
fn where_hang_ups_are_ignored_it_goes_on() {
    let server = Server::start(&["--plain"]);
    let child = Command::new("nohup")
        .arg(env!("CARGO_BIN_EXE_webscale"))
        .args(short(&server.url, &[]))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (output, rest) = signalled(child, "HUP");
    assert_eq!(output.status.code(), Some(0), "{rest}");
    assert!(String::from_utf8(output.stdout).unwrap().ends_with("verdict      held\n"));
}

#[test]
fn a_file_that_cannot_be_written_leaves_the_others() {
    let server = Server::start(&["--plain"]);
    let directory = Directory::new("full");
    let (csv, json) = (directory.file("seconds.csv"), directory.file("result.json"));
    // It can be opened, and takes nothing.
    let more = ["--html", "/dev/full", "--csv", &csv, "--json", &json];
    let output = webscale(&short(&server.url, &more));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("writing /dev/full"), "{stderr}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("10 of 10 connected"));
    assert!(fs::read_to_string(&csv).unwrap().starts_with("at_seconds,"));
    serde_json::from_str::<serde_json::Value>(&fs::read_to_string(&json).unwrap()).unwrap();
    let output = webscale(&short(&server.url, &["--json", "/dev/full", "--html", "/dev/full"]));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr.matches("writing /dev/full").count(), 2, "{stderr}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("10 of 10 connected"));
}

/// A limit on the length of files stands for a disk that is full.
#[test]
fn where_the_disk_is_full_no_part_of_a_result_is_left() {
    let server = Server::start(&["--plain"]);
    let directory = Directory::new("no-part");
    let (page, seconds) = (directory.file("page.html"), directory.file("seconds.csv"));
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_webscale")])
        .args(short(&server.url, &["--html", &page, "--csv", &seconds]))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&format!("writing {page}: File too large")), "{stderr}");
    assert!(!fs::exists(&page).unwrap() && fs::exists(&seconds).unwrap());
}

#[test]
fn what_cannot_be_done_is_said() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("ws://127.0.0.1:{port}");
    assert_fails(&["bench", &url], 1, &["no client could connect", "refused"]);
    assert_fails(&["bench"], 2, &["URL"]);
    assert_fails(&["bench", "http://127.0.0.1"], 2, &["ws://"]);
    assert_fails(&["bench", "nonsense"], 2, &["ws://"]);
    assert_fails(&["bench", &url, "--clients", "0"], 2, &["--clients"]);
    assert_fails(&["bench", &url, "--interval", "0s"], 2, &["--interval", "above zero"]);
    assert_fails(&["bench", &url, "--interval", "5"], 2, &["no unit", "5s"]);
    assert_fails(&["bench", "--json", &url], 2, &["before --json", "--json=-"]);
    assert_fails(&["bench", &url, "--warmup", "200000000000000d"], 2, &["--warmup", "too long"]);
    assert_fails(&["bench", &url, "--latency-limit", "0s"], 2, &["--latency-limit", "above zero"]);
    assert_fails(&["bench", "WS://127.0.0.1:1", "--insecure", "--ca", "x"], 2, &["--insecure", "--ca"]);
    assert_fails(&["bench", "WS://127.0.0.1:1", "--sni", "a.example"], 2, &["not TLS"]);
    assert_fails(&["bench", &url, "--size", "5 parsecs"], 2, &["parsecs"]);
    assert_fails(&["bench", &url, "--size", "2GiB"], 2, &["2147483648", "at most"]);
    assert_fails(&["bench", &url, "--cpu", "1048576"], 2, &["processor 1048576"]);
    assert_fails(&["bench", &url, "--source", "192.0.2.1"], 1, &["--source"]);
    assert_fails(&["bench", &url, "--payload", "/nonexistent"], 2, &["/nonexistent", "No such file"]);
    assert_fails(&["bench", "wss://127.0.0.1:1", "--ca", "/nonexistent"], 2, &["/nonexistent"]);
    assert_fails(&["bench", &url, "--pid", "4294967295"], 1, &["--pid 4294967295", "no such process"]);
    assert_fails(
        &["bench", &url, "--clients", "4000000000"],
        1,
        &["4000000000 clients do not fit", "are needed"],
    );
    assert_fails(&["bench", &url, "--source", "::1"], 2, &["::1", "IPv6"]);
    let directory = Directory::new("bench-binary");
    let bytes = directory.write("bytes", &[b'a', 0xFF]);
    assert_fails(&["bench", &url, "--payload", &bytes], 2, &["not UTF-8 at byte 1", "--binary"]);
    assert_fails(&["bench", "wss://127.0.0.1:1", "--ca", &bytes], 2, &["bytes"]);
}

#[test]
fn a_server_that_speaks_something_else() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut head = [0; 2048];
            let _ = client.read(&mut head);
            let _ = client.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let plain = format!("ws://{address}");
    assert_fails(&["bench", &plain, "--clients", "2"], 1, &["no client could connect", "404"]);
    let tls = format!("wss://{address}");
    assert_fails(&["bench", &tls, "--clients", "2"], 1, &["no client could connect", "TLS"]);
}

#[test]
fn unknown_servers_cannot_be_compared() {
    assert_fails(&["compare", "--servers", "node"], 2, &["node", "tokio-4k"]);
}

/// Names of fields at any depth; what is keyed by kinds or codes has no names.
fn field_names<'a>(value: &'a serde_json::Value, names: &mut Vec<&'a str>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                names.push(name);
                field_names(value, names);
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| field_names(value, names)),
        _ => {}
    }
}

#[test]
fn every_field_is_documented() {
    let documented = include_str!("../../../docs/bench-json.md");
    let server = Server::start(&["--mode", "echo", "--plain"]);
    let mut result =
        json(&short(&server.url, &["--probe", "echo", "--pid", &server.child.id().to_string(), "--json"]));
    result["provenance"]["host"] = serde_json::Value::Null;
    let mut names = Vec::new();
    field_names(&result, &mut names);
    let unknown: Vec<&&str> =
        names.iter().filter(|name| !documented.contains(&format!("`{name}`"))).collect();
    assert!(names.contains(&"peak_pss_bytes") && unknown.is_empty(), "{unknown:?}");
}
