//! Hostile clients: thousands of sockets on one thread, each with a script of what it does.

pub(super) mod early_data;
pub(super) mod hostile;
pub(super) mod renegotiation;
pub(super) mod script;
pub(super) mod tls;
pub(super) mod toll;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use webscale_sys::{Events, Poller, TcpSocket};

use super::row::Arena;
use hostile::{Entry, Hostile, Standing};
use script::{Move, Script};
pub(super) use toll::{End, Toll};

/// All attacks are shorter, and the longest soak.
pub(super) const FOR_EVER: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const EVENTS: usize = 1024;
/// What is read from a socket at a time.
const BUFFER_BYTES: usize = 64 * 1024;
/// How often the clock and the order to stop are looked at, at least.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Connections that share a source address: it has ports for twice as many.
const PER_SOURCE: u32 = 10_000;

/// How many connections there are, and how they come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Assault {
    /// In all.
    pub(super) connections: u32,
    /// Begun a second.
    pub(super) per_second: f64,
    /// At the same time, at most.
    pub(super) at_once: u32,
    /// What is honest about them.
    pub(super) entry: Entry,
    /// Those that the server has not ended so long after they came to the attack are let go, and counted as open.
    pub(super) patience: Duration,
    /// No connection is begun after that; those that are open are awaited, with patience.
    pub(super) lasts: Duration,
}

impl Assault {
    /// Connections that are all made, however long that takes, and may all be there at the same time.
    pub(super) fn all_at_once(connections: u32, per_second: f64, entry: Entry, patience: Duration) -> Self {
        Self { connections, per_second, at_once: connections, entry, patience, lasts: FOR_EVER }
    }
}

/// Makes the connections, and has each play the script that it is given by its number. Returns when all have ended.
pub(super) fn attack(
    arena: &Arena<'_>,
    assault: &Assault,
    script: &mut dyn FnMut(u32) -> Script,
) -> io::Result<Toll> {
    let mut attacker = Attacker::new(arena, assault)?;
    attacker.run(script)?;
    Ok(attacker.toll)
}

/// The same, again and again until percentiles of the honest clients can be told.
pub(super) fn attack_repeatedly(
    arena: &Arena<'_>,
    assault: &Assault,
    script: &mut dyn FnMut(u32) -> Script,
) -> io::Result<Toll> {
    let begun = Instant::now();
    attack_until(arena, assault, script, || begun.elapsed() >= arena.scale.attack_min())
}

/// The same for so long, by connections each of which makes the next of several lists of moves.
pub(super) fn attack_in_turn(
    arena: &Arena<'_>,
    assault: &Assault,
    lists: &[Vec<Move>],
    lasts: Duration,
) -> io::Result<Toll> {
    let begun = Instant::now();
    let mut script =
        |number| -> Script { Box::new(lists[number as usize % lists.len()].clone().into_iter()) };
    attack_until(arena, assault, &mut script, || begun.elapsed() >= lasts)
}

/// The same, again and again until it is over. The numbers begin anew each time.
pub(super) fn attack_until(
    arena: &Arena<'_>,
    assault: &Assault,
    script: &mut dyn FnMut(u32) -> Script,
    is_over: impl Fn() -> bool,
) -> io::Result<Toll> {
    let mut toll = Toll::default();
    while !is_over() && !arena.is_stopped() {
        toll.join(&attack(arena, assault, script)?);
    }
    Ok(toll)
}

/// The same beside `meanwhile`, and no longer: those that are left then go all at once.
pub(super) fn attack_while<T>(
    arena: &Arena<'_>,
    assault: &Assault,
    script: &mut (dyn FnMut(u32) -> Script + Send),
    meanwhile: impl FnOnce() -> T,
) -> io::Result<(Toll, T)> {
    let stop = AtomicBool::new(false);
    let arena = Arena { stop: &stop, ..arena.clone() };
    let (toll, seen) = both(
        || attack(&arena, assault, script),
        || {
            let seen = meanwhile();
            stop.store(true, Ordering::Relaxed);
            seen
        },
    );
    Ok((toll?, seen))
}

