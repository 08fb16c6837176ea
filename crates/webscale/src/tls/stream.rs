//! One connection's TLS, over slices: rustls' state machine behind three calls.

use std::ops::Deref;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedConnectionCommon, UnbufferedStatus, WriteTraffic,
};

use webscale_proto::Role;

use super::record::{Credit, RECORD_PLAINTEXT, Record};
use super::session::{TlsSession, take_server_name};
use super::tickets::expect_hello;
use crate::egress::Sealed;

/// What sealing adds to a record, at most: header, explicit nonce, content type, tag.
const RECORD_OVERHEAD: usize = 64;
/// A TLS record as it travels, at most (RFC 8446 §5.2, RFC 5246 §6.2.3).
pub(crate) const RECORD_BYTES: usize = 5 + RECORD_PLAINTEXT + 2048;

/// What the peer's side of a stream is at, after records were opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PeerSide {
    Open,
    /// It sent close_notify: nothing follows.
    Finished,
}

/// What [`TlsStream::open_records`] found.
pub(crate) struct Opened {
    /// Bytes of the input that are done with; the rest is an incomplete record.
    pub(crate) consumed: usize,
    pub(crate) peer: PeerSide,
}

/// What comes out of a stream, in order.
pub(crate) enum Incoming<'a> {
    /// The name that the client wants to speak to (server role).
    ServerName(String),
    /// The handshake is done.
    Secured(TlsSession),
    /// One record's content.
    Plaintext(&'a [u8]),
}

/// rustls' state of one connection, on the heap: connections that are not TLS do not pay for it.
pub(crate) enum TlsStream {
    Server(Box<Metered<UnbufferedServerConnection>>),
    Client(Box<Metered<UnbufferedClientConnection>>),
}

pub(crate) struct Metered<C> {
    connection: C,
    credit: Credit,
    /// Bytes at the front of what was kept that are whole records, with the beginning of a message of the handshake: rustls has
    /// taken note of them, and wants to see them all again.
    noted: usize,
}

impl<C> Metered<C> {
    fn new(connection: C) -> Box<Self> {
        Box::new(Self { connection, credit: Credit::full(), noted: 0 })
    }
}

impl TlsStream {
    pub(super) fn server(connection: UnbufferedServerConnection) -> Self {
        Self::Server(Metered::new(connection))
    }

    pub(super) fn client(connection: UnbufferedClientConnection) -> Self {
        Self::Client(Metered::new(connection))
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        match self {
            Self::Server(stream) => stream.connection.is_handshaking(),
            Self::Client(stream) => stream.connection.is_handshaking(),
        }
    }

    /// Opens all whole records at the front of `input`, decrypting in place. `input` begins with what the last call did not
    /// consume. What they bring goes to `sink`, record by
    /// record; what TLS itself has to say (handshake, alerts) to `out`, also when this fails.
    ///
    /// # Errors
    /// The peer broke TLS, or the handshake cannot succeed. The stream is of no use then.
    pub(crate) fn open_records(
        &mut self,
        input: &mut [u8],
        out: &mut Sealed,
        sink: &mut dyn FnMut(Incoming<'_>),
    ) -> Result<Opened, rustls::Error> {
        match self {
            Self::Server(stream) => {
                open(Role::Server, stream, |c, input| c.process_tls_records(input), input, out, sink)
            }
            Self::Client(stream) => {
                open(Role::Client, stream, |c, input| c.process_tls_records(input), input, out, sink)
            }
        }
    }

    /// Seals `plaintext` behind what is in `out`. `kept` is the incomplete record that [`TlsStream::open_records`] left:
    /// rustls remembers places in it. False: the stream cannot carry data (any more).
    pub(crate) fn seal(&mut self, plaintext: &[u8], kept: &mut Vec<u8>, out: &mut Sealed) -> bool {
        self.write(Payload::Data(plaintext), kept, out)
    }

    /// Tells the peer that nothing follows (RFC 8446 §6.1).
    pub(crate) fn seal_close(&mut self, kept: &mut Vec<u8>, out: &mut Sealed) {
        self.write(Payload::CloseNotify, kept, out);
    }

    fn write(&mut self, payload: Payload<'_>, kept: &mut Vec<u8>, out: &mut Sealed) -> bool {
        match self {
            Self::Server(stream) => {
                write(stream, |c, input| c.process_tls_records(input), payload, kept, out)
            }
            Self::Client(stream) => {
                write(stream, |c, input| c.process_tls_records(input), payload, kept, out)
            }
        }
    }
}

/// `process_tls_records` of either role.
type Process<C, D> = for<'c, 'i> fn(&'c mut C, &'i mut [u8]) -> UnbufferedStatus<'c, 'i, D>;

/// Shows rustls one record more at a time: by itself it would go through several before it says what they brought, and
/// plaintext could come before the end of the handshake was announced.
#[expect(
    clippy::indexing_slicing,
    reason = "rustls consumes no more than it is shown, and a record ends where the input does"
)]
fn open<C, D>(
    role: Role,
    stream: &mut Metered<C>,
    process: Process<C, D>,
    input: &mut [u8],
    out: &mut Sealed,
    sink: &mut dyn FnMut(Incoming<'_>),
) -> Result<Opened, rustls::Error>
where
    C: Deref<Target = UnbufferedConnectionCommon<D>>,
{
    let Metered { connection, credit, noted } = stream;
    let mut consumed = 0;
    let mut peer = PeerSide::Open;
    let mut record = Record::at(input, *noted, connection.is_handshaking());
    loop {
        let was_handshaking = connection.is_handshaking();
        if was_handshaking {
            expect_hello();
        }
        let UnbufferedStatus { mut discard, state } = process(connection, &mut input[consumed..record.end]);
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
                last_words(connection, process, &mut input[consumed + discard..record.end], out);
                return Err(error);
            }
        }
        consumed += discard;
        if let Some(name) = server_name {
            sink(Incoming::ServerName(name));
        }
        if was_handshaking && !connection.is_handshaking() {
            sink(Incoming::Secured(TlsSession::of(connection, role)));
        }
        if is_done {
            credit.settle(&record)?;
            if record.is_last || peer == PeerSide::Finished {
                *noted = record.whole_end().saturating_sub(consumed);
                return Ok(Opened { consumed, peer });
            }
            record = Record::at(input, record.end, connection.is_handshaking());
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

#[derive(Clone, Copy)]
enum Payload<'a> {
    Data(&'a [u8]),
    CloseNotify,
}

fn write<C, D>(
    stream: &mut Metered<C>,
    process: Process<C, D>,
    payload: Payload<'_>,
    kept: &mut Vec<u8>,
    out: &mut Sealed,
) -> bool {
    loop {
        let UnbufferedStatus { discard, state } = process(&mut stream.connection, kept);
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
        stream.noted = stream.noted.saturating_sub(discard);
        if let Some(written) = written {
            return written;
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
