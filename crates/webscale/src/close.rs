//! How a connection ended.

use std::fmt;
use std::io;

use webscale_proto::handshake::client::ResponseError;
use webscale_proto::handshake::{InvalidHeader, UpgradeError};
use webscale_proto::{CloseCode, ProtocolError, proxy::ProxyError};

/// How a connection ended: what [`Handler::close`](crate::Handler::close) is told, exactly once.
#[derive(Debug)]
pub struct Close {
    /// The code that stood in the Close frame, or the one that RFC 6455 §7.4.1 reserves where there was none:
    /// 1005 without a code, 1006 without a frame, 1015 without TLS.
    pub code: CloseCode,
    /// The text beside the code; empty where there was none.
    pub reason: String,
    /// Who ended it and why.
    pub cause: CloseCause,
}

impl Close {
    pub(crate) fn new(code: CloseCode, reason: impl Into<String>, cause: CloseCause) -> Self {
        Self { code, reason: reason.into(), cause }
    }

    pub(crate) fn is_shutdown(&self) -> bool {
        matches!(self.cause, CloseCause::Shutdown)
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        if self.reason.is_empty() {
            write!(f, ", {}", self.code)
        } else {
            write!(f, ", {}: {}", self.code, self.reason)
        }
    }
}

/// Who ended a connection, and why.
#[derive(Debug)]
#[non_exhaustive]
pub enum CloseCause {
    /// The peer sent a Close frame first.
    Peer,
    /// Our handler, or a [`Sender`](crate::Sender), closed it.
    Local,
    /// We are shutting down.
    Shutdown,
    /// The peer broke the protocol.
    Protocol(ProtocolError),
    /// The handler panicked.
    Panic,
    /// This library, or what it stands on (TLS, compression), panicked: a fault that is worth a report. Where all else is in
    /// order the peer is told by 1011; elsewhere nothing of the connection is trusted any more, and it is dropped at once.
    Fault,
    /// More than [`Limits::held_bytes`](crate::Limits::held_bytes) was held, and for this connection more than its share.
    Overload,
    /// The peer did not read what was sent to it ([`Limits::egress_bytes`](crate::Limits::egress_bytes)).
    SlowConsumer,
    /// A time of [`Limits`](crate::Limits) ran out.
    Timeout(Timeout),
    /// The TCP connection ended without a Close frame.
    Lost(io::ErrorKind),
    /// TLS failed, in the handshake or later; the text is rustls' own.
    Tls(rustls::Error),
    /// The opening handshake failed.
    Upgrade(HandshakeError),
    /// It was no WebSocket, but a plain HTTP request, answered with this status. There was no session to tell.
    Http(u16),
    /// A proxy sent no header of the PROXY protocol, or a wrong one
    /// ([`ServerBuilder::proxy_protocol`](crate::ServerBuilder::proxy_protocol)).
    Proxy(ProxyError),
    /// The client that a proxy brought has all that one address may have. There was no session to tell.
    Refused,
    /// No TCP connection came about (client role).
    Connect(io::Error),
}

/// Which time ran out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timeout {
    /// TLS and HTTP handshake.
    Handshake,
    /// A message, from its first byte to its last.
    Message,
    /// No answer to a ping.
    Pong,
    /// No answer to our Close frame.
    Close,
    /// The peer's kernel acknowledged nothing for [`Limits::user_timeout`](crate::Limits::user_timeout) (ETIMEDOUT).
    Acknowledgement,
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Handshake => "the handshake took too long",
            Self::Message => "a message took too long",
            Self::Pong => "no answer to a ping",
            Self::Close => "no answer to the close frame",
            Self::Acknowledgement => "nothing that was sent is acknowledged",
        })
    }
}

