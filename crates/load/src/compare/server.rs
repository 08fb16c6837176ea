//! A server process of the comparison: started on its processor, listened to, ended.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use workload::report::{self, Counts};

use super::contestant::Extra;
use super::job::Job;
use crate::cert::Files;

/// How long a server may take until it accepts, answer a count, or end.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a server of the user's own may take to end; it is killed then, and nothing of it is lost.
const LEAVE: Duration = Duration::from_secs(5);
/// Lines that are written a second apart are not read a second apart, to the millisecond.
const SECOND: Duration = Duration::from_millis(900);
/// How long the last lines of a process that has ended are waited for: what it has started may hold its stderr for ever.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Why a server could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// It could not be started.
    #[error("{binary} could not be started: {source}")]
    Start {
        /// The executable.
        binary: String,
        /// What the system said.
        source: io::Error,
    },
    /// It ended while it was needed.
    #[error("the server ended ({status}){said}", said = said(.stderr))]
    Died {
        /// Its exit status or signal.
        status: String,
        /// What it wrote on stderr about that, or else the last line.
        stderr: String,
    },
    /// It is alive and cannot be reached.
    #[error(
        "nobody listened at {address} within {} s: it has to listen at the {{port}} that it is given{said}",
        PATIENCE.as_secs(), said = said(.stderr)
    )]
    NotListening {
        /// Where it was looked.
        address: SocketAddr,
        /// The last line that it wrote on stderr.
        stderr: String,
    },
    /// It is alive and says nothing.
    #[error("the server said nothing for {} s", PATIENCE.as_secs())]
    Silent,
    /// The user asked to stop while it was waited for.
    #[error("interrupted")]
    Interrupted,
}

