//! `faults`: a server that survives, one that does not, and what is refused.

use std::fs;
use std::sync::Mutex;
use std::thread;

use serde_json::Value;

mod common;
use common::{Directory, assert_fails, webscale};

/// The rows that were tried with these arguments, and the exit code.
fn tried(args: &[&str]) -> (Vec<Value>, Option<i32>) {
    let output = webscale(&[&["faults", "--quick", "--untimed", "--json"], args].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    (report["rows"].as_array().unwrap().clone(), output.status.code())
}

fn figure<'a>(row: &'a Value, name: &str) -> &'a Value {
    let figures = row["figures"].as_array().unwrap();
    figures.iter().find(|figure| figure["name"] == name).unwrap_or_else(|| panic!("no {name}: {row}"))
}

#[test]
fn frames_that_break_the_protocol() {
    let (rows, code) = tried(&["--row", "10"]);
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((row["verdict"].as_str(), code), (Some("passed"), Some(0)), "{row}");
    assert!(figure(row, "connections closed with 1002")["value"].as_f64().unwrap() >= 100.0);
}

#[test]
fn a_row_whose_server_does_not_start_leaves_the_others_theirs() {
    // The memory that row 18 allows does not suffice for one message of that size.
    let flags = ["--", "--max-message", "128MiB"];
    let (rows, code) = tried(&[&["--row", "10", "--row", "18"], &flags[..]].concat());
    let [passed, not_tried] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!(passed["verdict"], "passed", "{passed}");
    assert_eq!((not_tried["verdict"].as_str(), code), (Some("disturbed"), Some(3)), "{not_tried}");
    assert!(not_tried["why"][0].as_str().unwrap().contains("--memory"), "{not_tried}");
    // Where it is the first, it is what was typed.
    assert_fails(&[&["faults", "--row", "18"][..], &flags].concat(), 1, &["--memory"]);
}

/// The commands of docs/faults.md that take a defence away, and the figure by which a row fails then.
fn defenceless() -> Vec<(Vec<String>, String)> {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/faults.md");
    let text = fs::read_to_string(docs).unwrap();
    let (_, section) = text.split_once("## To see rows fail").unwrap();
    let lines = section.lines().filter_map(|line| line.trim().strip_prefix("| `webscale faults --quick "));
    let command = |line: &str| {
        let (flags, named) = line.trim_end_matches(" |").split_once("` | ").unwrap();
        (flags.split(' ').map(str::to_owned).collect(), named.to_owned())
    };
    lines.map(command).collect()
}

/// The command has one row fail, by the figure of that name.
fn assert_row_fails(flags: &[String], named: &str) {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let (rows, code) = tried(&flags);
    let failed: Vec<&Value> = rows.iter().filter(|row| row["verdict"] == "failed").collect();
    let [row] = failed[..] else { panic!("{flags:?}: {rows:?}") };
    assert_eq!((code, &figure(row, named)["holds"]), (Some(1), &Value::Bool(false)), "{row}");
}

#[test]
fn without_a_defence_its_row_fails() {
    let commands = defenceless();
    assert!(commands.len() >= 6, "{commands:?}");
    // They wait more than they work.
    let left = Mutex::new(commands.iter());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let next = || left.lock().unwrap().next();
                while let Some((flags, named)) = next() {
                    assert_row_fails(flags, named);
                }
            });
        }
    });
}

#[test]
fn a_soaked_server_accounts_for_all_who_came() {
    let directory = Directory::new("soak");
    let (html, csv) = (directory.file("soak.html"), directory.file("soak.csv"));
    let output = webscale(&["faults", "--soak", "5s", "--json", "--html", &html, "--csv", &csv]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let counted = figure(&report, "connections that the server counted");
    assert!(counted["value"].as_f64().unwrap() > 100.0, "{report}");
    for name in [
        "connections that the server counted",
        "of them not closed by any reason",
        "honest clients disconnected",
    ] {
        assert_eq!(figure(&report, name)["holds"], true, "{name}: {report}");
    }
    let samples = report["samples"].as_array().unwrap().len();
    assert!(samples > 0 && fs::read_to_string(csv).unwrap().lines().count() == samples + 1);
    assert!(fs::read_to_string(html).unwrap().contains("connections that the server counted"));
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is_started() {
    assert_fails(&["faults", "--row", "99"], 2, &["99", "no such row", "10"]);
    assert_fails(&["faults", "--server", "nginx"], 2, &["nginx", "skeleton"]);
    assert_fails(&["faults", "--server", "tokio", "--", "--threads", "2"], 2, &["serve"]);
    assert_fails(&["faults", "--soak", "1s"], 2, &["5s"]);
    assert_fails(&["faults", "--soak", "1m", "--quick"], 2, &["--quick"]);
    assert_fails(&["faults", "wss://example.com"], 2, &["wss://example.com"]);
    for flag in ["--json", "--html"] {
        assert_fails(&["faults", flag, "/nonexistent/x", "--row", "1"], 2, &["/nonexistent/x"]);
    }
    assert_fails(&["faults", "--soak", "5s", "--csv", "/nonexistent/x"], 2, &["/nonexistent/x"]);
    assert_fails(&["faults", "--csv", "x.csv"], 2, &["--soak"]);
}
