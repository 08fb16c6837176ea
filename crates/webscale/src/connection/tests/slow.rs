//! What becomes of messages for a peer that does not read them, by the connection's policy.

use proptest::collection::vec;
use proptest::prelude::*;
use webscale_proto::{CloseCode, Message, Role};

use super::harness::World;
use super::recorder::{Seen, closed};
use super::socket::End;
use super::tls::Remote;
use super::wire::{Frames, Item, close, items, items_before_cut, request, text};
use super::workers::Shop;
use crate::close::{CloseCause, CloseKind};
use crate::limits::{Limits, SlowConsumer};
use crate::peer::SendError;
use crate::prepared::Prepared;
use crate::sender::Parcel;

fn limits(slow_consumer: SlowConsumer) -> Limits {
    Limits { egress_bytes: 4000, egress_high_water: 4000, slow_consumer, ..Limits::default() }
}

/// A connection, the workers that it may have, and its peer's end.
struct Slow {
    shop: Shop,
    remote: Remote,
}

impl Slow {
    fn open(limits: Limits, is_tls: bool) -> Self {
        let (world, remote) = Remote::open(limits, is_tls);
        let mut shop = Shop::over(world, 10);
        shop.world.pool = None;
        Self { shop, remote }
    }

    /// The same, its messages handled by workers.
    fn with_workers(mut self) -> Self {
        self.shop.world.pool = Some(self.shop.workers.pool(self.shop.done.clone()));
        self
    }

    /// The socket takes so many bytes more, and the peer reads them.
    fn take(&mut self, room: usize) {
        self.shop.world.set_room(room);
        self.remote.hear(&self.shop.world);
    }

    fn say(&mut self, frames: Frames) {
        self.remote.say(&mut self.shop.world, frames);
    }

    fn items(&mut self) -> Vec<Item> {
        items(Role::Client, &std::mem::take(&mut self.remote.heard))
    }
}

/// The `n`th message: four of them, and no more, are queued.
fn numbered(n: usize) -> String {
    format!("{n:0980}")
}

#[test]
fn the_oldest_messages_make_way_and_one_that_is_begun_does_not() {
    for is_tls in [false, true] {
        let mut slow = Slow::open(limits(SlowConsumer::DropOldest), is_tls);
        slow.take(10);
        for n in 0..10 {
            slow.shop.world.send(&numbered(n));
        }
        let queued = slow.shop.world.connection.link.queued_in_all();
        assert!(queued <= 4000, "{queued} bytes");
        slow.take(usize::MAX);
        assert_eq!(slow.items(), [0, 7, 8, 9].map(|n| text(&numbered(n))));
        let metrics = &slow.shop.world.metrics;
        assert_eq!((metrics.messages_out.get(), metrics.messages_displaced.get()), (10, 6));
        assert_eq!(metrics.messages_dropped.get(), 0);
        assert_eq!(slow.shop.world.connection.buffered(), 0);
    }
}

#[test]
fn one_call_of_the_handler_that_sends_too_much_leaves_the_latest() {
    for is_tls in [false, true] {
        let mut slow = Slow::open(limits(SlowConsumer::DropOldest), is_tls);
        slow.say(Frames::client().text("many 100"));
        slow.take(usize::MAX);
        let items = slow.items();
        let numbers: Vec<_> = (0..100).map(|n| text(&n.to_string())).collect();
        assert!(!items.is_empty() && numbers.ends_with(&items), "{items:?}");
        assert_eq!(items.len() as u64 + slow.shop.world.metrics.messages_displaced.get(), 100);
    }
}

#[test]
fn what_is_dropped_is_no_more_than_what_is_needed() {
    let mut slow = Slow::open(limits(SlowConsumer::DropOldest), false);
    slow.take(0);
    slow.say(Frames::client().text("many 10000"));
    let queued = slow.shop.world.connection.link.queued_in_all();
    // The longest frame fits no more, and a message takes 6 bytes.
    assert!((4000 - 14 - 6..=4000).contains(&queued), "{queued} bytes");
}

