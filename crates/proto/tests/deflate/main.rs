//! permessage-deflate from outside (RFC 7692).

mod codec;
mod messages;
mod negotiation;
mod pieces;
