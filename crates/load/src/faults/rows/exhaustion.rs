//! A server that runs out of something.

use std::io;
use std::iter;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use webscale_proto::{Data, OpCode};
use workload::Mode;

use super::super::attacker::hostile::Entry;
use super::super::attacker::script::{Move, Script, frame, header};
use super::super::attacker::{Assault, End, FOR_EVER, attack, attack_while};
use super::super::counts::Counts;
use super::super::figure::{Bar, Figure, Unit};
use super::super::row::{Arena, Findings, Row};
use super::super::settings::Scale;
use crate::measure::process::Process;

/// What is left to the server.
const DESCRIPTORS_LEFT: u32 = 200;
/// Connections that wait for a descriptor.
const WAITING: u32 = 100;
const HELD_FOR: Duration = Duration::from_secs(3);
const CPU_MAX: f64 = 0.05;
const ACCEPTS_WITHIN: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) const DESCRIPTORS: Row = Row {
    number: 17,
    name: "no descriptor left (RLIMIT_NOFILE)",
    expected: "below 5 % CPU at the limit; accepts within a second of release",
    mode: Mode::Ingest,
    flags: |_| vec![],
    for_others: true,
    connections: DESCRIPTORS_LEFT + WAITING,
    slower_at_most: 2.0,
    attack: descriptors,
};

fn descriptors(arena: &Arena<'_>) -> io::Result<Findings> {
    let mut process = arena.process()?;
    let held = process.descriptors().map_err(io::Error::other)? as u64;
    let left = arena.scale.of(DESCRIPTORS_LEFT);
    lower_limit(arena.pid, held + u64::from(left))?;
    let connect = |_| TcpStream::connect_timeout(&arena.address, PATIENCE);
    // The kernel takes more than the server has descriptors for, and lets them wait.
    let sockets = (0..left + arena.scale.of(WAITING)).map(connect).collect::<io::Result<Vec<_>>>()?;
    let full = wait_until_full(&process, held + u64::from(left), arena)?;
    let cpu = |process: &mut Process| process.cpu().map(|cpu| cpu.total_ns).map_err(io::Error::other);
    let (begun, before) = (Instant::now(), cpu(&mut process)?);
    thread::sleep(HELD_FOR);
    let used = (cpu(&mut process)? - before) as f64 / begun.elapsed().as_nanos() as f64;
    let count = sockets.len();
    drop(sockets);
    let released = released(arena)?;
    let mut findings = Findings { connections: count as u64, ..Findings::default() };
    findings.done = vec![format!(
        "{left} descriptors left to a server that held {held}; {count} connections made and held for {} s",
        HELD_FOR.as_secs()
    )];
    findings.figures = vec![
        Figure::count(
            "descriptors in use at the limit",
            full,
            Bar::AtLeast((held + u64::from(left) - 2) as f64),
        )
        .of_attack(),
        Figure::new("CPU at the limit", used, Unit::Share, Bar::AtMost(CPU_MAX)).of_time(),
    ];
    if arena.is_own {
        findings.figures.push(pauses(arena, "accept_pauses_total"));
    }
    findings.figures.extend(released);
    Ok(findings)
}

/// Whether a client was served when there was room again, and after how many seconds.
pub(super) fn figures_of_release(served: bool, took_seconds: f64) -> [Figure; 2] {
    let within = Bar::AtMost(ACCEPTS_WITHIN.as_secs_f64());
    [
        Figure::count("clients served after release", u64::from(served), Bar::Exactly(1.0)),
        Figure::new("served after", took_seconds, Unit::Seconds, within).of_time(),
    ]
}

/// There is room again: whether somebody who comes now gets a WebSocket, and how soon.
fn released(arena: &Arena<'_>) -> io::Result<[Figure; 2]> {
    let begun = Instant::now();
    let visit = Assault::all_at_once(1, f64::MAX, Entry::WEBSOCKET, PATIENCE);
    let toll = attack(arena, &visit, &mut |_| Box::new(iter::once(Move::Leave)))?;
    Ok(figures_of_release(toll.entered == 1, begun.elapsed().as_secs_f64()))
}

/// How often the server let connections wait, by its own account. One that does not answer has said enough above.
fn pauses(arena: &Arena<'_>, counter: &str) -> Figure {
    let count = arena.counts().map_or(0, |counts| counts.get(counter));
    Figure::noted("times that accepting paused", count as f64, Unit::Count)
}

