//! `cert` and `payload`, as the real binary runs them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

mod common;
use common::{assert_fails, webscale};

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("webscale-cli-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

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
    let args = ["cert", "--directory", directory.path(), "--name", "bench.example"];
    assert!(webscale(&args).status.success());
    for file in ["ca.pem", "cert.pem", "key.pem", "ca-key.pem"] {
        let path = directory.0.join(file);
        assert!(fs::read_to_string(&path).unwrap().starts_with("-----BEGIN "), "{file}");
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode == 0o600, file.contains("key"), "{file}: {mode:o}");
    }
    let before = fs::read(directory.0.join("key.pem")).unwrap();
    assert_fails(&args, 1, &["ca.pem is there already", "--force"]);
    assert_eq!(fs::read(directory.0.join("key.pem")).unwrap(), before);
    assert!(webscale(&[&args[..], &["--force"]].concat()).status.success());
    assert_ne!(fs::read(directory.0.join("key.pem")).unwrap(), before);
}

#[test]
fn cert_refuses_what_it_cannot_do() {
    let directory = Directory::new("refuse");
    assert_fails(&["cert", "--directory", directory.path(), "--name", "a b"], 2, &["\"a b\"", "host name"]);
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 0);
    let file = directory.0.join("file");
    fs::write(&file, "").unwrap();
    let below = file.join("below");
    assert_fails(&["cert", "--directory", below.to_str().unwrap()], 1, &["writing", "below"]);
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
    assert!(text.contains("Exit codes") && text.contains("cert") && text.contains("payload"));
}
