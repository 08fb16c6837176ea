//! A server that is used and abused for a long time: whether it leaks, forgets, or miscounts.
//!
//! 100 honest clients are served all the time, while others come and go in all the ways of `churn.rs`, paced to half of the
//! processors. What the server holds is looked at every few seconds.

mod churn;
mod csv;
mod findings;
mod html;
mod line;
pub(super) mod report;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use workload::Mode;

use super::attacker::tls;
use super::bystanders::Bystanders;
use super::counts::Counts;
use super::row::Arena;
use super::settings::Scale;
use super::subject::{Gauge, Meter, Stage, Subject};
use super::{FaultsError, Prepared};
use crate::cert;
use crate::compare::contestant::Contestant;
use crate::measure::process::Process;
use crate::observe::Observer;

use churn::{Churn, Pace};
pub use csv::csv;
use findings::{Ending, findings};
pub use html::html;
pub use line::Slope;
pub use report::{Sample, SoakReport, text};

/// The sequence of what hostile clients do, where no other is asked for.
pub const SEED: u64 = 20_261_123;

/// Shorter than by default, so that more of it happens.
const FLAGS: &[&str] = &[
    "--deflate",
    "--max-message",
    "64KiB",
    "--handshake-time",
    "5s",
    "--message-time",
    "3s",
    "--ping-after",
    "3s",
    "--pong-time",
    "3s",
];
/// The server's memory settles for so much of the time, and at least so long.
const WARMUP_SHARE: f64 = 0.2;
const WARMUP_MIN: Duration = Duration::from_secs(120);
/// Of the processors that are used.
const CPU_SHARE: f64 = 0.5;
const SAMPLES: u32 = 360;
const SAMPLE_EVERY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
const NOTE_EVERY: Duration = Duration::from_secs(30);
const RELOAD_EVERY: Duration = Duration::from_secs(10);
/// Every so many reloads, the file is no certificate.
const BAD_FILE_EVERY: u64 = 5;
/// After the last hostile client has gone.
const RECOVERY_MAX: Duration = Duration::from_secs(30);
/// Times that the server is asked for its counts in a row.
const ASK_MAX: u32 = 5;
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How a server is soaked.
#[derive(Debug, Clone)]
pub struct SoakSettings {
    /// What `serve` runs: this program.
    pub program: std::path::PathBuf,
    /// How long others come and go; it takes up to a minute more.
    pub duration: Duration,
    /// What they do.
    pub seed: u64,
    /// Further flags of `serve`.
    pub flags: Vec<std::ffi::OsString>,
}

/// Soaks a server.
///
/// # Errors
/// When it could not be started, or the machine does not let it be watched.
pub fn soak(settings: &SoakSettings, observer: &mut dyn Observer) -> Result<SoakReport, FaultsError> {
    // It tells of the machine, of which this thread sees one processor when it is pinned.
    let mut report = SoakReport::new(settings);
    let prepared = Prepared::new()?;
    let stage = prepared.stage(Contestant::Webscale, settings.program.clone(), &settings.flags, observer)?;
    let mut subject = Subject::start(&stage, Mode::Echo, FLAGS)?;
    report.processors = stage.apart;
    let soaked = Soak::new(settings, &stage, &mut subject).and_then(|soak| soak.run(&mut report, observer));
    report.draw_lines();
    match soaked {
        Ok(ending) => {
            let (ended, heard) = subject.finish();
            report.judge(findings(&report, &ending, &heard), ended.err());
        }
        Err(error) => match subject.death() {
            Some(death) => report.judge(Vec::new(), Some(death)),
            None if report.samples.is_empty() => return Err(error),
            // Hours may have been seen until then.
            None => report.break_off(&error.to_string()),
        },
    }
    Ok(report)
}

/// A soak that goes on.
struct Soak<'a> {
    settings: &'a SoakSettings,
    stage: &'a Stage,
    subject: &'a mut Subject,
    bystanders: Bystanders,
    tls: Arc<rustls::ClientConfig>,
    own: Process,
    /// How often the server was asked for its counts.
    asked: u64,
    reloads: Reloads,
    before: Gauge,
}

/// Reloads that were asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reloads {
    pub(crate) good: u32,
    pub(crate) bad: u32,
}

impl Reloads {
    fn all(self) -> u64 {
        u64::from(self.good) + u64::from(self.bad)
    }
}

/// CPU time of server and clients.
struct Meters {
    server: Meter,
    own_ns: u64,
}

impl<'a> Soak<'a> {
    fn new(
        settings: &'a SoakSettings,
        stage: &'a Stage,
        subject: &'a mut Subject,
    ) -> Result<Self, FaultsError> {
        let bystanders = Bystanders::gather(subject.url(), &stage.certificate, Mode::Echo)?;
        let tls = tls::hostile()?;
        let before = subject.gauge()?;
        Ok(Soak {
            settings,
            stage,
            before,
            bystanders,
            tls,
            subject,
            own: Process::own()?,
            asked: 0,
            reloads: Reloads::default(),
        })
    }

