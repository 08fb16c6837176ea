//! `bench` over several processes, as the real binaries run.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};

mod common;
use common::{Server, assert_fails, children, signal, until_measuring, words};

/// Flags of a load of 24 clients with 10 messages each and a limit that no machine misses.
const SHORT: &str = "--clients 24 --interval 50ms --warmup 0s --duration 500ms --latency-limit 60s --json";

fn bench(url: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_webscale"));
    command
        .arg("bench")
        .arg(url)
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn result(command: Child) -> serde_json::Value {
    let output = command.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A load that would take an hour, once it sends; and the processes that make it.
fn long(server: &Server, processes: &str, more: &[&str]) -> (Child, BufReader<ChildStderr>, Vec<u32>) {
    let flags = ["--clients", "6", "--duration", "1h", "--warmup", "0s", "--processes", processes];
    let mut child = bench(&server.url, &[&flags, more].concat()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    until_measuring(&mut stderr);
    let parts = children(child.id());
    (child, stderr, parts)
}

fn is_gone(pid: u32) -> bool {
    !fs::exists(format!("/proc/{pid}")).unwrap()
}

#[test]
fn several_processes_make_one_load() {
    let server = Server::start(&["--mode", "echo"]);
    let result = result(
        bench(&server.url, &[&words(SHORT)[..], &["--probe", "echo", "--processes", "3"]].concat())
            .spawn()
            .unwrap(),
    );
    assert_eq!(result["generator"]["processes"], 3);
    let connections = &result["connections"];
    assert_eq!((&connections["opened"], &connections["peak_open"]), (&24.into(), &24.into()));
    assert_eq!(connections["handshake_us"]["count"], 24);
    let messages = &result["messages"];
    for count in ["offered", "sent", "awaited", "answered", "sent_in_all"] {
        assert_eq!(messages[count], 240, "{count}");
    }
    assert_eq!((&messages["corrupt"], &messages["reordered"]), (&0.into(), &0.into()));
    assert_eq!(result["latency_us"]["corrected"]["count"], 240);
    let (code, last) = server.finish();
    assert_eq!((code, last.as_str()), (Some(0), "echoed 240 messages, 0 failed, 24 connections"));
}

#[test]
fn descriptors_decide_how_many_processes() {
    let server = Server::start(&["--plain"]);
    // 64 are set aside: 10 clients a process.
    let command = "ulimit -n 74; exec \"$@\"";
    let mut limited = Command::new("sh");
    limited
        .args(["-c", command, "sh", env!("CARGO_BIN_EXE_webscale"), "bench", &server.url])
        .args(words(SHORT));
    let output = limited.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&result["generator"]["processes"], &result["connections"]["opened"]),
        (&3.into(), &24.into())
    );
    assert_eq!(result["messages"]["answered"], 240);

    let mut too_few = Command::new("sh");
    too_few.args([
        "-c",
        command,
        "sh",
        env!("CARGO_BIN_EXE_webscale"),
        "bench",
        &server.url,
        "--processes",
        "2",
    ]);
    let output = too_few.args(words(SHORT)).stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("descriptors") && stderr.contains("more processes"), "{stderr}");
}

/// Two generators with half of the clients each find what one finds with all of them.
#[test]
fn two_halves_are_one_whole() {
    let server = Server::start(&["--mode", "ingest"]);
    let whole = result(bench(&server.url, &words(SHORT)).spawn().unwrap());
    let flags = SHORT.replace("--clients 24", "--clients 12");
    let half = || bench(&server.url, &words(&flags)).spawn().unwrap();
    let halves = [half(), half()].map(result);
    for count in ["offered", "sent", "answered", "unanswered", "refused", "corrupt"] {
        let sum: u64 = halves.iter().map(|half| half["messages"][count].as_u64().unwrap()).sum();
        assert_eq!(whole["messages"][count], sum, "{count}");
    }
    for result in halves.iter().chain([&whole]) {
        assert_eq!(result["verdict"]["problems"], serde_json::json!([]));
    }
    let (code, last) = server.finish();
    assert_eq!((code, last.as_str()), (Some(0), "parsed 480 messages, 0 failed, 48 connections"));
}

#[test]
fn idle_clients_are_kept_alive_by_pings_alone() {
    let server = Server::start(&["--mode", "ingest"]);
    let idle = "--idle --ping-every 100ms --clients 12 --warmup 0s --duration 500ms --processes 2";
    let flags = [&words(idle)[..], &["--latency-limit", "60s", "--json"]].concat();
    let result = result(bench(&server.url, &flags).spawn().unwrap());
    assert_eq!((&result["probe"], &result["payload_bytes"]), (&"idle".into(), &0.into()));
    let messages = &result["messages"];
    assert_eq!(
        (&messages["offered"], &messages["sent"], &messages["answered"]),
        (&60.into(), &60.into(), &60.into())
    );
    let (code, last) = server.finish();
    assert_eq!((code, last.as_str()), (Some(0), "parsed 0 messages, 0 failed, 12 connections"));
    assert_fails(&["bench", "ws://127.0.0.1:1", "--idle", "--size", "5"], 2, &["--idle", "--size"]);
    assert_fails(&["bench", "ws://127.0.0.1:1", "--ping-every", "5s"], 2, &["--idle"]);
    assert_fails(
        &["bench", "ws://127.0.0.1:1", "--idle", "--ping-every", "0s"],
        2,
        &["--ping-every", "above zero"],
    );
}

#[test]
fn a_process_that_dies_is_named_and_what_came_before_is_told() {
    let server = Server::start(&["--plain"]);
    let (child, stderr, parts) = long(&server, "3", &["--json"]);
    assert_eq!(parts.len(), 3);
    signal(parts[1], "KILL");
    let output = child.wait_with_output().unwrap();
    let rest = stderr.lines().map_while(Result::ok).collect::<Vec<_>>().join("\n");
    assert_eq!(output.status.code(), Some(1), "{rest}");
    assert!(rest.contains("process 2 of 3") && rest.contains("SIGKILL"), "{rest}");
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let broken = result["verdict"]["broken"].as_str().unwrap();
    assert!(broken.contains(&format!("process 2 of 3 (pid {})", parts[1])) && broken.contains("SIGKILL"));
    assert_eq!(result["connections"]["opened"], 6);
    assert_eq!(result["generator"]["processes"], 3);
    let phases = result["timeline"].as_array().unwrap().iter().map(|sample| &sample["phase"]);
    assert!(phases.clone().any(|phase| phase == "measuring"), "{result}");
    assert!(parts.into_iter().all(is_gone));
}

#[test]
fn interrupted_all_end_in_order() {
    let server = Server::start(&["--plain"]);
    let (child, stderr, parts) = long(&server, "2", &[]);
    signal(child.id(), "INT");
    let output = child.wait_with_output().unwrap();
    let rest = stderr.lines().map_while(Result::ok).collect::<Vec<_>>().join("\n");
    assert_eq!(output.status.code(), Some(1), "{rest}");
    assert!(rest.contains("interrupted"), "{rest}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("6 of 6 connected"));
    assert!(parts.into_iter().all(is_gone));
}

#[test]
fn no_process_outlives_the_one_that_leads() {
    let server = Server::start(&["--plain"]);
    let (mut child, stderr, parts) = long(&server, "2", &[]);
    child.kill().unwrap();
    child.wait().unwrap();
    // They have inherited its stderr: that ends when the last of them does.
    assert_eq!(stderr.lines().map_while(Result::ok).filter(|line| line.contains("panicked")).count(), 0);
    assert_eq!(parts.len(), 2);
}
