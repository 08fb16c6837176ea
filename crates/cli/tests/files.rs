//! `cert` and `payload`, as the real binary runs them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

mod common;
use common::{Directory, assert_fails, webscale};

#[test]
fn payload_is_exact_when_piped() {
    let output = webscale(&["payload"]);
    assert!(output.status.success());
    assert_eq!(output.stdout, workload::payload(0).as_bytes());
    assert_eq!(webscale(&["payload", "--seed", "9"]).stdout, workload::payload(9).as_bytes());
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_webscale"))
        .arg("payload")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
}

#[test]
fn cert_writes_once() {
    let directory = Directory::new("cert");
    let args = ["cert", "--directory", &directory.file(""), "--name", "bench.example"];
    assert!(webscale(&args).status.success());
    for file in ["ca.pem", "cert.pem", "key.pem", "ca-key.pem"] {
        let path = directory.path().join(file);
        assert!(fs::read_to_string(&path).unwrap().starts_with("-----BEGIN "), "{file}");
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode == 0o600, file.contains("key"), "{file}: {mode:o}");
    }
    let before = fs::read(directory.file("key.pem")).unwrap();
    assert_fails(&args, 1, &["ca.pem is there already", "--force"]);
    assert_eq!(fs::read(directory.file("key.pem")).unwrap(), before);
    assert!(webscale(&[&args[..], &["--force"]].concat()).status.success());
    assert_ne!(fs::read(directory.file("key.pem")).unwrap(), before);
}

#[test]
fn cert_refuses_what_it_cannot_do() {
    let directory = Directory::new("refuse");
    assert_fails(
        &["cert", "--directory", &directory.file(""), "--name", "a b"],
        2,
        &["\"a b\"", "host name"],
    );
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    directory.write("file", b"");
    assert_fails(&["cert", "--directory", &directory.file("file/below")], 1, &["writing", "below"]);
}

#[test]
fn usage_errors_exit_with_2() {
    assert_fails(&[], 2, &["Usage"]);
    assert_fails(&["fly"], 2, &["fly"]);
    assert_fails(&["cert", "--size", "3"], 2, &["--size"]);
    assert_fails(&["payload", "--seed", "x"], 2, &["--seed"]);
    let help = webscale(&["--help"]);
    assert!(help.status.success());
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(
        text.contains("Exit codes")
            && ["bench", "cert", "compare", "payload", "serve"].iter().all(|name| text.contains(name))
    );
}
