//! Leads the event loops of a load through its phases.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use webscale::{Client, ConnectError, Limits, SlowConsumer};

use super::BenchError;
use super::client::{Clients, START_POLL, Session, Shared};
use super::outcome::{
    Connections, KernelUse, LatencySummary, Messages, Outcome, Verdict, is_saturated, judge,
};
use super::plan::{Plan, Prepared};
use super::tally::{Counts, Tally, advice};
use super::timeline::{ClientCounts, Sample, Timeline};
use super::watch::{Mark, Marks, Watch};
use crate::observe::{Observer, Phase, Progress};
use crate::schedule::{Schedule, connect_at};

/// Handshakes under way at the same time, at most: a server's backlog is finite.
const CONNECTING_MAX: u32 = 256;
/// How often the conductor looks up while it waits.
const TICK: Duration = Duration::from_millis(20);
/// The same while connections are to be started.
const CONNECT_TICK: Duration = Duration::from_millis(1);
/// How often the loops' counts are collected, and progress is told.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// A phase that ends earlier after the last sample is part of the next one.
const SAMPLE_MIN: Duration = Duration::from_millis(100);
/// How long messages that were due in the last moments may still be sent, late as they are.
const LAST_SENDS_MAX: Duration = Duration::from_millis(500);
/// How long answers may still come after the last message.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Messages larger than this get room of their own in the limits.
const USUAL_MESSAGE_BYTES: usize = 1024 * 1024;

/// One event loop and what its clients count.
struct EventLoop {
    client: Client<Clients>,
    clients: Clients,
}

/// Leads the event loops through the phases.
pub(crate) struct Conductor<'a> {
    plan: &'a Plan,
    shared: Arc<Shared>,
    loops: Vec<EventLoop>,
    watch: Watch,
    observer: &'a mut dyn Observer,
    /// Handshakes under way.
    connecting: u32,
    /// What was collected from the loops so far.
    total: Tally,
    timeline: Timeline,
    /// When the first connection was begun.
    begun: Instant,
    /// When the last sample ended.
    sampled: Instant,
    interrupted: bool,
}