/// Does something on a thread of its own, and something else here.
pub(super) fn both<A: Send, B>(aside: impl FnOnce() -> A + Send, here: impl FnOnce() -> B) -> (A, B) {
    thread::scope(|scope| {
        let aside = scope.spawn(aside);
        let here = here();
        (aside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), here)
    })
}

struct Attacker<'a> {
    arena: &'a Arena<'a>,
    assault: &'a Assault,
    poller: Poller,
    /// By their numbers.
    connections: BTreeMap<u32, Hostile>,
    /// When a connection goes on with its script.
    timers: BinaryHeap<Reverse<(Instant, u32)>>,
    begun: Instant,
    /// When it was last looked whom the server has not ended in time.
    looked: Instant,
    buffer: Vec<u8>,
    toll: Toll,
}

impl<'a> Attacker<'a> {
    fn new(arena: &'a Arena<'a>, assault: &'a Assault) -> io::Result<Attacker<'a>> {
        Ok(Attacker {
            arena,
            assault,
            poller: Poller::new()?,
            connections: BTreeMap::new(),
            timers: BinaryHeap::new(),
            begun: Instant::now(),
            looked: Instant::now(),
            buffer: vec![0; BUFFER_BYTES],
            toll: Toll::default(),
        })
    }

    fn run(&mut self, script: &mut dyn FnMut(u32) -> Script) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        while !self.is_over() {
            self.begin_due(script)?;
            self.poller.wait(&mut events, Some(self.idle_for()))?;
            for event in (0..events.len()).filter_map(|index| events.get(index)) {
                let Ok(number) = u32::try_from(event.token) else { continue };
                let buffer = &mut self.buffer;
                if let Some(hostile) = self.connections.get_mut(&number) {
                    hostile.on_event(event.readiness, buffer);
                    self.file(number)?;
                }
            }
            self.fire_timers()?;
            self.lose_patience();
        }
        self.toll.seconds = self.begun.elapsed().as_secs_f64();
        for hostile in std::mem::take(&mut self.connections).into_values() {
            self.toll.add(&hostile.account(), End::Open);
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        (self.connections.is_empty() && !self.is_beginning()) || self.arena.is_stopped()
    }

    /// Whether further connections are to be begun.
    fn is_beginning(&self) -> bool {
        self.tried() < u64::from(self.assault.connections) && self.begun.elapsed() < self.assault.lasts
    }

    /// Connections that were begun, or should have been.
    fn tried(&self) -> u64 {
        self.toll.begun + self.toll.not_begun
    }

    /// Lets those go that the server has not ended in time.
    fn lose_patience(&mut self) {
        let (now, patience) = (Instant::now(), self.assault.patience);
        if now - self.looked < LOOK_EVERY {
            return;
        }
        self.looked = now;
        for (_, hostile) in self.connections.extract_if(.., |_, hostile| hostile.has_waited(now, patience)) {
            self.toll.add(&hostile.account(), End::Open);
            hostile.leave();
        }
    }

    /// Begins the connections that are due.
    fn begin_due(&mut self, script: &mut dyn FnMut(u32) -> Script) -> io::Result<()> {
        let Assault { connections, per_second, at_once, entry, .. } = *self.assault;
        let due = (self.begun.elapsed().as_secs_f64() * per_second).min(f64::from(connections));
        while self.is_beginning() && (self.tried() as f64) < due && self.connections.len() < at_once as usize
        {
            let Ok(number) = u32::try_from(self.tried()) else { return Ok(()) };
            let source = self.arena.address.ip().is_loopback().then(|| source(number));
            match TcpSocket::connect(self.arena.address, source) {
                Ok(socket) => {
                    self.toll.begun += 1;
                    let mut hostile = Hostile::new(socket, entry, self.arena, script(number))?;
                    self.poller.add(hostile.socket(), number.into(), hostile.interest())?;
                    hostile.watched = hostile.interest();
                    self.connections.insert(number, hostile);
                }
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    self.toll.begun += 1;
                    self.toll.refused += 1;
                }
                Err(_) => self.toll.not_begun += 1,
            }
        }
        self.toll.peak_open = self.toll.peak_open.max(self.connections.len() as u64);
        Ok(())
    }