#[test]
fn control_frames_and_fragments_stay_and_keep_their_order() {
    let mut slow = Slow::open(limits(SlowConsumer::DropOldest), false);
    slow.shop.world.handler.is_silent = true;
    slow.take(0);
    slow.shop.world.send("begun");
    slow.say(Frames::client().text("ping first").text("begin a").text("more b").text("finish c"));
    for n in 0..10 {
        slow.shop.world.send(&numbered(n));
    }
    slow.shop.world.close(CloseCode::NORMAL, "", CloseCause::Local);
    slow.take(usize::MAX);
    let mut expected = vec![text("begun"), Item::Ping(b"first".to_vec()), text("abc")];
    expected.extend((6..10).map(|n| text(&numbered(n))));
    expected.push(close(1000, ""));
    assert_eq!(slow.items(), expected);
}

#[test]
fn where_nothing_may_be_dropped_a_send_is_refused() {
    let mut slow = Slow::open(limits(SlowConsumer::DropOldest), false);
    slow.take(0);
    slow.say(Frames::client().text("fill").text("send x"));
    let refused = Seen::Sent(Err(SendError::Full));
    assert_eq!(slow.shop.world.seen().iter().filter(|seen| **seen == refused).count(), 1);
    assert_eq!((slow.shop.world.metrics.messages_displaced.get(), slow.shop.world.is_dead()), (0, false));
}

#[test]
fn what_waits_behind_fragments_makes_way_too() {
    let mut slow = Slow::open(limits(SlowConsumer::DropOldest), false);
    slow.say(Frames::client().text("begin a"));
    for n in 0..10 {
        slow.shop.world.send(&numbered(n));
    }
    slow.say(Frames::client().text("finish b"));
    slow.take(usize::MAX);
    assert_eq!(slow.items(), [text("ab"), text(&numbered(7)), text(&numbered(8)), text(&numbered(9))]);
    assert_eq!(slow.shop.world.metrics.messages_displaced.get(), 7);
}

#[test]
fn a_worker_displaces_what_the_loop_has_queued_and_its_own() {
    let mut shop = Shop::over(World::open(limits(SlowConsumer::DropOldest)), 10);
    shop.world.set_room(0);
    for n in 0..3 {
        shop.world.send(&numbered(n));
    }
    shop.world.receive(&Frames::client().text("bytes 1500").text("many 2000").done());
    shop.work_all();
    shop.world.set_room(usize::MAX);
    let items = shop.world.items();
    let numbers: Vec<_> = (0..2000).map(|n| text(&n.to_string())).collect();
    assert!(items[0] == text(&numbered(0)) && numbers.ends_with(&items[1..]), "{items:?}");
    let metrics = &shop.world.metrics;
    assert_eq!(metrics.messages_out.get(), metrics.messages_displaced.get() + items.len() as u64);
    assert_eq!((metrics.messages_out.get(), metrics.messages_dropped.get()), (3 + 1 + 2000, 0));
    shop.check();
}

#[test]
fn a_handler_chooses_for_each_connection() {
    for (path, newest, oldest, is_closed) in
        [("/newest", 6, 0, false), ("/oldest", 0, 6, false), ("/close", 1, 0, true)]
    {
        let opposite = if is_closed { SlowConsumer::DropOldest } else { SlowConsumer::Close };
        let mut world = World::server(limits(opposite));
        world.receive(&request(path));
        world.sent();
        world.set_room(0);
        for n in 0..10 {
            world.send(&numbered(n));
        }
        let metrics = &world.metrics;
        assert_eq!(metrics.messages_dropped.get(), newest, "{path}");
        assert_eq!(metrics.messages_displaced.get(), oldest, "{path}");
        assert_eq!(world.ended_as() == CloseKind::SlowConsumer, is_closed, "{path}");
    }
}

/// How often the handler was told that the queue is empty, since this was last asked.
fn told(world: &World) -> usize {
    world.seen().iter().filter(|seen| **seen == Seen::Drained).count()
}

