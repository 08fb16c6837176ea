//! Leads the clients of a load through its phases.

use std::time::{Duration, Instant};

use super::BenchError;
use super::fleet::{Census, Fleet};
use super::judgement::{is_saturated, judge};
use super::outcome::{
    ClosedLoop, Connections, Generator, KernelUse, LatencySummary, Messages, Outcome, Verdict,
};
use super::plan::{Model, Plan, Prepared, Probe};
use super::provenance::Provenance;
use super::stop::Overdue;
use super::tally::{Counts, Tally, advice};
use super::timeline::{ClientCounts, Sample, Timeline};
use super::watch::{Mark, Marks, Watch};
use crate::measure::process::ProcessError;
use crate::observe::{Observer, Phase, Progress};
use crate::report::redact;

/// How often the conductor looks up while it waits.
const TICK: Duration = Duration::from_millis(100);
/// How often the clients' counts are collected, and progress is told.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// A phase that ends earlier after the last sample is part of the next one.
const SAMPLE_MIN: Duration = Duration::from_millis(100);
/// How long messages that were due in the last moments may still be sent, late as they are.
const LAST_SENDS_MAX: Duration = Duration::from_millis(500);
/// How long answers may still come after the last message.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// After so many attempts to connect, all of which failed, no further one is waited for.
const HOPELESS_FROM: u64 = 100;

/// Leads the clients through the phases.
pub(crate) struct Conductor<'a> {
    plan: &'a Plan,
    fleet: Fleet,
    /// How the clients stood at the last look.
    census: Census,
    watch: Watch,
    observer: &'a mut dyn Observer,
    provenance: Provenance,
    /// What was collected since the last sample.
    second: Tally,
    /// What was collected before.
    total: Tally,
    timeline: Timeline,
    /// When the first connection was begun.
    begun: Instant,
    /// When the last sample ended.
    sampled: Instant,
    /// When the schedule begins.
    started: Option<Instant>,
    interrupted: bool,
    overdue: Overdue,
    /// Which of the plan's limits has been passed.
    stopped: Option<String>,
    /// When the load ends, by the schedule.
    ended: Duration,
}

