//! Clients who know how to make a handler panic, or hang.

use std::io;
use std::iter;
use std::thread;
use std::time::{Duration, Instant};

use webscale_proto::{Control, Data, OpCode};
use workload::Mode;

use super::super::attacker::hostile::Entry;
use super::super::attacker::script::{Move, Script, close, frame};
use super::super::attacker::{Assault, End, Toll, attack, both};
use super::super::counts;
use super::super::figure::{Bar, Figure, Unit};
use super::super::row::{Arena, Findings, Row};
use super::super::settings::Scale;

const AT_ONCE: u32 = 1_000;
/// A second.
const PANICS: u32 = 1_000;
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) const PANICKING: Row = Row {
    number: 19,
    name: "handlers that panic, 1,000 times a second",
    expected: "1011 to that client; nobody else notices",
    mode: Mode::Echo,
    flags: |_| vec!["--wilful"],
    for_others: false,
    connections: AT_ONCE,
    slower_at_most: 2.0,
    attack: panics,
};

fn text(payload: &str) -> Move {
    Move::Send(frame(OpCode::Data(Data::Text), true, payload.as_bytes()))
}

fn panics(arena: &Arena<'_>) -> io::Result<Findings> {
    let per_second = f64::from(arena.scale.of(PANICS));
    let lasts = arena.scale.attack_min();
    let assault = Assault {
        connections: u32::MAX,
        per_second,
        at_once: AT_ONCE,
        entry: Entry::WEBSOCKET,
        patience: PATIENCE,
        lasts,
    };
    let before = arena.counts()?;
    let toll = attack(arena, &assault, &mut |_| Box::new([text("panic")].into_iter()))?;
    let counted = arena.counts()?.get("handler_panics_total") - before.get("handler_panics_total");
    let made = toll.begun as f64 / lasts.as_secs_f64();
    let mut findings = toll.findings();
    findings.figures =
        vec![Figure::new("panics a second", made, Unit::Count, Bar::AtLeast(per_second * 0.9)).of_attack()];
    findings.figures.extend(figures_of_panics(&toll, counted));
    findings.ends = vec![("panic", toll.in_time())];
    findings.panics_provoked = true;
    Ok(findings)
}

pub(super) fn figures_of_panics(toll: &Toll, counted: u64) -> [Figure; 2] {
    [
        toll.all_ended("clients closed with 1011", &[End::Closed(1011)]),
        Figure::count("panics that the server counted", counted, Bar::Exactly(toll.in_time() as f64)),
    ]
}

const WORKERS: u32 = 4;
const HELD_FOR: Duration = Duration::from_secs(2);

/// How long a worker may be busy before it counts as stuck, by default and by the flags below, and some more.
fn noticed_within(scale: Scale) -> Duration {
    scale.either(Duration::from_secs(8), Duration::from_secs(4))
}

pub(super) const BLOCKING: Row = Row {
    number: 20,
    name: "handlers that hang, on all workers but one",
    expected: "/healthz turns red, and green again; the others are served",
    mode: Mode::Echo,
    flags: |scale| {
        let held = vec!["--wilful", "--workers", "4"];
        scale.either(held.clone(), [&held[..], &["--stuck-after", "1s"]].concat())
    },
    for_others: false,
    connections: WORKERS,
    slower_at_most: 2.0,
    attack: blocks,
};

/// Clients who have a worker each hang.
fn block(arena: &Arena<'_>, connections: u32) -> io::Result<Toll> {
    let assault = Assault {
        lasts: PATIENCE,
        ..Assault::all_at_once(connections, 100.0, Entry::WEBSOCKET, 3 * PATIENCE)
    };
    attack(arena, &assault, &mut |_| -> Script {
        Box::new([text("block"), Move::Listen, Move::Send(close(1000))].into_iter())
    })
}

/// Those who hang go on.
fn release(arena: &Arena<'_>) -> io::Result<()> {
    counts::get(arena.address, &arena.tls, "/release").map(drop)
}

fn blocks(arena: &Arena<'_>) -> io::Result<Findings> {
    let begun = Instant::now();
    let (blocked, seen) = both(
        || block(arena, WORKERS - 1),
        || {
            let red = health_turns(arena, 503);
            thread::sleep(HELD_FOR);
            // Whatever was seen: nobody else lets them go.
            release(arena)?;
            Ok::<_, io::Error>((red?, health_turns(arena, 200)?))
        },
    );
    let (toll, (red, green)) = (blocked?, seen?);
    let mut findings = toll.findings();
    findings.done.push(format!(
        "{} of {WORKERS} workers held, for {:.1} s in all",
        WORKERS - 1,
        begun.elapsed().as_secs_f64()
    ));
    findings.figures = figures_of_blocks(arena.scale, &toll, red, green).to_vec();
    Ok(findings)
}

/// How long it took until health was `red`, and `green` again; none if it did not.
pub(super) fn figures_of_blocks(
    scale: Scale,
    toll: &Toll,
    red: Option<Duration>,
    green: Option<Duration>,
) -> [Figure; 3] {
    let most = Bar::AtMost(noticed_within(scale).as_secs_f64());
    let says = |name, after: Option<Duration>| match after {
        Some(after) => Figure::new(name, after.as_secs_f64(), Unit::Seconds, most).of_time(),
        None => Figure::new(name, f64::INFINITY, Unit::Seconds, most),
    };
    [
        says("/healthz says 503 after", red),
        says("/healthz says 200 after release", green),
        toll.all_ended("closed well after release", &[End::Closed(1000)]),
    ]
}

