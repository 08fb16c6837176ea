//! Runs the real binary.

use std::process::{Command, Output, Stdio};

/// What the command did with these arguments and no input.
pub(crate) fn webscale(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_webscale")).args(args).stdin(Stdio::null()).output().unwrap()
}

/// Asserts that the command failed with `code` and one sentence on stderr that says each of `needles`.
pub(crate) fn assert_fails(args: &[&str], code: i32, needles: &[&str]) {
    let output = webscale(args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    for needle in needles {
        assert!(stderr.contains(needle), "{args:?}: {needle:?} is not in {stderr:?}");
    }
}
