//! Loops on threads of their own, and the thread that watches over them.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use webscale_sys::process;

use crate::event_loop::EventLoop;
use crate::handler::Handler;
use crate::health::{Overload, ServerThread, Stuck};
use crate::journal::{self, Level};
use crate::pulse::Vitals;
use crate::server::Handle;

/// Runs each loop on a thread of its own, on the processor of its index where there is one, and watches until all have
/// ended. When one fails, the others end with it.
///
/// # Errors
/// What a loop or the kernel failed with; or the names of the threads that did not end when they should have.
pub(crate) fn run<H: Handler>(loops: Vec<EventLoop<H>>, cpus: &[usize], handle: &Handle) -> io::Result<()> {
    let (ended, ends) = channel();
    let mut threads = Threads::default();
    let mut result = Ok(());
    for (index, event_loop) in loops.into_iter().enumerate() {
        let alarm = Alarm { index, failed: true, others: handle.clone(), ended: ended.clone() };
        let cpu = cpus.get(index).copied();
        let run = move || run_one(event_loop, cpu, alarm);
        match thread::Builder::new().name(format!("loop-{index}")).spawn(run) {
            Ok(thread) => threads.0.push(Some(thread)),
            Err(error) => {
                result = Err(error);
                handle.abort();
            }
        }
    }
    drop(ended);
    result.and(threads.watch(&ends, &handle.vitals))
}

fn run_one<H: Handler>(event_loop: EventLoop<H>, cpu: Option<usize>, mut alarm: Alarm) -> io::Result<()> {
    if let Some(cpu) = cpu {
        process::pin_thread(&[cpu])?;
    }
    event_loop.run()?;
    alarm.failed = false;
    Ok(())
}

/// Says that a loop has ended, and ends the others when that was an error or a panic.
struct Alarm {
    index: usize,
    failed: bool,
    others: Handle,
    ended: Sender<usize>,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if self.failed {
            self.others.abort();
        }
        // Whoever watched may have left.
        let _ = self.ended.send(self.index);
    }
}

/// The loops' threads, by index.
#[derive(Default)]
struct Threads(Vec<Option<JoinHandle<io::Result<()>>>>);

impl Threads {
    fn running(&self) -> usize {
        self.0.iter().flatten().count()
    }

    /// Until all have ended, or those that have not are overdue and stuck.
    fn watch(mut self, ends: &Receiver<usize>, vitals: &Vitals) -> io::Result<()> {
        let mut watchdog = Watchdog::default();
        let mut result = Ok(());
        while self.running() > 0 {
            match ends.recv_timeout(vitals.period().unwrap_or(Duration::MAX)) {
                Ok(index) => result = result.and(self.join(index)),
                Err(RecvTimeoutError::Timeout) => watchdog.look(vitals),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if vitals.is_overdue() {
                let mut stuck = vitals.stuck();
                stuck.retain(|stuck| matches!(stuck.thread, ServerThread::Loop(_)));
                if self.running() > 0 && stuck.len() >= self.running() {
                    return result.and(Err(left_behind(&stuck)));
                }
            }
        }
        result
    }

    fn join(&mut self, index: usize) -> io::Result<()> {
        let Some(thread) = self.0.get_mut(index).and_then(Option::take) else { return Ok(()) };
        thread.join().unwrap_or_else(|_| Err(io::Error::other("an event loop panicked")))
    }
}

/// These have not ended in time, and are not awaited.
pub(crate) fn left_behind(stuck: &[Stuck]) -> io::Error {
    let threads: Vec<String> = stuck.iter().map(ToString::to_string).collect();
    let text = format!(
        "the server has ended, but handlers have not returned: {}; their threads are left behind",
        threads.join("; ")
    );
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// Tells the log of each episode once, when it begins and when it ends.
#[derive(Default)]
struct Watchdog {
    stuck: Vec<Stuck>,
    overload: Option<Overload>,
}

impl Watchdog {
    fn look(&mut self, vitals: &Vitals) {
        let stuck = vitals.stuck();
        let is_among = |list: &[Stuck], one: &Stuck| list.iter().any(|other| other.thread == one.thread);
        for one in stuck.iter().filter(|one| !is_among(&self.stuck, one)) {
            journal::write(Level::Error, format_args!("{one}: a handler that blocks?"));
        }
        for one in self.stuck.iter().filter(|one| !is_among(&stuck, one)) {
            let seconds = one.lasting.as_secs_f64();
            journal::write(
                Level::Warn,
                format_args!("{} goes on; it was stuck for {seconds:.1} s", one.thread),
            );
        }
        self.stuck = stuck;
        let overload = vitals.overload();
        match (&self.overload, &overload) {
            (None, Some(overload)) => journal::write(Level::Warn, format_args!("overloaded: {overload}")),
            (Some(_), None) => journal::write(Level::Warn, format_args!("no longer overloaded")),
            (None, None) | (Some(_), Some(_)) => {}
        }
        self.overload = overload;
    }
}
