//! Clients who know how to make a handler panic, or hang.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use webscale_proto::{Control, Data, OpCode};
use workload::Mode;

use super::super::attacker::hostile::Entry;
use super::super::attacker::script::{Move, Script, frame};
use super::super::attacker::{Assault, End, Toll, attack};
use super::super::counts;
use super::super::figure::{Bar, Figure, Unit};
use super::super::row::{Arena, Findings, Row};

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
    findings.ends = vec![("panic", toll.begun)];
    findings.panics_provoked = true;
    Ok(findings)
}

pub(super) fn figures_of_panics(toll: &Toll, counted: u64) -> [Figure; 2] {
    [
        toll.all_ended("clients closed with 1011", &[End::Closed(1011)]),
        Figure::count("panics that the server counted", counted, Bar::Exactly(toll.begun as f64)),
    ]
}

const WORKERS: u32 = 4;
/// How long a worker may be busy before it counts as stuck (`Limits::stuck_after`), and some more.
const NOTICED_WITHIN: Duration = Duration::from_secs(8);
const HELD_FOR: Duration = Duration::from_secs(2);

pub(super) const BLOCKING: Row = Row {
    number: 20,
    name: "handlers that hang, on all workers but one",
    expected: "/healthz turns red, and green again; the others are served",
    mode: Mode::Echo,
    flags: |_| vec!["--wilful", "--workers", "4"],
    for_others: false,
    connections: WORKERS,
    slower_at_most: 2.0,
    attack: blocks,
};

/// The few connections of this row.
fn few(arena: &Arena<'_>, connections: u32, moves: &[Move]) -> io::Result<Toll> {
    let patience = 3 * NOTICED_WITHIN;
    let assault =
        Assault { lasts: patience, ..Assault::all_at_once(connections, 100.0, Entry::WEBSOCKET, patience) };
    let close = Move::Send(frame(OpCode::Control(Control::Close), true, &1000_u16.to_be_bytes()));
    let moves = [moves, &[Move::Listen, close]].concat();
    attack(arena, &assault, &mut |_| -> Script { Box::new(moves.clone().into_iter()) })
}

fn blocks(arena: &Arena<'_>) -> io::Result<Findings> {
    let begun = Instant::now();
    let (blocked, seen) = thread::scope(|scope| {
        let blocked = scope.spawn(|| few(arena, WORKERS - 1, &[text("block")]));
        let red = health_turns(arena, 503);
        thread::sleep(HELD_FOR);
        let released = few(arena, 1, &[text("release")]);
        let green = health_turns(arena, 200);
        let blocked = blocked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (blocked, red.and_then(|red| Ok((red, released?, green?))))
    });
    let (mut toll, (red, released, green)) = (blocked?, seen?);
    toll.join(&released);
    let mut findings = toll.findings();
    findings.done.push(format!(
        "{} of {WORKERS} workers held, for {:.1} s in all",
        WORKERS - 1,
        begun.elapsed().as_secs_f64()
    ));
    findings.figures = figures_of_blocks(&toll, red, green).to_vec();
    Ok(findings)
}

/// How long it took until health was `red`, and `green` again; none if it did not.
pub(super) fn figures_of_blocks(toll: &Toll, red: Option<Duration>, green: Option<Duration>) -> [Figure; 3] {
    let took = |time: Option<Duration>| time.map_or(f64::INFINITY, |time| time.as_secs_f64());
    let most = Bar::AtMost(NOTICED_WITHIN.as_secs_f64());
    [
        Figure::new("/healthz says 503 after", took(red), Unit::Seconds, most),
        Figure::new("/healthz says 200 after release", took(green), Unit::Seconds, most),
        toll.all_ended("closed well after release", &[End::Closed(1000)]),
    ]
}

/// How long it takes until the server answers so; none if it does not in time.
fn health_turns(arena: &Arena<'_>, wanted: u16) -> io::Result<Option<Duration>> {
    let begun = Instant::now();
    while begun.elapsed() < NOTICED_WITHIN && !arena.is_stopped() {
        if counts::get(arena.address, &arena.tls, "/healthz")?.status()? == wanted {
            return Ok(Some(begun.elapsed()));
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(None)
}
