//! What a connection is while it is open.

use std::collections::VecDeque;
use std::mem;

use webscale_proto::{Data, Decoder, FrameHeader};

use super::closing::Closing;
use crate::byte_queue::ByteQueue;
use crate::close::Close;
use crate::deflate::Extension;
use crate::limits::SlowConsumer;
use crate::peer::Outgoing;
use crate::sender::Parcel;
use crate::worker::Delivery;

pub(super) struct Open<S> {
    /// `None` while a worker has it.
    pub(super) session: Option<S>,
    pub(super) decoder: Decoder,
    /// permessage-deflate, if both ends agreed on it.
    pub(super) extension: Option<Extension>,
    pub(super) closing: Closing,
    /// A message, or a chunk of one, that waits for a worker.
    pub(super) next: Option<Box<Delivery>>,
    /// The answer to the latest ping, while other bytes wait for the peer to take them. Those before it need none
    /// (RFC 6455 §5.5.3).
    pub(super) pong: Option<Box<[u8]>>,
    /// Plaintext not decoded yet: this turn's share was used up, or `next` is taken.
    pub(super) pending: ByteQueue,
    /// What other threads sent while the handler's message in fragments is not finished.
    pub(super) waiting: Option<Box<Waiting>>,
    /// The kind of that message.
    pub(super) unfinished: Option<Data>,
    /// The user's timer fired while a worker had the session.
    pub(super) timer_missed: bool,
    pub(super) slow_consumer: SlowConsumer,
}

/// What other threads sent while nothing may be sent for them.
#[derive(Default)]
pub(super) struct Waiting {
    parcels: VecDeque<Parcel>,
    pub(super) bytes: usize,
}

// An idle connection is this, the link, and rustls' state.
const _: () = assert!(size_of::<Open<()>>() <= 144);

impl<S> Open<S> {
    pub(super) fn new(session: S, extension: Option<Extension>, slow_consumer: SlowConsumer) -> Self {
        Self {
            slow_consumer,
            session: Some(session),
            decoder: Decoder::new(),
            extension,
            closing: Closing::No,
            next: None,
            pong: None,
            pending: ByteQueue::default(),
            waiting: None,
            unfinished: None,
            timer_missed: false,
        }
    }

    /// This close must wait for the session to come back from a worker, and a shutdown's also for what was received before, so
    /// that what was accepted is answered.
    pub(super) fn holds_back(&self, close: &Close) -> bool {
        self.session.is_none() || (close.is_shutdown() && self.has_pending())
    }

    /// A close that waited, if it need not any more.
    pub(super) fn take_due_close(&mut self) -> Option<Close> {
        match mem::take(&mut self.closing) {
            Closing::Held(close) if !self.holds_back(&close) => Some(*close),
            closing => {
                self.closing = closing;
                None
            }
        }
    }

    /// The Close frame that goes out now is ours: nothing further is sent or handled.
    pub(super) fn begin_closing(&mut self, close: Close) {
        self.next = None;
        self.closing = Closing::Sent(Box::new(close));
    }

    /// A data message must wait, and everything behind it.
    pub(super) fn is_blocked(&self) -> bool {
        self.next.is_some()
    }

    /// Something is here that can be handled without another byte.
    pub(super) fn has_pending(&self) -> bool {
        let has_chunks = self.extension.as_ref().is_some_and(Extension::has_chunks);
        !self.pending.is_empty() || has_chunks || self.is_blocked()
    }
}

impl<S> Open<S> {
    /// Keeps what may not stand between the fragments of a message until that is finished.
    pub(super) fn wait(&mut self, parcel: Parcel, outgoing: &mut Outgoing) {
        let bytes = parcel.waiting_bytes();
        // The message in fragments can be ended whatever waits.
        let needed = bytes + FrameHeader::MAX_LEN;
        // One that would never fit is the sender's fault, and not the peer's.
        let would_fit = outgoing.would_fit(parcel.len());
        if would_fit {
            outgoing.make_room(needed);
            self.displace(needed, outgoing);
        }
        if needed > outgoing.room {
            outgoing.overflowed |= would_fit;
            outgoing.refused |= would_fit;
            outgoing.sent.dropped += 1;
        } else {
            outgoing.reserve(bytes);
            let waiting = self.waiting.get_or_insert_default();
            waiting.bytes += bytes;
            waiting.parcels.push_back(parcel);
        }
    }

    /// Where older messages make way for newer ones, those that wait do as well.
    fn displace(&mut self, needed: usize, outgoing: &mut Outgoing) {
        let Some(waiting) = self.waiting.as_mut().filter(|_| outgoing.backlog.is_some()) else { return };
        while needed > outgoing.room
            && let Some(oldest) = waiting.parcels.pop_front()
        {
            waiting.bytes -= oldest.waiting_bytes();
            outgoing.release(oldest.waiting_bytes());
            outgoing.sent.displaced += 1;
        }
    }

    pub(super) fn send_waiting(&mut self, outgoing: &mut Outgoing) {
        let Some(waiting) = self.waiting.take() else { return };
        outgoing.release(waiting.bytes);
        for parcel in waiting.parcels {
            let _ = outgoing.parcel(&parcel);
        }
    }
}
