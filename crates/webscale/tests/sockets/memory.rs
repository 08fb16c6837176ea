//! What is held for all clients together.

use std::io::Write;

use webscale::{CloseCause, Limits};

use super::support::{Serving, builder, hear, limits, other, say, until};

/// All but the last byte of a binary message of 60,000.
fn most_of_a_message() -> Vec<u8> {
    let mut frame = vec![0x82, 0x80 | 126, 0xea, 0x60];
    frame.resize(4 + 4 + 59_999, 0);
    frame
}

#[test]
fn who_holds_much_of_too_much_is_told_to_try_later() {
    let limits = Limits { held_bytes: 600_000, message_bytes: 60_000, ..limits() };
    let (serving, events) = Serving::obedient(builder().threads(2).limits(limits));
    let mut honest = other(serving.address);
    let mut greedy = Vec::new();
    for _ in 0..40 {
        let mut socket = other(serving.address);
        // It may be told before it has said all.
        let _ = socket.get_mut().write_all(&most_of_a_message());
        greedy.push(socket);
        say(&mut honest, "hello");
        assert_eq!(hear(&mut honest), "hello");
    }
    let (_, close) = events.closed();
    assert!(matches!(close.cause, CloseCause::Overload), "{close}");
    assert_eq!(close.code.get(), 1013);
    let held = || serving.handle.metrics().held_bytes;
    // What two loops may not know of each other is a sixteenth.
    until("less than the limit", || (1..=600_000 * 17 / 16).contains(&held()));
    drop(greedy);
    until("the end of the greedy ones", || serving.handle.metrics().connections == 1);
    until("an empty account", || held() == 0);
    assert!(serving.closed_by("overload") >= 20);
    say(&mut honest, "still here");
    assert_eq!(hear(&mut honest), "still here");
    serving.shut_down();
}
