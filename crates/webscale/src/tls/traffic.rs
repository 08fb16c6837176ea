//! TLS 1.3 once its handshake is over (RFC 8446 §4.6, §5, §6).
//!
//! What rustls holds for a handshake is given up then, and a connection is left with two keys and what the next ones are
//! made of. rustls still makes those, and keeps the tickets.

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{
    AlertDescription, ContentType, Error, ExtractedSecrets, HandshakeType, InvalidMessage, PeerMisbehaved,
};

use super::record::{Credit, RECORD_PLAINTEXT, Record};
use super::stream::{Incoming, Opened, PeerSide};
use super::traffic_key::TrafficKey;
use crate::egress::Sealed;

/// The longest message of the handshake protocol that is taken, in bytes: a ticket.
const MESSAGE_MAX: usize = 0xffff;
/// A whole KeyUpdate that asks for none in return (RFC 8446 §4.6.3).
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
// RFC 8446 §6.
const WARNING: u8 = 1;
const FATAL: u8 = 2;

pub(crate) struct Traffic {
    secrets: Secrets,
    ours: TrafficKey,
    theirs: TrafficKey,
    /// Records that one of our keys may protect (RFC 8446 §5.5).
    records_max: u64,
    credit: Credit,
    /// A message of the handshake protocol that has begun.
    begun: Vec<u8>,
    /// The peer asked for a new key of ours.
    owes_key_update: bool,
    /// Our close_notify or a fatal alert went out: nothing may follow it.
    is_closed: bool,
    peer: PeerSide,
}

/// What rustls keeps for later.
pub(super) enum Secrets {
    Server(KernelConnection<ServerConnectionData>),
    Client(KernelConnection<ClientConnectionData>),
}

impl Secrets {
    fn records_max(&self) -> u64 {
        let suite = match self {
            Self::Server(kernel) => kernel.negotiated_cipher_suite(),
            Self::Client(kernel) => kernel.negotiated_cipher_suite(),
        };
        suite.tls13().map_or(0, |suite| suite.common.confidentiality_limit)
    }

    fn next_of_ours(&mut self) -> Result<TrafficKey, Error> {
        TrafficKey::new(match self {
            Self::Server(kernel) => kernel.update_tx_secret()?,
            Self::Client(kernel) => kernel.update_tx_secret()?,
        })
    }

    fn next_of_theirs(&mut self) -> Result<TrafficKey, Error> {
        TrafficKey::new(match self {
            Self::Server(kernel) => kernel.update_rx_secret()?,
            Self::Client(kernel) => kernel.update_rx_secret()?,
        })
    }
}

impl Traffic {
    pub(super) fn new(keys: ExtractedSecrets, secrets: Secrets, credit: Credit) -> Result<Self, Error> {
        Ok(Self {
            ours: TrafficKey::new(keys.tx)?,
            theirs: TrafficKey::new(keys.rx)?,
            records_max: secrets.records_max(),
            secrets,
            credit,
            begun: Vec::new(),
            owes_key_update: false,
            is_closed: false,
            peer: PeerSide::Open,
        })
    }

    /// A message of the handshake protocol is not whole.
    pub(super) fn is_mid_message(&self) -> bool {
        !self.begun.is_empty()
    }

    pub(super) fn buffered(&self) -> usize {
        self.begun.capacity()
    }

