//! All rows.

mod flood;
mod head;
mod length;
mod malformed;
mod slowloris;
mod trickle;

use super::row::Row;

/// All rows, in the order in which they are tried.
pub static ROWS: &[Row] = &[
    slowloris::TLS_HANDSHAKE,
    slowloris::HTTP_HEAD,
    trickle::FRAME_HEADER,
    trickle::PAYLOAD,
    flood::HANDSHAKES,
    flood::PINGS,
    length::FRAGMENTS,
    length::CRUMBS,
    length::BOMB,
    malformed::FRAMES,
    head::LONG,
    head::SMUGGLING,
    malformed::TEXT,
];
