//! What a user of the library writes to serve the comparison's workload: [`Ingest`] and [`Echo`].

#![forbid(unsafe_code)]

pub mod logger;
pub mod status;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use status::Readers;
use webscale::{
    Accept, CloseCode, Handle, Handler, Limits, Message, Peer, Reject, Request, Response, SendError,
};
use workload::{
    Mode,
    parse::{parse_borrowed, parse_owned},
    report::Counts,
};

/// Which struct `ingest` deserialises into, with serde_json.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Json {
    /// The one that borrows its text from the message, as the library's handlers can.
    #[default]
    Borrowed,
    /// The one that owns its text, as the other servers have it.
    Owned,
}

/// Deserialises every message, and counts those that do not fit the struct; the library counts all.
#[derive(Debug, Default)]
pub struct Ingest {
    json: Json,
    failed: Arc<AtomicU64>,
    readers: Readers,
}

impl Ingest {
    /// Deserialises with `json`, and tells its metrics to `readers`.
    #[must_use]
    pub fn new(json: Json, readers: Readers) -> Self {
        Self { json, failed: Arc::default(), readers }
    }

    /// Messages that did not fit so far; goes on counting.
    #[must_use]
    pub fn failed(&self) -> Arc<AtomicU64> {
        self.failed.clone()
    }
}

impl Handler for Ingest {
    type Session = ();

    fn open(&self, _: &Request<'_>) -> Result<Accept<()>, Reject> {
        Ok(().into())
    }

    fn http(&self, request: &Request<'_>) -> Response {
        status::answer(request, self.readers)
    }

    fn message(&self, peer: &mut Peer<'_, ()>, message: Message<'_>) {
        let Message::Text(text) = message else {
            self.failed.fetch_add(1, Relaxed);
            return peer.close(CloseCode::UNSUPPORTED, "telemetry is text");
        };
        // `black_box`: the struct is what a real handler would go on with, so it has to be made.
        let result = match self.json {
            Json::Borrowed => parse_borrowed(text).map(|telemetry| drop(black_box(telemetry))),
            Json::Owned => parse_owned(text).map(|telemetry| drop(black_box(telemetry))),
        };
        if let Err(error) = result {
            self.failed.fetch_add(1, Relaxed);
            peer.close(CloseCode::INVALID_PAYLOAD, error.reason());
        }
    }
}

/// Sends every message back, and tells its metrics to these.
#[derive(Debug, Default)]
pub struct Echo(pub Readers);

impl Handler for Echo {
    type Session = ();

    fn open(&self, _: &Request<'_>) -> Result<Accept<()>, Reject> {
        Ok(().into())
    }

    fn http(&self, request: &Request<'_>) -> Response {
        status::answer(request, self.0)
    }

    fn message(&self, peer: &mut Peer<'_, ()>, message: Message<'_>) {
        // A client that does not read its echoes is closed by the library.
        let _: Result<(), SendError> = peer.send(message);
    }
}

/// The library's limits, with messages as long as every server of the comparison takes them, or `message_bytes`. Two echoes of
/// that length may wait for a client.
#[must_use]
pub fn limits(mode: Mode, message_bytes: Option<usize>) -> Limits {
    let message_bytes = message_bytes.unwrap_or(mode.message_bytes_max());
    let defaults = Limits::default();
    let egress_bytes = defaults.egress_bytes.max(message_bytes.saturating_add(16).saturating_mul(2));
    Limits { message_bytes, egress_bytes, ..defaults }
}

/// What was done so far, as every server reports it.
#[must_use]
pub fn counts(mode: Mode, handle: &Handle, failed: &AtomicU64) -> Counts {
    let (metrics, failed) = (handle.metrics(), failed.load(Relaxed));
    Counts { mode, messages: metrics.messages_in.saturating_sub(failed), failed, connections: metrics.opened }
}