#[test]
fn the_handler_hears_once_that_the_queue_is_empty_after_a_send_was_refused() {
    for policy in [SlowConsumer::DropNewest, SlowConsumer::DropOldest] {
        let mut world = World::open(limits(policy));
        world.set_room(0);
        world.send("little");
        world.set_room(usize::MAX);
        assert_eq!(told(&world), 0, "nothing was refused");
        world.set_room(0);
        // Fragments, which no policy drops.
        world.receive(&Frames::client().text("fill").done());
        assert_eq!(told(&world), 0);
        world.set_room(1000);
        assert_eq!(told(&world), 0, "some of it is gone");
        world.set_room(usize::MAX);
        assert_eq!(told(&world), 1);
        world.receive(&Frames::client().text("finish .").done());
        assert_eq!(told(&world), 0);
    }
}

#[test]
fn the_handler_hears_that_the_queue_is_empty_after_it_was_above_the_high_water_mark() {
    let mut world = World::open(Limits { egress_high_water: 1000, ..limits(SlowConsumer::Close) });
    for above in [false, true] {
        world.set_room(0);
        world.send(&"x".repeat(if above { 1000 } else { 900 }));
        world.set_room(usize::MAX);
        assert_eq!(told(&world), usize::from(above));
    }
}

#[test]
fn a_handler_that_was_refused_in_a_call_whose_messages_all_go_out_is_told_too() {
    let mut world = World::open(limits(SlowConsumer::DropNewest));
    world.receive(&Frames::client().text("many 1000").done());
    assert_eq!((told(&world), world.connection.is_ready()), (1, false));
}

#[test]
fn a_send_that_is_refused_with_nothing_on_its_way_is_not_tried_again_and_again() {
    let mut world = World::open(limits(SlowConsumer::DropNewest));
    world.receive(&Frames::client().text("begin a").done());
    // It has its room until the message ends.
    world.send(&"x".repeat(3900));
    world.sent();
    world.seen();
    world.receive(&Frames::client().text(&format!("more {}", "y".repeat(500))).done());
    assert!(world.seen().contains(&Seen::Sent(Err(SendError::Full))));
    assert!(!world.connection.is_ready());
}

#[test]
fn nobody_is_told_that_a_queue_is_empty_when_nothing_more_may_be_sent() {
    let mut world = World::open(limits(SlowConsumer::DropNewest));
    world.set_room(0);
    world.receive(&Frames::client().text("many 1000").done());
    world.close(CloseCode::NORMAL, "", CloseCause::Local);
    world.set_room(usize::MAX);
    world.receive(&Frames::client().close(1000, "").done());
    assert_eq!(told(&world), 0);

    let mut world = World::open(limits(SlowConsumer::DropNewest));
    world.set_room(0);
    world.receive(&Frames::client().text("many 1000").done());
    world.end(End::Reset);
    assert_eq!(world.seen().last(), Some(&closed(1006, "", CloseKind::Lost)));
}

#[test]
fn a_handler_on_a_worker_is_told_when_the_session_is_back() {
    let mut shop = Shop::over(World::open(limits(SlowConsumer::DropNewest)), 10);
    shop.world.set_room(0);
    shop.world.receive(&Frames::client().text("many 1000").done());
    assert!(shop.work());
    shop.collect();
    shop.world.receive(&Frames::client().text("away").done());
    shop.world.set_room(usize::MAX);
    assert_eq!(told(&shop.world), 0);
    assert!(shop.work());
    shop.collect();
    shop.world.pump();
    assert_eq!(told(&shop.world), 1);
    // Refused on the worker by a queue that was empty when it came back.
    shop.world.set_room(0);
    shop.world.send(&"x".repeat(3900));
    shop.world.receive(&Frames::client().text("bytes 500").done());
    assert!(shop.work());
    shop.world.set_room(usize::MAX);
    shop.collect();
    shop.world.pump();
    assert_eq!(told(&shop.world), 1);
    shop.check();
}

