//! Clients that go in the middle of something, and those whose end crosses the server's.

use std::io;
use std::time::{Duration, Instant};

use webscale_proto::{Data, OpCode};
use workload::Mode;

use super::super::attacker::hostile::Entry;
use super::super::attacker::script::{Move, Script, close, frame};
use super::super::attacker::{Assault, End, Toll, attack, tls};
use super::super::figure::{Bar, Figure};
use super::super::row::{Arena, Findings, Row};

/// In one round of a phase.
const A_ROUND: u32 = 1_000;
const PER_SECOND: f64 = 1_000.0;
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) const STORM: Row = Row {
    number: 16,
    name: "resets in every phase of a connection",
    expected: "routine: each is counted, nothing is left",
    mode: Mode::Echo,
    flags: |_| vec![],
    for_others: true,
    connections: A_ROUND,
    slower_at_most: 2.0,
    attack: storm,
};

pub(super) const CLOSES: Row = Row {
    number: 27,
    name: "closing handshakes that cross, or are not one",
    expected: "each connection ends once, with the code that it should",
    mode: Mode::Echo,
    flags: |_| vec![],
    for_others: false,
    connections: A_ROUND,
    slower_at_most: 2.0,
    attack: closes,
};

/// How far a connection comes, and what it sends before it is reset.
fn phases(hello: &[u8]) -> Vec<(&'static str, Entry, Vec<Move>)> {
    let send = |bytes: &[u8]| Move::Send(bytes.to_vec());
    let text = |payload: &[u8]| frame(OpCode::Data(Data::Text), true, payload);
    let long = text(&[b'x'; 60_000]);
    vec![
        ("at once", Entry::Tcp, vec![]),
        ("in the ClientHello", Entry::Tcp, vec![send(&hello[..hello.len() / 2])]),
        ("behind the ClientHello", Entry::Tcp, vec![send(hello)]),
        ("at the ServerHello", Entry::Tcp, vec![send(hello), Move::Listen]),
        ("behind the TLS handshake", Entry::Tls, vec![]),
        ("in the HTTP head", Entry::Tls, vec![send(b"GET / HTTP/1.1\r\nHost: loc")]),
        ("behind the opening handshake", Entry::WEBSOCKET, vec![]),
        ("in a frame", Entry::WEBSOCKET, vec![send(&long[..30_000])]),
        ("behind a message", Entry::WEBSOCKET, vec![send(&long)]),
        ("at its echo", Entry::WEBSOCKET, vec![send(&long), Move::Listen]),
        ("with echoes unread", Entry::WEBSOCKET, vec![Move::StopReading, send(&long.repeat(4))]),
        ("behind a close frame", Entry::WEBSOCKET, vec![send(&close(1000))]),
    ]
}

fn storm(arena: &Arena<'_>) -> io::Result<Findings> {
    let hello = tls::hello(&arena.tls).map_err(io::Error::other)?;
    let phases = phases(&hello);
    let mut toll = Toll::default();
    let begun = Instant::now();
    while begun.elapsed() < arena.scale.attack_min() && !arena.is_stopped() {
        for (_, entry, moves) in &phases {
            let round = assault(*entry, arena.scale.of(A_ROUND));
            toll.join(&attack(arena, &round, &mut |_| {
                Box::new(moves.clone().into_iter().chain([Move::Leave]))
            })?);
        }
    }
    let names: Vec<&str> = phases.iter().map(|(name, ..)| *name).collect();
    let mut findings = toll.findings();
    findings.done.push(format!("{} phases, in turn: {}", names.len(), names.join(", ")));
    findings.figures = figures_of_storm(&toll).to_vec();
    // At least those that had not said goodbye, nor sent what the server could not take.
    findings.ends = vec![("lost", toll.ended(End::Left) / 2)];
    Ok(findings)
}

pub(super) fn figures_of_storm(toll: &Toll) -> [Figure; 2] {
    // The server may be the first where there is something to answer.
    let most = Bar::AtLeast(toll.begun as f64 * 0.9);
    [
        Figure::count("resets made", toll.ended(End::Left), most).of_attack(),
        Figure::count("never taken", toll.ended(End::Refused), Bar::Exactly(0.0)),
    ]
}

fn assault(entry: Entry, connections: u32) -> Assault {
    Assault::all_at_once(connections, PER_SECOND, entry, PATIENCE)
}

/// A way to close, and what the client has to see of it.
fn races() -> Vec<(&'static str, Vec<Move>, &'static [End])> {
    let text = frame(OpCode::Data(Data::Text), true, b"{\"late\":1}");
    // Without a mask, which no client may send.
    let wrong = b"\x81\x02{}".to_vec();
    let send = |parts: &[&[u8]]| Move::Send(parts.concat());
    let normal: &[End] = &[End::Closed(1000)];
    let protocol: &[End] = &[End::Closed(1002)];
    vec![
        ("a close frame", vec![send(&[&close(1000)])], normal),
        ("messages behind it", vec![send(&[&close(1000), &text, &text, &wrong])], normal),
        ("two of them", vec![send(&[&close(1000), &close(1001)])], normal),
        ("both sides at once", vec![send(&[&wrong, &close(1000)])], protocol),
        ("the server's, and no answer", vec![send(&[&wrong])], protocol),
        ("the server's, and messages instead of an answer", vec![send(&[&wrong, &text, &text])], protocol),
        ("TCP's end behind it, without close_notify", vec![send(&[&close(1000)]), Move::ShutDown], normal),
        ("TCP's end in a message", vec![send(&[&text[..5]]), Move::ShutDown], &[End::Dropped]),
        ("TCP's end without a word", vec![Move::ShutDown], &[End::Dropped]),
    ]
}

fn closes(arena: &Arena<'_>) -> io::Result<Findings> {
    let races = races();
    let (mut all, mut figures) = (Toll::default(), Vec::new());
    let begun = Instant::now();
    while figures.is_empty() || (begun.elapsed() < arena.scale.attack_min() && !arena.is_stopped()) {
        let mut wrong = 0;
        for (name, moves, ends) in &races {
            let round = assault(Entry::WEBSOCKET, arena.scale.of(A_ROUND));
            let mut script = |_| -> Script { Box::new(moves.clone().into_iter()) };
            let toll = attack(arena, &round, &mut script)?;
            let right: u64 = ends.iter().map(|end| toll.ended(*end)).sum();
            if right < toll.begun {
                figures.push(Figure::count(*name, right, Bar::Exactly(toll.begun as f64)));
                wrong += toll.begun - right;
            }
            all.join(&toll);
        }
        figures.push(Figure::count("ended otherwise than they should", wrong, Bar::Exactly(0.0)));
    }
    figures.dedup();
    let names: Vec<&str> = races.iter().map(|(name, ..)| *name).collect();
    let mut findings = all.findings();
    findings.done.push(format!("{} ways to close, in turn: {}", names.len(), names.join(", ")));
    findings.figures = figures;
    Ok(findings)
}
