//! Runs the real binary.
#![expect(dead_code, reason = "each test file uses its part")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};

/// The words of a command line in which none is quoted.
pub(crate) fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

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

/// `webscale serve` on a port of the kernel's choice; killed when dropped.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) url: String,
    stdout: BufReader<ChildStdout>,
}

impl Server {
    pub(crate) fn start(args: &[&str]) -> Server {
        Self::start_with(args, Stdio::inherit())
    }

    /// The same with what it says on stderr.
    pub(crate) fn start_heard(args: &[&str]) -> (Server, BufReader<ChildStderr>) {
        let mut server = Self::start_with(args, Stdio::piped());
        let stderr = server.child.stderr.take().unwrap();
        (server, BufReader::new(stderr))
    }

    fn start_with(args: &[&str], stderr: Stdio) -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_webscale"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let url = line.trim_end().strip_prefix("listening on ").expect(&line).to_owned();
        Server { child, url, stdout }
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Has it end by SIGTERM; returns its exit code and the last line that it printed.
    pub(crate) fn finish(self) -> (Option<i32>, String) {
        self.signal("TERM");
        self.end()
    }

    /// The same of one that ends anyway.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let last = (&mut self.stdout).lines().last().unwrap().unwrap();
        (self.child.wait().unwrap().code(), last)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process of ours.
pub(crate) fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
}

/// Reads the progress of a load until it measures.
pub(crate) fn until_measuring(stderr: &mut impl BufRead) {
    let measures = |line: Result<String, _>| line.unwrap().starts_with("measuring");
    assert!(stderr.lines().any(measures), "it ended early");
}

/// The process ids of what the threads of `pid` started.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of_thread = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("children"));
    let texts: String = threads.filter_map(|thread| of_thread(thread.unwrap()).ok()).collect();
    texts.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// A directory of its own; removed when dropped.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("webscale-cli-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Writes a file into it and returns its path.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.0.join(name), bytes).unwrap();
        self.file(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