/// What a test does to a slow connection.
#[derive(Clone, Debug)]
enum Act {
    Send(usize),
    Share(usize),
    Tell(&'static str),
    Ping,
    Take(usize),
    SendMax(usize),
    Work,
}

fn act() -> impl Strategy<Value = Act> {
    const TOLD: [&str; 5] = ["many 30", "bytes 900", "begin f", "more f", "finish f"];
    prop_oneof![
        10 => prop_oneof![0usize..40, 0usize..1500].prop_map(Act::Send),
        2 => (0usize..1500).prop_map(Act::Share),
        4 => proptest::sample::select(&TOLD[..]).prop_map(Act::Tell),
        2 => Just(Act::Ping),
        6 => prop_oneof![Just(0usize), 0usize..3000, Just(usize::MAX)].prop_map(Act::Take),
        1 => prop_oneof![1usize..50, Just(usize::MAX)].prop_map(Act::SendMax),
        4 => Just(Act::Work),
    ]
}

/// The numbers of the messages that say theirs.
fn numbers(items: &[Item]) -> Vec<usize> {
    let number = |item: &Item| match item {
        Item::Text(text) => text.strip_prefix('n')?.split_once(':')?.0.parse().ok(),
        _ => None,
    };
    items.iter().filter_map(number).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn whatever_is_sent_arrives_whole_and_in_order_and_the_latest_always_does(
        is_tls: bool,
        with_workers: bool,
        acts in vec(act(), 1..80),
    ) {
        let mut slow = Slow::open(limits(SlowConsumer::DropOldest), is_tls);
        if with_workers {
            slow = slow.with_workers();
        }
        let (mut sent, mut is_latest) = (0, false);
        for act in acts {
            is_latest = match act {
                Act::Send(_) | Act::Share(_) => true,
                Act::Tell(_) | Act::Work => false,
                Act::Ping | Act::Take(_) | Act::SendMax(_) => is_latest,
            };
            match act {
                Act::Send(padding) => {
                    sent += 1;
                    slow.shop.world.send(&format!("n{sent}:{}", "x".repeat(padding)));
                }
                Act::Share(padding) => {
                    sent += 1;
                    let text = format!("n{sent}:{}", "s".repeat(padding));
                    slow.shop.world.parcel(Parcel::Prepared(Prepared::new(Message::Text(&text))));
                }
                Act::Tell(what) => slow.say(Frames::client().text(what)),
                Act::Ping => slow.say(Frames::client().ping(b"p")),
                Act::Take(room) => slow.take(room),
                Act::SendMax(bytes) => slow.shop.world.line().send_max = bytes,
                Act::Work => {
                    slow.shop.work();
                    slow.shop.collect();
                }
            }
            // What came so far are frames by the RFC.
            items_before_cut(Role::Client, &slow.remote.heard);
            // Of a worker's frames those that may not be dropped come on top, and the answer to a ping.
            prop_assert!(slow.shop.world.connection.link.queued_in_all() <= 2 * 4000);
        }
        slow.shop.world.line().send_max = usize::MAX;
        // What a worker says only now comes later than what was sent, and may displace it.
        is_latest &= !slow.shop.work();
        slow.shop.collect();
        slow.shop.work_all();
        slow.take(usize::MAX);
        // A message in fragments may wait for its end, and others behind it.
        slow.say(Frames::client().text("finish "));
        slow.shop.work_all();
        slow.take(usize::MAX);
        let heard = numbers(&slow.items());
        // Neither refused nor followed by a message that says no number.
        is_latest &= slow.shop.world.metrics.messages_dropped.get() == 0;
        prop_assert!(heard.windows(2).all(|pair| pair[0] < pair[1]), "{heard:?}");
        prop_assert!(!is_latest || heard.last() == Some(&sent), "{sent} of {heard:?}");
        prop_assert!(!slow.shop.world.is_dead());
        slow.shop.world.pool = None;
    }
}
