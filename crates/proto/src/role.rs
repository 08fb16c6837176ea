//! The two ends of a connection.

/// Which end of the connection this is. A client masks what it sends and a server does not (RFC 6455 §5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// This end accepted the connection: frames that arrive must be masked.
    Server,
    /// This end opened the connection: frames that arrive must not be masked.
    Client,
}
