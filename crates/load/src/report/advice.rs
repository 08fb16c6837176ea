//! What would make a load cheaper.

use crate::bench::outcome::Outcome;
use crate::bench::plan::{Model, Probe};

/// Messages that an event loop sends in a millisecond, from which on it was seen that sending them together pays
/// (docs/scale.md has the figures).
const TOGETHER_FROM: f64 = 10.0;
/// A thread of the load that takes less of a processor has no need of it.
const BUSY_FROM: f64 = 0.4;

/// How the load would take less CPU time, in short lines, where that was seen with such a load.
pub(crate) fn cheaper(outcome: &Outcome) -> Option<[&'static str; 2]> {
    let generator = &outcome.generator;
    let each_ms = outcome.sent_rates().0 / 1e3 / generator.loops.max(1) as f64;
    let one_by_one =
        outcome.model == Model::Open && outcome.tick_seconds == 0.0 && outcome.probe != Probe::Idle;
    (one_by_one && each_ms >= TOGETHER_FROM && generator.busiest_thread >= BUSY_FROM).then_some([
        "--tick 1ms saved 40 % of the CPU in a load like this: clients",
        "that are due within 1 ms send together, in larger bursts",
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::outcome::tests::good;

    #[test]
    fn a_busy_load_that_sends_one_by_one_learns_of_ticks() {
        let mut outcome = good();
        (outcome.messages.sent, outcome.generator.busiest_thread) = (120_000, 0.5);
        let gets_advice = |change: fn(&mut Outcome)| {
            let mut changed = outcome.clone();
            change(&mut changed);
            cheaper(&changed).is_some()
        };
        assert!(gets_advice(|_| {}));
        assert!(!gets_advice(|outcome| outcome.tick_seconds = 0.001));
        assert!(!gets_advice(|outcome| outcome.model = Model::Closed));
        assert!(!gets_advice(|outcome| outcome.probe = Probe::Idle));
        assert!(!gets_advice(|outcome| outcome.messages.sent = 50_000));
        assert!(!gets_advice(|outcome| outcome.generator.loops = 2));
        assert!(!gets_advice(|outcome| outcome.generator.busiest_thread = 0.3));
    }
}
