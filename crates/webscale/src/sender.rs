//! Sending to a connection from another thread.

use std::fmt;
use std::sync::Arc;

use webscale_proto::{CloseCode, Message};

use crate::mailbox::{Mailbox, Refused};
use crate::peer::{ConnectionId, SendError};
use crate::prepared::Prepared;

/// A message that owns its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum OwnedMessage {
    Text(Box<str>),
    Binary(Box<[u8]>),
}

impl OwnedMessage {
    pub(crate) fn borrowed(&self) -> Message<'_> {
        match self {
            Self::Text(text) => Message::Text(text),
            Self::Binary(bytes) => Message::Binary(bytes),
        }
    }
}

impl From<Message<'_>> for OwnedMessage {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.into()),
            Message::Binary(bytes) => Self::Binary(bytes.into()),
        }
    }
}

/// What goes to a connection from another thread.
#[derive(Debug)]
pub(crate) enum Parcel {
    Message(OwnedMessage),
    Prepared(Prepared),
}

impl Parcel {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Message(message) => message.borrowed().len(),
            Self::Prepared(prepared) => prepared.message().len(),
        }
    }

    /// What it counts for while it waits in its connection.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.len() + size_of::<Self>()
    }
}

/// What other threads ask of a loop.
#[derive(Debug)]
pub(crate) enum Command {
    Send(ConnectionId, Parcel),
    Close(ConnectionId, CloseCode, String),
    /// Close every connection with 1001, then end.
    Shutdown,
    /// End now.
    Abort,
}

/// Sends to one connection from any thread. Cheap to clone; it holds nothing of the connection, and outlives it.
#[derive(Clone)]
pub struct Sender {
    commands: Arc<Mailbox<Command>>,
    id: ConnectionId,
}

impl Sender {
    pub(crate) fn new(commands: Arc<Mailbox<Command>>, id: ConnectionId) -> Self {
        Self { commands, id }
    }

    /// Queues `message` for the connection's loop. `Ok` says that it was queued: a connection that is gone by then
    /// drops it, one that does not read falls under [`SlowConsumer`](crate::SlowConsumer), and a message longer
    /// than [`Limits::egress_bytes`](crate::Limits::egress_bytes) is dropped and counted. While the handler has a message
    /// in fragments unfinished ([`Peer::send_fragment`](crate::Peer::send_fragment)), this one waits behind it.
    ///
    /// # Errors
    /// [`SendError::Full`] when the loop has [`Limits::mailbox_items`](crate::Limits::mailbox_items) or
    /// [`Limits::mailbox_bytes`](crate::Limits::mailbox_bytes) to do; [`SendError::Closed`] when it has ended.
    pub fn send(&self, message: Message<'_>) -> Result<(), SendError> {
        self.push(Command::Send(self.id, Parcel::Message(message.into())), message.len())
    }

    /// The same of a message for many: nothing is copied or compressed for this connection alone. Of
    /// [`Limits::mailbox_bytes`](crate::Limits::mailbox_bytes) it takes its share among those that hold it.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub fn send_prepared(&self, prepared: &Prepared) -> Result<(), SendError> {
        let prepared = prepared.clone();
        let share = prepared.share();
        self.push(Command::Send(self.id, Parcel::Prepared(prepared)), share)
    }

    /// Closes the connection, as [`Peer::close`](crate::Peer::close) does, behind what was queued before.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub fn close(&self, code: CloseCode, reason: &str) -> Result<(), SendError> {
        self.push(Command::Close(self.id, code, reason.to_owned()), reason.len())
    }

    /// The connection that this sends to.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    fn push(&self, command: Command, bytes: usize) -> Result<(), SendError> {
        self.commands.push(command, bytes).map_err(|refused| match refused {
            Refused::Full(_) => SendError::Full,
            Refused::Closed(_) => SendError::Closed,
        })
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender({})", self.id)
    }
}
