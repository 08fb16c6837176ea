//! A whole server on a fake kernel, with peers that speak WebSocket and misbehave as a seed says.
//!
//! One thread plays everything: loops, workers, peers, the network, and time. What a seed does it does again; a failure
//! prints the command that replays it.

mod checks;
mod faults;
mod handler;
mod kernel;
mod peer;
mod random;
mod script;
mod system;
mod world;

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use random::Random;
use world::{Setting, World};

/// Steps of all lives of one run of the tests.
const STEPS: u64 = 1_000_000;
/// Steps of one life before it comes to rest.
const LIFE: usize = 5_000;
/// Where the lives begin that are the same in each run.
const SEED: u64 = 0x1f3a_0000;

/// What all lives came to.
#[derive(PartialEq, Eq, Debug, Default)]
struct Tally {
    steps: u64,
    lives: u64,
    /// Connections by how they ended, and other counters that must not stay zero.
    counts: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn add(&mut self, world: &World) {
        self.steps += world.steps;
        self.lives += 1;
        let metrics = world.metrics();
        let content = world.peers.iter().filter(|peer| peer.is_honest() && peer.is_content()).count();
        let jumps = u64::from(world.jumped.is_some());
        let others = [
            ("content", content as u64),
            ("bytes_in", metrics.bytes_in),
            ("bytes_out", metrics.bytes_out),
            ("refused", metrics.refused),
            ("accept_pauses", metrics.accept_pauses),
            ("messages_dropped", metrics.messages_dropped),
            ("inflated_messages", metrics.inflated_messages),
            ("certificate_reloads", metrics.certificate_reloads),
            ("jumps", jumps),
            ("messages_displaced", metrics.messages_displaced),
        ];
        for (name, count) in metrics.closes().chain(others) {
            *self.counts.entry(name).or_default() += count;
        }
    }

    /// A simulation in which something never happens does not test it.
    fn check(&self) {
        let never: Vec<_> = self.counts.iter().filter(|(_, count)| **count == 0).collect();
        // Only a client connects.
        assert!(
            never.iter().all(|(name, _)| **name == "connect"),
            "nothing brings about {never:?}: teach it a peer or a trouble that does"
        );
        assert!(self.counts["content"] > 10 * self.lives, "{self:?}");
    }
}

/// A server's life.
fn live(seed: u64, tally: &mut Tally) {
    let setting = Setting::any(&mut Random::new(seed));
    let mut world = World::new(seed, setting);
    for _ in 0..LIFE {
        world.step();
        if world.loops.iter().all(Option::is_none) {
            break;
        }
    }
    world.come_to_an_end();
    tally.add(&world);
    let machine = world.machine.clone();
    drop(world);
    assert_eq!(machine.system().descriptors(), 0, "descriptors are left");
}

/// `0x` and hexadecimal, or decimal.
fn parse(seed: &str) -> Option<u64> {
    match seed.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => seed.parse().ok(),
    }
}

/// Whatever is random in TLS has the same length each time.
#[test]
fn a_seed_replays() {
    for seed in SEED..SEED + 8 {
        let (mut first, mut second) = (Tally::default(), Tally::default());
        live(seed, &mut first);
        live(seed, &mut second);
        assert_eq!(first, second, "seed {seed:#x}");
    }
}

#[test]
fn a_server_survives_a_million_steps() {
    let mut tally = Tally::default();
    if let Ok(seed) = std::env::var("WEBSCALE_SEED") {
        live(parse(&seed).expect("WEBSCALE_SEED is a number"), &mut tally);
        return println!("{tally:?}");
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    live(u64::try_from(since.as_micros()).expect("not for ever"), &mut tally);
    for seed in SEED.. {
        if tally.steps >= STEPS {
            break;
        }
        live(seed, &mut tally);
    }
    println!("{tally:?}");
    tally.check();
}
