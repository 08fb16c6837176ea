//! What the fake kernel knows: descriptors, TCP connections, who watches what, and the time.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use webscale_sys::Interest;

use super::random::Random;
use crate::clock::Time;
use crate::connection::Ready;

/// Bytes that one direction of a connection holds, on its way and arrived; then a send would block.
const WINDOW: usize = 6000;

/// ENOMEM, ENFILE, EMFILE, ENOBUFS.
pub(super) const EXHAUSTED: [i32; 4] = [12, 23, 24, 105];
const EMFILE: i32 = 24;
const ECONNABORTED: i32 = 103;

/// The two ends of a connection.
pub(super) const SERVER: usize = 0;
pub(super) const PEER: usize = 1;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Fin {
    #[default]
    Unsent,
    OnItsWay,
    Arrived,
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    on_its_way: VecDeque<u8>,
    arrived: VecDeque<u8>,
    fin: Fin,
}

impl Way {
    fn room(&self) -> usize {
        WINDOW.saturating_sub(self.on_its_way.len() + self.arrived.len())
    }

    /// Whether anything arrived.
    fn deliver(&mut self, count: usize) -> bool {
        let count = count.min(self.on_its_way.len());
        self.arrived.extend(self.on_its_way.drain(..count));
        let ends = self.fin == Fin::OnItsWay && self.on_its_way.is_empty();
        if ends {
            self.fin = Fin::Arrived;
        }
        ends || count > 0
    }

    fn is_empty(&self) -> bool {
        self.on_its_way.is_empty() && self.arrived.is_empty()
    }
}

/// One end.
#[derive(Debug, Default)]
struct End {
    closed: bool,
    /// An RST arrived here.
    reset: bool,
    /// Its close will be one (SO_LINGER of zero).
    resets: bool,
}

/// A fault in the server's code above a socket: a panic in one of its calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Strike {
    #[default]
    Never,
    /// Behind so many calls.
    After(usize),
    Done,
}

/// A TCP connection.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) strike: Strike,
    /// From the end of that index to the other.
    ways: [Way; 2],
    ends: [End; 2],
    /// When the server last received a byte.
    pub(super) heard: Time,
    /// When the peer last did.
    pub(super) taken: Time,
}

impl Line {
    fn ready(&self, end: usize) -> Ready {
        let (from, to) = (&self.ways[1 - end], &self.ways[end]);
        let reset = self.ends[end].reset;
        let ended = from.fin == Fin::Arrived;
        Ready {
            readable: !from.arrived.is_empty() || ended || reset,
            writable: to.room() > 0 || reset,
            hung_up: reset || (ended && to.fin != Fin::Unsent),
        }
    }

    /// The other end learns that this one is gone, and loses what is on its way to it.
    pub(super) fn reset(&mut self, end: usize) {
        self.ways[end].on_its_way.clear();
        self.ends[1 - end].reset = true;
    }

    /// What the server's kernel does with a connection that nobody has accepted, and nobody will.
    fn refuse(&mut self) {
        self.ends[SERVER].closed = true;
        self.reset(SERVER);
    }

    pub(super) fn is_reset(&self, end: usize) -> bool {
        self.ends[end].reset
    }

    pub(super) fn reset_when_closed(&mut self, end: usize) {
        self.ends[end].resets = true;
    }

    /// tcp(7): who closes with bytes unread resets, and what it sent last may be lost.
    fn close(&mut self, end: usize) {
        self.ends[end].closed = true;
        if self.ways[1 - end].is_empty() && !self.ends[end].resets {
            if self.ways[end].fin == Fin::Unsent {
                self.ways[end].fin = Fin::OnItsWay;
            }
        } else {
            self.reset(end);
        }
        let from = &mut self.ways[1 - end];
        (from.on_its_way, from.arrived) = Default::default();
    }
}

/// What a descriptor of the server stands for.
#[derive(Debug)]
enum Source {
    Socket(usize),
    Listener(usize),
    Waker(Arc<AtomicBool>),
}

