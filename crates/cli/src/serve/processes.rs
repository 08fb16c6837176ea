//! `serve --processes N`: N copies of this program on one port.
//!
//! Each process has its own limit of descriptors (RLIMIT_NOFILE); the kernel spreads connections over their listeners. The
//! parent serves nobody: it starts the others, passes signals on, and adds up their counts.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use webscale_sys::process;
use workload::report::{self, Counts};

use super::inheritance::Inheritance;
use super::signals;
use crate::args::{ServeArgs, own_path};

/// What the parent waits for.
#[derive(Clone, Copy)]
enum Event {
    /// SIGTERM or SIGINT.
    End,
    /// SIGHUP.
    Reload,
    /// A child's stdout ended; its counts, if it came that far.
    Ended(Option<Counts>),
}

pub(super) fn run(args: &ServeArgs, inheritance: &Inheritance) -> anyhow::Result<()> {
    let (events, event) = mpsc::channel();
    let tell = |event| {
        let events = events.clone();
        move || events.send(event).is_ok()
    };
    signals::watch(&[SIGTERM, SIGINT], tell(Event::End))?;
    if args.reloadable().is_some() {
        signals::watch(&[SIGHUP], tell(Event::Reload))?;
    }
    let mut children = Children(Vec::new());
    let mut address = args.listen;
    for index in 0..args.processes {
        let mut child = spawn(args, address, index, inheritance)?;
        let stdout = child.stdout.take().context("a child without stdout")?;
        children.0.push(child);
        let mut lines = BufReader::new(stdout);
        address = wait_until_it_listens(&mut lines)
            .with_context(|| format!("process {} did not start", index + 1))?;
        let events = events.clone();
        thread::spawn(move || events.send(Event::Ended(last_counts(lines))));
    }
    report::listening(address, !args.plain);
    supervise(&mut children, &event)
}

/// Waits until all children have ended. One that ends by itself takes the others along.
fn supervise(children: &mut Children, event: &mpsc::Receiver<Event>) -> anyhow::Result<()> {
    let mut sum: Option<Counts> = None;
    let (mut was_told, mut ended_by_itself) = (false, false);
    let mut running = children.0.len();
    while running > 0 {
        match event.recv()? {
            Event::End => {
                was_told = true;
                children.terminate();
            }
            Event::Reload => children.hang_up(),
            Event::Ended(counts) => {
                running -= 1;
                if !was_told {
                    ended_by_itself = true;
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
    if failed > 0 || ended_by_itself {
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

/// What was typed, and behind it, where it counts more, what is one process's own.
fn spawn(
    args: &ServeArgs,
    address: SocketAddr,
    index: u16,
    inheritance: &Inheritance,
) -> anyhow::Result<Child> {
    let mut command = Command::new(own_path()?);
    let typed = std::env::args_os().skip(1).take_while(|argument| argument != "--");
    command.args(typed).args(["--processes=1", &format!("--listen={address}"), "--inherit"]);
    command.args(args.limits.share(args.processes)).args(args.status.share(index));
    if index > 0 {
        command.arg("--share-port");
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    // A process group of its own: Ctrl-C reaches the children through us, once.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = process::spawn_bound(&mut command, &[]).context("starting a process")?;
    inheritance.pass_on(child.stdin.take().context("a child without stdin")?)?;
    Ok(child)
}

fn wait_until_it_listens(lines: &mut BufReader<ChildStdout>) -> anyhow::Result<SocketAddr> {
    let mut line = String::new();
    lines.read_line(&mut line)?;
    let url = report::listening_url(&line).context("it ended before it listened; stderr says why")?;
    let (_, address) = url.split_once("://").context("an address without a scheme")?;
    address.parse().with_context(|| format!("{address:?} is no address"))
}

fn last_counts(lines: BufReader<ChildStdout>) -> Option<Counts> {
    lines.lines().map_while(Result::ok).filter_map(|line| Counts::from_line(&line)).last()
}

struct Children(Vec<Child>);

impl Children {
    fn terminate(&self) {
        self.signal(process::terminate);
    }

    fn hang_up(&self) {
        self.signal(process::hang_up);
    }

    fn signal(&self, send: impl Fn(&Child) -> io::Result<()>) {
        for child in &self.0 {
            // One that has ended needs no signal.
            let _ = send(child);
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
