//! What one message costs to parse: `cargo bench -p workload`.
//!
//! The parsers take turns, so that a change of the machine's speed meets all of them; the figure is the median.

use std::{hint::black_box, time::Instant};

use workload::{
    parse::{parse_borrowed, parse_fast, parse_fast_owned, parse_owned},
    payload,
};

const ROUNDS: usize = 301;
const SEEDS: u64 = 100;

type Parser = (&'static str, fn(&str));

const PARSERS: [Parser; 4] = [
    ("serde_json, owned", |text| drop(black_box(parse_owned(text)))),
    ("serde_json, borrowed", |text| drop(black_box(parse_borrowed(text)))),
    ("sonic-rs, owned", |text| drop(black_box(parse_fast_owned(text)))),
    ("sonic-rs, borrowed", |text| drop(black_box(parse_fast(text)))),
];

fn main() {
    let messages: Vec<String> = (0..SEEDS).map(payload).collect();
    let mut samples = PARSERS.map(|_| Vec::with_capacity(ROUNDS));
    for _ in 0..ROUNDS {
        for ((_, parser), samples) in PARSERS.iter().zip(&mut samples) {
            let start = Instant::now();
            messages.iter().for_each(|text| parser(black_box(text)));
            samples.push(start.elapsed().as_secs_f64() * 1e6 / messages.len() as f64);
        }
    }
    for ((name, _), mut samples) in PARSERS.into_iter().zip(samples) {
        samples.sort_by(f64::total_cmp);
        let decile = ROUNDS / 10;
        let (low, median, high) = (samples[decile], samples[ROUNDS / 2], samples[ROUNDS - 1 - decile]);
        println!("{name:22} {median:6.1} µs a message (from {low:.1} to {high:.1}, p10 to p90)");
    }
}
