//! Messages that are too long, in too many pieces, or much longer than they look.

use std::io;
use std::iter;
use std::time::Duration;

use webscale_proto::{Control, Data, Deflater, OpCode, encoder};
use workload::Mode;
use workload::payload;

use super::super::attacker::hostile::Entry;
use super::super::attacker::script::{KEY, Move, frame, header};
use super::super::attacker::{Assault, End, Toll, attack, attack_in_turn, attack_repeatedly};
use super::super::figure::{Bar, Figure};
use super::super::row::{Arena, Findings, Row};

/// The longest message of a server that was not told otherwise.
const MESSAGE_BYTES: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) const FRAGMENTS: Row = Row {
    number: 7,
    name: "a message in fragments that never ends",
    expected: "1009 at the limit, and no more than that kept",
    mode: Mode::Ingest,
    flags: |_| vec![],
    for_others: true,
    connections: 100,
    slower_at_most: 2.0,
    attack: fragments,
};

fn fragments(arena: &Arena<'_>) -> io::Result<Findings> {
    const PIECE_BYTES: usize = 16 * 1024;
    let piece = |opcode| frame(OpCode::Data(opcode), false, &[b'x'; PIECE_BYTES]);
    let (first, further) = (piece(Data::Text), piece(Data::Continuation));
    let assault = assault(arena.scale.of(100), 100.0, false);
    let toll = attack_repeatedly(arena, &assault, &mut |_| {
        let (first, further) = (first.clone(), further.clone());
        Box::new(iter::once(Move::Send(first)).chain(iter::repeat_with(move || Move::Send(further.clone()))))
    })?;
    Ok(found_of_fragments(&toll))
}

pub(super) fn found_of_fragments(toll: &Toll) -> Findings {
    let mut findings = toll.findings();
    findings.figures.push(toll.all_ended("connections closed with 1009", &[End::Closed(1009)]));
    // A vector that grows holds the old bytes and the new for a moment.
    findings.memory_each_at_most = Some(2.25 * MESSAGE_BYTES as f64);
    findings.ends = vec![("protocol", toll.in_time())];
    findings
}

pub(super) const CRUMBS: Row = Row {
    number: 8,
    name: "10 MB as frames, fragments and TLS records of one byte",
    expected: "all of it taken, in turn with the others; 65,536 fragments are a message",
    mode: Mode::Ingest,
    // A message of ten million records takes its time; how long it may take is another row's.
    flags: |_| vec!["--max-message", "16MiB", "--message-time", "10m"],
    for_others: true,
    connections: 4,
    slower_at_most: 2.0,
    attack: crumbs,
};

/// Binary messages are refused by the server's handler when they are whole.
const WHOLE: End = End::Closed(1003);
/// The server answered our own Close frame.
const IN_PEACE: End = End::Closed(1000);

fn crumbs(arena: &Arena<'_>) -> io::Result<Findings> {
    let bytes = arena.scale.of(10_000_000);
    let assault = Assault { patience: 10 * PATIENCE, ..assault(4, 100.0, false) };
    let toll = attack(arena, &assault, &mut |number| match number {
        0 => Box::new(pongs(bytes)),
        1 => Box::new(bytewise_fragments(bytes)),
        2 => Box::new(bytewise_records(bytes)),
        _ => Box::new(many_fragments()),
    })?;
    let mut findings = toll.findings();
    findings.done.push(format!(
        "{bytes} pongs, fragments and TLS records of one byte, and a message of 65,536 fragments"
    ));
    findings.figures = figures_of_crumbs(&toll).to_vec();
    Ok(findings)
}

pub(super) fn figures_of_crumbs(toll: &Toll) -> [Figure; 2] {
    // Which of the four never came cannot be told.
    let weigh = |figure: Figure| if toll.ended(End::Late) > 0 { figure.of_attack() } else { figure };
    [
        Figure::count("messages taken whole", toll.ended(WHOLE), Bar::Exactly(2.0)),
        Figure::count("connections that ended in peace", toll.ended(IN_PEACE), Bar::Exactly(2.0)),
    ]
    .map(weigh)
}

/// What is small is sent many at a time.
const AT_A_TIME: usize = 1_000;

fn goodbye() -> Move {
    Move::Send(frame(OpCode::Control(Control::Close), true, &1000u16.to_be_bytes()))
}

