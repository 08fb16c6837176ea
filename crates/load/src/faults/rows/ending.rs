//! Signals to a server that is in use.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use webscale_proto::{Control, Data, OpCode};
use workload::Mode;

use super::super::attacker::hostile::Entry;
use super::super::attacker::script::{Move, Script, frame};
use super::super::attacker::{Assault, End, Toll, attack};
use super::super::figure::{Bar, Figure, Unit};
use super::super::row::{Arena, Findings, Row};
use super::super::settings::Scale;
use crate::cert::{self, Existing};

const CLIENTS: u32 = 1_000;
const PER_SECOND: f64 = 500.0;
/// When the server is asked to end, all clients are there and send.
const TERMINATED_AFTER: Duration = Duration::from_secs(4);
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
    attack: sigterm,
};

fn sigterm(arena: &Arena<'_>) -> io::Result<Findings> {
    let connections = arena.scale.of(CLIENTS);
    let patience = TERMINATED_AFTER + ENDED_WITHIN;
    let assault = Assault {
        lasts: TERMINATED_AFTER / 2,
        ..Assault::all_at_once(connections, PER_SECOND, Entry::WEBSOCKET, patience)
    };
    let begun = Instant::now();
    let (toll, signalled) = thread::scope(|scope| {
        let terminator = scope.spawn(|| {
            thread::sleep(TERMINATED_AFTER);
            arena.finale.store(true, Ordering::Relaxed);
            arena.signal(Signal::TERM)
        });
        let toll = attack(arena, &assault, &mut |_| {
            let message = frame(OpCode::Data(Data::Text), true, &[b'x'; 1_000]);
            let rest = Duration::from_millis(500);
            Box::new((0..).flat_map(move |_| [Move::Send(message.clone()), Move::Rest(rest)]))
        });
        (toll, terminator.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    signalled?;
    let toll = toll?;
    let took = begun.elapsed().saturating_sub(TERMINATED_AFTER).as_secs_f64();
    let mut findings = toll.findings();
    findings.figures =
        [toll.all_entered(connections)].into_iter().chain(figures_of_end(&toll, took)).collect();
    Ok(findings)
}

pub(super) fn figures_of_end(toll: &Toll, took_seconds: f64) -> [Figure; 2] {
    let within = Bar::AtMost(ENDED_WITHIN.as_secs_f64());
    [
        // Who was not there yet when it began was not let in.
        Figure::count("clients told 1001", toll.ended(End::Closed(1001)), Bar::Exactly(toll.entered as f64)),
        Figure::new("all ended after", took_seconds, Unit::Seconds, within).of_time(),
    ]
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
    let (toll, swapped) = thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            let swapped = swap(arena);
            over.store(true, Ordering::Relaxed);
            swapped
        });
        let mut toll = attack(arena, &assault, &mut visit);
        while let (Ok(sum), false) = (&mut toll, over.load(Ordering::Relaxed) || arena.is_stopped()) {
            match attack(arena, &assault, &mut visit) {
                Ok(round) => sum.join(&round),
                failed => toll = failed,
            }
        }
        (toll, swapper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
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
    let close = frame(OpCode::Control(Control::Close), true, &1000_u16.to_be_bytes());
    Box::new([Move::Send(message), Move::Listen, Move::Send(close)].into_iter())
}

/// Swaps the certificates, each swap when the one before was made; the last but one is a bad file.
fn swap(arena: &Arena<'_>) -> io::Result<()> {
    let directory = arena.certificate.cert.parent().unwrap_or(&arena.certificate.cert);
    let good = || {
        let written = cert::issue(&[]).and_then(|issued| issued.write(directory, Existing::Replace));
        written.map(drop).map_err(io::Error::other)
    };
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
    let (before, until) = (made()?, Instant::now() + PATIENCE);
    arena.signal(Signal::HUP)?;
    thread::sleep(BETWEEN);
    while made()? == before && Instant::now() < until && !arena.is_stopped() {
        thread::sleep(BETWEEN);
    }
    Ok(())
}
