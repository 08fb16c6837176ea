//! Clients that go in the middle of something, and those whose end crosses the server's.

use std::io;
use std::time::{Duration, Instant};

use webscale_proto::{Data, OpCode};
use workload::Mode;

use super::super::attacker::hostile::Entry;
use super::super::attacker::script::{Move, close, frame};
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

/// Rounds in which each of `kinds` has its turn, until percentiles of the honest clients can be told; what became of each.
fn rounds(arena: &Arena<'_>, kinds: &[(Entry, Vec<Move>)]) -> io::Result<Vec<Toll>> {
    let mut tolls: Vec<Toll> = kinds.iter().map(|_| Toll::default()).collect();
    let begun = Instant::now();
    loop {
        for ((entry, moves), toll) in kinds.iter().zip(&mut tolls) {
            let round = Assault::all_at_once(arena.scale.of(A_ROUND), PER_SECOND, *entry, PATIENCE);
            toll.join(&attack(arena, &round, &mut |_| Box::new(moves.clone().into_iter()))?);
        }
        if begun.elapsed() >= arena.scale.attack_min() || arena.is_stopped() {
            return Ok(tolls);
        }
    }
}

fn storm(arena: &Arena<'_>) -> io::Result<Findings> {
    let hello = tls::hello(&arena.tls).map_err(io::Error::other)?;
    let phases = phases(&hello);
    let names = phases.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ");
    let leave = |(_, entry, moves): (_, _, Vec<Move>)| (entry, [moves, vec![Move::Leave]].concat());
    let kinds: Vec<(Entry, Vec<Move>)> = phases.into_iter().map(leave).collect();
    let toll = Toll::of(&rounds(arena, &kinds)?);
    let mut findings = toll.findings();
    findings.done.push(format!("{} phases, in turn: {names}", kinds.len()));
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

/// A way to close, and what the client has to see of it.
pub(super) struct Race {
    name: &'static str,
    moves: Vec<Move>,
    pub(super) end: End,
}

impl Race {
    pub(super) fn figure(&self, toll: &Toll) -> Figure {
        toll.all_ended(self.name, &[self.end])
    }
}

pub(super) fn races() -> Vec<Race> {
    let text = frame(OpCode::Data(Data::Text), true, b"{\"late\":1}");
    // Without a mask, which no client may send.
    let wrong = b"\x81\x02{}".to_vec();
    let send = |parts: &[&[u8]]| Move::Send(parts.concat());
    let race = |name, moves, end| Race { name, moves, end };
    let (normal, protocol) = (End::Closed(1000), End::Closed(1002));
    vec![
        race("a close frame", vec![send(&[&close(1000)])], normal),
        race("messages behind it", vec![send(&[&close(1000), &text, &text, &wrong])], normal),
        race("two of them", vec![send(&[&close(1000), &close(1001)])], normal),
        race("both sides at once", vec![send(&[&wrong, &close(1000)])], protocol),
        race("the server's, and no answer", vec![send(&[&wrong])], protocol),
        race(
            "the server's, and messages instead of an answer",
            vec![send(&[&wrong, &text, &text])],
            protocol,
        ),
        race(
            "TCP's end behind it, without close_notify",
            vec![send(&[&close(1000)]), Move::ShutDown],
            normal,
        ),
        race("TCP's end in a message", vec![send(&[&text[..5]]), Move::ShutDown], End::Dropped),
        race("TCP's end without a word", vec![Move::ShutDown], End::Dropped),
    ]
}

fn closes(arena: &Arena<'_>) -> io::Result<Findings> {
    let races = races();
    let kinds: Vec<_> = races.iter().map(|race| (Entry::WEBSOCKET, race.moves.clone())).collect();
    let tolls = rounds(arena, &kinds)?;
    let mut findings = Toll::of(&tolls).findings();
    findings.done.push(format!("{} ways to close, in turn", races.len()));
    findings.figures = races.iter().zip(&tolls).map(|(race, toll)| race.figure(toll)).collect();
    Ok(findings)
}