fn pongs(count: u32) -> impl Iterator<Item = Move> {
    let pong = frame(OpCode::Control(Control::Pong), true, b"x");
    repeated(pong, count as usize).chain([goodbye()])
}

fn bytewise_fragments(count: u32) -> impl Iterator<Item = Move> {
    let further = frame(OpCode::Data(Data::Continuation), false, b"x");
    let begin = frame(OpCode::Data(Data::Binary), false, b"");
    let end = frame(OpCode::Data(Data::Continuation), true, b"");
    iter::once(Move::Send(begin)).chain(repeated(further, count as usize)).chain([Move::Send(end)])
}

fn bytewise_records(count: u32) -> impl Iterator<Item = Move> {
    let header = header(OpCode::Data(Data::Binary), true, count.into()).to_vec();
    iter::once(Move::Send(header)).chain((0..count).map(|_| Move::Send(vec![b'x'])))
}

/// The honest clients' message, byte by byte, between fragments without any.
fn many_fragments() -> impl Iterator<Item = Move> {
    const FRAGMENTS: usize = 65_536;
    let text = payload(0);
    let mut frames = frame(OpCode::Data(Data::Text), false, b"");
    let bytes = text.as_bytes().iter().map(|byte| frame(OpCode::Data(Data::Continuation), false, &[*byte]));
    frames.extend(bytes.flatten());
    let empty = FRAGMENTS - text.len() - 2;
    frames.extend((0..empty).flat_map(|_| frame(OpCode::Data(Data::Continuation), false, b"")));
    frames.extend(frame(OpCode::Data(Data::Continuation), true, b""));
    [Move::Send(frames), goodbye()].into_iter()
}

fn repeated(frame: Vec<u8>, count: usize) -> impl Iterator<Item = Move> {
    let pieces = (0..count).step_by(AT_A_TIME).map(move |from| AT_A_TIME.min(count - from));
    pieces.map(move |pieces| Move::Send(frame.repeat(pieces)))
}

pub(super) const BOMB: Row = Row {
    number: 9,
    name: "compressed messages that inflate to 64 MiB",
    expected: "1009 one byte above the limit; one just at the limit is taken",
    mode: Mode::Ingest,
    flags: |_| vec!["--deflate"],
    for_others: false,
    connections: 300,
    slower_at_most: 2.0,
    attack: bomb,
};

fn bomb(arena: &Arena<'_>) -> io::Result<Findings> {
    const BOMB_BYTES: usize = 64 << 20;
    let messages = [BOMB_BYTES, MESSAGE_BYTES + 1, MESSAGE_BYTES].map(compressed);
    let sizes = messages.each_ref().map(|message| message.len().to_string()).join(", ");
    let [bomb, above, just] = messages.map(|message| vec![Move::Send(message)]);
    let assault = assault(arena.scale.of(300), 100.0, true);
    let lasts = arena.scale.attack_min() / 2;
    let too_long = attack_in_turn(arena, &assault, &[bomb, above], lasts)?;
    let at_the_limit = attack_in_turn(arena, &assault, &[just], lasts)?;
    let mut findings = Toll::of([&too_long, &at_the_limit]).findings();
    findings
        .done
        .push(format!("messages of {sizes} bytes, which inflate to 64 MiB, 1 MiB and a byte, 1 MiB"));
    findings.figures = figures_of_bombs(&too_long, &at_the_limit).to_vec();
    findings.ends = vec![("protocol", too_long.in_time())];
    Ok(findings)
}

pub(super) fn figures_of_bombs(too_long: &Toll, at_the_limit: &Toll) -> [Figure; 2] {
    [
        too_long.all_ended("closed with 1009", &[End::Closed(1009)]),
        at_the_limit.all_ended("taken at the limit", &[WHOLE]),
    ]
}

/// A client's frame with so many zeros, compressed.
fn compressed(bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let payload = Deflater::new(9, 15, false).message(&vec![0; bytes], &mut out).unwrap_or_default().to_vec();
    let mut frame = Vec::new();
    encoder::compressed(&mut frame, false, &payload, Some(KEY));
    frame
}

fn assault(connections: u32, per_second: f64, deflate: bool) -> Assault {
    Assault::all_at_once(connections, per_second, Entry::WebSocket { deflate }, PATIENCE)
}
