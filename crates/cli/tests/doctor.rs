//! `doctor`, as the real binary runs on the machine of the test.

mod common;
use common::{assert_fails, webscale};

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
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["fits"], false);
}

#[test]
fn the_url_says_which_end_is_here() {
    let role = |url| {
        let output = webscale(&["doctor", "--clients", "5", "--url", url, "--json"]);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
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
