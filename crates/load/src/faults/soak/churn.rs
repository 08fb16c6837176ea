//! Those who come and go: each kind on a thread of its own, round after round.

use std::io;
use std::iter;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use webscale_proto::{Data, Deflater, OpCode};
use workload::random::Random;

use super::super::attacker::hostile::Entry;
use super::super::attacker::script::{Move, Script, close, frame, trickle};
use super::super::attacker::{Assault, End, Toll, attack};
use super::super::row::Arena;
use super::super::rows::wrong_frames;

const NICENESS: u8 = 10;
/// A round begins connections for so long; then their ends are awaited, and the next one is made.
const ROUND: Duration = Duration::from_secs(10);
/// None lives longer, unless the server lets it.
const PATIENCE: Duration = Duration::from_secs(20);
const PACE: [f64; 2] = [0.05, 8.0];
/// How far the pace may change at once.
const STEER: [f64; 2] = [0.8, 1.25];

/// How fast they come, as a multiple of what stands in [`HABITS`].
#[derive(Debug)]
pub(super) struct Pace(AtomicU64);

impl Default for Pace {
    fn default() -> Self {
        Pace(AtomicU64::new(1.0_f64.to_bits()))
    }
}

impl Pace {
    pub(super) fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Brings CPU time in use, in processors, to what is wanted.
    pub(super) fn steer(&self, used: f64, wanted: f64) {
        let by = (wanted / used.max(0.01)).clamp(STEER[0], STEER[1]);
        self.0.store((self.get() * by).clamp(PACE[0], PACE[1]).to_bits(), Ordering::Relaxed);
    }
}

/// A kind of clients.
#[derive(Debug)]
pub(super) struct Habit {
    pub(super) name: &'static str,
    entry: Entry,
    /// Begun a second.
    per_second: f64,
    at_once: u32,
    script: fn(&mut Random) -> Script,
    /// How each has to end, as it sees it.
    pub(super) ends: &'static [End],
    /// What the server counts it as; of several, whichever deadline comes first.
    pub(super) causes: &'static [&'static str],
}

/// What became of one kind.
#[derive(Debug)]
pub(crate) struct Account {
    pub(super) habit: &'static Habit,
    pub(super) toll: Toll,
}

/// All kinds.
pub(super) static HABITS: [Habit; 12] = [
    Habit {
        name: "visitors who send messages and close",
        entry: Entry::WEBSOCKET,
        per_second: 20.0,
        at_once: 200,
        script: visit,
        ends: &[End::Closed(1000)],
        causes: &["peer"],
    },
    Habit {
        name: "resets in the TLS handshake",
        entry: Entry::Tcp,
        per_second: 20.0,
        at_once: 100,
        script: |random| leave_behind(HELLO, random),
        ends: &[End::Left],
        causes: &["lost"],
    },
    Habit {
        name: "resets in the HTTP head",
        entry: Entry::Tls,
        per_second: 10.0,
        at_once: 100,
        script: |random| leave_behind(HEAD, random),
        ends: &[End::Left],
        causes: &["lost"],
    },
    Habit {
        name: "resets in a message",
        entry: Entry::WEBSOCKET,
        per_second: 10.0,
        at_once: 100,
        script: |random| leave_behind(&declared(), random),
        ends: &[End::Left],
        causes: &["lost"],
    },
    Habit {
        name: "TLS handshakes that trickle",
        entry: Entry::Tcp,
        per_second: 10.0,
        at_once: 100,
        script: |random| drawn_out(HELLO, random),
        ends: &[End::Dropped],
        causes: &["timeout"],
    },
    Habit {
        name: "HTTP heads that trickle",
        entry: Entry::Tls,
        per_second: 10.0,
        at_once: 100,
        script: |random| drawn_out(HEAD, random),
        ends: &[End::Answered(408), End::Dropped],
        causes: &["timeout"],
    },
    Habit {
        name: "messages that trickle",
        entry: Entry::WEBSOCKET,
        per_second: 10.0,
        at_once: 100,
        script: |random| drawn_out(&declared(), random),
        ends: &[End::Closed(1008)],
        causes: &["timeout"],
    },
    Habit {
        name: "those who send and do not read",
        entry: Entry::WEBSOCKET,
        per_second: 1.0,
        at_once: 10,
        script: do_not_read,
        ends: &[End::Dropped, End::Closed(1008)],
        causes: &["timeout", "slow_consumer"],
    },
    Habit {
        name: "compression bombs",
        entry: Entry::WebSocket { deflate: true },
        per_second: 5.0,
        at_once: 50,
        script: |_| Box::new(iter::once(Move::Send(BOMB.clone()))),
        ends: &[End::Closed(1009)],
        causes: &["protocol"],
    },
    Habit {
        name: "wrong frames",
        entry: Entry::WEBSOCKET,
        per_second: 10.0,
        at_once: 50,
        script: |random| {
            Box::new(iter::once(Move::Send(WRONG_FRAMES[random.index(WRONG_FRAMES.len())].clone())))
        },
        ends: &[End::Closed(1002)],
        causes: &["protocol"],
    },
    Habit {
        name: "HTTP without TLS",
        entry: Entry::Tcp,
        per_second: 10.0,
        at_once: 50,
        script: |_| Box::new(iter::once(Move::Send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()))),
        ends: &[End::Dropped],
        causes: &["tls"],
    },
    Habit {
        name: "heads that are none",
        entry: Entry::Tls,
        per_second: 10.0,
        at_once: 50,
        script: |_| {
            Box::new(iter::once(Move::Send(b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec())))
        },
        ends: &[End::Answered(400)],
        causes: &["upgrade"],
    },
];

