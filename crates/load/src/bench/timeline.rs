//! A load second by second.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::histogram::Times;
use crate::observe::Phase;

use super::tally::Tally;

/// More samples than this are not kept: then each two become one.
const SAMPLES_MAX: usize = 3600;

/// A sample that is shorter is part of the one before: its rates would say nothing.
const LENGTH_MIN_SECONDS: f64 = 0.1;

/// What happened in one second of a load, or in several of them where a load is long.
///
/// Counts are of this time alone; what stands (clients, memory) is as of its end.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Sample {
    /// Its end, in seconds since the first connection was begun.
    pub at_seconds: f64,
    /// Its length in seconds.
    pub length_seconds: f64,
    /// What the load was doing at its end.
    pub phase: Phase,
    /// Connections.
    pub clients: ClientCounts,
    /// Messages that were due, by the schedule.
    pub offered: u64,
    /// Messages that were sent.
    pub sent: u64,
    /// Answers that came.
    pub answered: u64,
    /// What went wrong, by kind: of connections `failed: KIND` and `closed: CODE`, of messages `refused`,
    /// `unanswered`, `reordered`, `corrupt`.
    pub errors: BTreeMap<String, u64>,
    /// Latency of the answers that came; none when none came.
    pub latency_us: Option<SampleLatency>,
    /// How late messages were sent after they were due, p99 in µs; none when nothing was sent.
    pub lag_p99_us: Option<f64>,
    /// What the load itself took.
    pub generator: GeneratorSample,
    /// The server's processes, where they are measured.
    pub server: Option<ServerSample>,
    /// Buffers and slab caches of the machine's sockets, in bytes; none where it was not time to read it.
    pub kernel_socket_bytes: Option<u64>,
}

/// Connections of a sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ClientCounts {
    /// Open at the end.
    pub open: u32,
    /// Begun and not settled at the end.
    pub connecting: u32,
    /// Could not be opened, in this time.
    pub failed: u64,
    /// Ended while they were needed, in this time.
    pub disconnected: u64,
}

/// Latency of a sample in µs. Where seconds were joined, each percentile is the highest of theirs; a shorter rest adds its
/// highest value alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SampleLatency {
    /// From when the message was due.
    pub corrected: Points,
    /// From when it was sent; none where nothing was answered, and only given up.
    pub uncorrected: Option<Points>,
}

/// Some percentiles, in µs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names are the percentiles")]
pub struct Points {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

/// What the load took in a sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct GeneratorSample {
    /// All its threads, in processors.
    pub cpu_share: f64,
    /// The busiest of them, as a share of one processor.
    pub busiest_thread: f64,
    /// It was too busy or too late for the latencies to be the server's.
    pub saturated: bool,
}

/// What the server took in a sample.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ServerSample {
    /// All its threads, in processors.
    pub cpu_share: f64,
    /// Its busiest threads, the first the busiest.
    pub threads: Vec<ThreadShare>,
    /// Memory; none where it was not time to read it.
    pub pss_bytes: Option<u64>,
    /// Open descriptors; none where it was not time to read it.
    pub descriptors: Option<usize>,
    /// Context switches a second; none where it was not time to read them.
    pub switches_per_second: Option<f64>,
}

/// One thread's share of one processor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ThreadShare {
    /// Its id.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// Share of one processor.
    pub share: f64,
}

impl Sample {
    /// Messages due a second.
    pub fn offered_rate(&self) -> f64 {
        self.offered as f64 / self.length_seconds
    }

    /// Messages sent a second.
    pub fn sent_rate(&self) -> f64 {
        self.sent as f64 / self.length_seconds
    }

    /// Everything that went wrong in this time.
    pub(crate) fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Takes over what the loops counted in this time.
    pub(crate) fn count(&mut self, tally: &Tally) {
        let counts = tally.counts();
        (self.sent, self.answered) = (counts.sent, counts.answered);
        self.clients.failed = tally.failed_count();
        self.clients.disconnected = tally.disconnected_count();
        let Tally { warmup, measured, .. } = tally;
        let corrected = Times::both(&warmup.latency.corrected, &measured.latency.corrected);
        let uncorrected = Times::both(&warmup.latency.uncorrected, &measured.latency.uncorrected);
        let lag = Times::both(&warmup.lag, &measured.lag);
        self.latency_us = Points::of(&corrected)
            .map(|corrected| SampleLatency { corrected, uncorrected: Points::of(&uncorrected) });
        self.lag_p99_us = lag.summary().map(|lag| lag.p99);
        let messages = [
            ("refused", counts.refused),
            ("unanswered", counts.unanswered),
            ("reordered", counts.reordered),
            ("corrupt", counts.corrupt),
        ];
        let messages = messages.into_iter().map(|(kind, count)| (kind.to_owned(), count));
        let failed = tally.failed.iter().map(|(kind, failure)| (format!("failed: {kind}"), failure.count));
        let closed =
            tally.disconnected.iter().map(|(code, failure)| (format!("closed: {code}"), failure.count));
        self.errors = messages.chain(failed).chain(closed).filter(|(_, count)| *count > 0).collect();
    }

