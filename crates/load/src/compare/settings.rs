//! How long and how much: the full comparison, and the quick one.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::contestant::Contestant;
use crate::bench::Program;
use crate::capacity::search::STEPS_MAX;

/// What is to be compared, and how thoroughly.
#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    /// The contestants, in the table's order.
    #[serde(serialize_with = "names")]
    pub servers: Vec<Contestant>,
    /// Everything is shortened.
    pub quick: bool,
    /// The servers of an earlier comparison are used again.
    pub reuse_builds: bool,
    /// The main load: CPU and latency.
    pub load: Stage,
    /// Small messages, sent back.
    pub echo: Stage,
    /// Fewer clients than in the main load, for the slope of the memory. The first is the article's 100 clients, of
    /// which the peak is taken too.
    pub memory: Vec<Stage>,
    /// Under heaptrack.
    pub heap: Stage,
    /// Each step towards the most clients.
    pub capacity: Stage,
    /// Steps that are tried, at most.
    pub capacity_steps: u32,
    /// The most clients may be below the boundary by this share.
    pub capacity_resolution: f64,
    /// Rounds of the main load and of the echo (A B B A).
    pub rounds: usize,
    /// p99 above this is not held, in seconds.
    #[serde(rename = "latency_limit_seconds", serialize_with = "seconds")]
    pub latency_limit: Duration,
    /// What a further process of the load runs, where one does not hold the most clients; without it, one has to.
    #[serde(skip)]
    pub program: Option<Program>,
}

/// One kind of run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Stage {
    /// Clients.
    pub clients: u32,
    /// Time between two messages of one client, in seconds.
    #[serde(rename = "interval_seconds", serialize_with = "seconds")]
    pub interval: Duration,
    /// Load that is not measured, in seconds.
    #[serde(rename = "warmup_seconds", serialize_with = "seconds")]
    pub warmup: Duration,
    /// Load that is measured, in seconds.
    #[serde(rename = "measured_seconds", serialize_with = "seconds")]
    pub measured: Duration,
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Stage {
    const fn each_second(clients: u32, warmup: Duration, measured: Duration) -> Stage {
        Stage { clients, interval: s(1), warmup, measured }
    }
}

/// Size of the messages that are echoed, in bytes.
pub const ECHO_BYTES: usize = 128;

impl Settings {
    /// The article's five-minute runs.
    pub fn full(servers: Vec<Contestant>) -> Settings {
        let echo = Stage { clients: 750, interval: Duration::from_millis(50), warmup: s(5), measured: s(60) };
        Settings {
            servers,
            quick: false,
            reuse_builds: false,
            load: Stage::each_second(5000, s(10), s(300)),
            echo,
            memory: [(100, 300), (1000, 20), (2000, 20)]
                .map(|(clients, measured)| Stage::each_second(clients, s(5), s(measured)))
                .to_vec(),
            heap: Stage::each_second(100, s(1), s(300)),
            capacity: Stage::each_second(0, s(5), s(60)),
            capacity_steps: STEPS_MAX,
            capacity_resolution: 0.03,
            rounds: 2,
            latency_limit: Duration::from_millis(100),
            program: None,
        }
    }

    /// Everything in a few minutes.
    pub fn quick(servers: Vec<Contestant>) -> Settings {
        let echo = Stage { clients: 750, interval: Duration::from_millis(50), warmup: s(1), measured: s(2) };
        Settings {
            quick: true,
            load: Stage::each_second(4000, s(1), s(3)),
            echo,
            memory: vec![Stage::each_second(100, s(1), s(1))],
            heap: Stage::each_second(100, s(1), s(2)),
            capacity: Stage::each_second(0, s(1), s(3)),
            capacity_steps: 3,
            capacity_resolution: 0.1,
            ..Settings::full(servers)
        }
    }

    /// Takes no more clients than `most`, where descriptors are few.
    pub(crate) fn limit_clients(&mut self, most: u32) {
        let stages = [&mut self.load, &mut self.echo, &mut self.heap];
        for stage in stages.into_iter().chain(&mut self.memory) {
            stage.clients = stage.clients.min(most);
        }
    }

    /// What the quick comparison leaves out, for the reader of its figures.
    pub fn shortened(&self) -> Option<String> {
        let full = Settings::full(Vec::new());
        let seconds = |stage: &Stage| stage.measured.as_secs();
        self.quick.then(|| {
            format!(
                "--quick: {} clients for {} s instead of {} for {} s; 128-byte echo {} s instead of {} s; peak memory \
                 over {} s instead of {} s; most clients held for {} s in at most {} steps instead of {} s, confirmed",
                self.load.clients,
                seconds(&self.load),
                full.load.clients,
                seconds(&full.load),
                seconds(&self.echo),
                seconds(&full.echo),
                seconds(&self.memory[0]),
                seconds(&full.memory[0]),
                seconds(&self.capacity),
                self.capacity_steps,
                seconds(&full.capacity),
            )
        })
    }
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

fn names<S: Serializer>(contestants: &[Contestant], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(contestants.iter().map(|contestant| contestant.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_says_what_it_shortened() {
        let quick = Settings::quick(Contestant::ALL.to_vec());
        let text = quick.shortened().unwrap();
        assert!(text.contains("4000 clients for 3 s instead of 5000 for 300 s"), "{text}");
        assert_eq!(Settings::full(Vec::new()).shortened(), None);
    }

    #[test]
    fn both_begin_with_the_articles_hundred_clients() {
        for settings in [Settings::quick(Vec::new()), Settings::full(Vec::new())] {
            assert_eq!((settings.memory[0].clients, settings.heap.clients), (100, 100));
            assert_eq!(settings.memory[0].interval, s(1));
        }
    }

    #[test]
    fn few_descriptors_mean_few_clients() {
        let mut settings = Settings::full(Vec::new());
        settings.limit_clients(900);
        let clients: Vec<u32> = settings.memory.iter().map(|stage| stage.clients).collect();
        assert_eq!((settings.load.clients, clients), (900, vec![100, 900, 900]));
    }

    #[test]
    fn json_has_names_and_seconds() {
        let json = serde_json::to_value(Settings::quick(vec![Contestant::TokioSmallBuffer])).unwrap();
        assert_eq!(json["servers"][0], "tokio-4k");
        assert_eq!(json["load"]["measured_seconds"], 3.0);
        assert_eq!(json["latency_limit_seconds"], 0.1);
    }
}
