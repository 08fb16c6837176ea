//! Clients that break RFC 6455.

use std::io;
use std::time::Duration;

use webscale_proto::{Control, Data, OpCode};
use workload::Mode;

use super::super::attacker::hostile::Entry;
use super::super::attacker::script::{Move, frame};
use super::super::attacker::{Assault, End, Toll, attack_in_turn};
use super::super::row::{Arena, Findings, Row};

/// In one round; then the next one begins.
const A_ROUND: u32 = 1_000;
const PER_SECOND: f64 = 500.0;
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) const FRAMES: Row = Row {
    number: 10,
    name: "frames that break the protocol",
    expected: "1002 for each",
    mode: Mode::Ingest,
    flags: |_| vec![],
    for_others: true,
    connections: A_ROUND,
    slower_at_most: 2.0,
    attack: frames,
};

fn frames(arena: &Arena<'_>) -> io::Result<Findings> {
    let faults = wrong_frames();
    let toll = each(arena, &faults)?;
    Ok(judged(&toll, format!("{} kinds of wrong frames, in turn", faults.len()), 1002))
}

/// Whether each was closed with this code.
pub(super) fn judged(toll: &Toll, done: String, code: u16) -> Findings {
    let mut findings = toll.findings();
    findings.done.push(done);
    findings.figures.push(toll.all_ended(&format!("connections closed with {code}"), &[End::Closed(code)]));
    findings.ends = vec![("protocol", toll.in_time())];
    findings
}

/// Each connection sends the next of `faults`.
fn each(arena: &Arena<'_>, faults: &[Vec<u8>]) -> io::Result<Toll> {
    let connections = arena.scale.of(A_ROUND);
    let assault = Assault::all_at_once(connections, PER_SECOND, Entry::WEBSOCKET, PATIENCE);
    let lists: Vec<Vec<Move>> = faults.iter().map(|fault| vec![Move::Send(fault.clone())]).collect();
    attack_in_turn(arena, &assault, &lists, arena.scale.attack_min())
}

/// Frames that no client may send (RFC 6455 §5).
pub(in super::super) fn wrong_frames() -> Vec<Vec<u8>> {
    let (text, continuation) = (OpCode::Data(Data::Text), OpCode::Data(Data::Continuation));
    let (ping, close) = (OpCode::Control(Control::Ping), OpCode::Control(Control::Close));
    let with_bits = |bits: u8| {
        let mut frame = frame(text, true, b"{}");
        frame[0] |= bits;
        frame
    };
    let opcode = |bits: u8| vec![0x80 | bits, 0x80, 1, 2, 3, 4];
    let mut faults = vec![b"\x81\x02{}".to_vec()];
    faults.extend([0x40, 0x20, 0x10, 0x70].map(with_bits));
    faults.extend([0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf].map(opcode));
    // A length of 2 in two bytes and in eight, and one of more than 63 bits.
    faults.push(b"\x81\xfe\0\x02\x01\x02\x03\x04\x7a\x7f".to_vec());
    faults.push(b"\x81\xff\0\0\0\0\0\0\0\x02\x01\x02\x03\x04\x7a\x7f".to_vec());
    faults.push(b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02\x03\x04".to_vec());
    faults.push(frame(ping, false, b"part of a ping"));
    faults.push(frame(ping, true, &[b'x'; 126]));
    faults.push(frame(close, true, b"\x03"));
    faults.push(frame(close, true, &1005u16.to_be_bytes()));
    faults.push(frame(continuation, true, b"of nothing"));
    faults.push([frame(text, false, b"{"), frame(text, true, b"}")].concat());
    faults
}

pub(super) const TEXT: Row = Row {
    number: 13,
    name: "text that is no UTF-8, cut anywhere, and in a close reason",
    expected: "1007 for each, before the message has ended",
    mode: Mode::Echo,
    flags: |_| vec![],
    for_others: true,
    connections: A_ROUND,
    slower_at_most: 2.0,
    attack: text,
};

fn text(arena: &Arena<'_>) -> io::Result<Findings> {
    let faults = wrong_texts();
    let toll = each(arena, &faults)?;
    Ok(judged(&toll, format!("{} wrong texts, in turn", faults.len()), 1007))
}

/// Texts that fail at some byte: whole, in a message that does not end, and in two fragments cut at every place.
fn wrong_texts() -> Vec<Vec<u8>> {
    const WRONG: [&[u8]; 12] = [
        b"a byte that goes on nothing \x80",
        b"a byte that never occurs \xff",
        b"the shortest form is shorter \xc0\xaf",
        b"and here \xe0\x80\xaf",
        b"and here \xf0\x80\x80\xaf",
        b"half of a surrogate pair \xed\xa0\x80",
        b"the other half \xed\xb0\x80",
        b"above the last character \xf4\x90\x80\x80",
        b"far above \xf8\x88\x80\x80\x80",
        b"a character that is cut \xe2\x82(",
        b"a longer one \xf0\x9f\x98(",
        b"two that begin \xc3\xc3",
    ];
    let (text, continuation) = (OpCode::Data(Data::Text), OpCode::Data(Data::Continuation));
    let mut faults = Vec::new();
    for wrong in WRONG {
        faults.push(frame(text, true, wrong));
        // Nothing follows, so that only a server which looks at once will see it.
        faults.push(frame(text, false, wrong));
        let cuts = (wrong.len() - 5)..wrong.len();
        faults.extend(cuts.map(|cut| {
            [frame(text, false, &wrong[..cut]), frame(continuation, false, &wrong[cut..])].concat()
        }));
        let reason = [&1000u16.to_be_bytes(), wrong].concat();
        faults.push(frame(OpCode::Control(Control::Close), true, &reason));
    }
    faults.push(frame(text, true, b"it ends inside a character \xe2\x82"));
    faults
}
