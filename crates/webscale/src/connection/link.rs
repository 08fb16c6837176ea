//! The wire's side of a connection: socket, TLS, and what waits for either.

use std::io::{self, ErrorKind};

use webscale_sys::TcpOptions;

use webscale_proto::proxy::{self, Header, ProxyError};

use super::{Handler, Socket, Turn, Wire};
use crate::backlog::Backlog;
use crate::byte_queue::ByteQueue;
use crate::egress::Sealed;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::peer::Outgoing;
use crate::tls::{Incoming, Opened, PeerSide, TlsStream};

/// Plaintext that is sealed at a time, so that a large message needs no second copy of itself.
const SEAL_BYTES: usize = 64 * 1024;
/// What a thread's buffers keep between turns; more is given back.
const KEEP_BYTES: usize = 256 * 1024;

/// Where a link stands in its life; see the [module above](super).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Connecting,
    /// A proxy has yet to say whom it brings.
    Proxied,
    Live,
    /// The same behind our Close frame, whose answer is awaited.
    Closing,
    /// What is queued goes out. `answered`: the peer's Close frame is here. `peer_ended`: so is the end of its direction.
    Finishing {
        answered: bool,
        peer_ended: bool,
    },
    /// All is sent; only the end of the peer's direction is awaited.
    Lingering {
        answered: bool,
    },
    Dead,
}

impl Phase {
    /// Messages may come.
    pub(super) fn is_live(self) -> bool {
        matches!(self, Self::Live | Self::Closing)
    }

    pub(super) fn is_finishing(self) -> bool {
        matches!(self, Self::Finishing { .. })
    }
}

/// What lies between channel and socket.
enum Security {
    Plain,
    Tls(TlsStream),
    /// TLS ended, by an error or by our close_notify: nothing more can be sealed or opened.
    Ended,
}

pub(crate) struct Link<K> {
    pub(crate) socket: K,
    security: Security,
    phase: Phase,
    /// Above the high-water mark, and not yet below half of it.
    congested: bool,
    /// The incomplete TLS record, or header of a proxy, at the end of what was received; no memory while there is none.
    kept: Vec<u8>,
    egress: ByteQueue,
    /// What waits behind `egress` and may be dropped, where that is the connection's way. Empty while `egress` is.
    pub(super) backlog: Option<Box<Backlog>>,
}

pub(crate) enum Received {
    /// `count` bytes lie in the receive buffer (what was kept among them); `more` may be waiting.
    Bytes {
        count: usize,
        more: bool,
    },
    Nothing,
    End,
}