impl<'a> Conductor<'a> {
    /// Starts the clients' event loops; nothing is connected yet.
    pub(crate) fn new(
        plan: &'a Plan,
        prepared: &Prepared,
        observer: &'a mut dyn Observer,
    ) -> Result<Conductor<'a>, BenchError> {
        let fleet = Fleet::new(plan, prepared)?;
        let watch = Watch::new(&plan.pids, &fleet.pids())?;
        let now = Instant::now();
        Ok(Conductor {
            plan,
            fleet,
            census: Census::default(),
            watch,
            observer,
            provenance: Provenance::now(),
            second: Tally::default(),
            total: Tally::default(),
            timeline: Timeline::new(),
            begun: now,
            sampled: now,
            started: None,
            interrupted: false,
            overdue: Overdue::new(plan.stop.p99),
            stopped: None,
            ended: plan.until(),
        })
    }

    /// Opens all connections over the ramp, and waits until each is open or has failed.
    pub(crate) fn connect(&mut self) {
        let begun = Instant::now();
        (self.begun, self.sampled) = (begun, begun);
        self.watch.poll();
        self.fleet.connect(begun);
        while self.census.settled < self.plan.clients && !self.is_over() && !self.is_hopeless() {
            std::thread::sleep(self.fleet.tick());
            self.look_up(Phase::Connecting, begun, None);
        }
        self.end_phase(Phase::Connecting, begun, None);
    }

    /// Everybody has failed so far, and nobody tries again: the rest of a long ramp would change nothing.
    fn is_hopeless(&self) -> bool {
        self.total.opened == 0 && !self.plan.reconnect && self.total.failed_count() >= HOPELESS_FROM
    }

    /// # Errors
    /// [`BenchError::NoClient`] when every connection failed.
    pub(crate) fn some_connected(&mut self) -> Result<(), BenchError> {
        self.collect();
        if self.total.opened + self.second.opened > 0 || self.is_over() {
            return Ok(());
        }
        let failed = self.total.failed.iter().chain(&self.second.failed);
        let why = failed.max_by_key(|(_, failure)| failure.count);
        let (said, advice) = why.map_or_else(
            || ("no answer".to_owned(), String::new()),
            |(kind, failure)| (failure.example.clone(), advice(kind, &failure.example, self.plan)),
        );
        Err(BenchError::NoClient { said, advice })
    }

    /// Leaves the server alone for a while, so that it is seen at rest.
    pub(crate) fn settle(&mut self) {
        self.wait(Phase::Resting, Instant::now() + self.plan.settle);
    }

    /// Starts the schedule, a little ahead so that every client learns of it in time.
    pub(crate) fn start(&mut self) -> Instant {
        let at = self.fleet.start();
        self.started = Some(at);
        at
    }

    /// Waits through a phase, unless the user, the server or the death of a process of the load ends it.
    pub(crate) fn wait(&mut self, phase: Phase, until: Instant) {
        let begun = Instant::now();
        let planned = Some(until.saturating_duration_since(begun));
        loop {
            let now = Instant::now();
            if now >= until || !self.is_going_on() {
                return self.end_phase(phase, begun, planned);
            }
            std::thread::sleep(TICK.min(until - now));
            self.look_up(phase, begun, planned);
        }
    }

    /// The user or a limit has ended it, or a part of the load is lost.
    fn is_over(&self) -> bool {
        self.interrupted || self.stopped.is_some() || self.fleet.lost().is_some()
    }

    /// Nothing has ended it, and somebody is connected or will be again.
    fn is_going_on(&self) -> bool {
        !self.is_over() && (self.census.open > 0 || self.plan.reconnect)
    }

    /// Sends no more than what was due, and waits for the answers that are still to come.
    pub(crate) fn drain(&mut self) {
        let begun = Instant::now();
        let due = self.plan.pace().offered(Duration::ZERO, self.plan.until());
        while due.is_some_and(|due| self.counts().sent < due)
            && begun.elapsed() < LAST_SENDS_MAX
            && self.is_going_on()
        {
            std::thread::sleep(self.fleet.tick());
            self.census = self.fleet.census();
        }
        let usual = self.usual_latency();
        self.fleet.end(usual);
        self.ended = self.scheduled(Instant::now());
        let until = begun + DRAIN_MAX.max(self.plan.latency_limit);
        while self.counts().waiting() > 0 && Instant::now() < until && !self.is_over() {
            std::thread::sleep(self.fleet.tick());
            self.look_up(Phase::Draining, begun, None);
        }
    }

    /// Who cuts a load short does not wait for the last answers: how long those messages had waited by then tells something
    /// only of a server that had become slower than before. The p99 latency until now.
    fn usual_latency(&mut self) -> Duration {
        if !self.is_over() {
            return Duration::ZERO;
        }
        self.collect();
        let mut corrected = self.total.measured.latency.corrected.clone();
        corrected.add(&self.second.measured.latency.corrected);
        corrected.quantile(0.99)
    }

    /// Everything at this moment.
    pub(crate) fn mark(&mut self) -> Result<Mark, BenchError> {
        self.census = self.fleet.census();
        let opened = [&self.total, &self.second].map(|tally| tally.opened + tally.reconnected);
        self.watch.mark(self.counts().sent, opened.iter().sum())
    }

    /// Whether it has come to the measured part.
    pub(crate) fn is_measured(&self) -> bool {
        self.scheduled(Instant::now()) > self.plan.warmup
    }

    /// Connections that were open at the last look.
    pub(crate) fn open(&self) -> u32 {
        self.census.open
    }

    /// Closes all connections and sums up.
    pub(crate) fn finish(mut self, marks: &Marks, connect_time: Duration) -> Outcome {
        self.census = self.fleet.census();
        let (peak_open, processes) = (self.fleet.peak_open(), self.fleet.processes());
        self.fleet.close(&mut self.second);
        self.sample(Phase::Draining);
        let mut outcome = outcome(self.plan, &self.total, marks, self.ended);
        outcome.provenance = self.provenance;
        outcome.timeline = self.timeline.into_samples();
        outcome.connections.peak_open = peak_open;
        outcome.connections.connect_seconds = connect_time.as_secs_f64();
        outcome.generator = marks.generator(self.plan, processes, self.total.opened);
        outcome.server = self.watch.server_use(marks);
        (outcome.verdict.interrupted, outcome.verdict.stopped) = (self.interrupted, self.stopped);
        outcome.verdict.broken = self.fleet.lost().map(ToString::to_string);
        outcome.verdict.tolerated = self.plan.stop.tolerates(&self.total);
        let is_cut = outcome.verdict.is_cut();
        outcome.verdict = judge(&outcome, self.plan.latency_limit);
        let problems = &mut outcome.verdict.problems;
        match self.watch.lost() {
            // That explains the others.
            Some(ProcessError::Gone { pid }) => {
                problems.insert(0, format!("the server's process {pid} ended under the load"));
            }
            Some(lost) => problems.push(format!("the server could not be measured to the end: {lost}")),
            None => {}
        }
        let (ended, planned) = (self.ended.as_secs_f64(), self.plan.until().as_secs_f64());
        if self.ended < self.plan.until() && !is_cut {
            problems.push(format!("no client was left after {ended:.1} of {planned:.1} s"));
        }
        outcome
    }

    /// Looks how the clients stand, asks the user, and once a second tells of the progress.
    fn look_up(&mut self, phase: Phase, begun: Instant, planned: Option<Duration>) {
        self.fleet.tend();
        self.census = self.fleet.census();
        self.interrupted |= self.observer.stopped();
        if self.sampled.elapsed() >= SAMPLE_EVERY {
            self.tell(phase, begun, planned);
        }
    }

    /// A sample ends with its phase.
    fn end_phase(&mut self, phase: Phase, begun: Instant, planned: Option<Duration>) {
        if self.sampled.elapsed() >= SAMPLE_MIN {
            self.tell(phase, begun, planned);
        }
    }

    fn tell(&mut self, phase: Phase, begun: Instant, planned: Option<Duration>) {
        self.collect();
        let sample = self.sample(phase);
        let overdue = self.overdue.look(self.sampled, self.total.measured.counts);
        if self.stopped.is_none() {
            self.stopped = self.plan.stop.passed(&self.total, self.plan.clients, overdue);
        }
        let corrected = &self.total.measured.latency.corrected;
        let progress = Progress {
            phase,
            elapsed: begun.elapsed(),
            planned,
            clients: self.plan.clients,
            failed: self.total.failed_count(),
            sent: self.total.counts().sent,
            latency: (corrected.count() > 0).then(|| (corrected.quantile(0.5), corrected.quantile(0.99))),
            sample,
        };
        self.observer.progress(&progress);
    }

    /// Takes what the clients counted.
    fn collect(&mut self) {
        self.fleet.collect(&mut self.second);
        self.census.counts = Counts::default();
    }

    /// Messages so far, those too that are not yet collected.
    fn counts(&self) -> Counts {
        let mut sum = self.total.counts();
        sum.add(&self.second.counts());
        sum.add(&self.census.counts);
        sum
    }

    /// Ends the second that was under way.
    fn sample(&mut self, phase: Phase) -> Sample {
        let now = Instant::now();
        let usage = self.watch.poll();
        let mut sample = Sample {
            at_seconds: (now - self.begun).as_secs_f64(),
            length_seconds: (now - self.sampled).as_secs_f64(),
            phase,
            clients: ClientCounts {
                open: self.census.open,
                connecting: self.census.connecting,
                ..ClientCounts::default()
            },
            generator: usage.generator,
            server: usage.server,
            kernel_socket_bytes: usage.kernel_socket_bytes,
            ..Sample::default()
        };
        sample.count(&self.second);
        sample.offered = self
            .plan
            .pace()
            .offered(self.scheduled(self.sampled), self.scheduled(now))
            .unwrap_or_else(|| self.second.counts().offered());
        sample.generator.saturated = is_saturated(&sample, self.plan.latency_limit);
        self.total.add(&self.second);
        self.second.reset();
        self.timeline.push(sample.clone());
        self.sampled = now;
        sample
    }

    /// The schedule's time at `at`: zero before it starts, and when it has ended its end.
    fn scheduled(&self, at: Instant) -> Duration {
        let started = self.started.map_or(Duration::ZERO, |start| at.saturating_duration_since(start));
        started.min(self.ended)
    }
}

