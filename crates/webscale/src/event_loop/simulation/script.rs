//! What a fake peer is going to do.

use std::collections::VecDeque;

use super::random::Random;
use crate::limits::Limits;

/// How it begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Opening {
    Upgrade,
    /// The same, with permessage-deflate offered.
    Deflate,
    /// The end of the head never comes.
    Cut,
    /// Asks for what is not served.
    Lost,
    Http,
    Noise,
    /// Not a byte.
    Silence,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    Whole,
    Fragments(usize),
    /// Where both ends agreed on it.
    Compressed,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Act {
    /// A message that is to be answered.
    Say {
        length: usize,
        form: Form,
    },
    /// Tells the handler to do something.
    Word(String),
    Ping,
    /// Bytes that break the protocol.
    Raw(Vec<u8>),
    /// A compressed message that is longer than any may be.
    Bomb(usize),
    Bye,
    Fin,
    Reset,
    Deafen,
    /// Reads nothing for so many of its turns.
    Doze(usize),
    /// Vanishes without a word.
    Sleep,
}

#[derive(Debug)]
pub(super) struct Script {
    pub(super) opening: Opening,
    /// It keeps to all rules and limits, and is owed an answer to each message.
    pub(super) is_honest: bool,
    pub(super) acts: VecDeque<Act>,
    /// Bytes that it writes at a time.
    pub(super) piece: usize,
    /// Bytes that it leaves unanswered before it waits.
    pub(super) window: usize,
}

impl Script {
    pub(super) fn new(random: &mut Random, limits: &Limits) -> Self {
        let window = limits.egress_bytes / 2;
        let piece = random.pick(&[1, 7, 60, 600, 3000]);
        if random.once_in(2) {
            let opening = random.pick(&[Opening::Upgrade, Opening::Deflate]);
            let acts = honest(random, limits);
            return Self { opening, is_honest: true, acts, piece: piece.max(7), window };
        }
        let opening = if random.once_in(3) {
            random.pick(&[Opening::Cut, Opening::Lost, Opening::Http, Opening::Noise, Opening::Silence])
        } else {
            random.pick(&[Opening::Upgrade, Opening::Deflate])
        };
        let acts = (0..random.within(1, 12)).map(|_| any(random, limits, opening)).collect();
        Self { opening, is_honest: false, acts, piece, window }
    }

    /// Says `messages` messages and leaves.
    pub(super) fn honest(messages: usize, window: usize) -> Self {
        let say = Act::Say { length: 100, form: Form::Whole };
        let acts = std::iter::repeat_n(say, messages).chain([Act::Bye]).collect();
        Self { opening: Opening::Upgrade, is_honest: true, acts, piece: 600, window }
    }
}

fn say(random: &mut Random, limits: &Limits) -> Act {
    let longest = limits.message_bytes.min(limits.egress_bytes / 2) - 100;
    // A letter may take two bytes.
    let length = if random.once_in(4) { random.within(0, longest / 2) } else { random.below(200) };
    let form = match random.below(4) {
        0 => Form::Fragments(random.within(1, 300)),
        1 => Form::Compressed,
        _ => Form::Whole,
    };
    Act::Say { length, form }
}

fn honest(random: &mut Random, limits: &Limits) -> VecDeque<Act> {
    let mut acts = VecDeque::new();
    for _ in 0..random.within(0, 12) {
        acts.push_back(match random.below(10) {
            0 => Act::Ping,
            1 => Act::Word(format!("timer {}", random.below(300))),
            2 => Act::Word("cancel it".into()),
            3 => Act::Word(format!("tell {}", random.below(60))),
            _ => say(random, limits),
        });
    }
    acts.push_back(Act::Bye);
    acts
}

fn any(random: &mut Random, limits: &Limits, opening: Opening) -> Act {
    match random.below(24) {
        0 => Act::Word("panic now".into()),
        1 => Act::Word("close now".into()),
        2 => Act::Word(format!("flood {}", random.within(1, limits.egress_bytes / 300))),
        13 => Act::Doze(random.within(10, 100)),
        3 => Act::Word(format!("timer {}", random.below(100_000))),
        4 => Act::Raw(malformed(random, limits)),
        5 if opening == Opening::Deflate => {
            Act::Bomb(40 * usize::try_from(limits.longest_message()).expect("a short one") + 10_000)
        }
        6 => Act::Bye,
        7 => Act::Fin,
        8 => Act::Reset,
        9 if random.once_in(2) => Act::Deafen,
        9 => Act::Doze(random.within(10, 200)),
        10 => Act::Sleep,
        11 => Act::Ping,
        12 => Act::Word(format!("tell {}", random.below(60))),
        _ => say(random, limits),
    }
}

/// Frames that RFC 6455 §5 forbids, or that are longer than the limits.
fn malformed(random: &mut Random, limits: &Limits) -> Vec<u8> {
    let longer = u16::try_from(limits.longest_message() + 1).unwrap_or(u16::MAX).to_be_bytes();
    match random.below(9) {
        // Not masked; a reserved opcode; reserved bits; a long ping; a ping in fragments.
        0 => vec![0x81, 0x01, b'a'],
        1 => vec![0x83, 0x80, 0, 0, 0, 0],
        2 => vec![0xb1, 0x80, 0, 0, 0, 0],
        3 => vec![0x89, 0xfe, 0, 200, 0, 0, 0, 0],
        4 => vec![0x09, 0x80, 0, 0, 0, 0],
        // A continuation of nothing; a length of 63 bits; text that is no UTF-8; a message that is too long.
        5 => vec![0x80, 0x80, 0, 0, 0, 0],
        6 => [&[0x82, 0xff][..], &[0xff; 8], &[0; 4]].concat(),
        7 => vec![0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28],
        _ => [&[0x82, 0xfe][..], &longer, &[0; 4]].concat(),
    }
}