    /// How long nothing has to be done.
    fn idle_for(&self) -> Duration {
        let next = self.timers.peek().map(|Reverse((at, _))| at.saturating_duration_since(Instant::now()));
        let coming = (self.is_beginning() && self.connections.len() < self.assault.at_once as usize)
            .then_some(Duration::from_millis(1));
        [next, coming].into_iter().flatten().fold(LOOK_EVERY, Duration::min)
    }

    fn fire_timers(&mut self) -> io::Result<()> {
        let now = Instant::now();
        while let Some(Reverse((_, number))) =
            self.timers.peek().copied().filter(|Reverse((at, _))| *at <= now)
        {
            self.timers.pop();
            if let Some(hostile) = self.connections.get_mut(&number) {
                hostile.on_time();
                self.file(number)?;
            }
        }
        Ok(())
    }

    /// Brings the tables up to date with a connection that did something.
    fn file(&mut self, number: u32) -> io::Result<()> {
        let Some(hostile) = self.connections.get_mut(&number) else { return Ok(()) };
        match hostile.standing() {
            Standing::Over(end) => {
                if let Some(hostile) = self.connections.remove(&number) {
                    self.toll.add(&hostile.account(), end);
                    hostile.leave();
                }
                return Ok(());
            }
            Standing::Resting(until) if hostile.timer != Some(until) => {
                hostile.timer = Some(until);
                self.timers.push(Reverse((until, number)));
            }
            Standing::Resting(_) | Standing::Busy => {}
        }
        let interest = hostile.interest();
        if interest != hostile.watched {
            hostile.watched = interest;
            self.poller.modify(hostile.socket(), number.into(), interest)?;
        }
        Ok(())
    }
}

/// Other addresses than those of honest clients: 127.0.1.1 and on.
fn source(number: u32) -> IpAddr {
    let [.., high, low] = (number / PER_SOURCE % 60_000 + 0x0101).to_be_bytes();
    Ipv4Addr::new(127, 0, high, low).into()
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};
    use std::path::PathBuf;

    use super::super::settings::Scale;
    use super::super::verdict::{Verdict, judge};
    use super::*;
    use crate::cert::Files;

    /// What becomes of three who connect to `address` and wait there.
    fn attacked(address: SocketAddr) -> Toll {
        let (stop, finale) = (AtomicBool::new(false), AtomicBool::new(false));
        let [ca_cert, ca_key, cert, key] = [const { PathBuf::new() }; 4];
        let arena = Arena {
            address,
            tls: tls::hostile().unwrap(),
            pid: 0,
            is_own: true,
            certificate: &Files { ca_cert, ca_key, cert, key },
            scale: Scale::Full,
            stop: &stop,
            finale: &finale,
        };
        let assault = Assault::all_at_once(3, 1000.0, Entry::Tcp, Duration::from_secs(60));
        attack(&arena, &assault, &mut |_| Box::new(std::iter::empty())).unwrap()
    }

    #[test]
    fn a_port_that_refuses_is_the_servers_doing() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let toll = attacked(address);
        assert_eq!((toll.begun, toll.refused + toll.ended(End::Refused), toll.not_begun), (3, 3, 0));
        assert!(toll.findings().figures().is_empty());
    }

    #[test]
    fn what_this_machine_cannot_begin_is_not_the_servers_doing() {
        // No TCP connection leads to a broadcast address.
        let toll = attacked("255.255.255.255:9".parse().unwrap());
        assert_eq!((toll.begun, toll.refused, toll.not_begun), (0, 0, 3));
        let figures = toll.findings().figures();
        assert!(matches!(judge(&figures, Vec::new()), Verdict::Disturbed(_)), "{figures:?}");
    }
}
