//! Clients that have the server send, and read nothing.

use std::io;
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use webscale_proto::{Data, OpCode};
use workload::Mode;

use super::super::attacker::hostile::Entry;
use super::super::attacker::script::{Move, Script, counted, frame};
use super::super::attacker::{Assault, FOR_EVER, Toll, attack_while};
use super::super::figure::{Bar, Figure, Unit};
use super::super::row::{Arena, Findings, Row};
use super::super::settings::Scale;
use super::flood::{GRACE, SHORT_SILENCE, unread};
use crate::measure::kernel::Sockets;

const CONNECTIONS: u32 = 1_000;
const MESSAGE_BYTES: usize = 16_000;
/// What the server queues for one client, at most (`Limits::egress_bytes`).
const QUEUE_BYTES: f64 = 1024.0 * 1024.0;
/// Before a client counts as one that takes nothing, what lies between it and the server has to fill up; and at each of the
/// kernel's questions whether there is room, of which each waits twice as long as the one before, a little may be taken.
const FILLING: [Duration; 2] = [Duration::from_secs(20), Duration::from_secs(15)];
/// Until all clients are there.
const COME_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) const SILENT_READERS: Row = Row {
    number: 14,
    name: "clients that have messages echoed and never read",
    expected: "a queue with an end, then 1008",
    mode: Mode::Echo,
    flags: |scale| {
        let short = ["--max-message", "64KiB"];
        scale.either(short.to_vec(), [&short[..], &SHORT_SILENCE].concat())
    },
    for_others: true,
    connections: CONNECTIONS,
    slower_at_most: 2.0,
    attack: silent_readers,
};

fn silent_readers(arena: &Arena<'_>) -> io::Result<Findings> {
    let connections = arena.scale.of(CONNECTIONS);
    let assault = Assault::all_at_once(connections, 200.0, Entry::WEBSOCKET, FOR_EVER);
    let message = frame(OpCode::Data(Data::Text), true, &[b'x'; MESSAGE_BYTES]);
    let come = Arc::new(AtomicU32::new(0));
    let mut script = |_| -> Script {
        let message = message.clone();
        let sends = iter::repeat_with(move || Move::Send(message.clone()));
        counted(&come, iter::once(Move::StopReading).chain(sends))
    };
    let have_come = || come.load(Ordering::Relaxed) >= connections;
    let (toll, seen) = attack_while(arena, &assault, &mut script, || watch(arena, have_come))?;
    let mut findings = toll.findings();
    findings.figures = figures(arena.scale, &toll, &seen?).to_vec();
    findings.memory_each_at_most = Some(QUEUE_BYTES);
    Ok(findings)
}

/// What is seen of the server while its clients do not read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// What sockets took at most.
    pub(super) kernel_bytes: u64,
    /// Whether all clients came in time.
    pub(super) have_come: bool,
    /// Connections that it holds in the end.
    pub(super) held: u64,
    /// When it had let the last one go, in seconds.
    pub(super) took: f64,
}

/// Watches the server until it has let all go. A client that does not read hears of that late, when its kernel next asks
/// whether there is room (tcp(7)): the server's descriptors say it at once.
fn watch(arena: &Arena<'_>, have_come: impl Fn() -> bool) -> io::Result<Seen> {
    let (process, begun) = (arena.process()?, Instant::now());
    let descriptors = || process.descriptors().map_err(io::Error::other);
    let kernel = || Sockets::read().map(|sockets| sockets.total_bytes()).map_err(io::Error::other);
    let (at_rest, before) = (descriptors()?, kernel()?);
    let mut seen = Seen::default();
    let mut look = || {
        seen.kernel_bytes = kernel()?.saturating_sub(before).max(seen.kernel_bytes);
        seen.held = descriptors()?.saturating_sub(at_rest) as u64;
        Ok::<_, io::Error>(seen.held)
    };
    let all = arena.wait_for(COME_WITHIN, LOOK_EVERY, || look().map(|_| have_come()))?;
    arena.wait_for(let_go_within(arena.scale) + GRACE, LOOK_EVERY, || Ok(look()? == 0))?;
    Ok(Seen { have_come: all, took: begun.elapsed().as_secs_f64(), ..seen })
}

fn let_go_within(scale: Scale) -> Duration {
    unread(scale) + scale.either(FILLING[0], FILLING[1]) + GRACE
}

pub(super) fn figures(scale: Scale, toll: &Toll, seen: &Seen) -> [Figure; 4] {
    let most = Bar::AtMost(let_go_within(scale).as_secs_f64());
    let kernel = seen.kernel_bytes as f64 / (toll.peak_open as f64).max(1.0);
    let held = Figure::count("connections that the server still holds", seen.held, Bar::Exactly(0.0));
    [
        toll.all_entered(scale.of(CONNECTIONS)),
        // Who came too late had not been waited for in full.
        if seen.have_come { held } else { held.of_attack() },
        Figure::new("the last of them let go after", seen.took, Unit::Seconds, most).of_time(),
        Figure::noted("kernel memory a client, both ends", kernel, Unit::Bytes),
    ]
}
