//! One row tried: what is asked of every server in every row, beside what the row itself asks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::FaultsError;
use super::attacker::tls;
use super::bystanders::{BYSTANDERS, Bystanders, Window};
use super::counts::Counts;
use super::figure::{Bar, Figure, Unit};
use super::report::RowReport;
use super::row::{Arena, Findings, Row};
use super::settings::Scale;
use super::subject::{Gauge, Holding, Meter, Shares, Stage, Subject};
use super::verdict::{Verdict, judge};
use crate::bench::plan::DESCRIPTORS_BESIDE;
use crate::compare::server::{Heard, ServerError};
use crate::observe::Observer;

/// What a server may take for itself while it has more to do, in bytes: buffers of its threads, and what an allocator keeps.
const MEMORY_NOISE: f64 = 2.0 * 1024.0 * 1024.0;
/// Allocators ask the kernel for that much at a time.
const ADDRESS_NOISE: f64 = 64.0 * 1024.0 * 1024.0;
/// Recovery is awaited for so long.
const RECOVERY_MAX: Duration = Duration::from_secs(30);
/// After it, so much more memory than before may be held, in bytes.
const MEMORY_LEFT_MAX: u64 = 8 << 20;
/// Honest clients may wait so much longer, at any rate.
const SLOWER_AT_ANY_RATE: Duration = Duration::from_millis(5);
/// Honest clients that wait longer than this before the attack, in seconds, wait for something else.
const BASELINE_MAX: f64 = 0.025;
/// A server that nobody asks for anything takes less of a processor.
const IDLE_CPU_MAX: f64 = 0.01;
/// Log lines a second.
const LOG_LINES_MAX: u64 = 10;
/// What each connection may take, and for each byte beyond that, before it is known who is there.
const FREE_BYTES: f64 = 8192.0;
const AMPLIFICATION_MAX: f64 = 10.0;
/// Somebody else took more than this share of the server's time: it was not the server that was slow.
const WAITED_MAX: f64 = 0.02;
/// A process's connections are gone before it is.
const DEATH_SEEN_WITHIN: Duration = Duration::from_secs(1);
/// The attacking thread's niceness: honest clients, which measure, go before it.
const NICENESS: u8 = 10;
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Figures that reports draw.
pub(crate) const HONEST_P99_BEFORE: &str = "honest p99 before";
pub(crate) const HONEST_P99: &str = "honest p99";
pub(crate) const MEMORY_BEFORE: &str = "memory before";
pub(crate) const PEAK_MEMORY: &str = "peak memory";
pub(crate) const PEAK_MEMORY_BY_BYTES: &str = "peak memory by what was sent";
const IDLE_FOR: Duration = Duration::from_secs(1);

/// One row and where it is tried.
pub(crate) struct Trial<'a> {
    pub(crate) row: &'static Row,
    pub(crate) stage: &'a Stage,
    pub(crate) scale: Scale,
    /// Whether time has bars.
    pub(crate) timed: bool,
    /// That this process may hold, and the server with the same limits.
    pub(crate) descriptors: u64,
}

/// What the server and its honest clients were like before.
struct Before {
    window: Window,
    gauge: Gauge,
    /// Only our own server has one.
    account: Option<Counts>,
}

/// What they were like while the attack went on.
struct During {
    window: Window,
    /// The most that the server held.
    peak: Holding,
    shares: Shares,
    findings: Findings,
    /// It ended the server.
    finale: bool,
}

/// What they were like afterwards.
struct After {
    gauge: Gauge,
    took: Duration,
    idle_cpu: f64,
    window: Window,
    account: Option<Counts>,
}

