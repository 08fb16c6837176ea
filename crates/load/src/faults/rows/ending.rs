//! Signals to a server that is in use.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use webscale_proto::{Data, OpCode};
use workload::Mode;

use super::super::attacker::hostile::Entry;
use super::super::attacker::script::{Move, Script, close, counted, frame};
use super::super::attacker::{Assault, End, Toll, attack, attack_until, both};
use super::super::figure::{Bar, Figure, Unit};
use super::super::row::{Arena, Findings, Row};
use super::super::settings::Scale;
use crate::cert;

const CLIENTS: u32 = 1_000;
const PER_SECOND: f64 = 500.0;
/// Until all clients are there.
const COME_WITHIN: Duration = Duration::from_secs(10);
/// So long they send before the server is asked to end.
const SEND_FOR: Duration = Duration::from_secs(1);
/// How often it is looked whether they are.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Time for the shutdown, by default, and some more.
const ENDED_WITHIN: Duration = Duration::from_secs(12);

pub(super) const SIGTERM: Row = Row {
    number: 21,
    name: "SIGTERM under load",
    expected: "every client is told 1001; exit code 0",
    mode: Mode::Echo,
    flags: |_| vec![],
    for_others: true,
    connections: CLIENTS,
    slower_at_most: 2.0,
    attack: |arena| {
        let findings = terminated(arena, 1, figures_of_end)?;
        Ok(Findings { says_farewell: true, ..findings })
    },
};

pub(super) fn figures_of_end(toll: &Toll, took_seconds: f64) -> [Figure; 2] {
    let within = Bar::AtMost(ENDED_WITHIN.as_secs_f64());
    [
        // Who was not there yet when it began was not let in.
        Figure::count("clients told 1001", toll.ended(End::Closed(1001)), Bar::Exactly(toll.entered as f64)),
        Figure::new("all ended after", took_seconds, Unit::Seconds, within).of_time(),
    ]
}

/// Between two signals.
const INSISTED_AFTER: Duration = Duration::from_secs(1);
/// Nobody is waited for any more.
const FORCED_WITHIN: Duration = Duration::from_secs(1);

pub(super) const SECOND_SIGTERM: Row = Row {
    number: 21,
    name: "a second SIGTERM to a server that takes an hour to say goodbye",
    expected: "it ends at once; exit code 0",
    mode: Mode::Echo,
    flags: |_| vec!["--drain", "1h"],
    for_others: false,
    connections: CLIENTS,
    slower_at_most: 2.0,
    attack: |arena| terminated(arena, 2, figures_of_force),
};

pub(super) fn figures_of_force(toll: &Toll, took_seconds: f64) -> [Figure; 2] {
    // In a second of the hour hardly anybody's turn came.
    let most = Bar::AtLeast(toll.entered as f64 * 0.9);
    let within = Bar::AtMost(FORCED_WITHIN.as_secs_f64());
    [
        Figure::count("clients that only the second signal ended", toll.ended(End::Dropped), most),
        Figure::new("all ended after", took_seconds, Unit::Seconds, within).of_time(),
    ]
}

/// Clients send all the time, and the server gets so many SIGTERM: what `figures` makes of their ends, and of how many seconds
/// behind the last signal there was none left.
fn terminated(
    arena: &Arena<'_>,
    signals: u32,
    figures: fn(&Toll, f64) -> [Figure; 2],
) -> io::Result<Findings> {
    let clients = arena.scale.of(CLIENTS);
    let patience = COME_WITHIN + SEND_FOR + INSISTED_AFTER * (signals - 1) + ENDED_WITHIN;
    let assault = Assault {
        lasts: COME_WITHIN,
        ..Assault::all_at_once(clients, PER_SECOND, Entry::WEBSOCKET, patience)
    };
    let come = Arc::new(AtomicU32::new(0));
    let terminate = || {
        arena.wait_for(COME_WITHIN, LOOK_EVERY, || Ok(come.load(Ordering::Relaxed) >= clients))?;
        thread::sleep(SEND_FOR);
        arena.finale.store(true, Ordering::Relaxed);
        for _ in 1..signals {
            arena.signal(Signal::TERM)?;
            thread::sleep(INSISTED_AFTER);
        }
        arena.signal(Signal::TERM)?;
        Ok::<_, io::Error>(Instant::now())
    };
    let message = frame(OpCode::Data(Data::Text), true, &[b'x'; 1_000]);
    let moves = [Move::Send(message), Move::Rest(Duration::from_millis(500))];
    let mut script = |_| counted(&come, moves.clone().into_iter().cycle());
    let (signalled, toll) = both(terminate, || attack(arena, &assault, &mut script));
    let (signalled, toll) = (signalled?, toll?);
    let took = signalled.elapsed().as_secs_f64();
    let mut findings = toll.findings();
    findings.figures.push(toll.all_entered(clients));
    findings.figures.extend(figures(&toll, took));
    Ok(findings)
}