/// How long it takes until the server answers so; none if it does not in time.
fn health_turns(arena: &Arena<'_>, wanted: u16) -> io::Result<Option<Duration>> {
    let begun = Instant::now();
    let turned = arena.wait_for(2 * noticed_within(arena.scale), Duration::from_millis(50), || {
        Ok(counts::get(arena.address, &arena.tls, "/healthz")?.status()? == wanted)
    })?;
    Ok(turned.then(|| begun.elapsed()))
}

/// Clients with a message each: more than may wait for a worker.
const WAITING: u32 = 1_500;
/// Those that may (`Limits::worker_queue`), and those that have one.
const IN_HAND: u64 = 1_024 + WORKERS as u64;
const MESSAGE_BYTES: usize = 10_000;
/// What a client whose message waits may take in the server.
const EACH_BYTES: f64 = 32.0 * 1024.0;
/// While all hang, one client sends so many pings, each when the one before was answered.
const PINGS: u32 = 20;
const PINGED_EVERY: Duration = Duration::from_millis(50);
const PONGS_WITHIN: Duration = Duration::from_secs(1);

pub(super) const QUEUE: Row = Row {
    number: 20,
    name: "handlers that hang, on all workers, and more messages than may wait for them",
    expected: "their clients wait, unread; the loops answer pings; all are served after release",
    mode: Mode::Echo,
    flags: |_| vec!["--wilful", "--workers", "4"],
    for_others: false,
    connections: WAITING,
    // Their messages wait as well.
    slower_at_most: f64::INFINITY,
    attack: queue,
};

fn queue(arena: &Arena<'_>) -> io::Result<Findings> {
    let queued = Assault {
        lasts: 2 * PATIENCE,
        ..Assault::all_at_once(WAITING, 1_000.0, Entry::WEBSOCKET, 6 * PATIENCE)
    };
    let message = frame(OpCode::Data(Data::Text), true, &[b'x'; MESSAGE_BYTES]);
    let mut script = |_| -> Script {
        Box::new([Move::Send(message.clone()), Move::Listen, Move::Send(close(1000))].into_iter())
    };
    let (blocked, (pinged, waiting)) = both(
        || block(arena, WORKERS),
        || both(|| ping_when_full(arena), || attack(arena, &queued, &mut script)),
    );
    let (blocked, (pinged, in_hand), waiting) = (blocked?, pinged?, waiting?);
    let all = Toll::of([&blocked, &waiting]);
    let mut findings = all.findings();
    findings.done.push(format!(
        "all {WORKERS} workers held, while {WAITING} clients sent {MESSAGE_BYTES} bytes each, and one sent {PINGS} pings"
    ));
    findings.figures = figures_of_queue(&all, &pinged, in_hand).to_vec();
    findings.memory_each_at_most = Some(EACH_BYTES);
    Ok(findings)
}

/// What became of `all` whose messages had to wait, and meanwhile of the one who `pinged`.
pub(super) fn figures_of_queue(all: &Toll, pinged: &Toll, in_hand: u64) -> [Figure; 6] {
    let pongs = pinged.longest.saturating_sub(PINGED_EVERY * PINGS).as_secs_f64();
    let soon = Bar::AtMost(PONGS_WITHIN.as_secs_f64());
    [
        all.all_entered(WAITING + WORKERS),
        Figure::count("messages in hand", in_hand, Bar::AtMost(IN_HAND as f64)),
        Figure::count("of those that may be", in_hand, Bar::AtLeast(IN_HAND as f64)).of_attack(),
        pinged.all_ended("clients who got their pongs meanwhile", &[End::Closed(1000)]),
        Figure::new("their pongs took", pongs, Unit::Seconds, soon).of_time(),
        all.all_ended("served and closed well after release", &[End::Closed(1000)]),
    ]
}

/// When as many messages wait as may, has one client send pings, and releases all. How many messages were in hand then.
fn ping_when_full(arena: &Arena<'_>) -> io::Result<(Toll, u64)> {
    let in_hand = || {
        let counts = arena.counts()?;
        // Each message is answered by one.
        let answered = counts.get("messages_sent_total");
        Ok::<_, io::Error>(counts.get("messages_received_total").saturating_sub(answered))
    };
    let ping = Move::Send(frame(OpCode::Control(Control::Ping), true, b"?"));
    let pings = iter::repeat_n([ping, Move::Listen, Move::Rest(PINGED_EVERY)], PINGS as usize).flatten();
    let pings: Vec<Move> = pings.chain([Move::Send(close(1000))]).collect();
    let one = Assault::all_at_once(1, 1.0, Entry::WEBSOCKET, PATIENCE);
    let pinged = arena
        .wait_for(2 * PATIENCE, Duration::from_millis(50), || Ok(in_hand()? >= IN_HAND))
        .and_then(|_| attack(arena, &one, &mut |_| Box::new(pings.clone().into_iter())))
        .and_then(|toll| Ok((toll, in_hand()?)));
    // Whatever was seen: nobody else lets them go.
    release(arena)?;
    pinged
}