fn said(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(": {stderr}") }
}

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Launch<'a> {
    /// The executable.
    pub binary: &'a Path,
    /// Its arguments; without `--listen`, loopback and a port of the kernel's choice are added behind them.
    pub arguments: Vec<OsString>,
    /// More of its environment.
    pub environment: Vec<(&'static str, OsString)>,
    /// The processor that it runs on; the machine's choice if none.
    pub cpu: Option<usize>,
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct Server {
    job: Job,
    url: String,
    stdout: Receiver<String>,
    stderr: Stderr,
    /// It prints what it counted when it ends.
    counts: bool,
    terminated: bool,
}

impl Server {
    /// Starts a server of the user's own on a port that is free, and waits until it accepts there.
    ///
    /// # Errors
    /// When it cannot be started, ends, or does not accept in time, or `stopped` says that the user does not want to wait.
    pub(crate) fn start_extra(
        extra: &Extra,
        certificate: &Files,
        cpu: Option<usize>,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Server, ServerError> {
        let failed = |source| ServerError::Start { binary: "sh".into(), source };
        let address = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).map_err(failed)?;
        let line = extra.command(address.port(), &certificate.cert, &certificate.key);
        let mut command = Command::new("sh");
        // Nobody reads what it prints, which may be a line for each message.
        command.args(["-c", &line]).stdout(Stdio::null());
        let mut server = Server::spawn(&mut command, cpu, "sh")?;
        (server.counts, server.url) = (false, format!("wss://{address}"));
        let deadline = Instant::now() + PATIENCE;
        while !accepts(address) {
            if let Some(death) = server.death() {
                return Err(death);
            }
            if stopped() {
                return Err(ServerError::Interrupted);
            }
            if Instant::now() > deadline {
                return Err(ServerError::NotListening {
                    address,
                    stderr: server.stderr.heard().last_words(),
                });
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(server)
    }

    /// Starts a server and waits until it accepts.
    ///
    /// # Errors
    /// When it cannot be started, ends, or does not say `listening on …` in time.
    pub fn start(launch: &Launch<'_>) -> Result<Server, ServerError> {
        let mut command = Command::new(launch.binary);
        command.args(&launch.arguments);
        if !launch.arguments.iter().any(|argument| argument == "--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.envs(launch.environment.iter().map(|(name, value)| (*name, value))).stdout(Stdio::piped());
        let mut server = Server::spawn(&mut command, launch.cpu, &launch.binary.display().to_string())?;
        server.url = server.expect_line(|line| report::listening_url(line).map(str::to_owned))?;
        Ok(server)
    }

    /// Starts the process, on its processor if one is named.
    fn spawn(command: &mut Command, cpu: Option<usize>, name: &str) -> Result<Server, ServerError> {
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let cpus: Vec<usize> = cpu.into_iter().collect();
        let mut job = Job::start(command, &cpus)
            .map_err(|source| ServerError::Start { binary: name.to_owned(), source })?;
        let (lines, stdout) = mpsc::channel();
        if let Some(pipe) = job.leader().stdout.take() {
            // Ends with the pipe, or when nobody listens any more.
            std::thread::spawn(move || read_lines(pipe, |line| lines.send(line).is_ok()));
        }
        let stderr = Stderr::follow(job.leader().stderr.take());
        Ok(Server { job, url: String::new(), stdout, stderr, counts: true, terminated: false })
    }

    /// Where it accepts: `wss://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The process that was started, which leads the group of all that it starts.
    pub fn pid(&self) -> u32 {
        self.job.id()
    }

    /// Why it ended, if it has.
    pub(crate) fn death(&mut self) -> Option<ServerError> {
        let status = self.ended()?;
        Some(ServerError::Died { status: status.to_string(), stderr: self.stderr.all().last_words() })
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.job.ended().ok().flatten()
    }

    /// Asks the server to end (SIGTERM), once: a second signal would have it drop its clients.
    pub fn terminate(&mut self) {
        if !std::mem::replace(&mut self.terminated, true) {
            self.job.terminate();
        }
    }

    /// Somebody else has asked it to end: [`finish`](Self::finish) does not ask again.
    pub(crate) fn expect_end(&mut self) {
        self.terminated = true;
    }

    /// Sends it SIGHUP.
    pub fn hang_up(&self) {
        self.job.hang_up();
    }

    /// Has the server end, unless it was asked already, and returns what it counted, if it counts, once its process is
    /// gone.
    ///
    /// # Errors
    /// When it had ended before, ends otherwise than with exit code 0, or says nothing.
    pub fn finish(mut self) -> Result<Option<Counts>, ServerError> {
        self.end()
    }

    /// The same, and all that it wrote on stderr.
    pub(crate) fn finish_heard(mut self) -> (Result<Option<Counts>, ServerError>, Heard) {
        let ended = self.end();
        // One that lives on keeps its stderr open.
        let heard = if self.ended().is_some() { self.stderr.all() } else { self.stderr.heard() };
        (ended, heard)
    }

    fn end(&mut self) -> Result<Option<Counts>, ServerError> {
        if let (Some(death), false) = (self.death(), self.terminated) {
            return Err(death);
        }
        self.terminate();
        if !self.counts {
            // One that does not end when it is asked is killed when it is dropped.
            return self.wait_for_end(LEAVE).or(Ok(())).map(|()| None);
        }
        let counts = self.expect_line(Counts::from_line)?;
        self.wait_for_end(PATIENCE)?;
        match self.death() {
            Some(_) if self.ended().is_some_and(|status| status.success()) => Ok(Some(counts)),
            Some(death) => Err(death),
            None => Err(ServerError::Silent),
        }
    }

    /// The first line of stdout that `parse` accepts.
    fn expect_line<T>(&mut self, parse: impl Fn(&str) -> Option<T>) -> Result<T, ServerError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.stdout.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(parsed) = parse(&line) {
                        return Ok(parsed);
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Err(ServerError::Silent),
                Err(RecvTimeoutError::Disconnected) => {
                    self.wait_for_end(PATIENCE)?;
                    return Err(self.death().unwrap_or(ServerError::Silent));
                }
            }
        }
    }

    /// Waits for the process, which has closed its stdout or was asked to end.
    fn wait_for_end(&mut self, patience: Duration) -> Result<(), ServerError> {
        let deadline = Instant::now() + patience;
        while self.death().is_none() {
            if Instant::now() > deadline {
                return Err(ServerError::Silent);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

/// Whether somebody else accepts there: a socket that is given that very port for its own end connects to itself.
fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect(address).and_then(|stream| stream.local_addr()).is_ok_and(|local| local != address)
}

fn read_lines(pipe: impl Read, mut each: impl FnMut(String) -> bool) {
    for line in BufReader::new(pipe).lines() {
        let Ok(line) = line else { return };
        if !each(line) {
            return;
        }
    }
}

/// What a server has written on stderr.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// Lines.
    pub lines: u64,
    /// The most lines within one second.
    pub lines_a_second: u64,
    /// Lines that tell of a panic.
    pub panics: u64,
    /// The last line.
    pub last: String,
    /// The last line that speaks of an error, and how many there were until then.
    error: Option<(u64, String)>,
}

impl Heard {
    /// Why it ended, as far as one line tells: the one with the error, if only a backtrace or the like came behind it.
    fn last_words(self) -> String {
        const BEHIND_MAX: u64 = 16;
        let error = self.error.filter(|(at, _)| self.lines - at <= BEHIND_MAX);
        error.map_or(self.last, |(_, line)| line)
    }
}

/// Listens on stderr.
#[derive(Debug)]
struct Stderr {
    heard: Arc<Mutex<Heard>>,
    /// Ends with the pipe.
    open: Option<Receiver<Infallible>>,
}

impl Stderr {
    fn follow(pipe: Option<impl Read + Send + 'static>) -> Stderr {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let writer = heard.clone();
        let open = pipe.map(|pipe| {
            let (end, open) = mpsc::channel();
            std::thread::spawn(move || {
                let _end = end;
                let mut second = Second { began: Instant::now(), lines: 0 };
                read_lines(pipe, |line| {
                    second.note(&mut lock(&writer), line);
                    true
                });
            });
            open
        });
        Stderr { heard, open }
    }

    fn heard(&self) -> Heard {
        lock(&self.heard).clone()
    }

    /// Everything that was written, once the process has ended.
    fn all(&mut self) -> Heard {
        if let Some(open) = self.open.take() {
            let _ = open.recv_timeout(LAST_WORDS);
        }
        self.heard()
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The second that is under way.
struct Second {
    began: Instant,
    lines: u64,
}

impl Second {
    fn note(&mut self, heard: &mut Heard, line: String) {
        if self.began.elapsed() >= SECOND {
            *self = Second { began: Instant::now(), lines: 0 };
        }
        self.lines += 1;
        heard.lines += 1;
        heard.lines_a_second = heard.lines_a_second.max(self.lines);
        heard.panics += u64::from(line.contains(" panicked at "));
        if line.contains("rror") {
            heard.error = Some((heard.lines, line.clone()));
        }
        heard.last = line;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::doctor::Root;
    use crate::measure::family::family;
    use crate::measure::process::{Process, ProcessError};

    fn launch<'a>(binary: &'a str, arguments: &[&str]) -> Launch<'a> {
        Launch {
            binary: Path::new(binary),
            arguments: arguments.iter().map(OsString::from).collect(),
            environment: Vec::new(),
            cpu: None,
        }
    }

    /// A server in a few lines of shell.
    fn start(script: &str) -> Result<Server, ServerError> {
        Server::start(&launch("sh", &["-c", script]))
    }

    #[test]
    fn starts_counts_and_ends() {
        let server = start(
            "trap 'echo parsed 12 messages, 0 failed, 3 connections; exit 0' TERM\n\
             echo starting up; echo listening on ws://127.0.0.1:9; while :; do sleep 0.01; done",
        )
        .unwrap();
        assert_eq!(server.url(), "ws://127.0.0.1:9");
        let mut process = Process::open(server.pid()).unwrap();
        assert!(process.cpu().unwrap().total_ns > 0);
        let counts = server.finish().unwrap().unwrap();
        assert_eq!((counts.messages, counts.connections), (12, 3));
        assert!(matches!(process.cpu(), Err(ProcessError::Gone { .. })));
    }

    #[test]
    fn a_server_of_the_users_own_is_started_on_a_port() {
        let file = |name: &str| Path::new("/nonexistent").join(name);
        let files = Files { cert: file("c"), key: file("k"), ca_cert: file("ca"), ca_key: file("cak") };
        let error = Server::start_extra(Extra::new("x", "cat {cert}"), &files, None, &|| false)
            .unwrap_err()
            .to_string();
        assert!(error.contains("the server ended") && error.contains("/nonexistent/c"), "{error}");
    }

    #[test]
    fn who_asks_to_stop_does_not_wait_for_a_server() {
        let file = |name: &str| Path::new("/nonexistent").join(name);
        let files = Files { cert: file("c"), key: file("k"), ca_cert: file("ca"), ca_key: file("cak") };
        let result = Server::start_extra(Extra::new("x", "sleep 600"), &files, None, &|| true);
        assert!(matches!(result, Err(ServerError::Interrupted)), "{result:?}");
    }

    /// Not a test: a server of a user's own, this very program, which accepts at a port and no more.
    #[test]
    fn extra_server() {
        let Some(port) = std::env::var("EXTRA_PORT").ok().and_then(|port| port.parse().ok()) else { return };
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        listener.incoming().for_each(drop);
    }

    #[test]
    fn a_command_is_measured_and_ended_with_all_that_it_starts() {
        let file = |name: &str| Path::new("/nonexistent").join(name);
        let files = Files { cert: file("c"), key: file("k"), ca_cert: file("ca"), ca_key: file("cak") };
        let own = std::env::current_exe().unwrap();
        let own = format!("{} --exact compare::server::tests::extra_server", own.display());
        let line = format!("sleep 600 & EXTRA_PORT={{port}} {own}; true");
        let server = Server::start_extra(Extra::new("x", line), &files, None, &|| false).unwrap();
        let address = server.url().strip_prefix("wss://").unwrap().to_owned();
        assert!(TcpStream::connect(&address).is_ok());
        // The shell, what it left behind, and the server.
        assert_eq!(family(&Root::default(), &[server.pid()]).len(), 3);
        server.finish().unwrap();
        assert!(TcpStream::connect(&address).is_err());
    }

    #[test]
    fn a_death_says_what_the_server_said() {
        let error = start("echo no way to bind >&2; exit 3").unwrap_err();
        assert_eq!(error.to_string(), "the server ended (exit status: 3): no way to bind");
        let error = start("echo Error: no such file >&2; echo Interpreter v2 >&2; exit 1").unwrap_err();
        assert_eq!(error.to_string(), "the server ended (exit status: 1): Error: no such file");
        let error = start("echo one error >&2; seq 17 >&2; exit 1").unwrap_err();
        assert_eq!(error.to_string(), "the server ended (exit status: 1): 17");
    }

    #[test]
    fn nobody_accepts_at_a_port_that_is_free() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(!accepts(address));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(accepts(listener.local_addr().unwrap()));
    }

    #[test]
    fn lines_and_panics_are_counted() {
        let mut server = start(
            "echo listening on ws://127.0.0.1:9; echo one >&2; echo \"thread 'x' panicked at y\" >&2; echo end >&2",
        )
        .unwrap();
        server.wait_for_end(PATIENCE).unwrap();
        let (ended, heard) = server.finish_heard();
        assert!(ended.is_err());
        assert_eq!((heard.lines, heard.panics, heard.last.as_str()), (3, 1, "end"));
        assert!((1..=3).contains(&heard.lines_a_second));
    }

    #[test]
    fn whoever_holds_stderr_for_ever_is_not_waited_for() {
        let (pipe, mut held) = io::pipe().unwrap();
        let mut stderr = Stderr::follow(Some(pipe));
        writeln!(held, "a daemon was started").unwrap();
        while stderr.heard().lines == 0 {
            std::thread::yield_now();
        }
        assert_eq!(stderr.all().last, "a daemon was started");
        drop(held);
    }

    #[test]
    fn a_death_in_between_is_seen_at_the_end() {
        let mut server = start("echo listening on ws://127.0.0.1:9; exit 7").unwrap();
        server.wait_for_end(PATIENCE).unwrap();
        assert!(matches!(server.finish(), Err(ServerError::Died { .. })));
    }

    #[test]
    fn dropping_ends_the_process() {
        let server = start("echo listening on ws://127.0.0.1:9; exec sleep 600").unwrap();
        let pid = server.pid();
        drop(server);
        assert!(matches!(Process::open(pid), Err(ProcessError::Gone { .. })));
    }

    #[test]
    fn no_such_binary() {
        let error = Server::start(&launch("/nonexistent/server", &[])).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/server"), "{error}");
    }
}
