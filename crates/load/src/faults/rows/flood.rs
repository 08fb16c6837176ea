//! Clients that ask for more than there is.

use std::io;
use std::iter;
use std::time::Duration;

use webscale_proto::{Control, OpCode};
use workload::Mode;

use super::super::attacker::hostile::Entry;
use super::super::attacker::script::{Move, Script, frame};
use super::super::attacker::{Assault, End, Toll, attack, tls};
use super::super::figure::{Bar, Figure, Unit};
use super::super::row::{Arena, Findings, Row};
use super::super::settings::Scale;

/// Handshakes under way at the same time, at most.
const AT_ONCE: u32 = 8_000;
/// A client that got no answer in so long comes back as another one.
const GIVE_UP: Duration = Duration::from_millis(500);
/// How long the server's capacity is measured.
const SOUNDING: Duration = Duration::from_secs(2);
/// Connections that keep a server busy and do not queue up.
const SOUNDING_AT_ONCE: u32 = 64;
const TIMES_CAPACITY: f64 = 3.0;

pub(super) const HANDSHAKES: Row = Row {
    number: 5,
    name: "TLS handshakes at three times the server's capacity",
    expected: "budgets a turn; honest p99 rises to three times at most",
    mode: Mode::Ingest,
    flags: |_| vec![],
    for_others: true,
    connections: AT_ONCE,
    slower_at_most: TIMES_CAPACITY,
    attack: handshakes,
};

fn handshakes(arena: &Arena<'_>) -> io::Result<Findings> {
    let hello = tls::costly().and_then(|config| tls::hello(&config)).map_err(io::Error::other)?;
    // The server computes two keys and a signature before it answers; the client computes nothing.
    let mut script =
        |_| -> Script { Box::new([Move::Send(hello.clone()), Move::Listen, Move::Leave].into_iter()) };
    let sounding = Assault {
        connections: u32::MAX,
        per_second: f64::MAX,
        at_once: SOUNDING_AT_ONCE,
        entry: Entry::Tcp,
        patience: GIVE_UP,
        lasts: SOUNDING,
    };
    let capacity = answered(&attack(arena, &sounding, &mut script)?);
    let per_second = capacity * TIMES_CAPACITY;
    let flood = Assault { per_second, at_once: AT_ONCE, lasts: arena.scale.attack_min(), ..sounding };
    let toll = attack(arena, &flood, &mut script)?;
    Ok(found_of_flood(&toll, capacity))
}

/// Of a flood of handshakes to a server that answers so many a second when they do not hurry.
pub(super) fn found_of_flood(toll: &Toll, capacity: f64) -> Findings {
    let made = toll.begun as f64 / toll.seconds;
    let enough = Bar::AtLeast(capacity * TIMES_CAPACITY * 0.9);
    // Whose turn does not come is what the row is about.
    let mut findings = Findings { late: 0, ..toll.findings() };
    findings.figures = vec![
        Figure::noted("handshakes answered a second, unhurried", capacity, Unit::Count),
        Figure::new("begun a second", made, Unit::Count, enough).of_attack(),
        Figure::noted("answered a second in the flood", answered(toll), Unit::Count),
    ];
    findings
}

/// Handshakes that the server answered, a second.
fn answered(toll: &Toll) -> f64 {
    toll.ended(End::Left) as f64 / toll.seconds
}

const PING_CLIENTS: u32 = 100;
/// A server may see it so much later.
pub(super) const GRACE: Duration = Duration::from_secs(6);

pub(super) const PINGS: Row = Row {
    number: 6,
    name: "pings without end from clients that do not read",
    expected: "one pong waits, the latest; then 1008",
    mode: Mode::Ingest,
    flags: |scale| scale.either(vec![], SHORT_SILENCE.to_vec()),
    for_others: true,
    connections: PING_CLIENTS,
    slower_at_most: 2.0,
    attack: pings,
};

/// Shorter than by default; so many honest clients cost a server that pings them more often what an idle one may not take.
pub(super) const SHORT_SILENCE: [&str; 4] = ["--ping-after", "3s", "--pong-time", "1s"];

/// When the server sees that a client takes nothing: its defaults, and at a tenth of the scale shorter ones.
pub(super) fn unread(scale: Scale) -> Duration {
    // A ping, spread by an eighth, and the time for its pong.
    scale.either(Duration::from_secs(34 + 30), Duration::from_millis(3_375 + 1_000))
}

fn pings(arena: &Arena<'_>) -> io::Result<Findings> {
    let connections = arena.scale.of(PING_CLIENTS);
    let patience = unread(arena.scale) + 2 * GRACE;
    let all = Assault::all_at_once(connections, 100.0, Entry::WEBSOCKET, patience);
    let assault = Assault { lasts: patience * 2, ..all };
    let ping = frame(OpCode::Control(Control::Ping), true, &[b'p'; 125]);
    let toll = attack(arena, &assault, &mut |_| {
        let ping = ping.clone();
        Box::new(iter::once(Move::StopReading).chain(iter::repeat_with(move || Move::Send(ping.clone()))))
    })?;
    Ok(found_of_pings(arena.scale, &toll))
}

pub(super) fn found_of_pings(scale: Scale, toll: &Toll) -> Findings {
    let mut findings = toll.findings();
    findings.figures.push(toll.all_entered(scale.of(PING_CLIENTS)));
    findings.figures.extend(toll.reaped_within(unread(scale) + GRACE));
    // The socket's own buffers are the kernel's; behind them a pong and a TLS record wait.
    findings.memory_each_at_most = Some(64.0 * 1024.0);
    findings.ends = vec![("slow_consumer", toll.in_time())];
    findings
}
