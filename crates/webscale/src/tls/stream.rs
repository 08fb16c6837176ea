//! One connection's TLS, over slices: two state machines behind three calls.
//!
//! rustls runs the handshake. One that came to TLS 1.3 then gives its keys to [`Traffic`], which owns a third of what rustls
//! would hold on to; with TLS 1.2, rustls goes on.

use rustls::Error;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;

use webscale_proto::Role;

use super::session::TlsSession;
use super::traffic::{Secrets, Traffic};
use super::unbuffered::{Payload, Unbuffered};
use crate::egress::Sealed;

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

/// The state of one connection, on the heap: connections that are not TLS do not pay for it.
pub(crate) enum TlsStream {
    Server(Box<Unbuffered<UnbufferedServerConnection>>),
    Client(Box<Unbuffered<UnbufferedClientConnection>>),
    /// Of either role.
    Traffic(Box<Traffic>),
    /// No keys were to be had.
    Failed,
}

impl TlsStream {
    /// `gives_keys`: the configuration allows them to be taken from rustls.
    pub(super) fn server(connection: UnbufferedServerConnection, gives_keys: bool) -> Self {
        Self::Server(Unbuffered::new(connection, gives_keys))
    }

    pub(super) fn client(connection: UnbufferedClientConnection, gives_keys: bool) -> Self {
        Self::Client(Unbuffered::new(connection, gives_keys))
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        match self {
            Self::Server(stream) => stream.is_handshaking(),
            Self::Client(stream) => stream.is_handshaking(),
            Self::Traffic(_) | Self::Failed => false,
        }
    }

    /// A message of TLS itself has begun and not ended.
    pub(crate) fn is_mid_message(&self) -> bool {
        matches!(self, Self::Traffic(traffic) if traffic.is_mid_message())
    }

    /// Bytes of the peer that it keeps.
    pub(crate) fn buffered(&self) -> usize {
        match self {
            Self::Traffic(traffic) => traffic.buffered(),
            Self::Server(_) | Self::Client(_) | Self::Failed => 0,
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
    ) -> Result<Opened, Error> {
        let opened = match self {
            Self::Traffic(traffic) => return traffic.open_records(input, out, sink),
            Self::Failed => return Err(Error::General("TLS has failed before".into())),
            Self::Server(stream) => stream.open(
                Role::Server,
                |connection, input| connection.process_tls_records(input),
                input,
                out,
                sink,
            )?,
            Self::Client(stream) => stream.open(
                Role::Client,
                |connection, input| connection.process_tls_records(input),
                input,
                out,
                sink,
            )?,
        };
        let Some(behind) = input.get_mut(opened.consumed..).filter(|_| self.is_ready()) else {
            return Ok(opened);
        };
        self.hand_over()?;
        let Opened { consumed, peer } = self.open_records(behind, out, sink)?;
        Ok(Opened { consumed: opened.consumed + consumed, peer })
    }

    /// The handshake is over, and rustls is needed no more.
    fn is_ready(&self) -> bool {
        match self {
            Self::Server(stream) => stream.is_ready(),
            Self::Client(stream) => stream.is_ready(),
            Self::Traffic(_) | Self::Failed => false,
        }
    }

    fn hand_over(&mut self) -> Result<(), Error> {
        let traffic = match std::mem::replace(self, Self::Failed) {
            Self::Server(stream) => {
                let (connection, credit) = stream.into_parts();
                let (keys, kernel) = connection.dangerous_into_kernel_connection()?;
                Box::new(Traffic::new(keys, Secrets::Server(kernel), credit)?)
            }
            Self::Client(stream) => {
                let (connection, credit) = stream.into_parts();
                let (keys, kernel) = connection.dangerous_into_kernel_connection()?;
                Box::new(Traffic::new(keys, Secrets::Client(kernel), credit)?)
            }
            Self::Traffic(traffic) => traffic,
            Self::Failed => return Ok(()),
        };
        *self = Self::Traffic(traffic);
        Ok(())
    }

    /// Seals `plaintext` behind what is in `out`. `kept` is the incomplete record that [`TlsStream::open_records`] left:
    /// rustls remembers places in it. False: the stream cannot carry data (any more).
    pub(crate) fn seal(&mut self, plaintext: &[u8], kept: &mut Vec<u8>, out: &mut Sealed) -> bool {
        match self {
            Self::Traffic(traffic) => traffic.seal(plaintext, out),
            _ => self.write(Payload::Data(plaintext), kept, out),
        }
    }

    /// Tells the peer that nothing follows (RFC 8446 §6.1).
    pub(crate) fn seal_close(&mut self, kept: &mut Vec<u8>, out: &mut Sealed) {
        match self {
            Self::Traffic(traffic) => traffic.seal_close(out),
            _ => {
                self.write(Payload::CloseNotify, kept, out);
            }
        }
    }

    fn write(&mut self, payload: Payload<'_>, kept: &mut Vec<u8>, out: &mut Sealed) -> bool {
        match self {
            Self::Server(stream) => {
                stream.write(|connection, input| connection.process_tls_records(input), payload, kept, out)
            }
            Self::Client(stream) => {
                stream.write(|connection, input| connection.process_tls_records(input), payload, kept, out)
            }
            Self::Traffic(_) | Self::Failed => false,
        }
    }
}
