//! Both ends close, in every order, and one of them may just go: `close` is called once, with what came first.

use std::time::Duration;

use webscale_proto::CloseCode;

use super::harness::World;
use super::recorder::{Seen, closed};
use super::socket::End;
use super::tls::Remote;
use super::wire::{Frames, Item, items_before_cut};
use super::workers::Shop;
use crate::close::{CloseCause, CloseKind};
use crate::limits::Limits;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    /// We close with 1001.
    Ours,
    /// The peer closes with 1000.
    Theirs,
    /// The peer goes on sending.
    Data,
    /// TLS's end of the peer's direction.
    CloseNotify,
    Eof,
    Reset,
    /// Longer than any answer may take.
    Time,
}

use Act::{CloseNotify, Data, Eof, Ours, Reset, Theirs, Time};

/// All sequences of `length` of these acts.
fn sequences(acts: &[Act], length: usize) -> Vec<Vec<Act>> {
    let mut all = vec![Vec::new()];
    for _ in 0..length {
        all = all.iter().flat_map(|head| acts.iter().map(|act| [&head[..], &[*act]].concat())).collect();
    }
    all
}

/// Code and kind of the end, by the first acts that decide about them.
fn expected(acts: &[Act]) -> (u16, CloseKind) {
    let mut is_ours = false;
    for act in acts {
        let end = match act {
            Ours => {
                is_ours = true;
                continue;
            }
            Data => continue,
            Theirs if is_ours => CloseKind::Shutdown,
            Theirs => return (1000, CloseKind::Peer),
            CloseNotify | Eof | Reset => CloseKind::Lost,
            Time => CloseKind::Timeout,
        };
        return (if is_ours { 1001 } else { 1006 }, end);
    }
    (if is_ours { 1001 } else { 1006 }, CloseKind::Timeout)
}

/// A connection and its peer, which may speak TLS.
struct Race {
    world: World,
    remote: Remote,
    peer_ended: bool,
}

impl Race {
    fn new(is_tls: bool) -> Self {
        let (world, remote) = Remote::open(Limits::default(), is_tls);
        let mut race = Self { world, remote, peer_ended: false };
        race.world.handler.is_silent = true;
        race
    }

    fn act(&mut self, act: Act) {
        match act {
            Ours => self.world.close(CloseCode::GOING_AWAY, "ours", CloseCause::Shutdown),
            Time => self.world.advance(Duration::from_secs(100)),
            // Who has ended its direction says nothing more.
            _ if self.peer_ended => {}
            Theirs => self.say(Frames::client().close(1000, "theirs")),
            Data => self.say(Frames::client().text("data").ping(b"p")),
            CloseNotify => self.end(None),
            Eof => self.end(Some(End::Eof)),
            Reset => self.end(Some(End::Reset)),
        }
        self.remote.hear(&self.world);
    }

    fn say(&mut self, frames: Frames) {
        self.remote.say(&mut self.world, frames);
    }

    fn end(&mut self, end: Option<End>) {
        self.peer_ended = true;
        match (end, &mut self.remote.raw) {
            (Some(end), _) => self.world.end(end),
            (None, Some(raw)) => {
                let notify = raw.seal_close();
                self.world.receive(&notify);
            }
            (None, None) => unreachable!("only TLS says so"),
        }
    }

    /// Close frames that the peer has read. Nothing may follow one.
    fn closes_heard(&self) -> usize {
        let (items, _) = items_before_cut(webscale_proto::Role::Client, &self.remote.heard);
        items.iter().filter(|item| matches!(item, Item::Close(..))).count()
    }
}

fn run(is_tls: bool, acts: &[Act]) {
    let mut race = Race::new(is_tls);
    acts.iter().for_each(|act| race.act(*act));
    race.act(Time);
    assert!(race.world.is_dead(), "{acts:?}");
    let ends: Vec<_> =
        race.world.seen().into_iter().filter(|seen| matches!(seen, Seen::Closed(..))).collect();
    let (code, kind) = expected(acts);
    let reason = match code {
        1000 => "theirs",
        1001 => "ours",
        _ => "",
    };
    assert_eq!(ends, [closed(code, reason, kind)], "TLS {is_tls}: {acts:?}");
    assert_eq!(race.world.ended_as(), kind, "{acts:?}");
    assert!(race.closes_heard() <= 1, "{acts:?}");
}

#[test]
fn in_every_order_of_closes_data_and_ends_close_is_called_once() {
    for acts in sequences(&[Ours, Theirs, Data, Eof, Reset, Time], 4) {
        run(false, &acts);
    }
}

#[test]
fn in_every_order_over_tls_as_well_with_and_without_close_notify() {
    for acts in sequences(&[Ours, Theirs, Data, CloseNotify, Eof], 3) {
        run(true, &acts);
    }
}

#[test]
fn both_ends_close_at_once_and_each_frame_is_the_others_answer() {
    let mut race = Race::new(false);
    // Theirs is on its way when ours goes out.
    race.world.line().arriving.extend(Frames::client().close(1000, "theirs").text("behind").done());
    race.act(Ours);
    assert_eq!(race.world.seen(), [closed(1001, "ours", CloseKind::Shutdown)]);
    assert_eq!(race.closes_heard(), 1);
}

#[test]
fn data_behind_the_peers_close_frame_is_not_looked_at() {
    for behind in [Frames::client().text("behind"), Frames::client().raw(&[0xff; 40])] {
        let mut race = Race::new(false);
        race.say(Frames::client().close(1000, "theirs").raw(&behind.done()));
        assert_eq!(race.world.seen(), [closed(1000, "theirs", CloseKind::Peer)]);
        assert!(race.world.is_lingering());
    }
}

#[test]
fn a_tls_stream_that_ends_without_close_notify_ends_once() {
    for (acts, code, kind) in [
        (&[Eof][..], 1006, CloseKind::Lost),
        (&[Theirs, Eof], 1000, CloseKind::Peer),
        (&[Ours, Eof], 1001, CloseKind::Lost),
        (&[Ours, Theirs, Eof], 1001, CloseKind::Shutdown),
    ] {
        assert_eq!(expected(acts), (code, kind));
        run(true, acts);
    }
}

#[test]
fn while_a_worker_has_the_session_every_order_is_told_once_when_it_is_back() {
    for acts in sequences(&[Ours, Theirs, Data, Eof, Reset, Time], 3) {
        let mut race = Race::new(false);
        let mut shop = Shop::over(race.world, 10);
        shop.world.receive(&Frames::client().text("away").done());
        race.world = shop.world;
        acts.iter().for_each(|act| race.act(*act));
        assert_eq!(race.world.closes(), 0, "{acts:?}");
        shop.world = race.world;
        shop.work_all();
        shop.world.advance(Duration::from_secs(100));
        shop.work_all();
        let seen = shop.world.seen();
        let ends = seen.iter().filter(|seen| matches!(seen, Seen::Closed(..))).count();
        assert_eq!((ends, shop.world.is_dead()), (1, true), "{acts:?}: {seen:?}");
        shop.check();
    }
}