impl Trial<'_> {
    /// Tries it, and once more if it was disturbed.
    pub(crate) fn run(&self, observer: &mut dyn Observer) -> Result<RowReport, FaultsError> {
        if let Some(why) = self.hindrance() {
            return Ok(RowReport::new(self.row, Verdict::Skipped(vec![why])));
        }
        let tried = self.once(observer)?;
        if !matches!(tried.verdict, Verdict::Disturbed(_)) || observer.stopped() {
            return Ok(tried);
        }
        observer.note(&format!("row {} was disturbed, and is tried again", self.row.number));
        self.once(observer)
    }

    fn once(&self, observer: &mut dyn Observer) -> Result<RowReport, FaultsError> {
        let begun = Instant::now();
        let mut subject = Subject::start(self.stage, self.row.mode, &(self.row.flags)(self.scale))?;
        let tried = self.try_it(&mut subject, observer);
        let mut report = match tried {
            // Half an attack says nothing.
            _ if observer.stopped() => RowReport::new(self.row, Verdict::Skipped(vec!["interrupted".into()])),
            Ok((_, during, _)) if during.findings.skipped.is_some() => {
                RowReport::new(self.row, Verdict::Skipped(during.findings.skipped.into_iter().collect()))
            }
            Ok((before, during, Some(after))) => self.report(&before, during, &after, subject),
            Ok((_, during, None)) => self.report_of_end(during, subject),
            Err(error) => RowReport::new(self.row, self.broken_off(&error, &mut subject)),
        };
        report.seconds = begun.elapsed().as_secs_f64();
        Ok(report)
    }

    /// Why the row cannot be tried here.
    fn hindrance(&self) -> Option<String> {
        if !self.stage.is_own() && !self.row.for_others {
            return Some(format!("server-{} has no such setting", self.stage.server.name()));
        }
        if !self.stage.is_own() && (self.row.flags)(self.scale) != (self.row.flags)(Scale::Full) {
            return Some(format!(
                "server-{} cannot be told the shorter times of --quick: try the row at full scale",
                self.stage.server.name()
            ));
        }
        let needs = u64::from(self.scale.of(self.row.connections) + BYSTANDERS) + DESCRIPTORS_BESIDE;
        (needs > self.descriptors).then(|| {
            format!(
                "needs {needs} descriptors a process, and one may open {}: `ulimit -Hn {needs}` as root",
                self.descriptors
            )
        })
    }

    /// A server that died did not survive; anything else is no fault of it.
    fn broken_off(&self, error: &FaultsError, subject: &mut Subject) -> Verdict {
        match subject.death_within(DEATH_SEEN_WITHIN) {
            Some(death) => Verdict::Failed(vec![death.to_string()]),
            None => Verdict::Disturbed(vec![error.to_string()]),
        }
    }

    fn try_it(
        &self,
        subject: &mut Subject,
        observer: &mut dyn Observer,
    ) -> Result<(Before, During, Option<After>), FaultsError> {
        let mut bystanders = Bystanders::gather(subject.url(), &self.stage.certificate, self.row.mode)?;
        let account = self.account(subject)?;
        bystanders.watch(self.scale.baseline(self.timed))?;
        let before = Before { window: bystanders.end_window()?, gauge: subject.gauge()?, account };
        let during = self.attack(subject, &mut bystanders, observer)?;
        if during.finale || during.findings.skipped.is_some() {
            return Ok((before, during, None));
        }
        let after = recovery(subject, &mut bystanders, &before.gauge)?;
        let after = After { account: self.account(subject)?, ..after };
        bystanders.leave()?;
        Ok((before, during, Some(after)))
    }

    fn account(&self, subject: &Subject) -> Result<Option<Counts>, FaultsError> {
        self.stage.is_own().then(|| subject.counts()).transpose()
    }

    /// Has the attack made by a thread of its own, and watches meanwhile.
    fn attack(
        &self,
        subject: &mut Subject,
        bystanders: &mut Bystanders,
        observer: &mut dyn Observer,
    ) -> Result<During, FaultsError> {
        let (stop, finale) = (AtomicBool::new(false), AtomicBool::new(false));
        let arena = Arena {
            address: subject.address(),
            tls: tls::hostile()?,
            pid: subject.pid(),
            is_own: self.stage.is_own(),
            certificate: &self.stage.certificate,
            scale: self.scale,
            stop: &stop,
            finale: &finale,
        };
        let attack = self.row.attack;
        let begun = subject.meter()?;
        let mut peak = Holding::default();
        let (findings, watched) = thread::scope(|scope| {
            let attacker = scope.spawn(|| {
                webscale_sys::process::give_way(NICENESS)?;
                attack(&arena)
            });
            let (mut watched, most) = (Ok(()), memory_most());
            while !attacker.is_finished() && watched.is_ok() {
                thread::sleep(LOOK_EVERY);
                watched = if finale.load(Ordering::Relaxed) {
                    bystanders.look_after()
                } else {
                    look(subject, bystanders, &mut peak)
                };
                if observer.stopped() || peak.pss_bytes > most {
                    break;
                }
            }
            // Whatever happened, the attack is over.
            stop.store(true, Ordering::Relaxed);
            let findings = attacker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (findings, watched)
        });
        let finale = finale.into_inner();
        watched.or_else(|error| if finale { Ok(()) } else { Err(error) })?;
        let (findings, window) = (findings?, bystanders.end_window()?);
        let shares = if finale { Shares::default() } else { begun.until(&subject.meter()?) };
        Ok(During { window, peak, shares, findings, finale })
    }

    /// Of a row that is about the server's end.
    fn report_of_end(&self, during: During, mut subject: Subject) -> RowReport {
        subject.expect_end();
        let (ended, heard) = subject.finish();
        let provoked = during.findings.panics_provoked;
        let mut figures = during.findings.figures();
        if during.findings.says_farewell {
            figures.push(Figure::count(
                "honest clients told 1001",
                during.window.going_away,
                Bar::Exactly(f64::from(BYSTANDERS)),
            ));
        }
        figures.push(Figure::count("exit code 0", u64::from(ended.is_ok()), Bar::Exactly(1.0)));
        figures.extend(log_figures(&heard, provoked));
        let figures = self.weighed(figures);
        let verdict = judge(&figures, Vec::new());
        RowReport { done: during.findings.done, figures, ..RowReport::new(self.row, verdict) }
    }

    fn report(&self, before: &Before, during: During, after: &After, subject: Subject) -> RowReport {
        let (ended, heard) = subject.finish();
        self.judged(before, during, after, ended.err(), &heard)
    }

    /// What came of all that was seen, `heard` on stderr included, and of how the server ended.
    fn judged(
        &self,
        before: &Before,
        during: During,
        after: &After,
        death: Option<ServerError>,
        heard: &Heard,
    ) -> RowReport {
        let provoked = during.findings.panics_provoked;
        let mut figures = during.findings.figures();
        figures.extend(self.honest_figures(before, &during, after));
        figures.extend(self.memory_figures(before, &during));
        figures.extend(recovery_figures(before, after));
        if let (Some(before), Some(after)) = (&before.account, &after.account) {
            figures.extend(after.figures(before, &during.findings.ends));
        }
        figures.extend(log_figures(heard, provoked));
        let figures = self.weighed(figures);
        let verdict = judge(&figures, disturbances(before, &during)).with_death(death);
        RowReport { done: during.findings.done, figures, ..RowReport::new(self.row, verdict) }
    }

    /// The figures with the bars that are to be judged.
    fn weighed(&self, figures: Vec<Figure>) -> Vec<Figure> {
        match self.timed {
            true => figures,
            false => figures.into_iter().map(Figure::untimed).collect(),
        }
    }

    fn honest_figures(&self, before: &Before, during: &During, after: &After) -> Vec<Figure> {
        let seconds = |time: Option<Duration>| time.map_or(f64::INFINITY, |time| time.as_secs_f64());
        let baseline = seconds(before.window.p99);
        let most = (baseline * self.row.slower_at_most).max(baseline + SLOWER_AT_ANY_RATE.as_secs_f64());
        let p99 = seconds(during.window.p99);
        let p99 = match self.row.slower_at_most {
            f64::INFINITY => Figure::noted(HONEST_P99, p99, Unit::Seconds),
            _ => Figure::new(HONEST_P99, p99, Unit::Seconds, Bar::AtMost(most)).of_time(),
        };
        let before_it = match self.timed {
            // What is slow by itself cannot be seen to be slowed down.
            true => {
                Figure::new(HONEST_P99_BEFORE, baseline, Unit::Seconds, Bar::AtMost(BASELINE_MAX)).of_attack()
            }
            false => Figure::noted(HONEST_P99_BEFORE, baseline, Unit::Seconds),
        };
        let windows = [&before.window, &during.window, &after.window];
        let sum = |count: fn(&Window) -> u64| -> u64 { windows.into_iter().map(count).sum() };
        vec![
            before_it,
            p99,
            Figure::noted("honest messages answered", during.window.answered as f64, Unit::Count),
            Figure::count(
                "honest clients disconnected",
                sum(|window| window.disconnected),
                Bar::Exactly(0.0),
            ),
            Figure::count(
                "honest messages lost",
                sum(|window| window.lost) + after.window.waiting,
                Bar::Exactly(0.0),
            ),
            Figure::count("answered after five seconds or more", during.window.waiting, Bar::Exactly(0.0))
                .of_time(),
            Figure::count("honest echoes corrupt", sum(|window| window.corrupt), Bar::Exactly(0.0)),
        ]
    }

    fn memory_figures(&self, before: &Before, during: &During) -> Vec<Figure> {
        let (peak, resting) = (during.peak.pss_bytes as f64, before.gauge.memory.pss_bytes as f64);
        let findings = &during.findings;
        let free = FREE_BYTES * findings.connections as f64 + MEMORY_LEFT_MAX as f64;
        let most = resting + free + AMPLIFICATION_MAX * findings.sent_bytes as f64;
        let mut figures = vec![
            Figure::noted(MEMORY_BEFORE, resting, Unit::Bytes),
            Figure::new(PEAK_MEMORY_BY_BYTES, peak, Unit::Bytes, Bar::AtMost(most)),
        ];
        let broken_off = Bar::AtMost(memory_most() as f64);
        let broken_off =
            Figure::new("memory at which the attack was broken off", peak, Unit::Bytes, broken_off);
        figures.extend(Some(broken_off).filter(|figure| !figure.holds));
        if let Some(full) = findings.memory_at_most {
            // What is above the server at rest shrinks with the scale, the rest does not.
            let most = resting + (full - resting).max(0.0) * self.scale.share();
            figures.push(Figure::new(PEAK_MEMORY, peak, Unit::Bytes, Bar::AtMost(most)));
        }
        if let Some(budget) = findings.memory_budget {
            figures.push(Figure::new(PEAK_MEMORY, peak, Unit::Bytes, Bar::AtMost(budget)));
        }
        if let Some(each) = findings.memory_each_at_most {
            let more = each * findings.connections as f64;
            let most = resting + more + MEMORY_NOISE;
            figures.push(Figure::new(PEAK_MEMORY, peak, Unit::Bytes, Bar::AtMost(most)));
            let virtual_more = during.peak.virtual_bytes as f64 - before.gauge.memory.virtual_bytes as f64;
            let most = more + ADDRESS_NOISE;
            figures.push(Figure::new("address space added", virtual_more, Unit::Bytes, Bar::AtMost(most)));
        }
        figures
    }
}