impl<'a> Conductor<'a> {
    /// Starts the event loops; nothing is connected yet.
    pub(crate) fn new(plan: &'a Plan, observer: &'a mut dyn Observer) -> Result<Conductor<'a>, BenchError> {
        let watch = Watch::new(plan.pid)?;
        let shared = Arc::new(Shared {
            schedule: Schedule::new(plan.clients, plan.interval),
            payload: plan.payload.clone(),
            probe: plan.probe,
            one_probed_in: plan.one_probed_in(),
            measured_from: plan.warmup,
            until: plan.warmup + plan.duration,
            start: OnceLock::new(),
            ended: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            open: AtomicU32::new(0),
            peak_open: AtomicU32::new(0),
            settled: AtomicU32::new(0),
        });
        let loops = plan.loops.iter().map(|cpu| start_loop(&shared, *cpu)).collect::<Result<_, _>>()?;
        let (total, timeline, now) = (Tally::default(), Timeline::new(), Instant::now());
        let (begun, sampled, interrupted) = (now, now, false);
        Ok(Conductor {
            plan,
            shared,
            loops,
            watch,
            observer,
            connecting: 0,
            total,
            timeline,
            begun,
            sampled,
            interrupted,
        })
    }

    /// Opens all connections over the ramp, and waits until each is open or has failed.
    pub(crate) fn connect(&mut self, prepared: &Prepared) -> Result<(), BenchError> {
        let begun = Instant::now();
        (self.begun, self.sampled) = (begun, begun);
        self.watch.poll();
        let (count, ramp) = (self.plan.clients, self.plan.ramp);
        let mut next = 0;
        while self.settled() < count && !self.interrupted {
            self.connecting = next - self.settled();
            let is_due = next < count && begun.elapsed() >= connect_at(next, count, ramp);
            if is_due && self.connecting < CONNECTING_MAX && self.begin_connection(next, prepared)? {
                next += 1;
                continue;
            }
            std::thread::sleep(CONNECT_TICK);
            self.look_up(Phase::Connecting, begun, None);
        }
        self.connecting = next - self.settled();
        self.end_phase(Phase::Connecting, begun, None);
        Ok(())
    }

    /// Whether the loop had room for one more.
    fn begin_connection(&self, index: u32, prepared: &Prepared) -> Result<bool, BenchError> {
        let event_loop = &self.loops[index as usize % self.loops.len()];
        let source: Option<IpAddr> = match prepared.sources.len() {
            0 => None,
            sources => Some(prepared.sources[index as usize % sources]),
        };
        match event_loop.client.connect(&prepared.target, source, Session::new(index, &self.shared)) {
            Ok(()) => Ok(true),
            Err(ConnectError::Busy(_)) => Ok(false),
            Err(error) => Err(BenchError::Loop(error.to_string())),
        }
    }

    /// # Errors
    /// [`BenchError::NoClient`] when every connection failed.
    pub(crate) fn some_connected(&self) -> Result<(), BenchError> {
        let mut tally = Tally::default();
        self.loops.iter().for_each(|event_loop| tally.add(&event_loop.clients.tally()));
        tally.add(&self.total);
        if tally.opened > 0 || self.interrupted {
            return Ok(());
        }
        let why = tally.failed.iter().max_by_key(|(_, failure)| failure.count);
        Err(BenchError::NoClient(why.map_or_else(
            || "no answer".into(),
            |(kind, failure)| format!("{}{}", failure.example, advice(kind, &self.plan.url)),
        )))
    }

    /// Leaves the server alone for a while, so that it is seen at rest.
    pub(crate) fn settle(&mut self) {
        let begun = Instant::now();
        self.wait_until(Phase::Resting, begun, begun + self.plan.settle);
    }

    /// Starts the schedule, a little ahead so that every client learns of it in time.
    pub(crate) fn start(&self) -> Instant {
        *self.shared.start.get_or_init(|| Instant::now() + 2 * START_POLL)
    }

    /// Waits through a phase, unless the user or the server ends it.
    pub(crate) fn wait(&mut self, phase: Phase, until: Instant) {
        let begun = Instant::now();
        self.wait_until(phase, begun, until);
    }

    fn wait_until(&mut self, phase: Phase, begun: Instant, until: Instant) {
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

    /// The user has not stopped it, and somebody is connected.
    fn is_going_on(&self) -> bool {
        !self.interrupted && self.shared.open.load(Ordering::Relaxed) > 0
    }

    /// Sends no more than what was due, and waits for the answers that are still to come.
    pub(crate) fn drain(&mut self) {
        let begun = Instant::now();
        let due = self.shared.schedule.offered(Duration::ZERO, self.shared.until);
        while self.counts().sent < due && begun.elapsed() < LAST_SENDS_MAX && self.is_going_on() {
            std::thread::sleep(CONNECT_TICK);
        }
        self.shared.ended.store(true, Ordering::Relaxed);
        let until = begun + DRAIN_MAX.max(self.plan.latency_limit);
        while self.counts().waiting() > 0 && Instant::now() < until && !self.interrupted {
            std::thread::sleep(TICK);
            self.look_up(Phase::Draining, begun, None);
        }
    }

    /// Everything at this moment.
    pub(crate) fn mark(&mut self) -> Result<Mark, BenchError> {
        let sent = self.counts().sent;
        self.watch.mark(sent)
    }

    /// Closes all connections and sums up.
    ///
    /// # Errors
    /// When an event loop had failed.
    pub(crate) fn finish(mut self, marks: &Marks, connect_time: Duration) -> Result<Outcome, BenchError> {
        self.shared.closing.store(true, Ordering::Relaxed);
        let loops = std::mem::take(&mut self.loops);
        loops.iter().for_each(|event_loop| event_loop.client.handle().shutdown());
        let mut rest = Tally::default();
        for EventLoop { client, clients } in loops {
            client.shutdown().map_err(|error| BenchError::Loop(error.to_string()))?;
            rest.add(&clients.tally());
        }
        self.sample(Phase::Draining, &rest);
        let timeline = std::mem::replace(&mut self.timeline, Timeline::new()).into_samples();
        let mut outcome = self.outcome(timeline, marks, connect_time);
        outcome.verdict = judge(&outcome, self.plan.latency_limit);
        if let Some(lost) = self.watch.lost() {
            outcome.verdict.problems.push(format!("the server could not be measured to the end: {lost}"));
        }
        Ok(outcome)
    }

    fn outcome(&self, timeline: Vec<Sample>, marks: &Marks, connect_time: Duration) -> Outcome {
        let (plan, shared, tally) = (self.plan, &*self.shared, &self.total);
        let measured = &tally.measured;
        let corrected = measured.latency.corrected.summary();
        Outcome {
            url: plan.url.clone(),
            probe: plan.probe,
            probe_one_in: shared.one_probed_in,
            payload_kind: plan.payload.kind(),
            payload_bytes: plan.payload.len(),
            interval_seconds: plan.interval.as_secs_f64(),
            measured_seconds: marks.measured().as_secs_f64(),
            connections: Connections {
                clients: plan.clients,
                opened: tally.opened,
                failed: tally.failed.clone(),
                peak_open: shared.peak_open.load(Ordering::Relaxed),
                disconnected: tally.disconnected.clone(),
                connect_seconds: connect_time.as_secs_f64(),
                handshake_us: tally.handshakes.summary(),
            },
            messages: messages(tally, shared.schedule.offered(shared.measured_from, shared.until)),
            latency_us: corrected.map(|corrected| LatencySummary {
                corrected,
                uncorrected: measured.latency.uncorrected.summary(),
            }),
            schedule_lag_us: measured.lag.summary(),
            generator: marks.generator(),
            machine: marks.end.machine.since(&marks.begin.machine),
            other_programs: marks.other_programs(),
            server: self.watch.server_use(marks, tally.opened),
            kernel: KernelUse {
                idle: marks.idle.sockets,
                connected: marks.connected.sockets,
                loaded: marks.end.sockets,
            },
            timeline,
            verdict: Verdict { interrupted: self.interrupted, ..Verdict::default() },
        }
    }

    /// Asks the user, and once a second collects what the loops counted and tells of it.
    fn look_up(&mut self, phase: Phase, begun: Instant, planned: Option<Duration>) {
        self.interrupted |= self.observer.stopped();
        if self.sampled.elapsed() >= SAMPLE_EVERY {
            self.collect(phase, begun, planned);
        }
    }

    /// A sample ends with its phase.
    fn end_phase(&mut self, phase: Phase, begun: Instant, planned: Option<Duration>) {
        if self.sampled.elapsed() >= SAMPLE_MIN {
            self.collect(phase, begun, planned);
        }
    }

    fn collect(&mut self, phase: Phase, begun: Instant, planned: Option<Duration>) {
        let mut tally = Tally::default();
        self.loops.iter().for_each(|event_loop| tally.add(&event_loop.clients.take_tally()));
        let sample = self.sample(phase, &tally);
        let corrected = &self.total.measured.latency.corrected;
        let progress = Progress {
            phase,
            elapsed: begun.elapsed(),
            planned,
            clients: self.plan.clients,
            failed: self.total.failed.values().map(|failure| failure.count).sum(),
            sent: self.total.counts().sent,
            latency: (corrected.count() > 0).then(|| (corrected.quantile(0.5), corrected.quantile(0.99))),
            sample,
        };
        self.observer.progress(&progress);
    }

    /// Adds `tally`, which was counted since the last sample, to what is known.
    fn sample(&mut self, phase: Phase, tally: &Tally) -> Sample {
        let (shared, now) = (&*self.shared, Instant::now());
        let since_start = |at: Instant| {
            let start = shared.start.get().copied().unwrap_or(at);
            at.saturating_duration_since(start).min(shared.until)
        };
        let usage = self.watch.poll();
        let mut sample = Sample {
            at_seconds: (now - self.begun).as_secs_f64(),
            length_seconds: (now - self.sampled).as_secs_f64(),
            phase,
            clients: ClientCounts {
                open: shared.open.load(Ordering::Relaxed),
                connecting: self.connecting,
                ..ClientCounts::default()
            },
            offered: shared.schedule.offered(since_start(self.sampled), since_start(now)),
            generator: usage.generator,
            server: usage.server,
            kernel_socket_bytes: usage.kernel_socket_bytes,
            ..Sample::default()
        };
        sample.count(tally);
        sample.generator.saturated = is_saturated(&sample, self.plan.latency_limit);
        self.total.add(tally);
        self.timeline.push(sample.clone());
        self.sampled = now;
        sample
    }

    fn settled(&self) -> u32 {
        self.shared.settled.load(Ordering::Acquire)
    }

    /// Messages so far, those too that are not yet collected.
    fn counts(&self) -> Counts {
        let mut sum = self.total.counts();
        self.loops.iter().for_each(|event_loop| sum.add(&event_loop.clients.tally().counts()));
        sum
    }
}

