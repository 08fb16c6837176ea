//! Requests that are too long, or that two readers would read differently.

use std::io;
use std::iter;
use std::time::Duration;

use workload::Mode;

use super::super::attacker::hostile::Entry;
use super::super::attacker::script::{Move, Script};
use super::super::attacker::{Assault, End, Toll, attack_in_turn, attack_repeatedly};
use super::super::figure::Figure;
use super::super::row::{Arena, Findings, Row};

const PATIENCE: Duration = Duration::from_secs(15);

pub(super) const LONG: Row = Row {
    number: 11,
    name: "a head of 1 MB, and one of 1,000 fields",
    expected: "431; 8 KiB of it held at most",
    mode: Mode::Ingest,
    flags: |_| vec![],
    for_others: true,
    connections: 500,
    slower_at_most: 2.0,
    attack: long,
};

fn long(arena: &Arena<'_>) -> io::Result<Findings> {
    const PIECE_BYTES: usize = 1_000;
    let connections = arena.scale.of(500);
    let toll = attack_repeatedly(arena, &assault(connections, 250.0), &mut |number| {
        let begin = Move::Send(b"GET / HTTP/1.1\r\nHost: localhost\r\n".to_vec());
        let rest: Script = match number % 2 {
            0 => Box::new((0..1_000).map(|_| Move::Send(vec![b'x'; PIECE_BYTES]))),
            _ => Box::new((0..1_000).map(|field| Move::Send(format!("X{field}: y\r\n").into_bytes()))),
        };
        Box::new(iter::once(begin).chain(rest).chain([Move::Send(b"\r\n\r\n".to_vec())]))
    })?;
    Ok(found_of_long(&toll))
}

pub(super) fn found_of_long(toll: &Toll) -> Findings {
    let mut findings = toll.findings();
    findings.figures.push(toll.all_ended("connections answered with 431", &[End::Answered(431)]));
    // The head, and what TLS takes until the handshake is done.
    findings.memory_each_at_most = Some(8_192.0 + 16_384.0);
    findings.ends = vec![("upgrade", toll.in_time())];
    findings
}

pub(super) const SMUGGLING: Row = Row {
    number: 12,
    name: "heads that two readers would read differently, whole and byte by byte",
    expected: "400; 426 for another version than 13",
    mode: Mode::Ingest,
    flags: |_| vec![],
    for_others: true,
    connections: 1_000,
    slower_at_most: 2.0,
    attack: smuggling,
};

fn smuggling(arena: &Arena<'_>) -> io::Result<Findings> {
    let (wrong, versions) = (wrong_heads(), other_versions());
    let send = |heads: &[String], connections| {
        let whole = heads.iter().map(|head| vec![Move::Send(head.clone().into_bytes())]);
        let bytewise = heads.iter().map(|head| head.bytes().map(|byte| Move::Send(vec![byte])).collect());
        let lists: Vec<Vec<Move>> = whole.chain(bytewise).collect();
        let assault = assault(arena.scale.of(connections), 250.0);
        attack_in_turn(arena, &assault, &lists, arena.scale.attack_min() / 2)
    };
    let (ambiguous, of_versions) = (send(&wrong, 1_000)?, send(&versions, 200)?);
    let all = Toll::of([&ambiguous, &of_versions]);
    let mut findings = all.findings();
    let heads = wrong.len() + versions.len();
    findings.done.push(format!("{heads} heads in turn, whole and byte by byte"));
    findings.figures = figures_of_smuggling(&ambiguous, &of_versions).to_vec();
    findings.ends = vec![("upgrade", all.in_time())];
    Ok(findings)
}

pub(super) fn figures_of_smuggling(ambiguous: &Toll, of_versions: &Toll) -> [Figure; 2] {
    [
        ambiguous.all_ended("answered with 400", &[End::Answered(400)]),
        of_versions.all_ended("answered with 426", &[End::Answered(426)]),
    ]
}

/// A request that is in order.
const GOOD: &str = "GET /chat HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

fn other_versions() -> Vec<String> {
    ["8", "14", "013", "13, 8"]
        .map(|version| GOOD.replacen("Version: 13", &format!("Version: {version}"), 1))
        .to_vec()
}

fn wrong_heads() -> Vec<String> {
    const FIRST: &str = "GET /chat HTTP/1.1\r\n";
    let behind_first = |line: &str| GOOD.replacen(FIRST, &format!("{FIRST}{line}"), 1);
    let instead = |part: &str, other: &str| GOOD.replacen(part, other, 1);
    vec![
        // Lines that readers end in different places.
        instead("HTTP/1.1\r\n", "HTTP/1.1\n"),
        instead("localhost\r\n", "localhost\n"),
        instead("localhost\r\n", "localhost\r"),
        instead("localhost\r\n", "localhost\r\r\n"),
        instead("localhost\r\n", "localhost\r\n folded\r\n"),
        instead("localhost\r\n", "localhost\r\n\tfolded\r\n"),
        // Bytes that readers skip or cut at.
        instead("websocket", "web\0socket"),
        instead("/chat", "/ch\0at"),
        // Names that readers trim.
        instead("Host:", "Host :"),
        instead("Host:", " Host:"),
        instead("Upgrade:", "Upgrade\t:"),
        // Two that readers choose between.
        behind_first("host: other\r\n"),
        behind_first("Sec-WebSocket-Version: 13\r\n"),
        behind_first("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
        behind_first("Content-Length: 0\r\nContent-Length: 0\r\n"),
        // Bodies.
        behind_first("Transfer-Encoding: chunked\r\n"),
        behind_first("Transfer-Encoding: identity\r\n"),
        behind_first("Content-Length: 5\r\n"),
        behind_first("Content-Length: +0\r\n"),
        // Request lines.
        instead("HTTP/1.1", "HTTP/1.0"),
        instead("HTTP/1.1", "HTTP/2.0"),
        instead("GET /chat", "GET  /chat"),
        instead("/chat HTTP", "/chat  HTTP"),
        instead("Host: localhost\r\n", ""),
    ]
}

fn assault(connections: u32, per_second: f64) -> Assault {
    Assault::all_at_once(connections, per_second, Entry::Tls, PATIENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_head_differs_from_the_good_one() {
        let heads = [wrong_heads(), other_versions()].concat();
        assert!(heads.iter().all(|head| head != GOOD && head.ends_with("\r\n\r\n")));
    }
}
