//! Clients that have the server send, and read nothing.

use std::io;
use std::iter;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use webscale_proto::{Data, OpCode};
use workload::Mode;

use super::super::attacker::hostile::Entry;
use super::super::attacker::script::{Move, frame};
use super::super::attacker::{Assault, attack};
use super::super::figure::{Figure, Unit};
use super::super::row::{Arena, Findings, Row};
use super::flood::unread;
use crate::measure::kernel::Sockets;

const CONNECTIONS: u32 = 1_000;
const MESSAGE_BYTES: usize = 16_000;
/// What the server queues for one client, at most (`Limits::egress_bytes`).
const QUEUE_BYTES: f64 = 1024.0 * 1024.0;
const GRACE: Duration = Duration::from_secs(6);
/// Before a client counts as one that takes nothing, what lies between it and the server has to fill up.
const FILLING: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) const SILENT_READERS: Row = Row {
    number: 14,
    name: "clients that have messages echoed and never read",
    expected: "a queue with an end, then 1008",
    mode: Mode::Echo,
    flags: |scale| {
        let short = vec!["--max-message", "64KiB"];
        scale.either(short.clone(), [short, vec!["--ping-after", "1s", "--pong-time", "1s"]].concat())
    },
    for_others: true,
    connections: CONNECTIONS,
    slower_at_most: 2.0,
    attack: silent_readers,
};

fn silent_readers(arena: &Arena<'_>) -> io::Result<Findings> {
    let connections = arena.scale.of(CONNECTIONS);
    let ended = unread(arena.scale) + arena.scale.either(FILLING, FILLING / 10) + GRACE;
    let patience = ended + GRACE;
    let all = Assault::all_at_once(connections, 200.0, Entry::WEBSOCKET, patience);
    let assault = Assault { lasts: patience * 2, ..all };
    let message = frame(OpCode::Data(Data::Text), true, &[b'x'; MESSAGE_BYTES]);
    let over = AtomicBool::new(false);
    let before = Sockets::read().map_err(io::Error::other)?.total_bytes();
    let (toll, peak) = thread::scope(|scope| {
        let sampler = scope.spawn(|| most_in_kernel(&over));
        let toll = attack(arena, &assault, &mut |_| {
            let message = message.clone();
            let sends = iter::repeat_with(move || Move::Send(message.clone()));
            Box::new(iter::once(Move::StopReading).chain(sends))
        });
        over.store(true, Ordering::Relaxed);
        (toll, sampler.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let (toll, peak) = (toll?, peak?);
    let mut findings = toll.findings();
    let kernel = peak.saturating_sub(before) as f64 / (toll.peak_open as f64).max(1.0);
    findings.figures.push(toll.all_entered(connections));
    findings.figures.extend(toll.reaped_within(ended));
    findings.figures.push(Figure::noted("kernel memory a client, both ends", kernel, Unit::Bytes));
    findings.memory_each_at_most = Some(QUEUE_BYTES);
    Ok(findings)
}

/// What sockets took at most, until it is over.
fn most_in_kernel(over: &AtomicBool) -> io::Result<u64> {
    let mut most = 0;
    while !over.load(Ordering::Relaxed) {
        most = Sockets::read().map_err(io::Error::other)?.total_bytes().max(most);
        thread::sleep(LOOK_EVERY);
    }
    Ok(most)
}
