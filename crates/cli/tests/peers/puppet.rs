//! Programs of other makes: clients which play scenes, servers which behave as they are told.

use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Who stands at the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Peer {
    /// Node's `ws`.
    Node,
    /// Python's `websockets`.
    Python,
    /// Chromium, led by a program for Node.
    Chromium,
}

impl Peer {
    /// The program that plays scenes.
    pub(crate) fn client(self) -> Puppet {
        Puppet::start(match self {
            Self::Node => node("client.js"),
            Self::Python => python("client.py"),
            Self::Chromium => node("browser.js"),
        })
    }

    /// The program that serves.
    pub(crate) fn server(self) -> Puppet {
        Puppet::start(match self {
            Self::Node => node("server.js"),
            Self::Python => python("server.py"),
            Self::Chromium => panic!("a browser is no server"),
        })
    }
}

/// What `scripts/peers` exports.
pub(crate) fn exported(name: &str) -> OsString {
    env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: run this test by scripts/peers"))
}

fn installed(name: &str) -> PathBuf {
    Path::new(&exported("WEBSCALE_PEERS")).join(name)
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

fn node(name: &str) -> Command {
    let mut command = Command::new("node");
    command.env("NODE_PATH", installed("node_modules")).arg(script(name));
    command
}

fn python(name: &str) -> Command {
    let mut command = Command::new(installed("venv/bin/python"));
    command.arg("-B").arg(script(name));
    command
}

/// A program with which lines of JSON are exchanged; killed when dropped.
pub(crate) struct Puppet {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Puppet {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/peers installs it"));
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = channel();
        // It ends with the program's output.
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let stdin = child.stdin.take();
        Self { child, stdin, lines }
    }

    /// Says something, and waits for the answer.
    pub(crate) fn ask(&mut self, what: &Value) -> Value {
        let stdin = self.stdin.as_mut().expect("not yet closed");
        writeln!(stdin, "{what}").and_then(|()| stdin.flush()).expect("a program that reads");
        self.answer()
    }

    /// Says the last thing, and waits for the answer.
    pub(crate) fn ask_at_last(mut self, what: &Value) -> Value {
        let mut stdin = self.stdin.take().expect("not yet closed");
        writeln!(stdin, "{what}").expect("a program that reads");
        drop(stdin);
        let answer = self.answer();
        assert!(self.child.wait().expect("a child").success(), "after it answered {answer}");
        answer
    }

    fn answer(&self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE).expect("an answer in time; its stderr says why not");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
