//! Leads the clients of a load through its phases.

use std::time::{Duration, Instant};

use super::BenchError;
use super::fleet::{Census, Fleet};
use super::outcome::{Connections, Generator, KernelUse, LatencySummary, Messages, Outcome, Verdict, judge};
use super::plan::{Plan, Prepared};
use super::tally::{Counts, Tally, advice};
use super::watch::{Mark, Marks, Watch};
use crate::observe::{Observer, Phase, Progress};

/// How often the conductor looks up while it waits.
const TICK: Duration = Duration::from_millis(100);
/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// How long messages that were due in the last moments may still be sent, late as they are.
const LAST_SENDS_MAX: Duration = Duration::from_millis(500);
/// How long answers may still come after the last message.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Leads the clients through the phases.
pub(crate) struct Conductor<'a> {
    plan: &'a Plan,
    fleet: Fleet,
    /// How the clients stood at the last look.
    census: Census,
    watch: Watch,
    observer: &'a mut dyn Observer,
    told: Instant,
    told_sent: u64,
    interrupted: bool,
}

impl<'a> Conductor<'a> {
    /// Starts the clients' event loops; nothing is connected yet.
    pub(crate) fn new(
        plan: &'a Plan,
        prepared: &Prepared,
        observer: &'a mut dyn Observer,
    ) -> Result<Conductor<'a>, BenchError> {
        let fleet = Fleet::new(plan, prepared)?;
        let watch = Watch::new(plan.pid, &fleet.pids())?;
        let (told, census) = (Instant::now(), Census::default());
        Ok(Conductor { plan, fleet, census, watch, observer, told, told_sent: 0, interrupted: false })
    }

    /// Opens all connections over the ramp, and waits until each is open or has failed.
    pub(crate) fn connect(&mut self) -> Result<(), BenchError> {
        let begun = Instant::now();
        self.fleet.connect(begun)?;
        while self.census.settled < self.plan.clients && !self.interrupted {
            self.fleet.tend()?;
            std::thread::sleep(self.fleet.tick());
            self.look_up(Phase::Connecting, begun, None)?;
        }
        Ok(())
    }

    /// # Errors
    /// [`BenchError::NoClient`] when every connection failed.
    pub(crate) fn some_connected(&mut self) -> Result<(), BenchError> {
        let tally = self.fleet.tally()?;
        if tally.counts.opened > 0 || self.interrupted {
            return Ok(());
        }
        let why = tally.failed.iter().max_by_key(|(_, failure)| failure.count);
        Err(BenchError::NoClient(why.map_or_else(
            || "no answer".into(),
            |(kind, failure)| format!("{}{}", failure.example, advice(kind, &self.plan.url)),
        )))
    }

    /// Leaves the server alone for a while, so that it is seen at rest.
    pub(crate) fn settle(&mut self) -> Result<(), BenchError> {
        self.wait(Phase::Resting, Instant::now() + self.plan.settle)
    }

    /// Starts the schedule, a little ahead so that every client learns of it in time.
    pub(crate) fn start(&mut self) -> Result<Instant, BenchError> {
        self.fleet.start()
    }

    /// Waits through a phase, unless the user or the server ends it.
    pub(crate) fn wait(&mut self, phase: Phase, until: Instant) -> Result<(), BenchError> {
        let begun = Instant::now();
        loop {
            let now = Instant::now();
            if now >= until || !self.is_going_on() {
                return Ok(());
            }
            std::thread::sleep(TICK.min(until - now));
            self.look_up(phase, begun, Some(until.saturating_duration_since(begun)))?;
        }
    }

    /// The user has not stopped it, and somebody is connected.
    fn is_going_on(&self) -> bool {
        !self.interrupted && self.census.open > 0
    }

    /// Sends no more than what was due, and waits for the answers that are still to come.
    pub(crate) fn drain(&mut self) -> Result<(), BenchError> {
        let begun = Instant::now();
        let due = self.plan.schedule().offered(Duration::ZERO, self.plan.until());
        while self.census.counts.sent_in_all < due && begun.elapsed() < LAST_SENDS_MAX && self.is_going_on() {
            std::thread::sleep(self.fleet.tick());
            self.census = self.fleet.census()?;
        }
        self.fleet.end()?;
        let until = begun + DRAIN_MAX.max(self.plan.latency_limit);
        while self.census.counts.waiting > 0 && Instant::now() < until && !self.interrupted {
            std::thread::sleep(self.fleet.tick());
            self.look_up(Phase::Draining, begun, None)?;
        }
        Ok(())
    }

    /// Everything at this moment.
    pub(crate) fn mark(&mut self) -> Result<Mark, BenchError> {
        self.census = self.fleet.census()?;
        self.watch.mark(self.census.counts.sent_in_all)
    }

    /// Closes all connections and sums up.
    ///
    /// # Errors
    /// When an event loop had failed.
    pub(crate) fn finish(self, marks: &Marks, connect_time: Duration) -> Result<Outcome, BenchError> {
        let (peak_open, processes) = (self.fleet.peak_open(), self.fleet.processes());
        let tally = self.fleet.close()?;
        let mut outcome = outcome(self.plan, &tally, marks);
        outcome.connections.peak_open = peak_open;
        outcome.connections.connect_seconds = connect_time.as_secs_f64();
        outcome.generator = marks.generator(processes, tally.counts.opened);
        outcome.server = self.watch.server_use(marks, tally.counts.opened);
        outcome.verdict.interrupted = self.interrupted;
        outcome.verdict = judge(&outcome, self.plan.latency_limit);
        if let Some(lost) = &self.watch.lost {
            outcome.verdict.problems.push(format!("the server could not be measured to the end: {lost}"));
        }
        Ok(outcome)
    }

    /// Looks how the clients stand, asks the user, and tells of the progress once a second.
    fn look_up(&mut self, phase: Phase, begun: Instant, planned: Option<Duration>) -> Result<(), BenchError> {
        self.census = self.fleet.census()?;
        self.interrupted |= self.observer.stopped();
        let since = self.told.elapsed();
        if since < PROGRESS_EVERY {
            return Ok(());
        }
        let tally = self.fleet.tally()?;
        let sent = tally.counts.sent_in_all;
        let corrected = &tally.latency.corrected;
        let progress = Progress {
            phase,
            elapsed: begun.elapsed(),
            planned,
            clients: self.plan.clients,
            open: self.census.open,
            failed: tally.failed.values().map(|failure| failure.count).sum(),
            sent,
            sent_per_second: (sent - self.told_sent) as f64 / since.as_secs_f64(),
            latency: (corrected.count() > 0).then(|| (corrected.quantile(0.5), corrected.quantile(0.99))),
            server: self.watch.poll(),
        };
        (self.told, self.told_sent) = (Instant::now(), sent);
        self.observer.progress(&progress);
        Ok(())
    }
}

