//! RFC 6455 and RFC 7692 for both roles, without input or output: bytes in, messages out, and back.
//!
//! Nothing here reads a socket or a clock, starts a thread or draws a random number. The caller brings the
//! bytes that arrived and the buffers to write to; a connection owns memory only for what is not whole yet.
//!
//! - [`handshake`] upgrades from HTTP/1.1;
//! - [`Decoder`] makes messages of the bytes that follow, [`encoder`] makes frames;
//! - [`deflate`] negotiates permessage-deflate and compresses whole messages.
//!
//! ```
//! use webscale_proto::handshake::{HeadLimits, accept, head_end, parse_request};
//! use webscale_proto::{Decoder, DecoderConfig, Role, Step, encoder};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // What a client sent: a request, a masked "Hello" and a masked close frame.
//! let input = b"GET /chat HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
//!     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n\
//!     \x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x88\x80\x01\x02\x03\x04";
//! let mut output = Vec::new();
//!
//! let end = head_end(input, 0).ok_or("more bytes are needed")?;
//! let request = parse_request(&input[..end], &HeadLimits::default())?;
//! accept(&mut output, &request, None, None, &[])?;
//! let head_len = output.len();
//!
//! let config = DecoderConfig::new(Role::Server);
//! let mut scratch = Vec::new(); // one for all connections of a thread
//! let mut decoder = Decoder::new();
//! let mut rest = &input[end..];
//! loop {
//!     let (used, step) = decoder.decode(&config, rest, &mut scratch)?;
//!     rest = &rest[used..];
//!     match step {
//!         Step::NeedMore => break,
//!         Step::Message(message) => encoder::message(&mut output, message, None),
//!         Step::Ping(payload) => encoder::pong(&mut output, payload, None)?,
//!         Step::Close(frame) => {
//!             encoder::close(&mut output, frame.map(|frame| frame.code), "", None);
//!             break;
//!         }
//!         Step::Fragment | Step::Pong(_) => {}
//!         // Only where they were asked for.
//!         Step::Chunk(_) | Step::Extended { .. } | Step::ExtendedPart { .. } => {}
//!     }
//! }
//! assert_eq!(output[head_len..], *b"\x81\x05Hello\x88\x00");
//! # Ok(())
//! # }
//! ```

// What a peer sends must not reach a panic: each exception says why it is none.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod close;
pub mod decoder;
pub mod deflate;
pub mod encoder;
pub mod error;
pub mod frame;
pub mod handshake;
pub mod mask;
pub mod message;
pub mod proxy;
pub mod role;
pub mod utf8;

pub use close::{CloseCode, CloseFrame};
pub use decoder::{Decoder, DecoderConfig, Step};
pub use deflate::{Agreed, Deflate, Deflater, Inflater};
pub use error::{ControlTooLong, ProtocolError};
pub use frame::{Control, Data, EncodedHeader, FrameHeader, MaskKey, OpCode, Reserved};
pub use message::{Chunk, Message};
pub use role::Role;
pub use utf8::{InvalidUtf8, Utf8Validator};
