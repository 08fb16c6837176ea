//! Sessions that are away with a worker. The worker is the test: it runs a job when told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use webscale_proto::{CloseCode, Data, Role};
use webscale_sys::Waker;

use super::harness::World;
use super::recorder::{Recorder, Seen, closed, seen};
use super::socket::End;
use super::wire::{Frames, Item, close, text};
use crate::close::{CloseCause, CloseKind};
use crate::limits::Limits;
use crate::mailbox::Mailbox;
use crate::panics::Panicked;
use crate::worker::{Done, Workers};

pub(super) struct Shop {
    pub(super) world: World,
    pub(super) workers: Workers<u64>,
    pub(super) done: Arc<Mailbox<Done<u64>>>,
}

impl Shop {
    pub(super) fn open(queue: usize) -> Self {
        Self::over(World::open(Limits { worker_queue: queue, ..Limits::default() }), queue)
    }

    /// A shop for a connection that is open.
    pub(super) fn over(mut world: World, queue: usize) -> Self {
        let limits = Limits { worker_queue: queue, ..Limits::default() };
        let handler: Arc<Recorder> = Arc::default();
        let workers = Workers::start(0, Role::Server, &limits, &handler).expect("no thread is needed");
        let waker = Arc::new(Waker::new().expect("a descriptor"));
        let done = Arc::new(Mailbox::new(waker, usize::MAX, usize::MAX));
        world.pool = Some(workers.pool(done.clone()));
        Self { world, workers, done }
    }

    /// A worker takes the next message; nothing comes back yet.
    pub(super) fn work(&mut self) -> bool {
        self.workers.run_one(&self.world.handler, Role::Server, &self.world.config.limits)
    }

    /// The loop takes note of what came back.
    pub(super) fn collect(&mut self) {
        let mut list = VecDeque::new();
        self.done.take(&mut list);
        for done in list {
            if let Some(close) = self.world.orphan.take() {
                super::super::call_close(&self.world.handler, &self.world.metrics, done.session, close);
            } else {
                self.world.turn(|connection, turn| connection.on_done(turn, done));
                self.world.pump();
            }
        }
    }

    pub(super) fn work_all(&mut self) {
        while self.work() {
            self.collect();
        }
    }

    /// Nothing is with a worker, and every session was closed once.
    pub(super) fn check(mut self) {
        self.work_all();
        self.world.pool = None;
    }
}

#[test]
fn messages_of_a_connection_stay_in_order_one_at_a_time() {
    let mut shop = Shop::open(100);
    shop.world.receive(&Frames::client().text("count").text("count").binary(&[9]).text("count").done());
    assert_eq!((shop.world.seen(), shop.world.items()), (Vec::new(), Vec::new()));
    assert!(!shop.world.connection.interest().read, "one is away, one waits");
    assert!(shop.work() && !shop.work());
    shop.collect();
    assert_eq!(shop.world.items(), [text("1")]);
    shop.work_all();
    assert_eq!(shop.world.items(), [text("2"), Item::Binary(vec![9]), text("3")]);
    assert!(shop.world.connection.interest().read);
    assert_eq!((shop.world.connection.buffered(), shop.world.metrics.messages_in.get()), (0, 4));
    shop.check();
}

#[test]
fn a_full_queue_keeps_the_message_and_stops_reading() {
    let mut shop = Shop::open(1);
    let mut other = World::open(Limits::default());
    other.pool = Some(shop.workers.pool(shop.done.clone()));
    other.receive(&Frames::client().text("in the way").done());
    shop.world.receive(&Frames::client().text("waits").text("as well").done());
    assert!(shop.world.connection.channel.is_waiting_for_room());
    assert!(!shop.world.connection.interest().read && !shop.world.connection.is_ready());
    // Still no room.
    shop.world.turn(|connection, turn| connection.on_room(turn));
    assert!(shop.world.connection.channel.is_waiting_for_room());
    assert!(shop.work());
    let mut done = VecDeque::new();
    shop.done.take(&mut done);
    let back = done.pop_front().expect("the job of the other connection");
    other.turn(|connection, turn| connection.on_done(turn, back));
    assert_eq!(other.items(), [text("in the way")]);
    shop.world.turn(|connection, turn| connection.on_room(turn));
    shop.work_all();
    assert_eq!(shop.world.items(), [text("waits"), text("as well")]);
    other.pool = None;
    shop.check();
}

#[test]
fn a_panic_on_a_worker_is_1011() {
    let mut shop = Shop::open(10);
    shop.world.receive(&Frames::client().text("panic").text("behind").done());
    shop.work_all();
    let reason = "the server failed to handle a message";
    assert_eq!(shop.world.items(), [close(1011, reason)]);
    assert_eq!(shop.world.seen(), [seen("panic"), closed(1011, reason, CloseKind::Panic)]);
    shop.check();
}