/// What was found, but for what only the conductor knows.
fn outcome(plan: &Plan, tally: &Tally, marks: &Marks) -> Outcome {
    let counts = &tally.counts;
    let corrected = tally.latency.corrected.summary();
    Outcome {
        url: plan.url.clone(),
        probe: plan.probe,
        probe_one_in: plan.one_probed_in(),
        payload_kind: plan.payload.kind(),
        payload_bytes: plan.payload.len(),
        interval_seconds: plan.interval.as_secs_f64(),
        measured_seconds: marks.measured().as_secs_f64(),
        connections: Connections {
            clients: plan.clients,
            opened: counts.opened,
            failed: tally.failed.clone(),
            disconnected: tally.disconnected.clone(),
            handshake_us: tally.handshakes.summary(),
            ..Connections::default()
        },
        messages: messages(counts, plan.schedule().offered(plan.warmup, plan.until())),
        latency_us: corrected
            .map(|corrected| LatencySummary { corrected, uncorrected: tally.latency.uncorrected.summary() }),
        schedule_lag_us: tally.lag.summary(),
        generator: Generator::default(),
        machine: marks.end.machine.since(&marks.begin.machine),
        other_programs: marks.other_programs(),
        server: None,
        kernel: KernelUse {
            idle: marks.idle.sockets,
            connected: marks.connected.sockets,
            loaded: marks.end.sockets,
        },
        verdict: Verdict::default(),
    }
}

fn messages(counts: &Counts, offered: u64) -> Messages {
    Messages {
        offered,
        sent: counts.sent,
        refused: counts.refused,
        awaited: counts.awaited,
        answered: counts.answered,
        unanswered: counts.unanswered,
        reordered: counts.reordered,
        corrupt: counts.corrupt,
        sent_in_all: counts.sent_in_all,
    }
}
