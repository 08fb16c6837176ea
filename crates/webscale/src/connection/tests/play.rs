//! Operations on one connection in any order, and what must hold behind them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};
use webscale_proto::handshake::head_end;
use webscale_proto::{CloseCode, Data, Deflate, Deflater, FrameHeader, Inflater, Message, Role};
use webscale_sys::Waker;

use super::harness::World;
use super::recorder::{Recorder, Seen, joined};
use super::socket::End;
use super::wire::{Frames, Item, items_before_cut, items_inflated, request, response};
use crate::admission::Admission;
use crate::close::CloseCause;
use crate::connection::Wire;
use crate::limits::{Limits, SlowConsumer};
use crate::mailbox::Mailbox;
use crate::prepared::Prepared;
use crate::sender::Parcel;
use crate::target::Target;
use crate::worker::{Done, Workers};

/// What a peer tells our handler to do.
pub(super) const TOLD: [&str; 10] = [
    "bytes 700",
    "bytes 9000",
    "ping x",
    "timer 5",
    "begin a message in fragments",
    "more of it, more of it, more of it",
    "finish it",
    "share with all, with all, with all",
    "close 1000 bye",
    "panic",
];

pub(super) const POLICIES: [SlowConsumer; 3] =
    [SlowConsumer::Close, SlowConsumer::DropNewest, SlowConsumer::DropOldest];

/// What kind of connection it is.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub(super) struct Kind {
    pub(super) is_client: bool,
    pub(super) with_workers: bool,
    #[arbitrary(with = |u: &mut Unstructured<'_>| u.choose(&POLICIES).copied())]
    pub(super) slow_consumer: SlowConsumer,
    /// Messages are compressed.
    pub(super) deflates: bool,
    /// Compressors remember, on both sides.
    pub(super) takes_over: bool,
    /// Long messages come in chunks.
    pub(super) streams: bool,
    /// A proxy brings the client.
    pub(super) is_proxied: bool,
}

impl Kind {
    pub(super) fn role(self) -> Role {
        if self.is_client { Role::Client } else { Role::Server }
    }

    fn limits(self) -> Limits {
        Limits {
            egress_bytes: 4000,
            egress_high_water: 1000,
            message_bytes: 1200,
            stream_bytes: if self.streams { 6000 } else { 0 },
            turn_frames: 3,
            connections: 1,
            connections_per_address: 1,
            handshakes_per_address: 1,
            worker_queue: 1,
            slow_consumer: self.slow_consumer,
            ..Limits::default()
        }
    }

    fn deflate(self) -> Option<Deflate> {
        let deflate = Deflate::default().threshold(8);
        let takeover = self.takes_over;
        self.deflates.then(|| deflate.own_context_takeover(takeover).peer_context_takeover(takeover))
    }

    /// Puts the extension into a head that the peer sends.
    fn extend(self, head: Vec<u8>) -> Vec<u8> {
        let parameters = match (self.is_client, self.takes_over) {
            (true, false) => "; server_no_context_takeover; client_no_context_takeover",
            _ => "",
        };
        let extension = format!("\r\nSec-WebSocket-Extensions: permessage-deflate{parameters}\r\n\r\n");
        match head.strip_suffix(b"\r\n\r\n") {
            Some(head) if self.deflates => [head, extension.as_bytes()].concat(),
            _ => head,
        }
    }
}