impl<K: Socket> Link<K> {
    pub(super) fn new(socket: K, tls: Option<TlsStream>, phase: Phase) -> Self {
        let security = tls.map_or(Security::Plain, Security::Tls);
        Self {
            socket,
            security,
            phase,
            congested: false,
            kept: Vec::new(),
            egress: ByteQueue::default(),
            backlog: None,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn is_handshaking(&self) -> bool {
        matches!(&self.security, Security::Tls(tls) if tls.is_handshaking())
    }

    /// A TLS record has begun and not ended.
    pub(super) fn is_mid_record(&self) -> bool {
        !self.kept.is_empty()
    }

    pub(super) fn is_congested(&self) -> bool {
        self.congested
    }

    /// The peer's direction has ended. Whether ours goes on: what is queued still goes out.
    pub(super) fn outlives_peer(&mut self) -> bool {
        if let Phase::Finishing { peer_ended, .. } = &mut self.phase {
            *peer_ended = true;
        }
        self.phase.is_finishing()
    }

    /// Our Close frame goes out, and its answer is awaited. False where that is known, or past.
    pub(super) fn await_close(&mut self) -> bool {
        let is_news = self.phase == Phase::Live;
        if is_news {
            self.phase = Phase::Closing;
        }
        is_news
    }

    /// What ended a connection that hung up.
    pub(super) fn take_error(&mut self) -> ErrorKind {
        match self.socket.take_error() {
            Ok(Some(error)) | Err(error) => error.kind(),
            Ok(None) => ErrorKind::UnexpectedEof,
        }
    }

    pub(super) fn buffered(&self) -> usize {
        let backlog = self.backlog.as_ref().map_or(0, |backlog| backlog.capacity());
        self.kept.capacity() + self.egress.capacity() + backlog
    }

    pub(super) fn wants_write(&self) -> bool {
        self.phase == Phase::Connecting || (!self.egress.is_empty() && self.phase != Phase::Dead)
    }

    #[cfg(test)]
    pub(super) fn queued_in_all(&self) -> usize {
        self.egress.len() + self.backlog.as_ref().map_or(0, |backlog| backlog.len())
    }

    /// Bytes that the socket owes; behind them stands the backlog.
    pub(super) fn queued(&self) -> usize {
        self.egress.len()
    }

    /// What is queued goes out, then our direction ends.
    pub(super) fn finish(&mut self, answered: bool) {
        if matches!(self.phase, Phase::Connecting | Phase::Proxied | Phase::Live | Phase::Closing) {
            self.phase = Phase::Finishing { answered, peer_ended: false };
        }
    }

    pub(super) fn kill(&mut self) {
        // A peer that does not take what waits here has more waiting in the kernel, which would keep trying for as long as
        // `Limits::user_timeout`.
        if !self.egress.is_empty() {
            self.socket.reset_when_closed();
        }
        self.phase = Phase::Dead;
    }

    /// The socket says that it is connected, or why not; then TLS begins.
    pub(super) fn connected(&mut self, options: TcpOptions, sealed: &mut Sealed) -> io::Result<()> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        self.socket.set_options(options)?;
        if let Security::Tls(tls) = &mut self.security {
            tls.open_records(&mut [], sealed, &mut |_| {}).map_err(io::Error::other)?;
        }
        self.phase = Phase::Live;
        Ok(())
    }

    pub(super) fn await_proxy(&mut self) {
        self.phase = Phase::Proxied;
    }

    /// Takes a header of the PROXY protocol off the front of the first `count` received bytes, and says how many are left.
    /// `None`: it is not whole.
    pub(super) fn take_proxy_header(
        &mut self,
        wire: &mut Wire,
        count: usize,
    ) -> Result<Option<(Header, usize)>, ProxyError> {
        let input = wire.receive.get_mut(..count).unwrap_or_default();
        let Some(header) = proxy::parse(input)? else {
            self.kept.clear();
            self.kept.extend_from_slice(input);
            return Ok(None);
        };
        self.kept = Vec::new();
        self.phase = Phase::Live;
        input.copy_within(header.len.., 0);
        Ok(Some((header, count - header.len)))
    }

    /// One recv(2), behind what was kept.
    pub(super) fn recv<H: Handler>(&mut self, turn: &mut Turn<'_, H>) -> io::Result<Received> {
        let buffer = &mut turn.wire.receive;
        let kept = self.kept.len();
        let Some((front, room)) = buffer.split_at_mut_checked(kept).filter(|(_, room)| !room.is_empty())
        else {
            // A message of TLS in a thousand records: no handshake that we know needs that.
            return Err(ErrorKind::InvalidData.into());
        };
        front.copy_from_slice(&self.kept);
        let most = room.len().min(turn.context.bytes_left.max(1));
        let room = room.get_mut(..most).unwrap_or_default();
        match self.socket.recv(room) {
            Ok(0) => Ok(Received::End),
            Ok(received) => {
                turn.context.metrics.bytes_in.add(received as u64);
                turn.context.bytes_left = turn.context.bytes_left.saturating_sub(received);
                Ok(Received::Bytes { count: kept + received, more: received == most })
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Ok(Received::Nothing)
            }
            Err(error) => Err(error),
        }
    }

    /// Gives what the first `count` received bytes bring to `sink`. False: the peer's side of TLS has ended.
    pub(super) fn open(
        &mut self,
        wire: &mut Wire,
        count: usize,
        sink: &mut dyn FnMut(Incoming<'_>),
    ) -> Result<bool, rustls::Error> {
        let input = wire.receive.get_mut(..count).unwrap_or_default();
        let tls = match &mut self.security {
            Security::Plain => {
                sink(Incoming::Plaintext(input));
                return Ok(true);
            }
            Security::Tls(tls) => tls,
            Security::Ended => return Ok(false),
        };
        let Opened { consumed, peer } = match tls.open_records(input, &mut wire.sealed, sink) {
            Ok(opened) => opened,
            Err(error) => {
                self.security = Security::Ended;
                self.kept = Vec::new();
                return Err(error);
            }
        };
        let rest = input.get(consumed..).unwrap_or_default();
        if rest.is_empty() {
            self.kept = Vec::new();
        } else {
            self.kept.clear();
            self.kept.extend_from_slice(rest);
        }
        Ok(peer == PeerSide::Open)
    }

    /// Seals what the turn wrote and sends it, all at once; what the socket does not take is queued.
    pub(super) fn flush<H: Handler>(&mut self, turn: &mut Turn<'_, H>) -> io::Result<()> {
        let (wire, metrics) = (&mut *turn.wire, turn.context.metrics);
        let outgoing = &mut *turn.context.outgoing;
        let result = if self.phase == Phase::Dead {
            Ok(())
        } else {
            self.send_turn(outgoing, &mut wire.sealed, metrics)
        };
        wire.sealed.clear(KEEP_BYTES);
        outgoing.frames.clear();
        outgoing.frames.shrink_to(KEEP_BYTES);
        self.watch_congestion(&turn.context.config.limits, outgoing.backlog.as_deref());
        self.backlog = outgoing.backlog.take();
        if self.phase == Phase::Dead {
            return Ok(());
        }
        result?;
        self.end_of_flight();
        Ok(())
    }

    fn send_turn(
        &mut self,
        outgoing: &mut Outgoing,
        sealed: &mut Sealed,
        metrics: &Metrics,
    ) -> io::Result<()> {
        let is_little = self.egress.is_empty() && outgoing.frames.len() <= SEAL_BYTES;
        if outgoing.backlog.as_ref().is_some_and(|backlog| !is_little || !backlog.is_empty()) {
            // What TLS has to say by itself lies in `sealed`, and was sealed before.
            self.transmit(sealed.as_slice(), metrics)?;
            sealed.clear(KEEP_BYTES);
            outgoing.put_off();
            self.catch_up(outgoing, sealed, metrics)?;
        }
        self.seal_and_transmit(&outgoing.frames, sealed, metrics)
    }

    /// Gives the socket what stands in the backlog, piece by piece until it takes no more; in the end all of it.
    fn catch_up(
        &mut self,
        outgoing: &mut Outgoing,
        sealed: &mut Sealed,
        metrics: &Metrics,
    ) -> io::Result<()> {
        let Some(backlog) = &mut outgoing.backlog else { return Ok(()) };
        while self.egress.is_empty() || self.phase.is_finishing() {
            let sent = backlog.take(SEAL_BYTES, |piece| self.seal_pieces(piece, sealed, metrics));
            let Some(sent) = sent else { break };
            sent?;
            self.transmit(sealed.as_slice(), metrics)?;
            sealed.clear(KEEP_BYTES);
        }
        Ok(())
    }

    fn seal_and_transmit(&mut self, frames: &[u8], sealed: &mut Sealed, metrics: &Metrics) -> io::Result<()> {
        self.seal_pieces(frames, sealed, metrics)?;
        if self.phase.is_finishing() && !matches!(self.security, Security::Plain) {
            self.end_tls(sealed);
        }
        self.transmit(sealed.as_slice(), metrics)
    }

    /// Seals `frames`, and sends all but the last piece; without TLS it sends all.
    fn seal_pieces(&mut self, frames: &[u8], sealed: &mut Sealed, metrics: &Metrics) -> io::Result<()> {
        if matches!(self.security, Security::Plain) {
            return self.transmit(frames, metrics);
        }
        let last = frames.len().saturating_sub(1) / SEAL_BYTES;
        for (index, chunk) in frames.chunks(SEAL_BYTES).enumerate() {
            self.seal(chunk, sealed)?;
            if index < last {
                self.transmit(sealed.as_slice(), metrics)?;
                sealed.clear(KEEP_BYTES);
            }
        }
        Ok(())
    }

    fn seal(&mut self, plaintext: &[u8], sealed: &mut Sealed) -> io::Result<()> {
        let sealed = match &mut self.security {
            Security::Tls(tls) => tls.seal(plaintext, &mut self.kept, sealed),
            Security::Plain | Security::Ended => false,
        };
        if sealed { Ok(()) } else { Err(ErrorKind::BrokenPipe.into()) }
    }

    /// Says close_notify once, and gives back what TLS held.
    fn end_tls(&mut self, sealed: &mut Sealed) {
        if let Security::Tls(tls) = &mut self.security
            && !tls.is_handshaking()
        {
            tls.seal_close(&mut self.kept, sealed);
        }
        self.security = Security::Ended;
        self.kept = Vec::new();
    }

    /// Sends `bytes` behind what is queued.
    fn transmit(&mut self, bytes: &[u8], metrics: &Metrics) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let taken = if self.egress.is_empty() { send(&mut self.socket, bytes, metrics)? } else { 0 };
        if let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            self.egress.push(rest);
        }
        Ok(())
    }

