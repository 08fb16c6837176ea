//! Clients of an open connection that declare much and send little.

use std::io;
use std::time::Duration;

use webscale_proto::{Data, OpCode};
use workload::Mode;

use super::super::attacker::hostile::Entry;
use super::super::attacker::script::{Move, Script, header, trickle};
use super::super::attacker::{Assault, End, Toll, attack};
use super::super::row::{Arena, Findings, Row};
use super::super::settings::Scale;

const CONNECTIONS: u32 = 1_000;
const PER_SECOND: f64 = 500.0;
/// A server may be so much later than its deadline.
const GRACE: Duration = Duration::from_secs(1);
/// What an open TLS connection may take in the server, in bytes.
const EACH_BYTES: f64 = 6_000.0;
/// What is declared and never comes.
const DECLARED_BYTES: u64 = 16 << 20;

/// The server's time for a message: its default, and at a tenth of the scale a shorter one that is asked for.
fn deadline(scale: Scale) -> Duration {
    scale.either(Duration::from_secs(60), Duration::from_secs(3))
}

pub(super) const FRAME_HEADER: Row = Row {
    number: 3,
    name: "frame header at a byte in ten seconds",
    expected: "a deadline from the message's first byte, then 1008; nothing allocated",
    mode: Mode::Ingest,
    flags: |scale| scale.either(vec![], vec!["--message-time", "3s"]),
    for_others: true,
    connections: CONNECTIONS,
    slower_at_most: 2.0,
    attack: frame_header,
};

pub(super) const PAYLOAD: Row = Row {
    number: 4,
    name: "a byte a second of a declared 16 MiB frame, or of a TLS record",
    expected: "the same deadline; a declared length allocates nothing",
    mode: Mode::Ingest,
    flags: |scale| {
        let longest = vec!["--max-message", "16MiB"];
        scale.either(longest.clone(), [longest, vec!["--message-time", "3s"]].concat())
    },
    for_others: true,
    connections: CONNECTIONS,
    slower_at_most: 2.0,
    attack: payload,
};

/// The header of a frame that is longer than any that will come.
fn declared() -> Vec<u8> {
    header(OpCode::Data(Data::Binary), true, DECLARED_BYTES).to_vec()
}

fn frame_header(arena: &Arena<'_>) -> io::Result<Findings> {
    let rest = deadline(arena.scale) / 6;
    found(arena, |_| Box::new(trickle(declared(), rest, Move::Send)))
}

fn payload(arena: &Arena<'_>) -> io::Result<Findings> {
    const REST: Duration = Duration::from_secs(1);
    // Application data of the greatest length that a record may have (RFC 8446 §5.2).
    const RECORD: [u8; 5] = [0x17, 0x03, 0x03, 0x41, 0x00];
    found(arena, |number| {
        let (first, then): (Move, fn(Vec<u8>) -> Move) = match number % 2 {
            0 => (Move::Send(declared()), Move::Send),
            _ => (Move::SendBelow(RECORD.to_vec()), Move::SendBelow),
        };
        Box::new([first].into_iter().chain(trickle(vec![b'x'; 1 << 10], REST, then)))
    })
}

fn found(arena: &Arena<'_>, script: impl Fn(u32) -> Script) -> io::Result<Findings> {
    Ok(judged(arena.scale, &attack(arena, &assault(arena.scale), &mut |number| script(number))?))
}

pub(super) fn judged(scale: Scale, toll: &Toll) -> Findings {
    let mut findings = toll.findings();
    findings.figures.push(toll.all_entered(scale.of(CONNECTIONS)));
    // Where a record is under way the Close frame comes all the same: the other direction has nothing to do with it.
    findings.figures.push(toll.all_ended("connections closed with 1008", &[End::Closed(1008)]));
    findings.figures.extend(toll.reaped_within(deadline(scale) + GRACE));
    findings.memory_each_at_most = Some(EACH_BYTES);
    findings.ends = vec![("timeout", toll.in_time())];
    findings
}

fn assault(scale: Scale) -> Assault {
    let patience = deadline(scale) + 3 * GRACE;
    Assault::all_at_once(scale.of(CONNECTIONS), PER_SECOND, Entry::WEBSOCKET, patience)
}
