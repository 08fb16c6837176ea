//! Counters of a loop, written by that loop alone and readable from any thread at any time.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::admission::Refusal;
use crate::close::CloseKind;
use crate::deflate::Coded;
use crate::peer::Sent;

/// One counter with one writer: an ordinary add, no locked instruction.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Who sees the new value also sees what this thread counted before.
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Release);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Acquire)
    }
}

/// One value with one writer.
#[derive(Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn set(&self, value: usize) {
        self.0.store(value as u64, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The statuses that a rejection can have, by their first digit, from 2 on (RFC 9110 §15).
const STATUS_CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// The counters of one loop. On cache lines of their own, so that a reader of one loop's does not slow another.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Metrics {
    pub(crate) accepted: Counter,
    pub(crate) connected: Counter,
    pub(crate) resumed: Counter,
    pub(crate) opened: Counter,
    /// By [`STATUS_CLASSES`].
    pub(crate) rejected: [Counter; STATUS_CLASSES.len()],
    pub(crate) http: Counter,
    pub(crate) panics: Counter,
    pub(crate) refused: [Counter; Refusal::COUNT],
    pub(crate) accept_pauses: Counter,
    pub(crate) memory_pauses: Counter,
    /// Bytes held now.
    pub(crate) held: Gauge,
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) messages_in: Counter,
    pub(crate) messages_out: Counter,
    pub(crate) messages_dropped: Counter,
    pub(crate) messages_displaced: Counter,
    pub(crate) inflated: Codec,
    pub(crate) deflated: Codec,
    pub(crate) closes: [Counter; CloseKind::COUNT],
}

/// The counters of one direction of permessage-deflate.
#[derive(Default)]
pub(crate) struct Codec {
    messages: Counter,
    from: Counter,
    to: Counter,
}

impl Codec {
    pub(crate) fn add(&self, coded: Coded) {
        // Without compression nothing is written.
        if coded.from > 0 || coded.to > 0 {
            self.messages.add(coded.messages);
            self.from.add(coded.from);
            self.to.add(coded.to);
        }
    }
}

impl Metrics {
    pub(crate) fn count_sent(&self, sent: &Sent) {
        self.messages_out.add(sent.messages);
        self.messages_dropped.add(sent.dropped);
        self.messages_displaced.add(sent.displaced);
        self.deflated.add(sent.deflated);
    }

    #[expect(clippy::indexing_slicing, reason = "`COUNT` is that of all kinds")]
    pub(crate) fn count_close(&self, kind: CloseKind) {
        self.closes[kind as usize].add(1);
    }

    #[expect(clippy::indexing_slicing, reason = "`COUNT` is that of all refusals")]
    pub(crate) fn count_refusal(&self, refusal: Refusal) {
        self.refused[refusal as usize].add(1);
    }

    /// `status` is 200 to 599.
    pub(crate) fn count_rejection(&self, status: u16) {
        if let Some(counter) = self.rejected.get(usize::from(status / 100).saturating_sub(2)) {
            counter.add(1);
        }
    }
}