    /// This and the `later` one, which follows at once, as a single sample.
    #[must_use]
    pub fn join(&self, later: &Sample) -> Sample {
        let weights = (self.length_seconds, later.length_seconds);
        let mut errors = self.errors.clone();
        for (kind, count) in &later.errors {
            *errors.entry(kind.clone()).or_default() += count;
        }
        Sample {
            at_seconds: later.at_seconds,
            length_seconds: weights.0 + weights.1,
            phase: later.phase,
            clients: ClientCounts {
                failed: self.clients.failed + later.clients.failed,
                disconnected: self.clients.disconnected + later.clients.disconnected,
                ..later.clients
            },
            offered: self.offered + later.offered,
            sent: self.sent + later.sent,
            answered: self.answered + later.answered,
            errors,
            latency_us: either(self.latency_us, later.latency_us, SampleLatency::highest),
            lag_p99_us: either(self.lag_p99_us, later.lag_p99_us, f64::max),
            generator: GeneratorSample {
                cpu_share: mean(weights, self.generator.cpu_share, later.generator.cpu_share),
                busiest_thread: self.generator.busiest_thread.max(later.generator.busiest_thread),
                saturated: self.generator.saturated || later.generator.saturated,
            },
            server: either(self.server.clone(), later.server.clone(), |one, other| one.join(other, weights)),
            kernel_socket_bytes: later.kernel_socket_bytes.or(self.kernel_socket_bytes),
        }
    }

    /// The same with what is left of a phase. In so short a time a few messages would be its percentiles, and a moment of
    /// work a busy thread: those of the longer part stand, with the highest value of both.
    fn join_rest(&self, rest: &Sample) -> Sample {
        let longer = if self.length_seconds < rest.length_seconds { rest } else { self };
        let joined = self.join(rest);
        Sample {
            phase: self.phase,
            latency_us: either(longer.latency_us, joined.latency_us, SampleLatency::with_max_of),
            lag_p99_us: longer.lag_p99_us.or(joined.lag_p99_us),
            generator: GeneratorSample {
                busiest_thread: longer.generator.busiest_thread,
                ..joined.generator
            },
            ..joined
        }
    }
}

impl Points {
    fn of(times: &Times) -> Option<Points> {
        let us = |quantile| times.quantile(quantile).as_secs_f64() * 1e6;
        (times.count() > 0).then(|| Points { p50: us(0.5), p90: us(0.9), p99: us(0.99), max: us(1.0) })
    }

    fn highest(self, other: Points) -> Points {
        Points {
            p50: self.p50.max(other.p50),
            p90: self.p90.max(other.p90),
            p99: self.p99.max(other.p99),
            max: self.max.max(other.max),
        }
    }
}

impl SampleLatency {
    fn with_max_of(self, other: SampleLatency) -> SampleLatency {
        let with = |own: Points, other: Points| Points { max: own.max.max(other.max), ..own };
        SampleLatency {
            corrected: with(self.corrected, other.corrected),
            uncorrected: either(self.uncorrected, other.uncorrected, with),
        }
    }

    fn highest(self, other: SampleLatency) -> SampleLatency {
        SampleLatency {
            corrected: self.corrected.highest(other.corrected),
            uncorrected: either(self.uncorrected, other.uncorrected, Points::highest),
        }
    }
}

impl ServerSample {
    fn join(self, later: ServerSample, weights: (f64, f64)) -> ServerSample {
        let switches = (self.switches_per_second, later.switches_per_second);
        ServerSample {
            cpu_share: mean(weights, self.cpu_share, later.cpu_share),
            threads: join_threads(self.threads, later.threads, weights),
            pss_bytes: later.pss_bytes.or(self.pss_bytes),
            descriptors: later.descriptors.or(self.descriptors),
            switches_per_second: either(switches.0, switches.1, |one, other| mean(weights, one, other)),
        }
    }
}