    /// The socket takes bytes again. Says whether it took any.
    pub(super) fn drain<H: Handler>(&mut self, turn: &mut Turn<'_, H>) -> io::Result<bool> {
        if self.egress.is_empty() {
            return Ok(false);
        }
        let (wire, metrics) = (&mut *turn.wire, turn.context.metrics);
        let taken = send(&mut self.socket, self.egress.as_slice(), metrics)?;
        self.egress.consume(taken);
        let outgoing = &mut *turn.context.outgoing;
        self.catch_up(outgoing, &mut wire.sealed, metrics)?;
        self.watch_congestion(&turn.context.config.limits, outgoing.backlog.as_deref());
        Ok(taken > 0)
    }

    fn watch_congestion(&mut self, limits: &Limits, backlog: Option<&Backlog>) {
        let mark = if self.congested { limits.egress_high_water / 2 } else { limits.egress_high_water };
        self.congested = self.egress.len() + backlog.map_or(0, Backlog::len) > mark;
    }

    /// When all is sent, a finishing link ends our direction and waits for the peer's.
    fn end_of_flight(&mut self) {
        if let Phase::Finishing { answered, peer_ended } = self.phase
            && self.egress.is_empty()
        {
            let lingers = self.socket.shutdown_write().is_ok() && !peer_ended;
            self.phase = if lingers { Phase::Lingering { answered } } else { Phase::Dead };
        }
    }
}

/// One send(2); 0 when the socket takes nothing now.
fn send<K: Socket>(socket: &mut K, bytes: &[u8], metrics: &Metrics) -> io::Result<usize> {
    match socket.send(bytes) {
        Ok(taken) => {
            metrics.bytes_out.add(taken as u64);
            Ok(taken)
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        Err(error) => Err(error),
    }
}
