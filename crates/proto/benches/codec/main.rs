//! What the codec costs, beside tungstenite's: `cargo bench -p webscale-proto`.
//!
//! The contenders of a case take turns, so that a change of the machine's speed meets all of them; figures are
//! medians, ratios are taken round by round. Times are noisy on a shared machine: `scripts/instructions` counts
//! instructions instead, by the arguments `list` and `count CASE CONTENDER TIMES`.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark reads the clock and its arguments"
)]

mod cases;
mod rival;

use std::process::ExitCode;
use std::time::Instant;

use cases::{Case, Contender, cases};

const ROUNDS: usize = 101;

/// How many bytes a contender goes through in one round.
const ROUND_BYTES: usize = 1 << 20;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut cases = cases();
    match args[..] {
        ["list"] => list(&cases),
        ["count", case, contender, times] => return count(&mut cases, case, contender, times),
        [] => cases.iter_mut().for_each(time),
        [part] => cases.iter_mut().filter(|case| case.name.contains(part)).for_each(time),
        _ => {
            eprintln!("codec: usage: codec [PART OF A CASE'S NAME]");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn list(cases: &[Case]) {
    for case in cases {
        for contender in &case.contenders {
            println!("{} {}", case.name, contender.name);
        }
    }
}

/// Runs one contender so many times and prints nothing. All that `cases` did before is the same for every call, so that
/// two calls differ by what was run.
fn count(cases: &mut [Case], case: &str, contender: &str, times: &str) -> ExitCode {
    let contender = cases
        .iter_mut()
        .filter(|found| found.name == case)
        .flat_map(|case| &mut case.contenders)
        .find(|found| found.name == contender);
    let (Some(contender), Ok(times)) = (contender, times.parse::<usize>()) else {
        eprintln!("codec: there is no such case, or `{times}` is no number; `list` prints the cases");
        return ExitCode::from(2);
    };
    (0..times).for_each(|_| (contender.run)());
    ExitCode::SUCCESS
}

/// Times a case and prints a line for each of its contenders.
fn time(case: &mut Case) {
    let times = (ROUND_BYTES / case.bytes).clamp(1, 10_000);
    let mut samples = vec![Vec::with_capacity(ROUNDS); case.contenders.len()];
    for _ in 0..ROUNDS {
        for (contender, samples) in case.contenders.iter_mut().zip(&mut samples) {
            samples.push(nanos(contender, times));
        }
    }
    for (contender, own) in case.contenders.iter().zip(&samples) {
        let ratios: Vec<f64> = samples[0].iter().zip(own).map(|(ours, theirs)| ours / theirs).collect();
        let nanos = median(own.clone());
        let speed = case.bytes as f64 / nanos;
        println!(
            "{:24} {:20} {nanos:12.1} ns {speed:8.2} GB/s   webscale takes {:.2} of it",
            case.name,
            contender.name,
            median(ratios)
        );
    }
}

/// Nanoseconds for one run.
fn nanos(contender: &mut Contender, times: usize) -> f64 {
    let start = Instant::now();
    (0..times).for_each(|_| (contender.run)());
    start.elapsed().as_secs_f64() * 1e9 / times as f64
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