/// The server's soft limit; the hard one stays.
fn lower_limit(pid: u32, descriptors: u64) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let hard = rustix::process::getrlimit(Resource::Nofile).maximum;
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(descriptors), maximum: hard })?;
    Ok(())
}

/// The most that the server holds, once it has no more to take.
fn wait_until_full(process: &Process, limit: u64, arena: &Arena<'_>) -> io::Result<u64> {
    let mut held = 0;
    arena.wait_for(PATIENCE, Duration::from_millis(10), || {
        held = process.descriptors().map_err(io::Error::other)? as u64;
        Ok(held + 2 >= limit)
    })?;
    Ok(held)
}

const HOLDERS: u32 = 1_000;
/// The longest message of a server that was not told otherwise.
const MESSAGE_BYTES: usize = 1 << 20;
const PIECE_BYTES: usize = 16 * 1024;
/// How long after the last has come the server may take to be full.
const FULL_WITHIN: Duration = Duration::from_secs(15);
const PRESSED_FOR: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) const MEMORY: Row = Row {
    number: 18,
    name: "more held than the memory allows (`serve --memory`)",
    expected: "never above the budget; 1013 to those who hold most; accepts within a second of release",
    mode: Mode::Ingest,
    flags: |scale| vec!["--memory", scale.either("256MiB", "64MiB")],
    for_others: false,
    connections: HOLDERS,
    slower_at_most: 2.0,
    attack: memory,
};

/// What the flags above allow, in bytes.
fn budget(scale: Scale) -> f64 {
    scale.either(256.0, 64.0) * f64::from(1 << 20)
}

/// All of a message but its last byte.
fn unfinished() -> Script {
    let opcode = OpCode::Data(Data::Text);
    let declared = Move::Send(header(opcode, true, MESSAGE_BYTES as u64).to_vec());
    // Behind the header: masking begins anew with each piece, as its length is a multiple of the key's.
    let masked = |len| {
        let whole = frame(opcode, true, &vec![b'x'; len]);
        Move::Send(whole[whole.len() - len..].to_vec())
    };
    let pieces = iter::repeat_n(masked(PIECE_BYTES), MESSAGE_BYTES / PIECE_BYTES - 1);
    Box::new(iter::once(declared).chain(pieces).chain([masked(PIECE_BYTES - 1)]))
}

fn memory(arena: &Arena<'_>) -> io::Result<Findings> {
    let connections = arena.scale.of(HOLDERS);
    let assault = Assault::all_at_once(connections, 200.0, Entry::WEBSOCKET, FOR_EVER);
    let all_came = Duration::from_secs_f64(f64::from(connections) / assault.per_second);
    // More held than it may have in all: it will not begin to refuse.
    let has_no_limit = |counts: &Counts| counts.get("held_bytes") as f64 > budget(arena.scale);
    let before = arena.counts()?.closed("overload");
    let (toll, waited) = attack_while(arena, &assault, &mut |_| unfinished(), || {
        let begun = Instant::now();
        // From then on the server is full, and those who are left press on.
        arena.wait_for(all_came + FULL_WITHIN, LOOK_EVERY, || {
            let is_full = arena.counts().is_ok_and(|it| it.closed("overload") > before || has_no_limit(&it));
            Ok(is_full && begun.elapsed() >= all_came + PRESSED_FOR)
        })
    })?;
    let is_full = waited?;
    let released = released(arena)?;
    let told = toll.ended(End::Closed(1013));
    let kept_away = [End::Open, End::Refused, End::Late, End::Dropped]
        .into_iter()
        .map(|end| toll.ended(end))
        .sum::<u64>();
    let held = toll.sent_bytes as f64;
    let closed = Figure::count("clients closed with 1013", told, Bar::AtLeast(1.0));
    // Who is not let in while the server is full never comes to the attack.
    let mut findings = Findings { late: 0, ..toll.findings() };
    findings.figures = vec![
        Figure::new("bytes to hold", held, Unit::Bytes, Bar::AtLeast(budget(arena.scale))).of_attack(),
        // What has not come to hold it need not refuse.
        if is_full { closed } else { closed.of_attack() },
        Figure::count("clients that ended otherwise", toll.begun - told - kept_away, Bar::Exactly(0.0)),
        pauses(arena, "memory_pauses_total"),
    ];
    findings.figures.extend(released);
    findings.memory_budget = Some(budget(arena.scale));
    findings.ends = vec![("overload", told)];
    Ok(findings)
}