    /// As [`TlsStream::open_records`](super::TlsStream::open_records).
    pub(super) fn open_records(
        &mut self,
        input: &mut [u8],
        out: &mut Sealed,
        sink: &mut dyn FnMut(Incoming<'_>),
    ) -> Result<Opened, Error> {
        let mut consumed = 0;
        while self.peer == PeerSide::Open {
            let record = Record::at(input, consumed, false);
            match self.open_record(record, input, sink) {
                Ok(Some(end)) => consumed = end,
                Ok(None) => return Ok(Opened { consumed, peer: PeerSide::Open }),
                Err(error) => {
                    if let Some(description) = answer_to(&error) {
                        self.seal_alert(FATAL, description, out);
                    }
                    return Err(error);
                }
            }
        }
        // What comes behind close_notify is ignored (RFC 8446 §6.1).
        Ok(Opened { consumed: input.len(), peer: PeerSide::Finished })
    }

    /// Gives where the record ended; `None` where it has not come whole.
    fn open_record(
        &mut self,
        mut record: Record,
        input: &mut [u8],
        sink: &mut dyn FnMut(Incoming<'_>),
    ) -> Result<Option<usize>, Error> {
        if record.is_oversized {
            return Err(Error::PeerSentOversizedRecord);
        }
        let Some(bytes) = record.whole_in(input) else { return Ok(None) };
        // Nothing is unprotected any more.
        if bytes.first() != Some(&u8::from(ContentType::ApplicationData)) {
            return Err(unexpected(ContentType::from(bytes.first().copied().unwrap_or(0))));
        }
        let (kind, content) = self.theirs.open(bytes)?;
        if self.is_mid_message() && kind != ContentType::Handshake {
            return Err(PeerMisbehaved::MessageInterleavedWithHandshakeMessage.into());
        }
        match kind {
            ContentType::ApplicationData if content.is_empty() => {}
            ContentType::ApplicationData => {
                record.brings(content.len());
                sink(Incoming::Plaintext(content));
            }
            ContentType::Handshake => self.take_handshake(content)?,
            ContentType::Alert => self.peer = take_alert(content)?,
            kind => return Err(unexpected(kind)),
        }
        self.credit.settle(&record)?;
        Ok(Some(record.end))
    }

    fn take_handshake(&mut self, content: &[u8]) -> Result<(), Error> {
        let mut bytes = std::mem::take(&mut self.begun);
        bytes.extend_from_slice(content);
        let taken = self.take_messages(&bytes)?;
        bytes.drain(..taken);
        if !bytes.is_empty() {
            self.begun = bytes;
        }
        Ok(())
    }

    /// Takes the whole messages at the front of `bytes`. Says how many bytes they are.
    fn take_messages(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let mut rest = bytes;
        while let Some((&[kind, high, middle, low], behind)) = rest.split_first_chunk() {
            let length = usize::try_from(u32::from_be_bytes([0, high, middle, low])).unwrap_or(usize::MAX);
            let kind = HandshakeType::from(kind);
            // Known to be wrong before it is whole.
            match (kind, &self.secrets) {
                (HandshakeType::KeyUpdate, _) if length == 1 => {}
                (HandshakeType::KeyUpdate, _) => return Err(InvalidMessage::InvalidKeyUpdate.into()),
                (HandshakeType::NewSessionTicket, Secrets::Client(_)) if length <= MESSAGE_MAX => {}
                (HandshakeType::NewSessionTicket, Secrets::Client(_)) => {
                    return Err(InvalidMessage::HandshakePayloadTooLarge.into());
                }
                _ => return Err(unexpected_message(kind)),
            }
            let Some((body, behind)) = behind.split_at_checked(length) else { break };
            rest = behind;
            if kind == HandshakeType::KeyUpdate {
                self.take_key_update(body, rest.is_empty())?;
            } else if let Secrets::Client(kernel) = &mut self.secrets {
                kernel.handle_new_session_ticket(body)?;
            }
        }
        Ok(bytes.len() - rest.len())
    }

    fn take_key_update(&mut self, request: &[u8], is_last: bool) -> Result<(), Error> {
        // What follows in its record would have two keys (RFC 8446 §5.1).
        if !is_last {
            return Err(PeerMisbehaved::KeyEpochWithPendingFragment.into());
        }
        match request {
            [0] => {}
            [1] => self.owes_key_update = true,
            _ => return Err(InvalidMessage::InvalidKeyUpdate.into()),
        }
        self.theirs = self.secrets.next_of_theirs()?;
        Ok(())
    }

    /// As [`TlsStream::seal`](super::TlsStream::seal).
    pub(super) fn seal(&mut self, plaintext: &[u8], out: &mut Sealed) -> bool {
        !self.is_closed
            && plaintext.chunks(RECORD_PLAINTEXT).all(|content| self.seal_record(content, out).is_ok())
    }

    fn seal_record(&mut self, content: &[u8], out: &mut Sealed) -> Result<(), Error> {
        // The KeyUpdate is a record too.
        if self.owes_key_update || self.ours.records() + 1 >= self.records_max {
            self.ours.seal(ContentType::Handshake, &KEY_UPDATE, out)?;
            self.ours = self.secrets.next_of_ours()?;
            self.owes_key_update = false;
        }
        self.ours.seal(ContentType::ApplicationData, content, out)
    }

    /// As [`TlsStream::seal_close`](super::TlsStream::seal_close).
    pub(super) fn seal_close(&mut self, out: &mut Sealed) {
        self.seal_alert(WARNING, AlertDescription::CloseNotify, out);
    }

    fn seal_alert(&mut self, level: u8, description: AlertDescription, out: &mut Sealed) {
        if !std::mem::replace(&mut self.is_closed, true) {
            // The connection ends here, with or without it.
            let _ = self.ours.seal(ContentType::Alert, &[level, u8::from(description)], out);
        }
    }
}

/// The level says nothing in TLS 1.3 (RFC 8446 §6).
fn take_alert(content: &[u8]) -> Result<PeerSide, Error> {
    let &[_, description] = content else { return Err(InvalidMessage::TrailingData("Alert").into()) };
    match AlertDescription::from(description) {
        AlertDescription::CloseNotify => Ok(PeerSide::Finished),
        // Its close_notify follows (RFC 8446 §6.1).
        AlertDescription::UserCanceled => Ok(PeerSide::Open),
        description => Err(Error::AlertReceived(description)),
    }
}

fn unexpected(got_type: ContentType) -> Error {
    let expect_types = vec![ContentType::ApplicationData, ContentType::Handshake, ContentType::Alert];
    Error::InappropriateMessage { expect_types, got_type }
}

fn unexpected_message(got_type: HandshakeType) -> Error {
    let expect_types = vec![HandshakeType::NewSessionTicket, HandshakeType::KeyUpdate];
    Error::InappropriateHandshakeMessage { expect_types, got_type }
}

/// The alert that tells the peer of its fault (RFC 8446 §6.2).
fn answer_to(error: &Error) -> Option<AlertDescription> {
    Some(match error {
        Error::DecryptError => AlertDescription::BadRecordMac,
        Error::PeerSentOversizedRecord => AlertDescription::RecordOverflow,
        Error::InvalidMessage(InvalidMessage::InvalidKeyUpdate) => AlertDescription::IllegalParameter,
        Error::InvalidMessage(_) => AlertDescription::DecodeError,
        Error::PeerMisbehaved(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. } => AlertDescription::UnexpectedMessage,
        // It has ended by itself.
        Error::AlertReceived(_) => return None,
        _ => AlertDescription::InternalError,
    })
}
