//! Clients whose network is gone.

use std::fs::File;
use std::io;
use std::iter;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use workload::Mode;

use super::super::attacker::hostile::Entry;
use super::super::attacker::script::{Move, counted};
use super::super::attacker::{Assault, FOR_EVER, Toll, attack_while};
use super::super::figure::{Bar, Figure, Unit};
use super::super::row::{Arena, Findings, Row};
use super::super::settings::Scale;

const CONNECTIONS: u32 = 1_000;
/// From where they are to be connected.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Of the networks that are for measurements and routed nowhere (RFC 2544 §C.2.2).
const OUR_END: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const THEIR_END: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const THEIR_LINK: &str = "clients";
/// Of the process's first thread, which stays where it is.
const OUR_NAMESPACE: &str = "/proc/self/ns/net";

pub(super) const PEERS: Row = Row {
    number: 15,
    name: "peers that vanish without a packet",
    expected: "each reaped when its pong is overdue",
    mode: Mode::Ingest,
    flags: |scale| {
        let everywhere = vec!["--listen", "0.0.0.0:0"];
        let short = ["--ping-after", "5s", "--pong-time", "3s"];
        scale.either(everywhere.clone(), [&everywhere[..], &short].concat())
    },
    for_others: false,
    connections: CONNECTIONS,
    slower_at_most: 2.0,
    attack: vanish,
};

/// By the flags above: silence, an eighth more of it, and the time for the pong.
fn reaped_within(scale: Scale) -> Duration {
    scale.either(Duration::from_secs(65), Duration::from_secs(10))
}

/// A network namespace, and a pair of links from ours to it. Gone when dropped.
struct Elsewhere {
    name: String,
    link: String,
}

impl Elsewhere {
    fn new() -> Result<Elsewhere, String> {
        let id = std::process::id();
        let elsewhere = Elsewhere { name: format!("webscale-{id}"), link: format!("ws{id}") };
        let Elsewhere { name, link } = &elsewhere;
        ip(&format!("netns add {name}"))?;
        ip(&format!("link add {link} type veth peer name {THEIR_LINK} netns {name}"))?;
        ip(&format!("address add {OUR_END}/30 dev {link}"))?;
        ip(&format!("link set {link} up"))?;
        ip(&format!("-n {name} address add {THEIR_END}/30 dev {THEIR_LINK}"))?;
        ip(&format!("-n {name} link set {THEIR_LINK} up"))?;
        Ok(elsewhere)
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// Nobody there hears or says anything from now on.
    fn cut(&self) -> io::Result<()> {
        ip(&format!("-n {} link set {THEIR_LINK} down", self.name)).map_err(io::Error::other)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        // Where one was not made, there is none to delete.
        let _ = ip(&format!("link delete {}", self.link));
        let _ = ip(&format!("netns delete {}", self.name));
    }
}

/// Runs ip(8).
fn ip(arguments: &str) -> Result<(), String> {
    let output =
        Command::new("ip").args(arguments.split(' ')).output().map_err(|error| format!("ip: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    output.status.success().then_some(()).ok_or_else(|| format!("ip {arguments}: {}", said.trim()))
}

/// Takes the calling thread, and those that it starts, to another network namespace; sockets stay where they were made.
fn move_to(namespace: &str) -> io::Result<()> {
    let file = File::open(namespace)?;
    Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
}

fn vanish(arena: &Arena<'_>) -> io::Result<Findings> {
    let elsewhere = match Elsewhere::new() {
        Ok(elsewhere) => elsewhere,
        Err(why) => {
            let skipped = format!("needs root and iproute2, to make a network namespace: {why}");
            return Ok(Findings { skipped: Some(skipped), ..Findings::default() });
        }
    };
    let connections = arena.scale.of(CONNECTIONS);
    let assault = Assault::all_at_once(connections, 200.0, Entry::WEBSOCKET, FOR_EVER);
    let before = arena.counts()?.closed("timeout");
    let connected = Arc::new(AtomicU32::new(0));
    let from_there =
        Arena { address: SocketAddr::new(OUR_END.into(), arena.address.port()), ..arena.clone() };
    move_to(&elsewhere.path())?;
    let attacked = attack_while(
        &from_there,
        &assault,
        &mut |_| counted(&connected, iter::once(Move::StopReading)),
        || -> io::Result<(u64, f64)> {
            move_to(OUR_NAMESPACE)?;
            arena.wait_for(PATIENCE, LOOK_EVERY, || Ok(connected.load(Ordering::Relaxed) >= connections))?;
            elsewhere.cut()?;
            let (cut, mut reaped) = (Instant::now(), 0);
            arena.wait_for(reaped_within(arena.scale) + PATIENCE, LOOK_EVERY, || {
                reaped = arena.counts()?.closed("timeout") - before;
                Ok(reaped >= u64::from(connections))
            })?;
            Ok((reaped, cut.elapsed().as_secs_f64()))
        },
    );
    let (toll, seen) = attacked?;
    let (reaped, took) = seen?;
    let mut findings = toll.findings();
    findings.figures = figures(arena.scale, &toll, reaped, took).to_vec();
    Ok(findings)
}

/// So many were reaped, the last of them after so many seconds.
pub(super) fn figures(scale: Scale, toll: &Toll, reaped: u64, took_seconds: f64) -> [Figure; 3] {
    let connections = scale.of(CONNECTIONS);
    let most = Bar::AtMost(reaped_within(scale).as_secs_f64());
    [
        toll.all_entered(connections),
        Figure::count("vanished peers that were reaped", reaped, Bar::AtLeast(f64::from(connections))),
        Figure::new("the last of them after", took_seconds, Unit::Seconds, most).of_time(),
    ]
}
