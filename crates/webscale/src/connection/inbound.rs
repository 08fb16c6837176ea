//! What an open connection receives: frames into messages, and messages to the handler.

use webscale_proto::{Chunk, Decoder, Message, Step};

use super::channel::{Channel, Stage, call};
use super::closing::PeerClose;
use super::open::Open;
use super::turn::Buffers;
use super::{Config, Context, Handler};
use crate::deflate::{Extension, Fault};
use crate::panics::Panicked;
use crate::worker::{Delivery, Job, Part, Work};

/// Inflated bytes that weigh as much as a frame in a connection's share of the turn: few bytes on the wire can be many here.
const INFLATED_BYTES_PER_FRAME: u64 = 1024;

impl<S: Send + 'static> Channel<S> {
    /// Plaintext from the peer.
    pub(crate) fn receive<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>, bytes: &[u8]) {
        match &mut self.stage {
            Stage::Open(open) if open.pending.is_empty() => {
                let used = self.decode(context, bytes);
                if let (Stage::Open(open), Some(rest)) = (&mut self.stage, bytes.get(used..))
                    && !rest.is_empty()
                {
                    open.pending.push(rest);
                }
            }
            Stage::Open(open) => open.pending.push(bytes),
            Stage::Opening(_) => self.receive_head(context, bytes),
            Stage::Over => {}
        }
    }

    /// Goes on with plaintext of an earlier turn.
    pub(crate) fn resume<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>) {
        let Stage::Open(open) = &mut self.stage else { return };
        let mut pending = std::mem::take(&mut open.pending);
        let used = self.decode(context, pending.as_slice());
        if let Stage::Open(open) = &mut self.stage {
            pending.consume(used);
            open.pending = pending;
        }
    }

    /// Decodes frames until the bytes, or this connection's share of the turn, are used up. Says how many bytes it took.
    fn decode<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>, bytes: &[u8]) -> usize {
        // They are lent to the decoder, and the context to the handler.
        let mut buffers = std::mem::take(context.buffers);
        let (mut used, mut goes_on) = (0, true);
        while goes_on && context.frames_left > 0 {
            let rest = bytes.get(used..).unwrap_or_default();
            let taken;
            (taken, goes_on) = self.step(context, rest, &mut buffers);
            used += taken;
        }
        match &mut self.stage {
            Stage::Open(open) => open.decoder.release(),
            Stage::Opening(_) | Stage::Over => used = bytes.len(),
        }
        buffers.shrink();
        context.metrics.inflated.add(std::mem::take(&mut buffers.decompression.coded));
        *context.buffers = buffers;
        used
    }

    /// Takes one step of the decoder to where it belongs. Says how many bytes it took, and whether there may be another.
    fn step<H: Handler<Session = S>>(
        &mut self,
        context: &mut Context<'_, H>,
        bytes: &[u8],
        buffers: &mut Buffers,
    ) -> (usize, bool) {
        let Stage::Open(open) = &mut self.stage else { return (0, false) };
        if open.is_blocked() {
            return (0, false);
        }
        let Open { session, decoder, extension, closing, next, pong, .. } = open;
        context.between_messages |= !decoder.is_mid_message();
        // Once we closed, what still comes is of no interest to the handler.
        let is_wanted = closing.may_send_data();
        let inflated = buffers.decompression.coded.to;
        let (taken, step) = match buffers.step(context.config, decoder, extension.as_mut(), is_wanted, bytes)
        {
            Ok(step) => step,
            Err(fault) => {
                match fault {
                    Fault::Peer(error) => self.protocol_error(context, error),
                    Fault::Codec(Panicked) => self.faulted(context),
                }
                return (0, true);
            }
        };
        let given = match step {
            Step::NeedMore => return (taken, false),
            Step::Message(message) if is_wanted => give(context, session, next, message, Part::Whole),
            Step::Chunk(Chunk { data, is_first, is_last }) if is_wanted => {
                give(context, session, next, data, Part::Chunk { is_first, is_last })
            }
            Step::Pong(payload) => {
                Given::Called(call(context, session, |handler, peer| handler.pong(peer, payload)))
            }
            Step::Ping(payload) if context.outgoing.is_backlogged => {
                *pong = Some(payload.into());
                Given::Nothing
            }
            Step::Ping(payload) => {
                context.outgoing.pong(payload);
                Given::Nothing
            }
            Step::Close(frame) => Given::Close(PeerClose::from(frame)),
            Step::Fragment
            | Step::Message(_)
            | Step::Chunk(_)
            | Step::Extended { .. }
            | Step::ExtendedPart { .. } => Given::Nothing,
        };
        let inflated = (buffers.decompression.coded.to - inflated) / INFLATED_BYTES_PER_FRAME;
        let cost = u32::try_from(inflated).unwrap_or(u32::MAX).saturating_add(1);
        context.frames_left = context.frames_left.saturating_sub(cost);
        match given {
            Given::Nothing => {}
            Given::Called(fine) => self.after_call(context, fine),
            Given::Queued => self.submit(context),
            Given::Close(end) => self.peer_closed(context, end),
        }
        (taken, true)
    }

    /// Hands the waiting message to the workers, if the session is here and the queue has room.
    pub(crate) fn submit<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>) {
        let (Stage::Open(open), Some(pool)) = (&mut self.stage, context.pool) else { return };
        // Both or neither: a session taken alone would be lost.
        if !open.closing.may_send_data() || open.session.is_none() || open.next.is_none() {
            return;
        }
        let outgoing = &mut *context.outgoing;
        let (room, unfinished) = (outgoing.room_for_worker(), outgoing.unfinished);
        let backlog = outgoing.backlog.as_ref().map(|backlog| Box::new(backlog.another()));
        let compression = outgoing.compression.hand_over();
        let (commands, reply_to) = (context.commands.clone(), pool.reply_to());
        // Last: nothing that could panic stands between here and the queue.
        let (Some(session), Some(delivery)) = (open.session.take(), open.next.take()) else { return };
        let (ends_message, bytes) = (delivery.part.ends_message(), delivery.data.borrowed().len());
        let id = context.id;
        let job = Job {
            id,
            session,
            delivery: *delivery,
            room,
            backlog,
            compression,
            unfinished,
            commands,
            reply_to,
        };
        match pool.submit(job) {
            Ok(()) => {
                context.metrics.messages_in.add(u64::from(ends_message));
                context.lent += bytes;
            }
            Err(job) => {
                open.session = Some(job.session);
                open.next = Some(Box::new(job.delivery));
                context.outgoing.compression.take_back(job.compression);
            }
        }
    }

    /// A worker brings the session back.
    pub(crate) fn regain(&mut self, session: S) {
        if let Stage::Open(open) = &mut self.stage {
            open.session = Some(session);
        }
    }

    /// What it did with it.
    pub(crate) fn done<H: Handler<Session = S>>(&mut self, context: &mut Context<'_, H>, work: Work) {
        let Stage::Open(open) = &mut self.stage else { return };
        // What the handler asked of its timer meanwhile is newer than the one that fired.
        let timer_missed = std::mem::take(&mut open.timer_missed) && work.timer.is_none();
        let outgoing = &mut *context.outgoing;
        outgoing.compression.take_back(work.compression);
        outgoing.unfinished = work.unfinished;
        let mut sent = work.sent;
        if outgoing.closed {
            (sent.messages, sent.deflated) = Default::default();
        } else {
            outgoing.take_in(&work.frames);
            outgoing.closed = work.close.is_some();
        }
        outgoing.sent.add(sent);
        outgoing.overflowed |= work.overflowed;
        outgoing.failed = work.failed;
        outgoing.timer = work.timer;
        outgoing.close = work.close;
        self.after_call(context, !work.panicked);
        if timer_missed {
            self.user_timer(context);
        }
        self.settle_close(context);
    }
}

