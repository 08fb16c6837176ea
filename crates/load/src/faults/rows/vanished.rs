//! Clients whose network is gone.

use workload::Mode;

use super::super::row::{Findings, Row};

pub(super) const PEERS: Row = Row {
    number: 15,
    name: "peers that vanish without a packet",
    expected: "each reaped when its pong is overdue",
    mode: Mode::Ingest,
    flags: |_| vec![],
    for_others: true,
    connections: 0,
    slower_at_most: 2.0,
    attack: |_| {
        let skipped = "needs a network namespace; this row is not automated; the sockets' behaviour is tested with a \
                       fake clock in `cargo test`";
        Ok(Findings { skipped: Some(skipped.into()), ..Findings::default() })
    },
};
