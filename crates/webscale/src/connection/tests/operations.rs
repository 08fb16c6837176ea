//! Random operations on one connection: whatever happens in whatever order, it ends in order.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::play::{Kind, Operation, POLICIES, Play, TOLD};
use super::socket::End;

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::{
        Advance, Arrive, Close, CloseFrame, Collect, Compressed, Fragments, Garbage, Long, Ping, Pressure,
        RecvMax, Room, Send, SendMax, Share, Shed, Tell, Text, Timer, Work,
    };
    prop_oneof![
        12 => (0usize..900).prop_map(Text),
        4 => (0usize..400).prop_map(Fragments),
        4 => (0u8..126).prop_map(Ping),
        4 => select(&TOLD[..]).prop_map(Tell),
        1 => Just(CloseFrame),
        1 => vec(any::<u8>(), 1..20).prop_map(Garbage),
        24 => prop_oneof![0usize..40, 0usize..2000, Just(usize::MAX)].prop_map(Arrive),
        1 => prop_oneof![Just(End::Eof), Just(End::Reset)].prop_map(Operation::End),
        8 => prop_oneof![Just(0usize), 0usize..3000, Just(usize::MAX)].prop_map(Room),
        2 => prop_oneof![1usize..50, Just(usize::MAX)].prop_map(RecvMax),
        2 => prop_oneof![1usize..50, Just(usize::MAX)].prop_map(SendMax),
        6 => prop_oneof![0u64..2_000, 0u64..40_000].prop_map(Advance),
        6 => (0usize..900).prop_map(Send),
        1 => Just(Close),
        2 => Just(Timer),
        8 => Just(Work),
        8 => Just(Collect),
        4 => (0usize..7000).prop_map(Long),
        6 => (0usize..7000, prop_oneof![1usize..50, Just(usize::MAX)]).prop_map(|(p, f)| Compressed(p, f)),
        3 => (0usize..900).prop_map(Share),
        3 => prop_oneof![0usize..3000, Just(usize::MAX)].prop_map(Pressure),
        1 => Just(Shed),
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    let flags = any::<[bool; 6]>();
    (flags, select(&POLICIES[..])).prop_map(|(flags, slow_consumer)| {
        let [is_client, with_workers, deflates, takes_over, streams, is_proxied] = flags;
        Kind { is_client, with_workers, slow_consumer, deflates, takes_over, streams, is_proxied }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_it_ends_in_order(
        kind in kind(),
        operations in vec(operation(), 0..120),
    ) {
        let mut play = Play::new(kind);
        play.act(Operation::Arrive(usize::MAX));
        for operation in operations {
            play.act(operation);
        }
        play.finish();
    }

    #[test]
    fn whatever_happens_during_the_handshake_it_ends_in_order(
        kind in kind(),
        operations in vec(operation(), 0..40),
    ) {
        let mut play = Play::new(kind);
        for operation in operations {
            play.act(operation);
        }
        play.finish();
    }
}

/// The first chunk of a message is echoed, the second finds no room, and another message follows.
#[test]
fn a_cut_echo_is_not_continued_by_the_next() {
    for (slow_consumer, deflates) in POLICIES.into_iter().flat_map(|policy| [(policy, false), (policy, true)])
    {
        let mut play = Play::new(Kind {
            is_client: true,
            with_workers: false,
            slow_consumer,
            deflates,
            takes_over: true,
            streams: true,
            is_proxied: false,
        });
        for operation in [
            Operation::Arrive(usize::MAX),
            Operation::Long(3986),
            Operation::Arrive(5),
            Operation::Long(1199),
            Operation::Text(0),
        ] {
            play.act(operation);
        }
        play.finish();
    }
}