/// A thread that is not among the busiest counts as idle.
fn join_threads(earlier: Vec<ThreadShare>, later: Vec<ThreadShare>, weights: (f64, f64)) -> Vec<ThreadShare> {
    let mut joined: BTreeMap<u32, ThreadShare> = BTreeMap::new();
    for (threads, weights) in [(earlier, (weights.0, weights.1)), (later, (weights.1, weights.0))] {
        for thread in threads {
            let share = mean(weights, thread.share, 0.0);
            joined
                .entry(thread.tid)
                .and_modify(|known| known.share += share)
                .or_insert(ThreadShare { share, ..thread });
        }
    }
    busiest(joined.into_values().collect())
}

/// The threads that a sample keeps: those that do something, the busiest first.
pub(crate) fn busiest(mut threads: Vec<ThreadShare>) -> Vec<ThreadShare> {
    const THREADS_MAX: usize = 16;
    const SHARE_MIN: f64 = 0.001;
    threads.retain(|thread| thread.share >= SHARE_MIN);
    threads.sort_by(|one, other| other.share.total_cmp(&one.share));
    threads.truncate(THREADS_MAX);
    threads
}

fn either<T>(one: Option<T>, other: Option<T>, both: impl FnOnce(T, T) -> T) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(both(one, other)),
        (one, other) => one.or(other),
    }
}

fn mean(weights: (f64, f64), one: f64, other: f64) -> f64 {
    (one * weights.0 + other * weights.1) / (weights.0 + weights.1)
}

/// The samples of a load, however long it is.
#[derive(Debug)]
pub(crate) struct Timeline {
    samples: Vec<Sample>,
    /// So many seconds become one sample.
    seconds_each: u32,
    /// How many are in the last one.
    in_last: u32,
    most: usize,
}

impl Timeline {
    pub(crate) fn new() -> Timeline {
        Timeline { samples: Vec::new(), seconds_each: 1, in_last: 1, most: SAMPLES_MAX }
    }

    /// Adds the next second.
    pub(crate) fn push(&mut self, sample: Sample) {
        match self.samples.last_mut() {
            Some(last) if sample.length_seconds < LENGTH_MIN_SECONDS => {
                *last = last.join_rest(&sample);
            }
            Some(last) if self.in_last < self.seconds_each && last.phase == sample.phase => {
                *last = last.join(&sample);
                self.in_last += 1;
            }
            _ => {
                self.samples.push(sample);
                self.in_last = 1;
            }
        }
        if self.samples.len() > self.most {
            self.samples = joined(&self.samples, 2);
            self.seconds_each *= 2;
            self.in_last = self.seconds_each;
        }
    }

    pub(crate) fn into_samples(self) -> Vec<Sample> {
        self.samples
    }
}

/// The server's threads that did something over the time of these samples, the busiest first.
pub(crate) fn threads_of_server<'a>(samples: impl Iterator<Item = &'a Sample>) -> Vec<ThreadShare> {
    busiest(thread_means(samples))
}

/// The greatest share that one thread of the server had over the measured part; none where no thread was seen.
pub(crate) fn busiest_thread(samples: &[Sample]) -> Option<ThreadShare> {
    let measured = samples.iter().filter(|sample| sample.phase == Phase::Measuring);
    thread_means(measured).into_iter().max_by(|one, other| one.share.total_cmp(&other.share))
}

/// The server's threads with their shares, summed over the time of these samples and divided by it.
fn thread_means<'a>(samples: impl Iterator<Item = &'a Sample>) -> Vec<ThreadShare> {
    let mut sums: BTreeMap<u32, ThreadShare> = BTreeMap::new();
    let mut seconds = 0.0;
    for (length, server) in
        samples.filter_map(|sample| Some((sample.length_seconds, sample.server.as_ref()?)))
    {
        seconds += length;
        for thread in &server.threads {
            let sum = sums.entry(thread.tid).or_insert_with(|| ThreadShare { share: 0.0, ..thread.clone() });
            sum.share += thread.share * length;
        }
    }
    let mean = |thread: ThreadShare| ThreadShare { share: thread.share / seconds, ..thread };
    sums.into_values().map(mean).collect()
}

