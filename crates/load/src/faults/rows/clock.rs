//! A clock that is set while the server runs.

use workload::Mode;

use super::super::row::{Findings, Row};

pub(super) const JUMPS: Row = Row {
    number: 23,
    name: "the clock is set, forth and back",
    expected: "no timer notices",
    mode: Mode::Ingest,
    flags: |_| vec![],
    for_others: true,
    connections: 0,
    slower_at_most: 2.0,
    attack: |_| {
        let skipped = "setting the clock needs CAP_SYS_TIME and hits every process of the machine; the server's timers \
                       follow CLOCK_MONOTONIC, which cannot be set, and the simulation in `cargo test` has time jump";
        Ok(Findings { skipped: Some(skipped.into()), ..Findings::default() })
    },
};