fn start_loop(shared: &Arc<Shared>, cpu: Option<usize>) -> Result<EventLoop, BenchError> {
    let message_bytes = USUAL_MESSAGE_BYTES.max(shared.payload.len());
    let limits = Limits {
        message_bytes,
        // Room for some messages of the largest kind. What does not fit is counted, and the client goes on.
        egress_bytes: 4 * message_bytes,
        slow_consumer: SlowConsumer::Drop,
        // A ping of the library's own would be a message that is not in the plan.
        ping_after: Duration::from_secs(24 * 60 * 60),
        ..Limits::default()
    };
    let clients = Clients::new(Arc::clone(shared));
    let builder = Client::builder().limits(limits);
    let builder = match cpu {
        Some(cpu) => builder.cpu(cpu),
        None => builder,
    };
    let client = builder.build(clients.clone()).map_err(|error| BenchError::Loop(error.to_string()))?;
    Ok(EventLoop { client, clients })
}

fn messages(tally: &Tally, offered: u64) -> Messages {
    let (counts, in_all) = (&tally.measured.counts, tally.counts());
    Messages {
        offered,
        sent: counts.sent,
        refused: counts.refused,
        awaited: counts.awaited,
        answered: counts.answered,
        unanswered: counts.unanswered,
        reordered: in_all.reordered,
        corrupt: in_all.corrupt,
        sent_in_all: in_all.sent,
    }
}
