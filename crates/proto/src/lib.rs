//! RFC 6455 for both roles, without input or output.
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod close;
pub mod decoder;
pub mod encoder;
pub mod error;
pub mod frame;
pub mod handshake;
pub mod mask;
pub mod message;
pub mod role;
pub mod utf8;

pub use close::{CloseCode, CloseFrame, CloseState};
pub use decoder::{Decoder, DecoderConfig, Step};
pub use error::{ControlTooLong, ProtocolError};
pub use frame::{Control, Data, EncodedHeader, FrameHeader, MaskKey, OpCode, Reserved};
pub use message::Message;
pub use role::Role;
pub use utf8::Utf8Validator;
