//! Clients that begin something and hardly go on with it.

use std::io;
use std::time::Duration;

use workload::Mode;

use super::super::attacker::hostile::Entry;
use super::super::attacker::script::{Move, trickle};
use super::super::attacker::{Assault, End, Toll, attack, tls};
use super::super::row::{Arena, Findings, Row};
use super::super::settings::Scale;

const CONNECTIONS: u32 = 10_000;
/// Between two bytes.
const REST: Duration = Duration::from_secs(1);
/// A server may be so much later than its deadline.
const GRACE: Duration = Duration::from_secs(1);

/// The server's time for a handshake: its default, and at a tenth of the scale a shorter one that is asked for.
fn deadline(scale: Scale) -> Duration {
    scale.either(Duration::from_secs(10), Duration::from_secs(3))
}

fn flags(scale: Scale) -> Vec<&'static str> {
    scale.either(vec![], vec!["--handshake-time", "3s"])
}

pub(super) const TLS_HANDSHAKE: Row = Row {
    number: 1,
    name: "TLS handshake at a byte a second",
    expected: "an absolute deadline, which no byte resets; 60 MB at most",
    mode: Mode::Ingest,
    flags,
    for_others: true,
    connections: CONNECTIONS,
    slower_at_most: 2.0,
    attack: tls_handshake,
};

pub(super) const HTTP_HEAD: Row = Row {
    number: 2,
    name: "HTTP head at a byte a second",
    expected: "the same deadline, then 408 or an end; 80 MB at most",
    mode: Mode::Ingest,
    flags,
    for_others: true,
    connections: CONNECTIONS,
    slower_at_most: 2.0,
    attack: http_head,
};

fn tls_handshake(arena: &Arena<'_>) -> io::Result<Findings> {
    let hello = tls::hello(&arena.tls).map_err(io::Error::other)?;
    let toll = attack(arena, &assault(arena.scale, Entry::Tcp, 2_000.0), &mut |_| {
        Box::new(trickle(hello.clone(), REST, Move::Send))
    })?;
    Ok(found(arena.scale, &toll, 60e6))
}

fn http_head(arena: &Arena<'_>) -> io::Result<Findings> {
    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a patient one\r\n";
    // Each costs a whole TLS handshake, which is not what this row is about.
    let toll = attack(arena, &assault(arena.scale, Entry::Tls, 1_000.0), &mut |_| {
        Box::new(trickle(HEAD.to_vec(), REST, Move::Send))
    })?;
    Ok(found_of_heads(arena.scale, &toll))
}

pub(super) fn found_of_heads(scale: Scale, toll: &Toll) -> Findings {
    let ended =
        toll.all_ended("connections ended with 408 or without a word", &[End::Answered(408), End::Dropped]);
    let mut findings = found(scale, toll, 80e6);
    findings.figures.push(ended);
    findings
}

fn assault(scale: Scale, entry: Entry, per_second: f64) -> Assault {
    Assault::all_at_once(scale.of(CONNECTIONS), per_second, entry, deadline(scale) + 3 * GRACE)
}

pub(super) fn found(scale: Scale, toll: &Toll, memory_at_most: f64) -> Findings {
    let mut findings = toll.findings();
    findings.figures.push(toll.all_entered(scale.of(CONNECTIONS)));
    findings.figures.extend(toll.reaped_within(deadline(scale) + GRACE));
    findings.memory_at_most = Some(memory_at_most);
    findings.ends = vec![("timeout", toll.in_time())];
    findings
}