const SWAPS: u32 = 100;
/// Lines in the log are limited too, and each reload is one.
const BETWEEN: Duration = Duration::from_millis(150);
const VISITS_PER_SECOND: f64 = 100.0;
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) const CERTIFICATES: Row = Row {
    number: 22,
    name: "certificates swapped under load (SIGHUP), and a bad file",
    expected: "no handshake fails; a bad file changes nothing",
    mode: Mode::Echo,
    flags: |_| vec![],
    for_others: false,
    connections: CLIENTS,
    slower_at_most: 2.0,
    attack: certificates,
};

fn certificates(arena: &Arena<'_>) -> io::Result<Findings> {
    let over = AtomicBool::new(false);
    let assault = Assault {
        connections: u32::MAX,
        per_second: VISITS_PER_SECOND,
        at_once: CLIENTS,
        entry: Entry::WEBSOCKET,
        patience: PATIENCE,
        lasts: Duration::from_secs(1),
    };
    let before = arena.counts()?;
    let swaps = || {
        let swapped = swap(arena);
        over.store(true, Ordering::Relaxed);
        swapped
    };
    let (swapped, toll) =
        both(swaps, || attack_until(arena, &assault, &mut visit, || over.load(Ordering::Relaxed)));
    swapped?;
    let (toll, after) = (toll?, arena.counts()?);
    let reloads = |result: &str| {
        let name = format!("certificate_reloads_total/{result}");
        after.get(&name) - before.get(&name)
    };
    let mut findings = toll.findings();
    findings.figures =
        figures_of_reloads(arena.scale, &toll, reloads("changed"), reloads("refused")).to_vec();
    Ok(findings)
}

pub(super) fn figures_of_reloads(scale: Scale, toll: &Toll, changed: u64, refused: u64) -> [Figure; 3] {
    [
        toll.all_ended("visits that ended well", &[End::Closed(1000)]),
        Figure::count("reloads", changed, Bar::Exactly(f64::from(scale.of(SWAPS) + 1))),
        Figure::count("bad files refused", refused, Bar::Exactly(1.0)),
    ]
}

fn visit(_: u32) -> Script {
    let message = frame(OpCode::Data(Data::Text), true, b"{}");
    Box::new([Move::Send(message), Move::Listen, Move::Send(close(1000))].into_iter())
}

/// Swaps the certificates, each swap when the one before was made; the last but one is a bad file.
fn swap(arena: &Arena<'_>) -> io::Result<()> {
    let good = || cert::renew(arena.certificate).map_err(io::Error::other);
    for _ in 0..arena.scale.of(SWAPS) {
        good()?;
        reload(arena)?;
    }
    fs::write(&arena.certificate.cert, "no certificate")?;
    let refused = reload(arena);
    // Whatever happened: the rows that come later start their servers with it.
    good()?;
    refused?;
    reload(arena)
}

/// Asks for a reload, and waits until it was made or refused.
fn reload(arena: &Arena<'_>) -> io::Result<()> {
    let made = || Ok::<_, io::Error>(arena.counts()?.sum("certificate_reloads_total"));
    let before = made()?;
    arena.signal(Signal::HUP)?;
    thread::sleep(BETWEEN);
    arena.wait_for(PATIENCE, BETWEEN, || Ok(made()? > before)).map(drop)
}
