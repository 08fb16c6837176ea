//! Clients whose TLS is too old, too early, too late, or never done.

use std::fs;
use std::io;
use std::iter;

use workload::Mode;

use super::super::attacker::early_data::{Fate, Returning};
use super::super::attacker::hostile::Entry;
use super::super::attacker::script::{Move, close};
use super::super::attacker::{End, Toll, renegotiation, tls};
use super::super::figure::{Bar, Figure};
use super::super::row::{Arena, CLIENT_CA, Findings, Row};
use super::strangers::{A_ROUND, alerts, rounds};
use crate::cert::{self, Pair};

/// Clients who renegotiate, or send early data, one after the other.
const FEW: u32 = 100;

pub(super) const TLS: Row = Row {
    number: 24,
    name: "TLS 1.1, renegotiation, early data, and key updates without end",
    expected: "refused with an alert, or ended; early data is never taken",
    mode: Mode::Ingest,
    flags: |_| vec![],
    for_others: true,
    connections: A_ROUND,
    slower_at_most: 2.0,
    attack: handshakes,
};

fn handshakes(arena: &Arena<'_>) -> io::Result<Findings> {
    let old = rounds(arena, Entry::Tcp, &[vec![Move::Send(hello_of_tls_1_1())]])?;
    let flood: Vec<Move> = (0..1_000).map(|_| Move::UpdateKeys).collect();
    let updates = rounds(arena, Entry::WEBSOCKET, &[flood])?;
    let mut findings = Toll::of([&old, &updates]).findings();
    let (ended, renegotiations) = renegotiations(arena)?;
    findings.ends = vec![("tls", old.in_time() + ended)];
    findings.figures = figures_of_old_tls(&old, &updates).to_vec();
    findings.figures.push(renegotiations);
    if arena.is_own {
        findings.figures.extend(early_data(arena)?);
    }
    Ok(findings)
}

pub(super) fn figures_of_old_tls(old: &Toll, updates: &Toll) -> [Figure; 3] {
    [
        old.all_ended("TLS 1.1 refused", &[End::Dropped]),
        alerts(old),
        Figure::count("floods of key updates never ended", updates.ended(End::Open), Bar::Exactly(0.0))
            .of_time(),
    ]
}

/// A ClientHello whose highest version is TLS 1.1 (RFC 4346 §7.4.1.2), with suites that servers of its time had.
fn hello_of_tls_1_1() -> Vec<u8> {
    // A record of 51 bytes, a ClientHello of 47, its version; then 32 random bytes, no session, suites, no compression.
    const HEADERS: [u8; 11] = [0x16, 3, 1, 0, 51, 1, 0, 0, 47, 3, 2];
    const SUITES: [u8; 11] = [0, 0, 8, 0xc0, 0x13, 0xc0, 0x14, 0x00, 0x2f, 0x00, 0x35];
    const COMPRESSION: [u8; 2] = [1, 0];
    [&HEADERS[..], &[7; 32], &SUITES, &COMPRESSION].concat()
}

/// Runs `each` one time after the other, and returns what it came to.
fn few<T>(arena: &Arena<'_>, each: impl FnMut() -> io::Result<T>) -> io::Result<Vec<T>> {
    let times = arena.scale.of(FEW) as usize;
    iter::repeat_with(each).take(times).take_while(|_| !arena.is_stopped()).collect()
}

fn renegotiations(arena: &Arena<'_>) -> io::Result<(u64, Figure)> {
    let ended = few(arena, || renegotiation::is_ended(arena.address))?;
    let count = ended.iter().filter(|is_ended| **is_ended).count() as u64;
    Ok((count, Figure::count("renegotiations ended", count, Bar::Exactly(ended.len() as f64))))
}

fn early_data(arena: &Arena<'_>) -> io::Result<[Figure; 2]> {
    let client = Returning::new().map_err(io::Error::other)?;
    // The first has no ticket yet.
    client.visit(arena.address)?;
    let fates = few(arena, || client.visit(arena.address))?;
    let count = |fate| fates.iter().filter(|it| **it == fate).count() as u64;
    Ok([
        Figure::count("early data sent", count(Fate::Refused) + count(Fate::Taken), Bar::AtLeast(1.0))
            .of_attack(),
        Figure::count("early data taken", count(Fate::Taken), Bar::Exactly(0.0)),
    ])
}

pub(super) const EXPIRED: Row = Row {
    number: 24,
    name: "client certificates that have expired",
    expected: "refused; valid ones are let in",
    mode: Mode::Ingest,
    // Honest clients have none.
    flags: |_| vec!["--client-ca", CLIENT_CA, "--client-ca-optional"],
    for_others: false,
    connections: A_ROUND,
    slower_at_most: 2.0,
    attack: certificates,
};

fn certificates(arena: &Arena<'_>) -> io::Result<Findings> {
    let files = arena.certificate;
    let visits = |pair: &Pair| {
        let tls = tls::showing(pair).map_err(io::Error::other)?;
        rounds(&Arena { tls, ..arena.clone() }, Entry::WEBSOCKET, &[vec![Move::Send(close(1000))]])
    };
    let expired = cert::expired(&fs::read_to_string(&files.ca_key)?).map_err(io::Error::other)?;
    let valid = Pair { cert_pem: fs::read_to_string(&files.cert)?, key_pem: fs::read_to_string(&files.key)? };
    let (refused, let_in) = (visits(&expired)?, visits(&valid)?);
    let mut findings = Toll::of([&refused, &let_in]).findings();
    findings.figures = figures_of_certificates(&refused, &let_in).to_vec();
    findings.ends = vec![("tls", refused.in_time())];
    Ok(findings)
}

pub(super) fn figures_of_certificates(expired: &Toll, valid: &Toll) -> [Figure; 2] {
    [
        expired.all_ended("expired certificates refused", &[End::Refused, End::Dropped]),
        valid.all_ended("valid certificates let in", &[End::Closed(1000)]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lengths_of_an_old_hello_are_right() {
        let hello = hello_of_tls_1_1();
        assert_eq!(usize::from(hello[4]), hello.len() - 5);
        assert_eq!(usize::from(hello[8]), hello.len() - 9);
    }
}