#[derive(Clone, Debug, Arbitrary)]
pub(super) enum Operation {
    /// The peer says something; it is on its way.
    Text(#[arbitrary(with = below::<900>)] usize),
    Fragments(#[arbitrary(with = below::<400>)] usize),
    Ping(#[arbitrary(with = |u: &mut Unstructured<'_>| u.int_in_range(0..=125))] u8),
    Tell(#[arbitrary(with = |u: &mut Unstructured<'_>| u.choose(&TOLD).copied())] &'static str),
    CloseFrame,
    Garbage(Vec<u8>),
    /// So many bytes of what is on its way arrive.
    Arrive(#[arbitrary(with = amount)] usize),
    End(End),
    Room(#[arbitrary(with = amount)] usize),
    RecvMax(#[arbitrary(with = at_least_one)] usize),
    SendMax(#[arbitrary(with = at_least_one)] usize),
    Advance(#[arbitrary(with = |u: &mut Unstructured<'_>| u.int_in_range(0..=40_000))] u64),
    /// Another thread.
    Send(#[arbitrary(with = below::<900>)] usize),
    Close,
    Timer,
    /// A worker takes a message, or the loop takes note of what one did.
    Work,
    Collect,
    /// The peer says something that is longer than what is held.
    Long(#[arbitrary(with = below::<7000>)] usize),
    /// The same, compressed where that was agreed on, in frames of so many bytes.
    Compressed(#[arbitrary(with = below::<7000>)] usize, #[arbitrary(with = at_least_one)] usize),
    /// Another thread sends what was made for many.
    Share(#[arbitrary(with = below::<900>)] usize),
    /// Too much is held for all, and so much is the connection's share; or no longer.
    Pressure(#[arbitrary(with = amount)] usize),
    /// It holds more than that.
    Shed,
}

fn below<const END: usize>(u: &mut Unstructured<'_>) -> Result<usize> {
    u.int_in_range(0..=END - 1)
}

/// A number of bytes, or all.
fn amount(u: &mut Unstructured<'_>) -> Result<usize> {
    let bytes = u16::arbitrary(u)?;
    Ok(if bytes > 3000 { usize::MAX } else { bytes.into() })
}

fn at_least_one(u: &mut Unstructured<'_>) -> Result<usize> {
    let bytes = u8::arbitrary(u)?;
    Ok(if bytes > 50 { usize::MAX } else { usize::from(bytes).max(1) })
}

/// Plays what `data` says.
///
/// # Panics
///
/// Something does not hold that must.
pub(crate) fn run(data: &[u8]) {
    let mut data = Unstructured::new(data);
    let Ok((kind, is_open)) = data.arbitrary::<(Kind, bool)>() else { return };
    let mut play = Play::new(kind);
    if is_open {
        play.act(Operation::Arrive(usize::MAX));
    }
    for operation in data.arbitrary_take_rest_iter().into_iter().flatten().map_while(Result::ok) {
        play.act(operation);
    }
    play.finish();
}

/// A connection, its peer's words that have not arrived, and its worker.
pub(super) struct Play {
    kind: Kind,
    world: World,
    /// The peer's.
    deflater: Deflater,
    on_its_way: VecDeque<u8>,
    said: usize,
    seen: Vec<Seen>,
    sent: Vec<u8>,
    workers: Workers<u64>,
    done: Arc<Mailbox<Done<u64>>>,
}

impl Play {
    pub(super) fn new(kind: Kind) -> Self {
        let (role, limits) = (kind.role(), kind.limits());
        let workers =
            Workers::start(0, role, &limits, &Arc::<Recorder>::default()).expect("no thread is needed");
        let waker = Arc::new(Waker::new().expect("a descriptor"));
        let done = Arc::new(Mailbox::new(waker, usize::MAX, usize::MAX));
        let mut world = match role {
            Role::Server => World::server(limits),
            Role::Client => {
                let target = Target::from_url("ws://127.0.0.1:9/").expect("a URL");
                let target = kind.deflate().into_iter().fold(target, Target::deflate);
                World::connecting(limits, None, target)
            }
        };
        world.config.deflate = kind.deflate();
        if kind.with_workers && !kind.is_client {
            world.pool = Some(workers.pool(done.clone()));
        }
        let (seen, sent) = (Vec::new(), Vec::new());
        let deflater = Deflater::new(6, 15, kind.takes_over);
        let on_its_way = VecDeque::new();
        let mut play = Self { kind, world, deflater, on_its_way, said: 0, seen, sent, workers, done };
        play.shake_hands();
        play
    }

    /// The upgrade itself arrives in pieces too.
    fn shake_hands(&mut self) {
        match self.world.config.role {
            Role::Server => {
                if self.kind.is_proxied {
                    self.introduce();
                }
                self.on_its_way.extend(self.kind.extend(request("/")));
            }
            Role::Client => {
                self.world.pump();
                self.sent = self.world.sent();
                self.on_its_way.extend(self.kind.extend(response(&self.sent)));
            }
        }
    }

    /// A proxy says whose the connection is, which has the last place of that address.
    fn introduce(&mut self) {
        let limits = &self.world.config.limits;
        let (place, _) = Admission::new(limits, 1).admit(None).expect("nobody else is there");
        self.world.connection.registered.place = Some(place);
        self.world.connection.await_proxy();
        self.on_its_way.extend(b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n");
    }

    /// A client waits for the answer to its request.
    fn may_say(&self) -> bool {
        self.world.config.role == Role::Client || self.world.metrics.opened.get() > 0
    }

    fn say(&mut self, say: impl FnOnce(Frames) -> Frames) {
        if !self.may_say() {
            return;
        }
        let frames = match self.world.config.role {
            Role::Server => Frames::client(),
            Role::Client => Frames::server(),
        };
        self.on_its_way.extend(say(frames).done());
    }

    fn say_compressed(&mut self, padding: usize, frame: usize) {
        if !self.may_say() {
            return;
        }
        let (text, mut out) = (self.next(padding), Vec::new());
        let payload =
            if self.kind.deflates { self.deflater.message(text.as_bytes(), &mut out) } else { None };
        let (rsv1, payload) = payload.map_or((0, text.as_bytes()), |payload| (0x40, payload));
        let start = self.on_its_way.len();
        let last = payload.len().saturating_sub(1) / frame;
        for (index, part) in payload.chunks(frame).enumerate() {
            let opcode = if index == 0 { Data::Text } else { Data::Continuation };
            self.say(|frames| {
                let frames = frames.fragment(opcode, index == last, part);
                if index < last { frames.ping(b"between") } else { frames }
            });
        }
        if let Some(first) = self.on_its_way.get_mut(start) {
            *first |= rsv1;
        }
    }

    /// A message that names its place in the order.
    fn next(&mut self, padding: usize) -> String {
        self.said += 1;
        format!("{}:{}", self.said, "x".repeat(padding))
    }

    pub(super) fn act(&mut self, operation: Operation) {
        match operation {
            Operation::Text(padding) => {
                let text = self.next(padding);
                self.say(|frames| frames.text(&text));
            }
            Operation::Fragments(padding) => {
                let text = self.next(padding);
                let (first, second) = text.as_bytes().split_at(text.len() / 2);
                self.say(|frames| {
                    let begun = frames.fragment(Data::Text, false, first).ping(b"between");
                    begun.fragment(Data::Continuation, true, second)
                });
            }
            Operation::Ping(length) => self.say(|frames| frames.ping(&vec![1; length.into()])),
            Operation::Tell(what) => self.say(|frames| frames.text(what)),
            Operation::CloseFrame => self.say(|frames| frames.close(1000, "theirs")),
            Operation::Garbage(bytes) => self.say(|frames| frames.raw(&bytes)),
            Operation::Arrive(count) => {
                let count = count.min(self.on_its_way.len());
                let bytes: Vec<u8> = self.on_its_way.drain(..count).collect();
                if self.world.line().end.is_none() {
                    self.world.receive(&bytes);
                }
            }
            Operation::End(end) => self.world.end(end),
            Operation::Room(room) => self.world.set_room(room),
            Operation::RecvMax(count) => self.world.line().recv_max = count,
            Operation::SendMax(count) => self.world.line().send_max = count,
            Operation::Advance(millis) => self.world.advance(Duration::from_millis(millis)),
            Operation::Send(length) => self.world.send(&"p".repeat(length)),
            Operation::Close => self.world.close(CloseCode::GOING_AWAY, "ours", CloseCause::Shutdown),
            Operation::Timer => self.world.user_timer(),
            Operation::Work => {
                self.work();
            }
            Operation::Collect => self.collect(),
            Operation::Long(padding) => {
                let text = self.next(padding);
                self.say(|frames| frames.text(&text));
            }
            Operation::Compressed(padding, frame) => self.say_compressed(padding, frame),
            Operation::Share(length) => {
                let prepared = Prepared::new(Message::Text(&"s".repeat(length)));
                self.world.parcel(Parcel::Prepared(prepared));
            }
            Operation::Pressure(share) => self.world.set_share(share),
            Operation::Shed => self.shed(),
        }
        self.seen.extend(self.world.seen());
        self.sent.extend(self.world.sent());
        self.check_memory();
    }

    /// What is held for it is given back at once, but for a Close frame that its socket did not take.
    fn shed(&mut self) {
        if !self.world.is_dead() {
            self.world.turn(|connection, turn| connection.shed(turn));
            let held = self.world.connection.held();
            assert!(self.world.is_dead() || held <= 2 * (125 + FrameHeader::MAX_LEN), "{held} bytes");
            self.world.pump();
        }
    }

    /// What is held for a connection has limits, twice that while a vector grows.
    fn check_memory(&self) {
        let Limits { message_bytes, egress_bytes, .. } = self.world.config.limits;
        let limit = 2 * (message_bytes + egress_bytes + Wire::RECEIVE_BYTES);
        assert!(self.world.connection.buffered() <= limit, "{} bytes", self.world.connection.buffered());
    }

    fn work(&mut self) -> bool {
        let limits = &self.world.config.limits;
        self.workers.run_one(&self.world.handler, self.world.config.role, limits)
    }

    fn work_all(&mut self) {
        self.act(Operation::Collect);
        while self.work() {
            self.act(Operation::Collect);
        }
    }

    fn collect(&mut self) {
        let mut list = VecDeque::new();
        self.done.take(&mut list);
        for done in list {
            if let Some(close) = self.world.orphan.take() {
                super::super::call_close(&self.world.handler, &self.world.metrics, done.session, close);
            } else {
                self.world.turn(|connection, turn| connection.on_done(turn, done));
            }
        }
        self.world.turn(|connection, turn| connection.on_room(turn));
        self.world.pump();
    }

    /// Everything that is under way comes to its end, and what happened is looked over.
    pub(super) fn finish(mut self) {
        self.act(Operation::SendMax(usize::MAX));
        self.act(Operation::Room(usize::MAX));
        self.act(Operation::Arrive(usize::MAX));
        self.work_all();
        self.act(Operation::Advance(1_000_000));
        self.work_all();
        assert!(self.world.is_dead(), "a peer that says nothing is not kept");
        assert!(self.world.orphan.is_none());
        self.world.pool = None;
        self.check_seen();
        self.check_sent();
        assert_eq!(self.world.metrics.bytes_out.get(), self.sent.len() as u64);
    }

    /// Messages came to the handler in their order, without a gap, and nothing came behind `close`.
    fn check_seen(&self) {
        let (seen, _) = joined(self.seen.clone());
        let numbers = seen.iter().filter_map(|seen| match seen {
            Seen::Text(text) => text.split_once(':')?.0.parse().ok(),
            _ => None,
        });
        let numbers: Vec<usize> = numbers.collect();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
        let closes = self.seen.iter().position(|seen| matches!(seen, Seen::Closed(..)));
        let opened = self.world.handler.sessions.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(closes, (opened == 1).then(|| self.seen.len() - 1), "{:?}", self.seen);
    }

    /// What was sent are frames by the RFC, with replies in the order of the messages.
    fn check_sent(&self) {
        // The head may be cut, or an answer that opens nothing.
        let (Some(end), true) = (head_end(&self.sent, 0), self.world.metrics.opened.get() == 1) else {
            return;
        };
        let frames = &self.sent[end..];
        let peer = match self.world.config.role {
            Role::Server => Role::Client,
            Role::Client => Role::Server,
        };
        let (items, _) = if self.kind.deflates {
            items_inflated(peer, frames, Some(&mut Inflater::new(15, self.kind.takes_over)))
        } else {
            items_before_cut(peer, frames)
        };
        let numbers = items.iter().filter_map(|item| match item {
            Item::Text(text) => text.split_once(':')?.0.parse().ok(),
            _ => None,
        });
        let numbers: Vec<usize> = numbers.collect();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    }
}