    fn run(mut self, report: &mut SoakReport, observer: &mut dyn Observer) -> Result<Ending, FaultsError> {
        let (stop, finale) = (AtomicBool::new(false), AtomicBool::new(false));
        let pace = Pace::default();
        let arena = Arena {
            address: self.subject.address(),
            tls: self.tls.clone(),
            pid: self.subject.pid(),
            is_own: true,
            certificate: &self.stage.certificate,
            scale: Scale::Full,
            stop: &stop,
            finale: &finale,
        };
        let Soak { settings, .. } = self;
        let until = Instant::now() + settings.duration;
        let (churns, watched) = std::thread::scope(|scope| {
            let arena = &arena;
            let churn = Churn { arena, pace: &pace, until };
            let threads: Vec<_> = churn::HABITS
                .iter()
                .enumerate()
                .map(|(index, habit)| {
                    let seed = settings.seed.wrapping_add(index as u64);
                    scope.spawn(move || churn.live(habit, seed))
                })
                .collect();
            let watched = self.watch(report, &pace, &|| threads.iter().all(|it| it.is_finished()), observer);
            // Whatever happened, they come to their end.
            stop.store(report.interrupted || watched.is_err(), Ordering::Relaxed);
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            (threads.into_iter().map(join).collect::<Result<Vec<_>, _>>(), watched)
        });
        watched?;
        self.end(churns?)
    }

    /// Takes samples until the hostile clients are gone.
    fn watch(
        &mut self,
        report: &mut SoakReport,
        pace: &Pace,
        is_over: &dyn Fn() -> bool,
        observer: &mut dyn Observer,
    ) -> Result<(), FaultsError> {
        let begun = Instant::now();
        let every = (self.settings.duration / SAMPLES).clamp(SAMPLE_EVERY[0], SAMPLE_EVERY[1]);
        let mut due = begun + every;
        let (mut note_due, mut reload_due) = (begun, begun + RELOAD_EVERY);
        let mut meters = self.meters()?;
        while !is_over() && !report.interrupted {
            self.bystanders.watch(LOOK_EVERY.min(every))?;
            let now = Instant::now();
            if now >= due && begun.elapsed() < self.settings.duration {
                due += every;
                let sample = self.sample(begun, &mut meters, pace)?;
                // Once it has settled it stays, lest the server's memory follow it.
                if begun.elapsed() < report.warmup() {
                    pace.steer(sample.server_cpu + sample.clients_cpu, report.processors_used() * CPU_SHARE);
                }
                if now >= note_due {
                    note_due = now + NOTE_EVERY;
                    observer.note(&sample.line(self.settings.duration));
                }
                report.samples.push(sample);
            }
            if now >= reload_due {
                reload_due = now + RELOAD_EVERY;
                self.reload()?;
            }
            report.interrupted = observer.stopped();
        }
        Ok(())
    }

    fn meters(&mut self) -> Result<Meters, FaultsError> {
        Ok(Meters { server: self.subject.meter()?, own_ns: self.own.cpu()?.total_ns })
    }

    fn sample(&mut self, begun: Instant, last: &mut Meters, pace: &Pace) -> Result<Sample, FaultsError> {
        let meters = self.meters()?;
        let shares = last.server.until(&meters.server);
        let clients_cpu = last.server.share(&meters.server, meters.own_ns - last.own_ns);
        *last = meters;
        let window = self.bystanders.end_window()?;
        let gauge = self.subject.gauge()?;
        let counts = self.ask()?;
        Ok(Sample::new(begun.elapsed(), &gauge, &counts, &window, shares, clients_cpu, pace.get()))
    }

    fn ask(&mut self) -> Result<Counts, FaultsError> {
        let mut tries = 1..=ASK_MAX;
        loop {
            self.asked += 1;
            let last = tries.next().is_none_or(|nth| nth == ASK_MAX);
            match Counts::ask(self.subject.address(), &self.tls) {
                // Where the machine is busy with other things it takes longer than a handshake may.
                Err(_) if !last => {}
                asked => return asked.map_err(FaultsError::Counts),
            }
        }
    }

    /// Another certificate, or a file that is none.
    fn reload(&mut self) -> Result<(), FaultsError> {
        let files = &self.stage.certificate;
        if self.reloads.all() % BAD_FILE_EVERY == BAD_FILE_EVERY - 1 {
            fs::write(&files.cert, "no certificate")?;
            self.reloads.bad += 1;
        } else {
            cert::renew(files)?;
            self.reloads.good += 1;
        }
        self.subject.hang_up();
        Ok(())
    }

    /// What is left when the hostile clients have gone.
    fn end(mut self, churns: Vec<churn::Account>) -> Result<Ending, FaultsError> {
        let begun = Instant::now();
        let mut counts = self.ask()?;
        let mut gauge = self.subject.gauge()?;
        while begun.elapsed() < RECOVERY_MAX
            && (counts.open() > findings::OPEN_IN_THE_END
                || gauge.descriptors > self.before.descriptors
                || counts.sum("certificate_reloads_total") < self.reloads.all())
        {
            self.bystanders.watch(LOOK_EVERY)?;
            gauge = self.subject.gauge()?;
            counts = self.ask()?;
        }
        let window = self.bystanders.fall_silent(RECOVERY_MAX)?;
        self.bystanders.leave()?;
        Ok(Ending {
            churns,
            window,
            counts,
            before: self.before,
            after: gauge,
            asked: self.asked,
            reloads: self.reloads,
        })
    }
}
