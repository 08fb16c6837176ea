//! `serve --processes N`: N copies of this program on one port.
//!
//! Each process has its own limit of descriptors (RLIMIT_NOFILE); the kernel spreads connections over their listeners. The
//! parent serves nobody: it starts the others, passes signals on, and adds up their counts.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, bail};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use webscale_load::cert::{Existing, issue};
use webscale_sys::process;
use workload::report::{self, Counts};

use crate::args::{ModeArg, ServeArgs};

const LISTENING: &str = "listening on ";

/// What the parent waits for.
enum Event {
    Signal,
    /// A child's stdout ended; its counts, if it came that far.
    Ended(Option<Counts>),
}

pub(super) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let (events, event) = mpsc::channel();
    watch_signals(events.clone())?;
    let certificate = certificate(args)?;
    let mut children = Children(Vec::new());
    let mut address = args.listen;
    for index in 0..args.processes {
        let mut child = spawn(args, address, index > 0, certificate.as_ref())?;
        let stdout = child.stdout.take().context("a child without stdout")?;
        children.0.push(child);
        let mut lines = BufReader::new(stdout);
        address = wait_until_it_listens(&mut lines)
            .with_context(|| format!("process {} did not start", index + 1))?;
        let events = events.clone();
        thread::spawn(move || events.send(Event::Ended(last_counts(lines))));
    }
    // Every process has read it: should we be killed, no key stays behind.
    drop(certificate);
    report::listening(address, !args.plain);
    supervise(&mut children, &event)
}

/// Waits until all children have ended. One that ends by itself takes the others along.
fn supervise(children: &mut Children, event: &mpsc::Receiver<Event>) -> anyhow::Result<()> {
    let mut signals = 0;
    let mut sum: Option<Counts> = None;
    let mut unexpected = 0;
    let mut running = children.0.len();
    while running > 0 {
        match event.recv()? {
            Event::Signal => {
                signals += 1;
                children.terminate();
            }
            Event::Ended(counts) => {
                running -= 1;
                if signals == 0 {
                    unexpected += 1;
                    children.terminate();
                }
                sum = add(sum, counts);
            }
        }
    }
    let mut failed = 0;
    for child in &mut children.0 {
        failed += usize::from(!child.wait()?.success());
    }
    if let Some(sum) = sum {
        report::counts(&sum);
    }
    if failed > 0 || unexpected > 0 {
        bail!("{} of {} processes ended by themselves; stderr says why", failed.max(1), children.0.len());
    }
    Ok(())
}

fn add(sum: Option<Counts>, counts: Option<Counts>) -> Option<Counts> {
    let (Some(sum), Some(counts)) = (sum, counts) else { return sum.or(counts) };
    Some(Counts {
        mode: sum.mode,
        messages: sum.messages + counts.messages,
        failed: sum.failed + counts.failed,
        connections: sum.connections + counts.connections,
    })
}

fn spawn(
    args: &ServeArgs,
    address: SocketAddr,
    share_port: bool,
    certificate: Option<&Certificate>,
) -> anyhow::Result<Child> {
    let mut command = Command::new(std::env::current_exe().context("this program's own file")?);
    let mode = match args.mode {
        ModeArg::Echo => "echo",
        ModeArg::Ingest => "ingest",
    };
    command.args(["serve", "--mode", mode, "--listen", &address.to_string()]);
    command.args(["--workers", &args.workers.to_string()]);
    if let Some(threads) = args.threads {
        command.args(["--threads", &threads.to_string()]);
    }
    if let Some(bytes) = args.max_message {
        command.args(["--max-message", &bytes.to_string()]);
    }
    command.args(args.limits.share(args.processes));
    if args.deflate {
        command.arg("--deflate");
    }
    for origin in &args.origins {
        command.args(["--origin", origin]);
    }
    if share_port {
        command.arg("--share-port");
    }
    match certificate {
        Some(Certificate { cert, key, .. }) => command.arg("--cert").arg(cert).arg("--key").arg(key),
        None => command.arg("--plain"),
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    // A process group of its own: Ctrl-C reaches the children through us, once.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    process::spawn_bound(&mut command, &[]).context("starting a process")
}

fn wait_until_it_listens(lines: &mut BufReader<ChildStdout>) -> anyhow::Result<SocketAddr> {
    let mut line = String::new();
    lines.read_line(&mut line)?;
    let url =
        line.trim_end().strip_prefix(LISTENING).context("it ended before it listened; stderr says why")?;
    let (_, address) = url.split_once("://").context("an address without a scheme")?;
    address.parse().with_context(|| format!("{address:?} is no address"))
}

fn last_counts(lines: BufReader<ChildStdout>) -> Option<Counts> {
    lines.lines().map_while(Result::ok).filter_map(|line| Counts::from_line(&line)).last()
}

fn watch_signals(events: mpsc::Sender<Event>) -> io::Result<()> {
    let (mut receiver, sender) = UnixStream::pair()?;
    pipe::register(SIGTERM, sender.try_clone()?)?;
    pipe::register(SIGINT, sender)?;
    let listen = move || {
        while receiver.read_exact(&mut [0]).is_ok() && events.send(Event::Signal).is_ok() {}
    };
    thread::Builder::new().name("signals".into()).spawn(listen).map(drop)
}

/// The certificate for all children: the one that was named, or one made here.
struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    _scratch: Option<Scratch>,
}

fn certificate(args: &ServeArgs) -> anyhow::Result<Option<Certificate>> {
    if args.plain {
        return Ok(None);
    }
    if let (Some(cert), Some(key)) = (&args.cert, &args.key) {
        return Ok(Some(Certificate { cert: cert.clone(), key: key.clone(), _scratch: None }));
    }
    let scratch = Scratch::new()?;
    let files = issue(&[])?.write(&scratch.0, Existing::Keep)?;
    Ok(Some(Certificate { cert: files.cert, key: files.key, _scratch: Some(scratch) }))
}

/// A directory of ours alone, gone in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("webscale-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path).with_context(|| describe(&path))?;
        Ok(Self(path))
    }
}

fn describe(path: &Path) -> String {
    format!("making the directory {}", path.display())
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The system clears its directory for temporary files as well.
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Children(Vec<Child>);

impl Children {
    fn terminate(&self) {
        for child in &self.0 {
            // One that has ended needs no signal.
            let _ = process::terminate(child);
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            if matches!(child.try_wait(), Ok(None)) {
                // Only after a failure: whoever still runs must not outlive us.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}
