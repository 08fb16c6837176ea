//! `doctor`, as the real binary runs on the machine of the test.

use std::process::{Command, Stdio};

use serde_json::Value;

mod common;
use common::{Server, assert_fails, webscale};

/// The row with this name.
fn row(json: &Value, name: &str) -> Value {
    let rows = json["checks"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {json:#}")).clone()
}

fn examined(args: &[&str]) -> Value {
    let output = webscale(&[&["doctor", "--json"], args].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

fn shell(script: &str) {
    let status = Command::new("sh").args(["-c", script]).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{script}");
}

#[test]
fn a_handful_of_clients_fits_everywhere() {
    let output = webscale(&["doctor", "--clients", "5"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("RLIMIT_NOFILE, hard") && text.contains("5 clients fit."), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn four_billion_clients_fit_nowhere() {
    let args = ["doctor", "--clients", "4000000000"];
    assert_fails(&args, 1, &["4000000000 clients do not fit", "RLIMIT_NOFILE"]);
    let json = webscale(&[&args[..], &["--json"]].concat());
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["fits"], false);
}

#[test]
fn the_url_says_which_end_is_here() {
    let role = |url| {
        let output = webscale(&["doctor", "--clients", "5", "--url", url, "--json"]);
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        json["need"].clone()
    };
    let here = role("wss://127.0.0.1:9001");
    assert_eq!(
        (&here["role"], &here["loopback"], &here["secure"]),
        (&"both".into(), &true.into(), &true.into())
    );
    let elsewhere = role("ws://192.0.2.1:9001");
    assert_eq!((&elsewhere["role"], &elsewhere["secure"]), (&"load".into(), &false.into()));
    assert_fails(&["doctor", "--url", "http://127.0.0.1"], 2, &["--url", "ws://"]);
    assert_fails(&["doctor", "--clients", "0"], 2, &["--clients"]);
}

#[test]
fn the_limits_of_a_server_that_runs_are_its_own_and_are_mended_as_said() {
    const NAME: &str = "RLIMIT_NOFILE, server";
    let server = Server::start(&["--plain", "--threads", "1"]);
    let pid = server.child.id();
    shell(&format!("prlimit --pid {pid} --nofile=100:"));
    let examine = || examined(&["--clients", "300", "--url", &server.url]);
    let before = examine();
    assert_eq!(before["need"]["server"], serde_json::json!([pid]));
    let short = row(&before, NAME);
    assert_eq!((&short["verdict"], &short["now"]), (&"short".into(), &100.into()));
    shell(short["mend"][0]["command"].as_str().unwrap());
    assert_eq!(row(&examine(), NAME)["verdict"], "ok");
    // Nobody listens there.
    let text = webscale(&["doctor", "--clients", "5", "--url", "ws://127.0.0.1:1"]);
    assert!(String::from_utf8_lossy(&text.stderr).contains("nobody on this machine listens"));
}

#[test]
fn what_contradicts_itself_is_refused() {
    for flags in [["--role", "load"], ["--url", "ws://192.0.2.1:9"]] {
        for of_server in [["--processes", "2"], ["--server-memory", "4kB"]] {
            let typed = [&["doctor"][..], &flags, &of_server].concat();
            assert_fails(&typed, 2, &["--processes and --server-memory are the server's"]);
        }
    }
    assert_fails(&["doctor", "--json", "ws://127.0.0.1:1"], 2, &["that is a URL"]);
}

/// What is set in a network namespace of our own is set there alone; only root may make one.
#[test]
fn ports_are_mended_as_said() {
    let possible = Command::new("unshare").args(["-n", "true"]).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: no network namespace can be made here (unshare -n): it takes root");
        return;
    }
    const NAME: &str = "ip_local_port_range";
    let examine = "\"$1\" doctor --clients 30000 --url ws://192.0.2.1:9 --json";
    let inside = |script: &str| {
        let args = ["-n", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_webscale")];
        let output = Command::new("unshare").args(args).stdin(Stdio::null()).output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    };
    let narrow = "echo '40000 49999' > /proc/sys/net/ipv4/ip_local_port_range";
    let short = row(&inside(&format!("{narrow}; {examine}")), NAME);
    assert_eq!((&short["verdict"], &short["now"]), (&"short".into(), &10_000.into()));
    let mend = short["mend"][0]["command"].as_str().unwrap();
    let mended = inside(&format!("{narrow}; {mend} >&2; {examine}"));
    assert_eq!(row(&mended, NAME)["verdict"], "ok");
}