/// All counters of a server or client at one moment, summed over its loops. All but `connections` and `held_bytes` only
/// grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    /// TCP connections that exist now, in whatever state.
    pub connections: u64,
    /// TCP connections accepted.
    pub accepted: u64,
    /// TCP connections begun by us (client role).
    pub connected: u64,
    /// TLS handshakes that resumed an earlier session.
    pub resumed: u64,
    /// Times that the server's certificates changed ([`Tls::reload`](crate::Tls::reload), [`Tls::replace`](crate::Tls::replace)).
    pub certificate_reloads: u64,
    /// Times that they should have, but what was read was no good.
    pub certificate_reloads_failed: u64,
    /// Opening handshakes that ended well.
    pub opened: u64,
    /// Opening handshakes that were answered with another status than 101; [`Snapshot::rejections`] tells them apart.
    pub rejected: u64,
    /// Plain HTTP requests that [`Handler::http`](crate::Handler::http) answered.
    pub http: u64,
    /// Panics that were caught, in whatever method of the [`Handler`](crate::Handler).
    pub panics: u64,
    /// Connections closed at accept, because of a limit; [`Snapshot::refusals`] tells which. They are not counted as
    /// accepted, but for those that a proxy brought: these are closed, and counted as that, when it has said whose they
    /// are.
    pub refused: u64,
    /// Times that accepting was paused for want of descriptors.
    pub accept_pauses: u64,
    /// Times that accepting was paused because of [`Limits::held_bytes`](crate::Limits::held_bytes).
    pub memory_pauses: u64,
    /// Bytes held for clients now, as [`Limits::held_bytes`](crate::Limits::held_bytes) counts them.
    pub held_bytes: u64,
    /// Bytes received from sockets, TLS included.
    pub bytes_in: u64,
    /// Bytes that sockets took, TLS included.
    pub bytes_out: u64,
    /// Messages given to the handler.
    pub messages_in: u64,
    /// Messages that the handler and senders sent.
    pub messages_out: u64,
    /// Messages not sent: the peer did not read ([`SendError::Full`](crate::SendError::Full)), or the message was too long
    /// for any ([`SendError::TooLong`](crate::SendError::TooLong)).
    pub messages_dropped: u64,
    /// Messages that were sent, and dropped for newer ones before the socket had them
    /// ([`SlowConsumer::DropOldest`](crate::SlowConsumer::DropOldest)).
    pub messages_displaced: u64,
    /// Messages that came compressed.
    pub inflated_messages: u64,
    /// Bytes of their payload as they came.
    pub inflated_from_bytes: u64,
    /// Bytes of their payload as the handler got it.
    pub inflated_to_bytes: u64,
    /// Messages that were sent compressed.
    pub deflated_messages: u64,
    /// Bytes of their payload as the handler gave it.
    pub deflated_from_bytes: u64,
    /// Bytes of their payload as they were sent.
    pub deflated_to_bytes: u64,
    closes: [u64; CloseKind::COUNT],
    rejections: [u64; STATUS_CLASSES.len()],
    refusals: [u64; Refusal::COUNT],
}

impl Snapshot {
    /// The opening handshakes that were rejected, by class of status: `("4xx", 7)`. Their sum is `rejected`.
    pub fn rejections(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        STATUS_CLASSES.into_iter().zip(self.rejections)
    }

    /// The connections closed at accept, by the limit of [`Limits`](crate::Limits) that was reached: `connections`,
    /// `address` (`connections_per_address`), `handshakes` (`handshakes_per_address`). Their sum is `refused`.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Refusal::NAMES.into_iter().zip(self.refusals)
    }

    /// How connections ended, by cause: the name of the cause (as in [`CloseCause`](crate::CloseCause), in
    /// `snake_case`) and how many. Their sum and `connections` make up `accepted` and `connected`.
    pub fn closes(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        CloseKind::NAMES.into_iter().zip(self.closes)
    }

    pub(crate) fn add(&mut self, metrics: &Metrics) {
        // Read ends before beginnings, so that a connection counted as ended is also counted as begun.
        let mut ended = 0;
        for (sum, counter) in self.closes.iter_mut().zip(&metrics.closes) {
            let closes = counter.get();
            ended += closes;
            *sum += closes;
        }
        let (accepted, connected) = (metrics.accepted.get(), metrics.connected.get());
        self.connections += accepted + connected - ended;
        self.accepted += accepted;
        self.connected += connected;
        self.resumed += metrics.resumed.get();
        self.opened += metrics.opened.get();
        for (sum, counter) in self.rejections.iter_mut().zip(&metrics.rejected) {
            let rejections = counter.get();
            self.rejected += rejections;
            *sum += rejections;
        }
        self.http += metrics.http.get();
        self.panics += metrics.panics.get();
        for (sum, counter) in self.refusals.iter_mut().zip(&metrics.refused) {
            let refusals = counter.get();
            self.refused += refusals;
            *sum += refusals;
        }
        self.accept_pauses += metrics.accept_pauses.get();
        self.memory_pauses += metrics.memory_pauses.get();
        self.held_bytes += metrics.held.get();
        self.bytes_in += metrics.bytes_in.get();
        self.bytes_out += metrics.bytes_out.get();
        self.messages_in += metrics.messages_in.get();
        self.messages_out += metrics.messages_out.get();
        self.messages_dropped += metrics.messages_dropped.get();
        self.messages_displaced += metrics.messages_displaced.get();
        self.inflated_messages += metrics.inflated.messages.get();
        self.inflated_from_bytes += metrics.inflated.from.get();
        self.inflated_to_bytes += metrics.inflated.to.get();
        self.deflated_messages += metrics.deflated.messages.get();
        self.deflated_from_bytes += metrics.deflated.from.get();
        self.deflated_to_bytes += metrics.deflated.to.get();
    }
}
