//! Clients that speak something else than was agreed, or come from somewhere else.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use workload::Mode;

use super::super::attacker::hostile::Entry;
use super::super::attacker::script::{Move, close};
use super::super::attacker::{Assault, End, Toll, attack_in_turn};
use super::super::figure::{Bar, Figure};
use super::super::row::{Arena, Findings, Row};

pub(super) const A_ROUND: u32 = 1_000;
const PER_SECOND: f64 = 500.0;
const PATIENCE: Duration = Duration::from_secs(15);
/// A record with an alert in it (RFC 8446 §6).
pub(super) const ALERT_BYTES: u64 = 7;

pub(super) const OTHER_PROTOCOLS: Row = Row {
    number: 25,
    name: "ALPN h2 alone, and HTTP, SMTP and SSH on the TLS port",
    expected: "an alert, and the end",
    mode: Mode::Ingest,
    flags: |_| vec![],
    for_others: true,
    connections: A_ROUND,
    slower_at_most: 2.0,
    attack: other_protocols,
};

pub(super) const ORIGINS: Row = Row {
    number: 26,
    name: "pages of other origins",
    expected: "403 before 101",
    mode: Mode::Ingest,
    flags: |_| vec![],
    for_others: true,
    connections: A_ROUND,
    slower_at_most: 2.0,
    attack: origins,
};

/// One of two attacks of a row, in rounds.
pub(super) fn rounds(arena: &Arena<'_>, entry: Entry, moves: &[Vec<Move>]) -> io::Result<Toll> {
    let connections = arena.scale.of(A_ROUND);
    let assault = Assault::all_at_once(connections, PER_SECOND, entry, PATIENCE);
    attack_in_turn(arena, &assault, moves, arena.scale.attack_min() / 2)
}

/// Each was told why.
pub(super) fn alerts(toll: &Toll) -> Figure {
    let told = toll.received_bytes / ALERT_BYTES;
    Figure::count("alerts", told, Bar::AtLeast(toll.in_time() as f64))
}

fn other_protocols(arena: &Arena<'_>) -> io::Result<Findings> {
    const GREETINGS: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"EHLO mail.example\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    let greetings = GREETINGS.map(|greeting| vec![Move::Send(greeting.to_vec())]);
    let plain = rounds(arena, Entry::Tcp, &greetings)?;
    let mut tls = (*arena.tls).clone();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let h2 = rounds(&Arena { tls: Arc::new(tls), ..arena.clone() }, Entry::Tls, &[vec![]])?;
    let all = Toll::of([&plain, &h2]);
    let mut findings = all.findings();
    findings.figures = figures_of_others(&plain, &h2).to_vec();
    findings.ends = vec![("tls", all.in_time())];
    Ok(findings)
}

pub(super) fn figures_of_others(plain: &Toll, h2: &Toll) -> [Figure; 3] {
    [
        plain.all_ended("other protocols ended", &[End::Dropped]),
        alerts(plain),
        h2.all_ended("h2 alone refused", &[End::Refused]),
    ]
}

/// A whole opening handshake, of a page of this origin.
fn opening(port: u16, origin: &str) -> Vec<Move> {
    let head = format!(
        "GET / HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: {origin}\r\n\r\n"
    );
    vec![Move::Send(head.into_bytes()), Move::Listen, Move::Send(close(1000))]
}

fn origins(arena: &Arena<'_>) -> io::Result<Findings> {
    let port = arena.address.port();
    let other_port = port ^ 1;
    let wrong = [
        "https://evil.example".into(),
        "null".into(),
        "https://localhost".into(),
        format!("https://localhost:{other_port}"),
        format!("http://localhost:{port}"),
        format!("https://localhost.evil.example:{port}"),
        format!("https://evil-localhost:{port}"),
        format!("https://evil.example/https://localhost:{port}"),
        format!("https://localhost:{port}@evil.example"),
        format!("https://localhost:{port}.evil.example"),
        "HTTPS://EVIL.EXAMPLE".into(),
    ];
    let openings: Vec<Vec<Move>> = wrong.iter().map(|origin| opening(port, origin)).collect();
    let hijacks = rounds(arena, Entry::Tls, &openings)?;
    let own = rounds(arena, Entry::Tls, &[opening(port, &format!("https://localhost:{port}"))])?;
    let mut findings = Toll::of([&hijacks, &own]).findings();
    findings.done.push(format!("{} wrong origins in turn: {}", wrong.len(), wrong.join(", ")));
    findings.figures = vec![
        hijacks.all_ended("refused with 403", &[End::Answered(403)]),
        own.all_ended("pages of its own let in", &[End::Answered(101)]),
    ];
    findings.ends = vec![("upgrade", hijacks.in_time())];
    Ok(findings)
}