/// At most about `most` samples over the same time, neighbours of one phase joined evenly.
pub(crate) fn thinned(samples: &[Sample], most: usize) -> Vec<Sample> {
    joined(samples, samples.len().div_ceil(most.max(1)).max(1))
}

/// Each so many samples as one, but none across phases: each phase begins and ends when it did.
fn joined(samples: &[Sample], each: usize) -> Vec<Sample> {
    let join = |group: &[Sample]| {
        let (first, rest) = group.split_first()?;
        Some(rest.iter().fold(first.clone(), |sum, sample| sum.join(sample)))
    };
    let phases = samples.chunk_by(|one, other| one.phase == other.phase);
    phases.flat_map(|phase| phase.chunks(each)).filter_map(join).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::waiting::Sent;

    fn sample(at: u32) -> Sample {
        Sample {
            at_seconds: f64::from(at),
            length_seconds: 1.0,
            phase: Phase::Measuring,
            clients: ClientCounts { open: at, failed: 1, ..ClientCounts::default() },
            offered: 10,
            sent: 9,
            answered: 8,
            errors: BTreeMap::from([("refused".to_owned(), 1)]),
            latency_us: None,
            lag_p99_us: Some(f64::from(at)),
            generator: GeneratorSample::default(),
            server: None,
            kernel_socket_bytes: None,
        }
    }

    #[test]
    fn a_sample_counts_both_parts_and_every_error() {
        let ms = Duration::from_millis;
        let mut tally = Tally::default();
        for (measured, took) in [(false, 1), (true, 100)] {
            let sent = Sent { number: 0, due: ms(10), at: ms(11) };
            tally.part(measured).sent(&sent, 0);
            tally.part(measured).answered(&sent, ms(10 + took));
        }
        tally.part(true).counts.corrupt = 2;
        tally.failed(&webscale::CloseCause::Upgrade(webscale::HandshakeError::HeadTooLong));
        let mut counted = sample(1);
        counted.count(&tally);
        assert_eq!((counted.sent, counted.answered, counted.clients.failed), (2, 2, 1));
        assert_eq!(
            counted.errors,
            BTreeMap::from([("corrupt".to_owned(), 2), ("failed: upgrade".to_owned(), 1)])
        );
        let latency = counted.latency_us.unwrap();
        assert!(latency.corrected.p50 < 1_002.0 && latency.corrected.max > 99_900.0, "{latency:?}");
    }

    #[test]
    fn what_was_only_given_up_has_no_uncorrected_latency() {
        let sent = Sent { number: 0, due: Duration::ZERO, at: Duration::ZERO };
        let mut tally = Tally::default();
        tally.part(true).unanswered(&sent, Duration::from_secs(5), Duration::ZERO);
        let mut counted = sample(1);
        counted.count(&tally);
        let latency = counted.latency_us.unwrap();
        assert!(latency.corrected.p99 > 4_990_000.0 && latency.uncorrected.is_none(), "{latency:?}");
    }

    #[test]
    fn joined_samples_lose_no_count() {
        let points = |us| Points { p50: us, p90: us, p99: us, max: us };
        let latency = |us| Some(SampleLatency { corrected: points(us), uncorrected: Some(points(us / 2.0)) });
        let thread = |tid, share| ThreadShare { tid, name: format!("t{tid}"), share };
        let server =
            |cpu_share, threads| Some(ServerSample { cpu_share, threads, ..ServerSample::default() });
        let one = Sample {
            latency_us: latency(5.0),
            server: server(0.5, vec![thread(1, 0.3), thread(2, 0.2)]),
            ..sample(1)
        };
        let other =
            Sample { latency_us: latency(3.0), server: server(0.1, vec![thread(1, 0.1)]), ..sample(2) };
        let joined = one.join(&other);
        assert_eq!(
            (joined.offered, joined.sent, joined.error_count(), joined.clients.failed),
            (20, 18, 2, 2)
        );
        assert_eq!((joined.at_seconds, joined.length_seconds, joined.clients.open), (2.0, 2.0, 2));
        assert_eq!((joined.latency_us, joined.lag_p99_us), (latency(5.0), Some(2.0)));
        let server = joined.server.unwrap();
        assert!((server.cpu_share - 0.3).abs() < 1e-9);
        assert!((server.threads[0].share - 0.2).abs() < 1e-9 && (server.threads[1].share - 0.1).abs() < 1e-9);
    }

    #[test]
    fn a_long_load_stays_small() {
        let mut timeline = Timeline { most: 8, ..Timeline::new() };
        (1..=1000).for_each(|second| timeline.push(sample(second)));
        let samples = timeline.into_samples();
        assert!((4..=8).contains(&samples.len()), "{}", samples.len());
        assert_eq!(samples.iter().map(|sample| sample.offered).sum::<u64>(), 10_000);
        assert_eq!(samples.last().unwrap().at_seconds, 1000.0);
        let lengths: f64 = samples.iter().map(|sample| sample.length_seconds).sum();
        assert!((lengths - 1000.0).abs() < 1e-9);
    }

    #[test]
    fn a_day_keeps_its_phases_apart() {
        const PHASES: [(Phase, u32); 5] = [
            (Phase::Connecting, 75),
            (Phase::Resting, 1),
            (Phase::WarmingUp, 30),
            (Phase::Measuring, 86_290),
            (Phase::Draining, 4),
        ];
        let mut timeline = Timeline::new();
        let phases = PHASES.iter().flat_map(|(phase, seconds)| (0..*seconds).map(|_| *phase));
        (1..).zip(phases).for_each(|(at, phase)| timeline.push(Sample { phase, ..sample(at) }));
        let kept = timeline.into_samples();
        assert!((SAMPLES_MAX / 2..=SAMPLES_MAX).contains(&kept.len()), "{}", kept.len());
        for samples in [thinned(&kept, 240), kept] {
            let mut end = 0.0;
            for (phase, seconds) in PHASES {
                let of_phase = || samples.iter().filter(|sample| sample.phase == phase);
                end += f64::from(seconds);
                assert_eq!(of_phase().next_back().unwrap().at_seconds, end, "{phase:?}");
                let length: f64 = of_phase().map(|sample| sample.length_seconds).sum();
                assert!((length - f64::from(seconds)).abs() < 1e-6, "{phase:?}: {length}");
                let offered: u64 = of_phase().map(|sample| sample.offered).sum();
                assert_eq!(offered, u64::from(seconds) * 10, "{phase:?}");
            }
            assert!(samples.windows(2).all(|pair| pair[0].phase == pair[1].phase
                || pair[0].at_seconds + pair[1].length_seconds == pair[1].at_seconds));
        }
    }

    #[test]
    fn phases_are_not_mixed_as_they_come() {
        let mut timeline = Timeline { seconds_each: 4, ..Timeline::new() };
        timeline.push(Sample { phase: Phase::WarmingUp, ..sample(1) });
        timeline.push(sample(2));
        timeline.push(sample(3));
        let samples = timeline.into_samples();
        assert_eq!((samples.len(), samples[0].phase, samples[1].offered), (2, Phase::WarmingUp, 20));
    }

    #[test]
    fn a_moment_is_no_second_of_its_own() {
        let mut timeline = Timeline::new();
        timeline.push(sample(1));
        timeline.push(Sample { phase: Phase::Draining, length_seconds: 0.01, ..sample(2) });
        let samples = timeline.into_samples();
        assert_eq!((samples.len(), samples[0].sent, samples[0].phase), (1, 18, Phase::Measuring));
    }

    #[test]
    fn a_moment_does_not_make_the_second_before_look_bad() {
        let points = |us, max| Points { p50: us, p90: us, p99: us, max };
        let of = |at, us, busiest_thread| Sample {
            latency_us: Some(SampleLatency { corrected: points(us, us), uncorrected: None }),
            generator: GeneratorSample { busiest_thread, ..GeneratorSample::default() },
            ..sample(at)
        };
        let mut timeline = Timeline::new();
        timeline.push(of(1, 200.0, 0.02));
        timeline.push(Sample { length_seconds: 0.01, ..of(2, 3700.0, 0.42) });
        let samples = timeline.into_samples();
        let latency = SampleLatency { corrected: points(200.0, 3700.0), uncorrected: None };
        assert_eq!((samples[0].latency_us, samples[0].lag_p99_us), (Some(latency), Some(1.0)));
        assert_eq!((samples.len(), samples[0].generator.busiest_thread), (1, 0.02));
    }

    #[test]
    fn thinning_nothing_gives_nothing() {
        assert!(thinned(&[], 10).is_empty());
        assert_eq!(thinned(&[sample(1)], 0).len(), 1);
    }
}
