//! The server's process.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{Certificate, files::argument};
use crate::{
    Mode,
    report::{Counts, listening_url},
};

/// A running server on a port of the kernel's choice; killed when dropped.
pub struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Server {
    /// Starts the binary, and waits until it accepts. Without a certificate it serves `ws://`.
    ///
    /// # Panics
    /// It does not start, or says anything else than where it listens.
    #[must_use]
    pub fn start(binary: &str, mode: Mode, certificate: Option<&Certificate>, arguments: &[&str]) -> Self {
        let mut command = Command::new(binary);
        command.args(common(mode, certificate)).args(arguments);
        Self::spawn(command, certificate.is_some())
    }

    /// The same with room for `descriptors` descriptors only.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[must_use]
    pub fn start_limited(binary: &str, mode: Mode, arguments: &[&str], descriptors: usize) -> Self {
        let mut command = Command::new("sh");
        let script = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
        command.args(["-c", &script, binary]).args(common(mode, None)).args(arguments);
        Self::spawn(command, false)
    }

    fn spawn(mut command: Command, tls: bool) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the binary was built");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line of text");
        let scheme = if tls { "wss://" } else { "ws://" };
        let address = listening_url(&line).and_then(|url| url.strip_prefix(scheme)?.parse().ok());
        let address = address.unwrap_or_else(|| {
            let _ = child.kill();
            panic!("the server says {line:?}")
        });
        Self { child, stdout, address }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many descriptors the process has open.
    ///
    /// # Panics
    /// The process is gone.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("the server runs").count()
    }

    /// Sends SIGUSR1 and reads the counts.
    ///
    /// # Panics
    /// The line of the counts does not come.
    pub fn counts(&mut self) -> Counts {
        self.signal(Signal::USR1);
        self.read_counts()
    }

    /// Sends the signal, and returns the counts that the server ends with.
    ///
    /// # Panics
    /// The line of the counts does not come, or is not the last one, or the exit code is not 0.
    pub fn stop(mut self, signal: Signal) -> Counts {
        self.signal(signal);
        let counts = self.read_counts();
        let mut rest = String::new();
        self.stdout.read_line(&mut rest).expect("text");
        assert_eq!(rest, "", "the counts are the last line");
        let status = self.child.wait().expect("a child that was not waited for");
        assert!(status.success(), "the server ends with {status}");
        counts
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the server runs");
    }

    fn read_counts(&mut self) -> Counts {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("a line of text");
        Counts::from_line(&line).unwrap_or_else(|| panic!("the server says {line:?}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already where a test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn common(mode: Mode, certificate: Option<&Certificate>) -> Vec<String> {
    let mode = match mode {
        Mode::Ingest => "ingest",
        Mode::Echo => "echo",
    };
    let mut arguments = ["--listen", "127.0.0.1:0", "--mode", mode].map(str::to_owned).to_vec();
    match certificate {
        None => arguments.push("--plain".to_owned()),
        Some(certificate) => {
            let (cert, key) = (certificate.cert(), certificate.key());
            arguments.extend(["--cert", argument(&cert), "--key", argument(&key)].map(str::to_owned));
        }
    }
    arguments
}

/// Runs the binary with arguments that it has to refuse. Returns the exit code and the one line on stderr.
///
/// # Panics
/// It serves, is ended by a signal, says something on stdout, or anything but one line on stderr.
#[must_use]
pub fn refusal(binary: &str, arguments: &[&str]) -> (i32, String) {
    let output =
        Command::new(binary).args(arguments).stdin(Stdio::null()).output().expect("the binary was built");
    let stdout = String::from_utf8(output.stdout).expect("text");
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_eq!(stdout, "", "{arguments:?}");
    assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
    let code = output.status.code().unwrap_or_else(|| panic!("{arguments:?}: {}", output.status));
    (code, stderr)
}