impl fmt::Display for CloseCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer => f.write_str("closed by the peer"),
            Self::Local => f.write_str("closed by us"),
            Self::Shutdown => f.write_str("shutting down"),
            Self::Protocol(error) => write!(f, "protocol error: {error}"),
            Self::Panic => f.write_str("the handler panicked"),
            Self::Fault => f.write_str("a fault of the library"),
            Self::Overload => f.write_str("the server holds too much for its clients"),
            Self::SlowConsumer => f.write_str("the peer does not read"),
            Self::Timeout(which) => write!(f, "{which}"),
            Self::Lost(kind) => write!(f, "connection lost: {kind}"),
            Self::Tls(error) => write!(f, "TLS failed: {error}"),
            Self::Upgrade(error) => write!(f, "opening handshake failed: {error}"),
            Self::Http(status) => write!(f, "plain HTTP request, answered with status {status}"),
            Self::Proxy(error) => write!(f, "from a proxy: {error}"),
            Self::Refused => f.write_str("its address has all that one may have"),
            Self::Connect(error) => write!(f, "no connection: {error}"),
        }
    }
}

/// Why an opening handshake failed (RFC 6455 §4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The client's request opens no WebSocket.
    Request(UpgradeError),
    /// The client was turned away with this status.
    Rejected(u16),
    /// What the handler let the client in with ([`Accept`](crate::Accept)) cannot be sent: the client got status 500.
    Accept(InvalidHeader),
    /// What a [`Target`](crate::Target) asks for cannot be sent: nothing was.
    Target(InvalidHeader),
    /// The head of the server's answer is longer than [`Limits::head_bytes`](crate::Limits::head_bytes).
    HeadTooLong,
    /// The server's answer opens no WebSocket, as with [another status](ResponseError::Status) than 101.
    Response(ResponseError),
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(error) => error.fmt(f),
            Self::Rejected(status) => write!(f, "answered with status {status}"),
            Self::Accept(error) => write!(f, "the handler's answer is invalid: {error}"),
            Self::Target(error) => error.fmt(f),
            Self::HeadTooLong => f.write_str("the answer's head is too long"),
            Self::Response(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for HandshakeError {}

/// The causes as counters tell them apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CloseKind {
    Peer,
    Local,
    Shutdown,
    Protocol,
    Panic,
    Fault,
    Overload,
    SlowConsumer,
    Timeout,
    Lost,
    Tls,
    Upgrade,
    Http,
    Proxy,
    Refused,
    Connect,
}

impl CloseKind {
    pub(crate) const COUNT: usize = Self::Connect as usize + 1;
    pub(crate) const NAMES: [&'static str; Self::COUNT] = [
        "peer",
        "local",
        "shutdown",
        "protocol",
        "panic",
        "fault",
        "overload",
        "slow_consumer",
        "timeout",
        "lost",
        "tls",
        "upgrade",
        "http",
        "proxy",
        "refused",
        "connect",
    ];
}

impl CloseCause {
    /// The TCP connection failed with an error of this kind.
    pub(crate) fn lost(kind: io::ErrorKind) -> Self {
        match kind {
            io::ErrorKind::TimedOut => Self::Timeout(Timeout::Acknowledgement),
            _ => Self::Lost(kind),
        }
    }

    pub(crate) fn kind(&self) -> CloseKind {
        match self {
            Self::Peer => CloseKind::Peer,
            Self::Local => CloseKind::Local,
            Self::Shutdown => CloseKind::Shutdown,
            Self::Protocol(_) => CloseKind::Protocol,
            Self::Panic => CloseKind::Panic,
            Self::Fault => CloseKind::Fault,
            Self::Overload => CloseKind::Overload,
            Self::SlowConsumer => CloseKind::SlowConsumer,
            Self::Timeout(_) => CloseKind::Timeout,
            Self::Lost(_) => CloseKind::Lost,
            Self::Tls(_) => CloseKind::Tls,
            Self::Upgrade(_) => CloseKind::Upgrade,
            Self::Http(_) => CloseKind::Http,
            Self::Proxy(_) => CloseKind::Proxy,
            Self::Refused => CloseKind::Refused,
            Self::Connect(_) => CloseKind::Connect,
        }
    }
}
