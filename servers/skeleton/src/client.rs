//! One connection: what a pool thread does with it, as far as its socket allows.

use std::{
    io::{self, Read, Write},
    mem,
    net::TcpStream,
    sync::Arc,
};

use rustls::{ServerConnection, StreamOwned};
use tungstenite::{
    Error, HandshakeError, Message, WebSocket,
    handshake::{
        MidHandshake,
        server::{NoCallback, ServerHandshake},
    },
    protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
};
use workload::{Mode, parse::parse_owned, report};

use crate::Server;

/// After that many the other clients have their turn.
pub(crate) const MESSAGES_PER_TURN: usize = 32;

/// A connection in its states.
pub(crate) enum Client {
    /// TLS and WebSocket handshake: rustls does its part inside the first reads and writes.
    Handshake(MidHandshake<ServerHandshake<Stream, NoCallback>>),
    Open(WebSocket<Stream>),
    Closed,
}

/// How a turn ended that was not the connection's last.
pub(crate) enum Turn {
    /// The socket would block.
    Blocked,
    /// There may be more to do.
    Unfinished,
}

impl Client {
    pub(crate) fn new(tcp: TcpStream, server: &Server) -> Result<Self, rustls::Error> {
        let socket = Socket { tcp, write_blocked: false };
        let stream = match &server.tls {
            None => Stream::Plain(socket),
            Some(config) => {
                let tls = ServerConnection::new(Arc::clone(config))?;
                Stream::Tls(Box::new(StreamOwned::new(tls, socket)))
            }
        };
        let bytes_max = Some(server.mode.message_bytes_max());
        let config = WebSocketConfig::default().max_message_size(bytes_max).max_frame_size(bytes_max);
        Ok(Self::Handshake(ServerHandshake::start(stream, NoCallback, Some(config))))
    }

    /// Goes on where the last turn stopped. An error is the end of the connection, also the regular one.
    pub(crate) fn turn(&mut self, server: &Server) -> Result<Turn, Error> {
        self.shake_hands(server)?;
        let Self::Open(socket) = self else { return Ok(Turn::Blocked) };
        for _ in 0..MESSAGES_PER_TURN {
            match exchange(socket, server) {
                Ok(()) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Turn::Blocked);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Turn::Unfinished)
    }

    fn shake_hands(&mut self, server: &Server) -> Result<(), Error> {
        match mem::replace(self, Self::Closed) {
            Self::Handshake(handshake) => match handshake.handshake() {
                Ok(socket) => {
                    server.counters.connection();
                    *self = Self::Open(socket);
                }
                Err(HandshakeError::Interrupted(handshake)) => *self = Self::Handshake(handshake),
                Err(HandshakeError::Failure(error)) => return Err(error),
            },
            other => *self = other,
        }
        Ok(())
    }

    pub(crate) fn socket(&self) -> Option<&Socket> {
        match self {
            Self::Handshake(handshake) => Some(handshake.get_ref().get_ref().socket()),
            Self::Open(socket) => Some(socket.get_ref().socket()),
            Self::Closed => None,
        }
    }

    /// Tells a TLS client that nothing was cut off, if the socket takes it.
    pub(crate) fn finish(&mut self) {
        if let Self::Open(socket) = self
            && let Stream::Tls(stream) = socket.get_mut()
        {
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    }
}

/// Receives one message and does what the server is for.
fn exchange(socket: &mut WebSocket<Stream>, server: &Server) -> Result<(), Error> {
    if socket.get_ref().socket().write_blocked() {
        socket.flush()?;
    }
    let message = socket.read()?;
    // In the closing handshake nobody looks at what the client still sends.
    if !socket.can_write() {
        return Ok(());
    }
    match (server.mode, message) {
        (Mode::Echo, message @ (Message::Text(_) | Message::Binary(_))) => {
            server.counters.message();
            socket.send(message)
        }
        (Mode::Ingest, Message::Text(text)) => match parse_owned(&text) {
            Ok(_) => {
                server.counters.message();
                Ok(())
            }
            Err(error) => refuse(socket, server, CloseCode::Invalid, error.reason()),
        },
        (Mode::Ingest, Message::Binary(_)) => {
            refuse(socket, server, CloseCode::Unsupported, report::BINARY_REFUSED)
        }
        // tungstenite has put the answer to a ping or a close into its buffer, and sends it with the next read.
        _ => Ok(()),
    }
}

fn refuse(
    socket: &mut WebSocket<Stream>,
    server: &Server,
    code: CloseCode,
    reason: &str,
) -> Result<(), Error> {
    server.counters.failed();
    socket.close(Some(CloseFrame { code, reason: reason.into() }))
}

pub(crate) enum Stream {
    Plain(Socket),
    Tls(Box<StreamOwned<ServerConnection, Socket>>),
}

impl Stream {
    fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// A socket that remembers on which side it got stuck: neither tungstenite nor rustls tells.
pub(crate) struct Socket {
    tcp: TcpStream,
    write_blocked: bool,
}

impl Socket {
    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Something is left to be written, and the socket did not take it.
    pub(crate) fn write_blocked(&self) -> bool {
        self.write_blocked
    }

    fn wrote(&mut self, outcome: io::Result<usize>) -> io::Result<usize> {
        self.write_blocked = outcome.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        outcome
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tcp.read(buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let outcome = self.tcp.write(bytes);
        self.wrote(outcome)
    }

    fn write_vectored(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let outcome = self.tcp.write_vectored(parts);
        self.wrote(outcome)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}
