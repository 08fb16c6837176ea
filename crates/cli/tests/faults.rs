//! `faults`: a server that survives, one that does not, and what is refused.

use std::fs;

use serde_json::Value;

mod common;
use common::{Directory, assert_fails, webscale};

/// The one row that was tried with these arguments, and the exit code.
fn tried(args: &[&str]) -> (Value, Option<i32>) {
    let output = webscale(&[&["faults", "--quick", "--json"], args].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    let [row] = report["rows"].as_array().unwrap().as_slice() else { panic!("{report}") };
    (row.clone(), output.status.code())
}

fn figure<'a>(row: &'a Value, name: &str) -> &'a Value {
    let figures = row["figures"].as_array().unwrap();
    figures.iter().find(|figure| figure["name"] == name).unwrap_or_else(|| panic!("no {name}: {row}"))
}

/// Every figure is inside its bar but for those that a busy machine explains.
fn assert_conduct(row: &Value) {
    for figure in row["figures"].as_array().unwrap() {
        let name = figure["name"].as_str().unwrap();
        let is_of_time = name.starts_with("honest p99") || name.starts_with("answered after");
        assert!(figure["holds"] == true || is_of_time, "{figure}: {row}");
    }
}

#[test]
fn frames_that_break_the_protocol() {
    let (row, code) = tried(&["--row", "10"]);
    assert_conduct(&row);
    assert!(figure(&row, "connections closed with 1002")["value"].as_f64().unwrap() >= 100.0);
    let expected = match row["verdict"].as_str().unwrap() {
        "passed" => 0,
        "failed" => 1,
        _ => 3,
    };
    assert_eq!(code, Some(expected), "{row}");
}

#[test]
fn a_server_without_a_deadline_does_not_survive_slow_handshakes() {
    let (row, code) = tried(&["--row", "1", "--", "--handshake-time", "1h"]);
    assert_eq!((row["verdict"].as_str(), code), (Some("failed"), Some(1)), "{row}");
    let open = figure(&row, "connections never ended");
    assert_eq!((open["value"].as_f64(), open["holds"].as_bool()), (Some(1000.0), Some(false)));
}

#[test]
fn a_row_whose_server_does_not_start_leaves_the_others_theirs() {
    // The memory that row 18 allows does not suffice for one message of that size.
    let flags = ["--", "--max-message", "128MiB"];
    let rows = ["faults", "--quick", "--untimed", "--json", "--row", "10", "--row", "18"];
    let output = webscale(&[&rows[..], &flags].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let [tried, not_tried] = report["rows"].as_array().unwrap().as_slice() else { panic!("{report}") };
    assert_conduct(tried);
    assert_eq!(
        (not_tried["verdict"].as_str(), output.status.code()),
        (Some("disturbed"), Some(3)),
        "{report}"
    );
    assert!(not_tried["why"][0].as_str().unwrap().contains("--memory"), "{not_tried}");
    // Where it is the first, it is what was typed.
    assert_fails(&[&["faults", "--row", "18"][..], &flags].concat(), 1, &["--memory"]);
}

#[test]
fn a_server_without_a_deadline_for_messages_does_not_survive_slow_ones() {
    let (row, code) = tried(&["--row", "3", "--", "--message-time", "1h"]);
    assert_eq!((row["verdict"].as_str(), code), (Some("failed"), Some(1)), "{row}");
    assert_eq!(figure(&row, "connections closed with 1008")["value"].as_f64(), Some(0.0));
    assert_eq!(figure(&row, "connections never ended")["value"].as_f64(), Some(100.0));
}

#[test]
fn compressed_messages_get_in_where_the_limit_is_higher() {
    let (row, code) = tried(&["--row", "9", "--", "--max-message", "2MiB"]);
    assert_eq!((row["verdict"].as_str(), code), (Some("failed"), Some(1)), "{row}");
    let taken = figure(&row, "taken at the limit");
    assert!(taken["value"].as_f64() > taken["exactly"].as_f64() && taken["holds"] == false, "{row}");
}

#[test]
fn a_server_with_all_memory_keeps_what_it_should_refuse() {
    let (row, code) = tried(&["--row", "18", "--", "--memory", "2GiB"]);
    assert_eq!((row["verdict"].as_str(), code), (Some("failed"), Some(1)), "{row}");
    assert_eq!(figure(&row, "clients closed with 1013")["value"].as_f64(), Some(0.0));
}

#[test]
fn pages_of_other_origins_get_in_where_all_are_let_in() {
    let (row, code) = tried(&["--row", "26", "--", "--origin", "any"]);
    assert_eq!((row["verdict"].as_str(), code), (Some("failed"), Some(1)), "{row}");
    assert_eq!(figure(&row, "refused with 403")["value"].as_f64(), Some(0.0));
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