/// What was found, but for what only the conductor knows.
fn outcome(plan: &Plan, tally: &Tally, marks: &Marks, ended: Duration) -> Outcome {
    let measured = &tally.measured;
    let corrected = measured.latency.corrected.summary();
    Outcome {
        provenance: Provenance::default(),
        url: redact::url(&plan.url),
        probe: plan.probe,
        probe_one_in: plan.one_probed_in(),
        payload_kind: plan.payload.kind(),
        payload_bytes: if plan.probe == Probe::Idle { 0 } else { plan.payload.len() },
        model: plan.model,
        interval_seconds: plan.interval.as_secs_f64(),
        tick_seconds: plan.tick.as_secs_f64(),
        measured_seconds: measured_time(plan, ended).as_secs_f64(),
        connections: Connections {
            clients: plan.clients,
            opened: tally.opened,
            reconnected: tally.reconnected,
            resumed: (plan.tls.resume > 0.0).then_some(tally.resumed),
            failed: tally.failed.clone(),
            disconnected: tally.disconnected.clone(),
            handshake_us: tally.handshakes.summary(),
            ..Connections::default()
        },
        messages: messages(plan, tally, ended),
        compressed: plan.handshake.compression.map(|_| tally.compressed),
        counted: None,
        closed_loop: closed_loop(plan, tally, ended),
        latency_us: corrected.map(|corrected| LatencySummary {
            corrected,
            uncorrected: measured.latency.uncorrected.summary(),
        }),
        latency_curve: measured.latency.curve(),
        latency_limit_seconds: plan.latency_limit.as_secs_f64(),
        schedule_lag_us: measured.lag.summary(),
        generator: Generator::default(),
        machine: marks.end.machine.since(&marks.begin.machine),
        other_programs: marks.other_programs(),
        server: None,
        kernel: KernelUse {
            idle: marks.idle.sockets,
            connected: marks.connected.sockets,
            loaded: marks.end.sockets,
            listen_overflows: marks.connected.listen_overflows.saturating_sub(marks.idle.listen_overflows),
        },
        timeline: Vec::new(),
        verdict: Verdict::default(),
    }
}