#[test]
fn a_close_waits_for_the_session_and_stands_behind_its_replies() {
    let mut shop = Shop::open(10);
    shop.world.receive(&Frames::client().text("accepted").text("not begun").done());
    shop.world.close(CloseCode::NORMAL, "first", CloseCause::Local);
    shop.world.close(CloseCode::GOING_AWAY, "second", CloseCause::Shutdown);
    assert!(shop.world.sent().is_empty());
    shop.work_all();
    assert_eq!(shop.world.items(), [text("accepted"), close(1000, "first")]);
    shop.world.receive(&Frames::client().close(1000, "").done());
    assert_eq!(shop.world.seen(), [seen("accepted"), closed(1000, "first", CloseKind::Local)]);
    shop.check();
}

#[test]
fn a_shutdown_waits_for_all_that_was_received_and_takes_no_more() {
    let mut shop = Shop::open(10);
    let frames = Frames::client().text("begun").text("waits").ping(b"p").text("as well");
    shop.world.receive(&frames.fragment(Data::Text, false, b"half a message").done());
    shop.world.close(CloseCode::GOING_AWAY, "", CloseCause::Shutdown);
    shop.world.receive(&Frames::client().fragment(Data::Continuation, true, b", not accepted").done());
    assert_eq!((shop.world.sent(), shop.world.line().arriving.is_empty()), (Vec::new(), false));
    shop.work_all();
    let answers = [text("begun"), Item::Pong(b"p".to_vec()), text("waits"), text("as well"), close(1001, "")];
    assert_eq!(shop.world.items(), answers);
    // Read again, and of no interest any more.
    assert!(shop.world.line().arriving.is_empty());
    shop.world.receive(&Frames::client().close(1001, "").done());
    assert_eq!(shop.world.seen().last(), Some(&closed(1001, "", CloseKind::Shutdown)));
    assert_eq!(shop.world.metrics.messages_in.get(), 3);
    shop.check();
}

#[test]
fn the_handlers_own_close_on_a_worker() {
    let mut shop = Shop::open(10);
    shop.world.receive(&Frames::client().text("close 4001 enough").text("ignored").done());
    shop.work_all();
    assert_eq!(shop.world.items(), [text("before"), close(4001, "enough")]);
    shop.world.receive(&Frames::client().close(4001, "").done());
    assert_eq!(shop.world.seen().last(), Some(&closed(4001, "enough", CloseKind::Local)));
    assert_eq!(shop.world.metrics.messages_in.get(), 1);
    shop.check();
}

#[test]
fn a_connection_that_ends_while_its_session_is_away_is_closed_when_it_comes_back() {
    const LOCAL: Option<fn() -> CloseCause> = Some(|| CloseCause::Local);
    const SHUTDOWN: Option<fn() -> CloseCause> = Some(|| CloseCause::Shutdown);
    for (close_first, is_shutdown) in [(None, false), (LOCAL, false), (SHUTDOWN, true)] {
        for end in [End::Eof, End::Reset] {
            // A shutdown reads no more until all is answered; then it says so, although the peer's direction has ended.
            let is_answered = is_shutdown && end == End::Eof;
            let mut shop = Shop::open(10);
            shop.world.receive(&Frames::client().text("away").done());
            if let Some(cause) = close_first {
                shop.world.close(CloseCode::GOING_AWAY, "", cause());
            }
            shop.world.end(end);
            assert_eq!((shop.world.is_dead(), shop.world.seen()), (!is_answered, Vec::new()));
            shop.work_all();
            let code = if is_answered { 1001 } else { 1006 };
            assert_eq!(shop.world.seen(), [seen("away"), closed(code, "", CloseKind::Lost)]);
            assert_eq!(shop.world.sent().ends_with(&[0x88, 2, 3, 0xe9]), is_answered);
            shop.check();
        }
    }
}

#[test]
fn a_peer_that_closes_while_its_message_is_handled_gets_its_echo_at_once() {
    let mut shop = Shop::open(10);
    shop.world.receive(&Frames::client().text("away").close(1000, "bye").done());
    assert_eq!(shop.world.items(), [close(1000, "")]);
    assert!(shop.world.is_lingering());
    shop.work_all();
    assert_eq!(shop.world.seen(), [seen("away"), closed(1000, "bye", CloseKind::Peer)]);
    assert!(shop.world.items().is_empty());
    shop.check();
}