/// A server that takes more has failed; what is beyond would be the machine's end, and ours.
fn memory_most() -> u64 {
    webscale_sys::limits::memory().map_or(u64::MAX, |all| all / 4)
}

fn look(subject: &Subject, bystanders: &mut Bystanders, peak: &mut Holding) -> Result<(), FaultsError> {
    bystanders.look_after()?;
    let Holding { pss_bytes, virtual_bytes } = subject.holding()?;
    peak.pss_bytes = pss_bytes.max(peak.pss_bytes);
    peak.virtual_bytes = virtual_bytes.max(peak.virtual_bytes);
    Ok(())
}

/// Waits until the server holds what it held before, and has nothing to do when nobody asks it for anything.
fn recovery(
    subject: &mut Subject,
    bystanders: &mut Bystanders,
    before: &Gauge,
) -> Result<After, FaultsError> {
    let begun = Instant::now();
    let mut gauge = subject.gauge()?;
    while !has_recovered(&gauge, before) && begun.elapsed() < RECOVERY_MAX {
        bystanders.watch(LOOK_EVERY)?;
        gauge = subject.gauge()?;
    }
    let took = begun.elapsed();
    let window = bystanders.fall_silent(RECOVERY_MAX)?;
    let silent = Instant::now();
    let mut idle_cpu = cpu_over(subject, IDLE_FOR)?;
    while idle_cpu >= IDLE_CPU_MAX && silent.elapsed() < RECOVERY_MAX {
        idle_cpu = cpu_over(subject, IDLE_FOR)?;
    }
    Ok(After { gauge, took, idle_cpu, window, account: None })
}