/// The beginning of a ClientHello in its record.
const HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 7, 7, 7, 7, 7, 7, 7, 7, 7];
const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: x";
const TEXT: OpCode = OpCode::Data(Data::Text);
static WRONG_FRAMES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(wrong_frames);
/// 4 MiB, which take 4 kB.
static BOMB: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut compressed = Vec::new();
    Deflater::new(9, 15, false).message(&[b' '; 4 << 20], &mut compressed);
    let mut frame = frame(TEXT, true, &compressed);
    frame[0] |= 0x40;
    frame
});

/// The beginning of a message, header and all.
fn declared() -> Vec<u8> {
    frame(TEXT, true, &[b'x'; 10_000])[..28].to_vec()
}

fn part_of(time: Duration, random: &mut Random) -> Duration {
    time.mul_f64(random.between(0.0, 1.0))
}

fn visit(random: &mut Random) -> Script {
    const REST_MAX: Duration = Duration::from_millis(500);
    let mut moves = Vec::new();
    for _ in 0..=random.below(8) {
        let payload = vec![random.choose(b"etaoinshrdlu"); random.index(20_000)];
        moves.push(Move::Send(frame(TEXT, true, &payload)));
        moves.push(Move::Rest(part_of(REST_MAX, random)));
    }
    moves.push(Move::Send(close(1000)));
    Box::new(moves.into_iter())
}

/// Some of `bytes`, a rest, and a reset.
fn leave_behind(bytes: &[u8], random: &mut Random) -> Script {
    const REST_MAX: Duration = Duration::from_millis(200);
    let begun = Move::Send(bytes[..=random.index(bytes.len())].to_vec());
    Box::new([begun, Move::Rest(part_of(REST_MAX, random)), Move::Leave].into_iter())
}

fn drawn_out(bytes: &[u8], random: &mut Random) -> Script {
    const REST: Duration = Duration::from_millis(200);
    Box::new(trickle(bytes.to_vec(), REST + part_of(REST, random), Move::Send))
}

fn do_not_read(_: &mut Random) -> Script {
    let message = frame(TEXT, true, &[b'x'; 16_000]);
    Box::new(iter::once(Move::StopReading).chain(iter::repeat_with(move || Move::Send(message.clone()))))
}

/// What is the same for all kinds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Churn<'a> {
    pub(super) arena: &'a Arena<'a>,
    pub(super) pace: &'a Pace,
    pub(super) until: Instant,
}

impl Churn<'_> {
    /// Round after round, until the time is over.
    pub(super) fn live(&self, habit: &'static Habit, seed: u64) -> io::Result<Account> {
        webscale_sys::process::give_way(NICENESS)?;
        let (mut random, mut toll) = (Random::new(seed), Toll::default());
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.arena.is_stopped() {
                return Ok(Account { habit, toll });
            }
            let assault = Assault {
                connections: u32::MAX,
                per_second: habit.per_second * self.pace.get(),
                at_once: habit.at_once,
                entry: habit.entry,
                patience: PATIENCE,
                lasts: left.min(ROUND),
            };
            toll.join(&attack(self.arena, &assault, &mut |_| (habit.script)(&mut random))?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_follows_what_is_used_within_bounds() {
        let pace = Pace::default();
        pace.steer(0.8, 1.0);
        assert!((pace.get() - 1.25).abs() < 1e-9);
        for _ in 0..100 {
            pace.steer(2.0, 1.0);
        }
        assert!((pace.get() - PACE[0]).abs() < 1e-9);
        for _ in 0..100 {
            pace.steer(0.0, 1.0);
        }
        assert!((pace.get() - PACE[1]).abs() < 1e-9);
    }

    #[test]
    fn a_seed_decides_what_is_done() {
        let played = |seed| {
            let mut random = Random::new(seed);
            HABITS.iter().map(|habit| (habit.script)(&mut random).take(3).count()).sum::<usize>();
            format!("{:?}", visit(&mut random).collect::<Vec<_>>())
        };
        assert_eq!(played(7), played(7));
        assert_ne!(played(7), played(8));
        assert!(BOMB.len() < 8192);
    }
}
