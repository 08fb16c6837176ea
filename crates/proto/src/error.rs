//! What a peer can do wrong.

use core::fmt;

use crate::close::CloseCode;

/// The peer broke RFC 6455, or a limit of ours. The connection cannot go on: send
/// [`close_code`](Self::close_code) and [`reason`](Self::reason) in a close frame and close.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProtocolError {
    /// A reserved bit that no extension has claimed for this kind of frame (§5.2).
    ReservedBits,
    /// Opcodes 3 to 7 and 11 to 15 are reserved (§5.2).
    UnknownOpCode,
    /// A control frame without FIN (§5.5).
    FragmentedControl,
    /// A control frame with more than 125 bytes (§5.5).
    ControlTooLong,
    /// A length in more bytes than it needs (§5.2).
    NonMinimalLength,
    /// A length with its most significant bit set (§5.2).
    LengthOverflow,
    /// A frame of a client without a mask (§5.1).
    Unmasked,
    /// A frame of a server with a mask (§5.1).
    Masked,
    /// A continuation frame, but no message is under way (§5.4).
    UnexpectedContinuation,
    /// A new message before the last fragment of the one under way (§5.4).
    ExpectedContinuation,
    /// The message is longer than [`DecoderConfig::max_message`](crate::DecoderConfig::max_message).
    MessageTooBig,
    /// A text message or a close reason that is not UTF-8 (§5.6, §8.1).
    InvalidUtf8,
    /// A compressed message that is not valid DEFLATE (RFC 7692 §7.2.2).
    InvalidDeflate,
    /// A close frame whose payload is a single byte: no room for a code (§5.5.1).
    TruncatedCloseCode,
    /// A close code that may not stand in a frame (§7.4).
    InvalidCloseCode,
}

impl ProtocolError {
    /// The code that tells the peer: 1002, 1007 or 1009 (§7.4.1).
    pub const fn close_code(&self) -> CloseCode {
        match self {
            Self::InvalidUtf8 | Self::InvalidDeflate => CloseCode::INVALID_PAYLOAD,
            Self::MessageTooBig => CloseCode::TOO_BIG,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }

    /// What was wrong, in at most 123 bytes: it fits a close frame.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved bit set without an extension that uses it",
            Self::UnknownOpCode => "unknown opcode",
            Self::FragmentedControl => "fragmented control frame",
            Self::ControlTooLong => "control frame longer than 125 bytes",
            Self::NonMinimalLength => "payload length not in its shortest form",
            Self::LengthOverflow => "payload length above 63 bits",
            Self::Unmasked => "unmasked frame from a client",
            Self::Masked => "masked frame from a server",
            Self::UnexpectedContinuation => "continuation frame without a message to continue",
            Self::ExpectedContinuation => "new message inside a fragmented message",
            Self::MessageTooBig => "message too big",
            Self::InvalidUtf8 => "text is not valid UTF-8",
            Self::InvalidDeflate => "compressed message is not valid DEFLATE",
            Self::TruncatedCloseCode => "close frame with a payload of one byte",
            Self::InvalidCloseCode => "close code that may not be sent",
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for ProtocolError {}

/// The payload of a control frame may have at most 125 bytes (RFC 6455 §5.5). Nothing was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ControlTooLong;

impl fmt::Display for ControlTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("control frame payload longer than 125 bytes")
    }
}

impl std::error::Error for ControlTooLong {}