/// What one loop watches: by descriptor, the token and what for.
#[derive(Debug, Default)]
struct Watches {
    watched: BTreeMap<u32, (u64, Interest)>,
    /// Tokens of descriptors that were closed.
    stale: VecDeque<u64>,
}

/// How wild the kernel is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mood {
    /// Short reads and writes, EAGAIN and EINTR out of nothing, readiness in any order, twice, spurious or stale.
    pub(super) wild: bool,
    pub(super) descriptors_max: usize,
    /// One in so many accepts fails, where it is not 0.
    pub(super) accept_fails: usize,
    /// One in so many calls on a socket panics, where it is not 0.
    pub(super) calls_strike: usize,
}

#[derive(Debug)]
pub(super) struct System {
    pub(super) now: Time,
    pub(super) random: Random,
    pub(super) mood: Mood,
    pub(super) lines: Vec<Line>,
    backlogs: Vec<VecDeque<usize>>,
    loops: Vec<Watches>,
    sources: BTreeMap<u32, Source>,
    next_descriptor: u32,
    /// System calls that changed something.
    pub(super) changes: u64,
    /// The last `wait` reported nothing, or what is not so.
    pub(super) is_report_false: bool,
}

impl System {
    pub(super) fn new(seed: u64, loops: usize) -> Self {
        Self {
            // Far enough from zero that no subtraction ends there.
            now: Time::from_nanos(1_000_000_000_000),
            random: Random::new(seed),
            mood: Mood { wild: true, descriptors_max: usize::MAX, accept_fails: 0, calls_strike: 0 },
            lines: Vec::new(),
            backlogs: (0..loops).map(|_| VecDeque::new()).collect(),
            loops: (0..loops).map(|_| Watches::default()).collect(),
            sources: BTreeMap::new(),
            next_descriptor: 3,
            changes: 0,
            is_report_false: false,
        }
    }

    pub(super) fn descriptors(&self) -> usize {
        self.sources.len()
    }