#[test]
fn what_other_threads_send_does_not_wait_for_the_worker() {
    let mut shop = Shop::open(10);
    shop.world.receive(&Frames::client().text("away").ping(b"p").done());
    shop.world.send("pushed");
    assert_eq!(shop.world.items(), [Item::Pong(b"p".to_vec()), text("pushed")]);
    shop.check();
}

#[test]
fn a_timer_that_fires_meanwhile_is_called_afterwards() {
    let mut shop = Shop::open(10);
    shop.world.receive(&Frames::client().text("away").done());
    shop.world.user_timer();
    assert_eq!(shop.world.seen(), []);
    shop.work_all();
    assert_eq!(shop.world.seen(), [seen("away"), Seen::Timer]);
    assert_eq!(shop.world.items(), [text("away"), text("timer")]);
    shop.check();
}

#[test]
fn a_timer_that_fires_while_the_handler_sets_another_one_is_not_called() {
    let mut shop = Shop::open(10);
    shop.world.receive(&Frames::client().text("timer 60000").done());
    shop.world.user_timer();
    shop.work_all();
    assert_eq!(shop.world.seen(), [seen("timer 60000")]);
    assert!(shop.world.timer.is_some());
    shop.check();
}

#[test]
fn while_the_workers_are_behind_silence_is_not_the_peers() {
    let mut shop = Shop::open(10);
    shop.world.receive(&Frames::client().text("away").text("waits").done());
    shop.world.advance(Duration::from_secs(1000));
    assert!(!shop.world.is_dead() && shop.world.sent().is_empty());
    shop.work_all();
    assert_eq!(shop.world.items(), [text("away"), text("waits")]);
    shop.check();
}

#[test]
fn a_session_that_is_away_does_not_hide_that_the_peer_is_gone() {
    let mut shop = Shop::open(10);
    shop.world.receive(&Frames::client().text("away").done());
    shop.world.advance(Duration::from_secs(100));
    assert!(shop.world.is_dead());
    shop.work_all();
    assert_eq!(shop.world.seen(), [seen("away"), closed(1006, "", CloseKind::Timeout)]);
    shop.check();
}

#[test]
fn jobs_of_one_loop_are_withdrawn_and_others_stay() {
    let mut shop = Shop::open(10);
    let mut other = World::open(Limits::default());
    other.id.event_loop = 1;
    other.pool = Some(shop.workers.pool(shop.done.clone()));
    other.receive(&Frames::client().text("stays").done());
    shop.world.receive(&Frames::client().text("withdrawn").done());
    let pool = shop.world.pool.as_ref().expect("a pool");
    let withdrawn = pool.withdraw(0);
    assert_eq!((withdrawn.len(), pool.withdraw(0).len()), (1, 0));
    assert!(shop.work() && !shop.work());
    assert_eq!(shop.world.seen(), [seen("stays")]);
}

#[test]
fn a_reset_while_the_workers_are_behind_ends_it_without_reading_on() {
    let mut shop = Shop::open(10);
    shop.world.receive(&Frames::client().text("away").text("waits").done());
    let interest = shop.world.connection.interest();
    assert!(!interest.read && !interest.write);
    let (turns, received) = (shop.world.turns, shop.world.metrics.bytes_in.get());
    shop.world.line().arriving.extend(Frames::client().binary(&[1; 500_000]).done());
    shop.world.end(End::Reset);
    assert!(shop.world.is_dead());
    assert_eq!((shop.world.turns, shop.world.metrics.bytes_in.get()), (turns + 1, received));
    shop.work_all();
    assert_eq!(shop.world.seen(), [seen("away"), closed(1006, "", CloseKind::Lost)]);
    shop.check();
}

#[test]
fn a_panic_of_the_library_on_a_worker_is_told_to_the_peer_and_once_to_the_handler() {
    for is_gone in [false, true] {
        let mut shop = Shop::open(100);
        shop.world.receive(&Frames::client().text("hello").done());
        let job = shop.workers.begin().expect("a message");
        if is_gone {
            shop.world.end(End::Reset);
            assert_eq!(shop.world.seen(), []);
        }
        let done = Done { id: job.id, session: job.session, bytes: 5, work: Err(Panicked) };
        assert!(job.reply_to.push_unbounded(done).is_ok());
        shop.collect();
        let failed = "the server failed to handle a message";
        let (code, reason, kind) =
            if is_gone { (1006, "", CloseKind::Lost) } else { (1011, failed, CloseKind::Fault) };
        assert_eq!(shop.world.seen(), [closed(code, reason, kind)]);
        if !is_gone {
            assert_eq!(shop.world.items(), [close(code, reason)]);
        }
        shop.check();
    }
}
