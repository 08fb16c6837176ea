//! Honest clients: 100 of them, each with 10 kB of JSON a second over TLS, while others attack.

use std::io;
use std::time::{Duration, Instant};

use workload::Mode;

use super::FaultsError;
use super::attacker::FOR_EVER;
use crate::bench::fleet::Fleet;
use crate::bench::tally::{Counts, Tally};
use crate::bench::{BenchError, Plan, Probe, Trust};
use crate::cert::Files;

/// How many there are.
pub(crate) const BYSTANDERS: u32 = 100;
/// Messages at the beginning that count for nothing.
const WARMUP: Duration = Duration::from_millis(500);
/// How long answers are awaited when a window ends and they go on sending.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often they are looked after.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What honest clients saw in some time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Window {
    /// Latency from when a message was due to its answer, p99; none without answers.
    pub(crate) p99: Option<Duration>,
    /// How late messages were sent, p99.
    pub(crate) lag_p99: Duration,
    pub(crate) answered: u64,
    /// Not answered when the window ended, after all patience.
    pub(crate) waiting: u64,
    /// Never to be answered: their connections ended.
    pub(crate) lost: u64,
    /// Echoes that were none.
    pub(crate) corrupt: u64,
    /// Connections that ended.
    pub(crate) disconnected: u64,
    /// Those of them that were told that the server goes away (1001).
    pub(crate) going_away: u64,
}

/// The honest clients; they leave when dropped.
pub(crate) struct Bystanders {
    fleet: Fleet,
    window: Tally,
    /// Messages before this window.
    before: Counts,
}

impl Bystanders {
    /// Connects all of them, and has them send.
    pub(crate) fn gather(url: &str, certificate: &Files, mode: Mode) -> Result<Bystanders, FaultsError> {
        let plan = Plan {
            trust: Trust::CaFile(certificate.ca_cert.clone()),
            clients: BYSTANDERS,
            probe: if mode == Mode::Echo { Probe::Echo } else { Probe::Ping },
            warmup: Duration::ZERO,
            duration: FOR_EVER,
            ..Plan::new(url)
        };
        let prepared = plan.prepare()?;
        let mut fleet = Fleet::new(&plan, &prepared)?;
        fleet.connect(Instant::now());
        while fleet.census().settled < BYSTANDERS {
            fleet.tend();
            fleet.whole()?;
            std::thread::sleep(fleet.tick());
        }
        let mut bystanders = Bystanders { fleet, window: Tally::default(), before: Counts::default() };
        bystanders.all_connected()?;
        let start = bystanders.fleet.start();
        bystanders.watch(start.saturating_duration_since(Instant::now()) + WARMUP)?;
        match bystanders.end_window()?.disconnected {
            0 => Ok(bystanders),
            gone => {
                Err(io::Error::other(format!("{gone} honest clients were gone before anything was done"))
                    .into())
            }
        }
    }

    fn all_connected(&mut self) -> Result<(), FaultsError> {
        self.look_after()?;
        match self.window.failed.values().next() {
            Some(failure) => {
                Err(BenchError::NoClient { said: failure.example.clone(), advice: String::new() }.into())
            }
            None => Ok(()),
        }
    }

    /// Takes note of what they counted. To be called often.
    pub(crate) fn look_after(&mut self) -> Result<(), FaultsError> {
        self.fleet.tend();
        self.fleet.collect(&mut self.window);
        Ok(self.fleet.whole()?)
    }

    /// Looks after them for so long.
    pub(crate) fn watch(&mut self, time: Duration) -> Result<(), FaultsError> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            std::thread::sleep(LOOK_EVERY);
            self.look_after()?;
        }
        Ok(())
    }

    /// What they saw since the last window ended. Waits for answers that are still to come.
    pub(crate) fn end_window(&mut self) -> Result<Window, FaultsError> {
        self.end_window_within(PATIENCE)
    }

    /// They stay connected, and send nothing more; what they saw until then, and in `patience` for the last answers.
    pub(crate) fn fall_silent(&mut self, patience: Duration) -> Result<Window, FaultsError> {
        self.fleet.end(Duration::ZERO);
        self.end_window_within(patience)
    }

    fn end_window_within(&mut self, patience: Duration) -> Result<Window, FaultsError> {
        let until = Instant::now() + patience;
        self.look_after()?;
        // A message is on its way now and then; that one of them is answered is seen within a few looks.
        while self.waiting() > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
            self.look_after()?;
        }
        let waiting = self.waiting();
        self.before.add(&self.window.counts());
        let window = std::mem::take(&mut self.window);
        let part = &window.measured;
        let times = &part.latency.corrected;
        Ok(Window {
            p99: (times.count() > 0).then(|| times.quantile(0.99)),
            lag_p99: part.lag.quantile(0.99),
            answered: part.counts.answered,
            waiting,
            lost: part.counts.unanswered,
            corrupt: part.counts.corrupt,
            disconnected: window.disconnected_count(),
            going_away: window.disconnected.get(&1001).map_or(0, |failure| failure.count),
        })
    }

    fn waiting(&self) -> u64 {
        let mut sum = self.before;
        sum.add(&self.window.counts());
        sum.waiting()
    }

    /// They close their connections, as a client should.
    pub(crate) fn leave(mut self) -> Result<(), FaultsError> {
        self.fleet.close(&mut self.window);
        self.fleet.whole()?;
        Ok(())
    }
}