/// How much of the schedule was measured, if it ended at this time. Messages that were due in it are the measured ones.
fn measured_time(plan: &Plan, ended: Duration) -> Duration {
    ended.saturating_sub(plan.warmup)
}

/// What Little's law says of a closed loop that ended at this time of its schedule, if something was answered.
fn closed_loop(plan: &Plan, tally: &Tally, ended: Duration) -> Option<ClosedLoop> {
    let measured = Some(measured_time(plan, ended)).filter(|measured| !measured.is_zero())?;
    let service = tally.measured.latency.uncorrected.summary()?;
    let answered = tally.measured.counts.answered as f64;
    let busy_seconds = answered * (service.mean / 1e6 + plan.interval.as_secs_f64());
    let client_seconds = f64::from(tally.opened) * measured.as_secs_f64();
    (plan.model == Model::Closed).then(|| ClosedLoop {
        cycles: answered / f64::from(tally.opened),
        clients_by_littles_law: busy_seconds / measured.as_secs_f64(),
        accounted: busy_seconds / client_seconds,
    })
}

fn messages(plan: &Plan, tally: &Tally, ended: Duration) -> Messages {
    let (counts, in_all) = (&tally.measured.counts, tally.counts());
    let offered = plan.pace().offered(plan.warmup, ended).unwrap_or_else(|| counts.offered());
    let is_echo = plan.probe == Probe::Echo;
    Messages {
        offered,
        sent: counts.sent,
        bytes: counts.bytes,
        refused: counts.refused,
        awaited: counts.awaited,
        answered: counts.answered,
        unanswered: counts.unanswered,
        lost: if is_echo { in_all.unanswered } else { 0 },
        reordered: in_all.reordered,
        corrupt: in_all.corrupt,
        // What idle clients send is pings.
        sent_in_all: if plan.probe == Probe::Idle { 0 } else { in_all.sent },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_in_all_are_of_warm_up_too_and_no_pings() {
        let mut tally = Tally::default();
        (tally.warmup.counts.sent, tally.measured.counts.sent) = (3, 4);
        for (probe, in_all) in [(Probe::Ping, 7), (Probe::Idle, 0)] {
            let plan = Plan { probe, ..Plan::new("ws://127.0.0.1:9") };
            let messages = messages(&plan, &tally, plan.until());
            assert_eq!((messages.sent, messages.sent_in_all), (4, in_all), "{probe:?}");
        }
    }

    #[test]
    fn what_was_due_is_told_by_the_time_that_the_load_had() {
        let plan = Plan { warmup: Duration::from_secs(2), ..Plan::new("ws://127.0.0.1:9") };
        let had = |ended| {
            let ended = Duration::from_millis(ended);
            (messages(&plan, &Tally::default(), ended).offered, measured_time(&plan, ended).as_millis())
        };
        assert_eq!([had(1500), had(2500), had(32_000)], [(0, 0), (50, 500), (3000, 30_000)]);
    }

    #[test]
    fn a_closed_loop_is_accounted_for_by_the_time_that_it_had() {
        let plan = Plan {
            model: Model::Closed,
            interval: Duration::from_millis(90),
            warmup: Duration::from_secs(1),
            duration: Duration::from_secs(100),
            ..Plan::new("ws://127.0.0.1:9")
        };
        // Ten clients, each with ten rounds of 100 ms a second, for four seconds.
        let mut tally = Tally { opened: 10, ..Tally::default() };
        tally.measured.counts.answered = 400;
        (0..400).for_each(|_| tally.measured.latency.uncorrected.record(Duration::from_millis(10)));
        let closed = closed_loop(&plan, &tally, Duration::from_secs(5)).unwrap();
        assert!((closed.accounted - 1.0).abs() < 0.01, "{closed:?}");
        assert!((closed.clients_by_littles_law - 10.0).abs() < 0.1, "{closed:?}");
        assert_eq!(closed_loop(&plan, &tally, Duration::from_secs(1)), None);
        assert_eq!(closed_loop(&plan, &tally, Duration::ZERO), None);
    }
}