fn has_recovered(now: &Gauge, before: &Gauge) -> bool {
    now.descriptors <= before.descriptors && now.memory.pss_bytes <= before.memory.pss_bytes + MEMORY_LEFT_MAX
}

fn cpu_over(subject: &mut Subject, time: Duration) -> Result<f64, FaultsError> {
    let begun: Meter = subject.meter()?;
    thread::sleep(time);
    Ok(begun.until(&subject.meter()?).cpu)
}

fn recovery_figures(before: &Before, after: &After) -> Vec<Figure> {
    let (was, is) = (before.gauge, after.gauge);
    let left = is.memory.pss_bytes as f64 - was.memory.pss_bytes as f64;
    vec![
        Figure::noted("recovered after", after.took.as_secs_f64(), Unit::Seconds),
        Figure::count("descriptors left", is.descriptors as u64, Bar::Exactly(was.descriptors as f64)),
        Figure::new("memory left behind", left, Unit::Bytes, Bar::AtMost(MEMORY_LEFT_MAX as f64)),
        Figure::new("idle CPU", after.idle_cpu, Unit::Share, Bar::AtMost(IDLE_CPU_MAX)),
    ]
}

/// What it wrote on stderr; whether its handlers were made to panic.
pub(crate) fn log_figures(heard: &Heard, provoked: bool) -> Vec<Figure> {
    vec![
        match provoked {
            true => Figure::noted("panics in the log", heard.panics as f64, Unit::Count),
            false => Figure::count("panics", heard.panics, Bar::Exactly(0.0)),
        },
        Figure::count("log lines in a second", heard.lines_a_second, Bar::AtMost(LOG_LINES_MAX as f64))
            .of_time(),
    ]
}

/// What else may have made honest clients wait.
fn disturbances(before: &Before, during: &During) -> Vec<String> {
    let mut disturbed = Vec::new();
    let lag = during.window.lag_p99;
    let slower = during.window.p99.unwrap_or_default().saturating_sub(before.window.p99.unwrap_or_default());
    if lag > SLOWER_AT_ANY_RATE / 2 && lag > slower / 2 {
        disturbed.push(format!("honest clients sent up to {:.1} ms late (p99)", lag.as_secs_f64() * 1e3));
    }
    disturbed.extend(during.shares.disturbances(WAITED_MAX));
    disturbed
}

#[cfg(test)]
mod tests;