/// What a step came to.
enum Given {
    Nothing,
    /// The handler was called; whether it did not panic.
    Called(bool),
    /// It is for a worker.
    Queued,
    Close(PeerClose),
}

/// Gives data to the handler, or to the place where it waits for a worker.
fn give<H: Handler>(
    context: &mut Context<'_, H>,
    session: &mut Option<H::Session>,
    next: &mut Option<Box<Delivery>>,
    data: Message<'_>,
    part: Part,
) -> Given {
    if context.pool.is_some() || session.is_none() {
        *next = Some(Box::new(Delivery { data: data.into(), part }));
        return Given::Queued;
    }
    context.metrics.messages_in.add(u64::from(part.ends_message()));
    Given::Called(call(context, session, |handler, peer| part.give(handler, peer, data)))
}

impl Buffers {
    /// The next step, inflated where the peer compressed it; what is not wanted stays as it came.
    fn step<'m>(
        &'m mut self,
        config: &Config,
        decoder: &'m mut Decoder,
        extension: Option<&mut Extension>,
        is_wanted: bool,
        bytes: &[u8],
    ) -> Result<(usize, Step<'m>), Fault> {
        let Some(extension) = extension else {
            return Ok(decoder.decode(&config.decoder, bytes, &mut self.scratch)?);
        };
        if extension.has_chunks() {
            if is_wanted {
                return Ok((0, self.decompression.next_chunk(extension, &config.limits)?));
            }
            extension.drop_chunks();
        }
        let (taken, step) = decoder.decode(&config.deflate_decoder, bytes, &mut self.scratch)?;
        let step = match step {
            Step::Extended { text, payload, .. } if is_wanted => {
                self.decompression.message(extension, text, payload, &config.limits)?
            }
            Step::ExtendedPart { text, payload, is_last } if is_wanted => {
                self.decompression.part(extension, text, (payload, is_last), &config.limits)?
            }
            other => other,
        };
        Ok((taken, step))
    }
}
