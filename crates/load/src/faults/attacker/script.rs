//! What a hostile client does, move by move, and the bytes that it takes.

use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use webscale_proto::{Control, EncodedHeader, FrameHeader, MaskKey, OpCode, Reserved, mask};

/// Something that a hostile client does.
#[derive(Debug, Clone)]
pub(crate) enum Move {
    /// Sends bytes: through TLS where there is TLS, as a record of their own.
    Send(Vec<u8>),
    /// Sends bytes below TLS.
    SendBelow(Vec<u8>),
    /// Does nothing for so long.
    Rest(Duration),
    /// Waits until the server says something.
    Listen,
    /// Reads nothing from here on.
    StopReading,
    /// Has TLS change the keys of both directions (RFC 8446 §4.6.3).
    UpdateKeys,
    /// Ends its own direction of the TCP connection, and no other way (RFC 8446 §6.1 asks for a close_notify first).
    ShutDown,
    /// Goes, with a reset.
    Leave,
}

/// A client's moves. When there are no more, it waits for the server to end the connection.
pub(crate) type Script = Box<dyn Iterator<Item = Move>>;

/// A key that is none of the special ones; a server cannot see whether it is random.
pub(crate) const KEY: MaskKey = [0x37, 0xfa, 0x21, 0x3d];

/// The header of a client's frame.
pub(crate) fn header(opcode: OpCode, fin: bool, len: u64) -> EncodedHeader {
    FrameHeader { fin, reserved: Reserved::NONE, opcode, mask: Some(KEY), len }.encode()
}

/// A whole client's frame.
pub(crate) fn frame(opcode: OpCode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(opcode, fin, payload.len() as u64).to_vec();
    let begin = frame.len();
    frame.extend_from_slice(payload);
    mask::apply(&mut frame[begin..], KEY, 0);
    frame
}

/// A whole close frame of a client, with a code.
pub(crate) fn close(code: u16) -> Vec<u8> {
    frame(OpCode::Control(Control::Close), true, &code.to_be_bytes())
}

/// The same moves, of one who is counted in `come` when it begins with them.
pub(crate) fn counted(come: &Arc<AtomicU32>, moves: impl Iterator<Item = Move> + 'static) -> Script {
    let come = come.clone();
    let count = iter::once_with(move || {
        come.fetch_add(1, Ordering::Relaxed);
        None
    });
    Box::new(count.flatten().chain(moves))
}

/// Sends one byte after the other, with a rest before each but the first.
pub(crate) fn trickle(
    bytes: Vec<u8>,
    rest: Duration,
    send: fn(Vec<u8>) -> Move,
) -> impl Iterator<Item = Move> {
    bytes.into_iter().enumerate().flat_map(move |(index, byte)| {
        let rest = (index > 0).then_some(Move::Rest(rest));
        rest.into_iter().chain([send(vec![byte])])
    })
}