    fn open(&mut self, source: Source) -> io::Result<u32> {
        if self.sources.len() >= self.mood.descriptors_max {
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        let descriptor = self.next_descriptor;
        self.next_descriptor += 1;
        self.sources.insert(descriptor, source);
        Ok(descriptor)
    }

    pub(super) fn listen(&mut self, backlog: usize) -> u32 {
        self.open(Source::Listener(backlog)).expect("the first descriptors are there")
    }

    pub(super) fn waker(&mut self, raised: &Arc<AtomicBool>) -> io::Result<u32> {
        self.changes += 1;
        self.open(Source::Waker(raised.clone()))
    }

    /// close(2): its watch ends with it.
    pub(super) fn close(&mut self, descriptor: u32) {
        self.changes += 1;
        for watches in &mut self.loops {
            if let Some((token, _)) = watches.watched.remove(&descriptor) {
                watches.stale.push_back(token);
                if watches.stale.len() > 8 {
                    watches.stale.pop_front();
                }
            }
        }
        match self.sources.remove(&descriptor).expect("it is open") {
            Source::Socket(line) => self.lines[line].close(SERVER),
            // What waits in the backlog is reset with the listener.
            Source::Listener(index) => {
                for line in std::mem::take(&mut self.backlogs[index]) {
                    self.lines[line].refuse();
                }
            }
            Source::Waker(_) => {}
        }
    }

    /// A peer connects; its line.
    pub(super) fn connect(&mut self, backlog: usize) -> usize {
        self.lines.push(Line::default());
        let (line, listens) = (self.lines.len() - 1, self.listens(backlog));
        if listens {
            self.backlogs[backlog].push_back(line);
        } else {
            self.lines[line].refuse();
        }
        line
    }

    fn listens(&self, backlog: usize) -> bool {
        self.sources.values().any(|source| matches!(source, Source::Listener(index) if *index == backlog))
    }

    /// accept(2): looks for a descriptor first, and then for a connection.
    pub(super) fn accept(&mut self, listener: u32) -> io::Result<(u32, usize)> {
        let Some(Source::Listener(index)) = self.sources.get(&listener) else { panic!("no listener") };
        let index = *index;
        if self.sources.len() >= self.mood.descriptors_max {
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        if self.mood.accept_fails > 0 && self.random.once_in(self.mood.accept_fails) {
            return Err(io::Error::from_raw_os_error(self.random.pick(&EXHAUSTED)));
        }
        let line = self.backlogs[index].pop_front().ok_or(ErrorKind::WouldBlock)?;
        self.changes += 1;
        if self.mood.wild && self.random.once_in(50) {
            self.lines[line].refuse();
            return Err(io::Error::from_raw_os_error(ECONNABORTED));
        }
        let held = &mut self.lines[line];
        (held.heard, held.taken) = (self.now, self.now);
        Ok((self.open(Source::Socket(line))?, line))
    }

    pub(super) fn watch(
        &mut self,
        event_loop: usize,
        descriptor: u32,
        (token, interest): (u64, Interest),
        is_new: bool,
    ) -> io::Result<()> {
        let before = self.loops[event_loop].watched.insert(descriptor, (token, interest));
        assert_eq!(before.is_none(), is_new, "EPOLL_CTL_ADD and EPOLL_CTL_MOD each in their place");
        let is_socket = matches!(self.sources.get(&descriptor), Some(Source::Socket(_)));
        assert!(!is_socket || before != Some((token, interest)), "a system call for nothing");
        self.changes += 1;
        Ok(())
    }

    /// Whether the server's next call on this line panics.
    pub(super) fn strikes(&mut self, line: usize) -> bool {
        let by_chance = self.mood.calls_strike > 0 && self.random.once_in(self.mood.calls_strike);
        let strike = &mut self.lines[line].strike;
        *strike = match *strike {
            Strike::After(0) => Strike::Done,
            _ if by_chance => Strike::Done,
            Strike::After(calls) => Strike::After(calls - 1),
            Strike::Never | Strike::Done => return false,
        };
        *strike == Strike::Done
    }

    pub(super) fn recv(&mut self, line: usize, end: usize, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(!buffer.is_empty(), "a recv into no room looks like the end of the stream");
        let is_short = end == SERVER && self.mood.wild;
        if is_short && self.random.once_in(40) {
            return Err(self.random.pick(&[ErrorKind::WouldBlock, ErrorKind::Interrupted]).into());
        }
        let now = self.now;
        let Line { ways, ends, heard, taken, .. } = &mut self.lines[line];
        let from = &mut ways[1 - end];
        if from.arrived.is_empty() {
            return match (ends[end].reset, from.fin) {
                (true, _) => Err(ErrorKind::ConnectionReset.into()),
                (false, Fin::Arrived) => Ok(0),
                (false, _) => Err(ErrorKind::WouldBlock.into()),
            };
        }
        let mut count = buffer.len().min(from.arrived.len());
        if is_short && self.random.once_in(3) {
            count = self.random.within(1, count);
        }
        for (to, from) in buffer.iter_mut().zip(from.arrived.drain(..count)) {
            *to = from;
        }
        if end == SERVER {
            (*heard, self.changes) = (now, self.changes + 1);
        } else {
            *taken = now;
        }
        Ok(count)
    }

    pub(super) fn send(&mut self, line: usize, end: usize, bytes: &[u8]) -> io::Result<usize> {
        assert!(!bytes.is_empty(), "a send of nothing is a system call for nothing");
        let is_short = end == SERVER && self.mood.wild;
        if end == SERVER {
            self.changes += 1;
        }
        let Line { ways, ends, .. } = &mut self.lines[line];
        assert!(ways[end].fin == Fin::Unsent, "nothing is sent behind a FIN");
        if ends[end].reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if ends[1 - end].closed {
            ends[end].reset = true;
            return Ok(bytes.len());
        }
        let mut count = bytes.len().min(ways[end].room());
        if is_short && count > 0 && self.random.once_in(3) {
            count = self.random.below(count + 1);
        }
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        ways[end].on_its_way.extend(&bytes[..count]);
        Ok(count)
    }

    pub(super) fn shutdown_write(&mut self, line: usize, end: usize) -> io::Result<()> {
        let Line { ways, ends, .. } = &mut self.lines[line];
        if ends[end].reset {
            return Err(ErrorKind::NotConnected.into());
        }
        ways[end].fin = Fin::OnItsWay;
        self.changes += 1;
        Ok(())
    }

    pub(super) fn close_peer(&mut self, line: usize) {
        self.lines[line].close(PEER);
    }

    /// Bytes and ends arrive on one line; whether any did.
    pub(super) fn deliver(&mut self, line: usize) -> bool {
        let mut arrived = false;
        for way in 0..2 {
            let flying = self.lines[line].ways[way].on_its_way.len();
            let count = if self.mood.wild && flying > 0 { self.random.below(2 * flying) } else { flying };
            arrived |= self.lines[line].ways[way].deliver(count);
        }
        arrived
    }

    /// Descriptors of one loop that are ready for what they are watched for, by token.
    pub(super) fn ready(&self, event_loop: usize) -> Vec<(u64, Ready)> {
        let watched = self.loops[event_loop].watched.iter();
        watched
            .filter_map(|(descriptor, &(token, interest))| {
                let ready = match self.sources.get(descriptor)? {
                    Source::Socket(line) => self.lines[*line].ready(SERVER),
                    Source::Listener(index) => only_readable(!self.backlogs[*index].is_empty()),
                    Source::Waker(raised) => only_readable(raised.load(Ordering::SeqCst)),
                };
                let readable = ready.readable && interest.read;
                let writable = ready.writable && interest.write;
                (readable || writable || ready.hung_up)
                    .then_some((token, Ready { readable, writable, hung_up: ready.hung_up }))
            })
            .collect()
    }

    /// What one epoll_wait(2) reports.
    pub(super) fn report(&mut self, event_loop: usize) -> Vec<(u64, Ready)> {
        let mut ready = self.ready(event_loop);
        self.is_report_false = false;
        if !self.mood.wild {
            return ready;
        }
        if self.random.once_in(50) {
            self.is_report_false = true;
            return Vec::new();
        }
        if let Some(&twice) = ready.first()
            && self.random.once_in(8)
        {
            ready.push(twice);
        }
        self.add_false_reports(event_loop, &mut ready);
        self.random.shuffle(&mut ready);
        if ready.len() > 1 && self.random.once_in(4) {
            ready.truncate(self.random.within(1, ready.len()));
        }
        ready
    }

    fn add_false_reports(&mut self, event_loop: usize, ready: &mut Vec<(u64, Ready)>) {
        let Watches { watched, stale } = &self.loops[event_loop];
        if !watched.is_empty() && self.random.once_in(8) {
            let index = self.random.below(watched.len());
            let &(token, Interest { read, write }) = watched.values().nth(index).expect("below its length");
            if read || write {
                ready.push((token, Ready { readable: read, writable: write, hung_up: false }));
            }
        }
        if !stale.is_empty() && self.random.once_in(4) {
            let token = stale[self.random.below(stale.len())];
            ready.push((token, Ready { readable: true, writable: true, hung_up: self.random.once_in(2) }));
        }
    }

    /// Lines whose end at the server is open.
    pub(super) fn held(&self) -> impl Iterator<Item = (usize, &Line)> {
        self.sources.values().filter_map(|source| match source {
            Source::Socket(line) => Some((*line, &self.lines[*line])),
            Source::Listener(_) | Source::Waker(_) => None,
        })
    }
}

fn only_readable(readable: bool) -> Ready {
    Ready { readable, writable: false, hung_up: false }
}
