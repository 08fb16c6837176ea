//! rustls' state machine over slices: every handshake, and TLS 1.2 to its end.

use std::ops::Deref;

use rustls::ProtocolVersion;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedConnectionCommon, UnbufferedStatus, WriteTraffic,
};

use webscale_proto::Role;

use super::record::{Credit, RECORD_PLAINTEXT, Record};
use super::session::{TlsSession, take_server_name};
use super::stream::{Incoming, Opened, PeerSide};
use super::tickets::expect_hello;
use crate::egress::Sealed;

/// What sealing adds to a record, at most: header, explicit nonce, content type, tag.
const RECORD_OVERHEAD: usize = 64;

/// rustls' connection of one role.
pub(crate) struct Unbuffered<C> {
    connection: C,
    /// Its configuration allows keys to be taken out of it.
    gives_keys: bool,
    credit: Credit,
    /// Bytes at the front of what was kept that are whole records, with the beginning of a message of the handshake: rustls has
    /// taken note of them, and wants to see them all again.
    noted: usize,
}

#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    Data(&'a [u8]),
    CloseNotify,
}

/// `process_tls_records` of either role.
type Process<C, D> = for<'c, 'i> fn(&'c mut C, &'i mut [u8]) -> UnbufferedStatus<'c, 'i, D>;

impl<C, D> Unbuffered<C>
where
    C: Deref<Target = UnbufferedConnectionCommon<D>>,
{
    pub(super) fn new(connection: C, gives_keys: bool) -> Box<Self> {
        Box::new(Self { connection, gives_keys, credit: Credit::full(), noted: 0 })
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// It has come to TLS 1.3, and has nothing more to say or to read.
    pub(super) fn is_ready(&self) -> bool {
        self.gives_keys
            && self.noted == 0
            && !self.connection.is_handshaking()
            && !self.connection.wants_write()
            && self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    pub(super) fn into_parts(self) -> (C, Credit) {
        (self.connection, self.credit)
    }

    /// Shows rustls one record more at a time: by itself it would go through several before it says what they brought, and
    /// plaintext could come before the end of the handshake was announced.
    #[expect(
        clippy::indexing_slicing,
        reason = "rustls consumes no more than it is shown, and a record ends where the input does"
    )]
    pub(super) fn open(
        &mut self,
        role: Role,
        process: Process<C, D>,
        input: &mut [u8],
        out: &mut Sealed,
        sink: &mut dyn FnMut(Incoming<'_>),
    ) -> Result<Opened, rustls::Error> {
        let mut consumed = 0;
        let mut peer = PeerSide::Open;
        let mut record = Record::at(input, self.noted, self.is_handshaking());
        loop {
            let was_handshaking = self.is_handshaking();
            if was_handshaking {
                expect_hello();
            }
            let UnbufferedStatus { mut discard, state } =
                process(&mut self.connection, &mut input[consumed..record.end]);
            let server_name = if was_handshaking { take_server_name() } else { None };
            let mut is_done = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(next) = traffic.next_record() {
                        let next = next?;
                        discard += next.discard;
                        record.brings(next.payload.len());
                        sink(Incoming::Plaintext(next.payload));
                    }
                    is_done = consumed + discard == record.end && !record.is_last;
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
                // What was encoded lies in `out`, which reaches the socket before anything else does.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => peer = PeerSide::Finished,
                // Early data is off in every configuration made here; in one that was handed in it is not read.
                Ok(_) => is_done = true,
                Err(error) => {
                    last_words(
                        &mut self.connection,
                        process,
                        &mut input[consumed + discard..record.end],
                        out,
                    );
                    return Err(error);
                }
            }
            consumed += discard;
            if let Some(name) = server_name {
                sink(Incoming::ServerName(name));
            }
            if was_handshaking && !self.is_handshaking() {
                sink(Incoming::Secured(TlsSession::of(&self.connection, role)));
            }
            if is_done {
                self.credit.settle(&record)?;
                self.noted = record.whole_end().saturating_sub(consumed);
                if record.is_last || peer == PeerSide::Finished || self.is_ready() {
                    return Ok(Opened { consumed, peer });
                }
                record = Record::at(input, record.end, self.is_handshaking());
            }
        }
    }

    /// False: it cannot carry data (any more).
    pub(super) fn write(
        &mut self,
        process: Process<C, D>,
        payload: Payload<'_>,
        kept: &mut Vec<u8>,
        out: &mut Sealed,
    ) -> bool {
        loop {
            let UnbufferedStatus { discard, state } = process(&mut self.connection, kept);
            let written = match state {
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    encode(data, out);
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::WriteTraffic(traffic)) => Some(encrypt(traffic, payload, out)),
                Ok(ConnectionState::PeerClosed) => None,
                Ok(_) | Err(_) => Some(false),
            };
            kept.drain(..discard);
            self.noted = self.noted.saturating_sub(discard);
            if let Some(written) = written {
                return written;
            }
        }
    }
}

/// What rustls has for the peer after a failure: an alert, behind what it had queued before. It hands that out before it looks
/// at input, which it must not do again.
fn last_words<C, D>(connection: &mut C, process: Process<C, D>, input: &mut [u8], out: &mut Sealed)
where
    C: Deref<Target = UnbufferedConnectionCommon<D>>,
{
    while connection.wants_write() {
        match process(connection, input).state {
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            _ => return,
        }
    }
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, out: &mut Sealed) {
    emit(out, |room| {
        data.encode(room).map_err(|error| match error {
            EncodeError::InsufficientSize(size) => Some(size),
            EncodeError::AlreadyEncoded => None,
        })
    });
}

/// False: the keys are used up.
fn encrypt<D>(mut traffic: WriteTraffic<'_, D>, payload: Payload<'_>, out: &mut Sealed) -> bool {
    let before = out.as_slice().len();
    let room = match payload {
        Payload::Data(bytes) => bytes.len() + (bytes.len() / RECORD_PLAINTEXT + 1) * RECORD_OVERHEAD,
        Payload::CloseNotify => RECORD_OVERHEAD,
    };
    out.spare(room);
    emit(out, |room| {
        let result = match payload {
            Payload::Data(bytes) => traffic.encrypt(bytes, room),
            Payload::CloseNotify => traffic.queue_close_notify(room),
        };
        result.map_err(|error| match error {
            EncryptError::InsufficientSize(size) => Some(size),
            EncryptError::EncryptExhausted => None,
        })
    });
    out.as_slice().len() > before
}

/// Runs `encode` on the spare room of `out`, and again with more if that is too little.
fn emit(out: &mut Sealed, mut encode: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>) {
    let mut room = 0;
    for _ in 0..2 {
        match encode(out.spare(room)) {
            Ok(written) => return out.advance(written),
            Err(Some(InsufficientSizeError { required_size })) => room = required_size,
            Err(None) => return,
        }
    }
}
