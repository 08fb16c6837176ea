//! All rows.

mod clock;
mod ending;
mod exhaustion;
mod flood;
mod handshake;
mod head;
mod length;
mod malformed;
mod resets;
mod slowloris;
mod strangers;
mod trickle;
mod unread;
mod vanished;
mod wilful;

use super::row::Row;

pub(super) use malformed::wrong_frames;

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
    unread::SILENT_READERS,
    vanished::PEERS,
    resets::STORM,
    exhaustion::DESCRIPTORS,
    exhaustion::MEMORY,
    wilful::PANICKING,
    wilful::BLOCKING,
    wilful::QUEUE,
    ending::SIGTERM,
    ending::SECOND_SIGTERM,
    ending::CERTIFICATES,
    clock::JUMPS,
    handshake::TLS,
    handshake::EXPIRED,
    strangers::OTHER_PROTOCOLS,
    strangers::ORIGINS,
    resets::CLOSES,
];

#[cfg(test)]
mod tests;
