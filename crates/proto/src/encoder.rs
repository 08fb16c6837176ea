//! Frames behind what a caller's buffer holds already.
//!
//! A client gives a fresh unpredictable key for each frame, a server gives `None` (RFC 6455 §5.3).

use crate::close::CloseCode;
use crate::error::ControlTooLong;
use crate::frame::{Control, Data, EncodedHeader, FrameHeader, MAX_CONTROL_LEN, MaskKey, OpCode, Reserved};
use crate::mask;
use crate::message::Message;

/// Longest reason in a close frame, in bytes: 125 less two of code.
const MAX_REASON_LEN: usize = MAX_CONTROL_LEN - 2;

/// Appends a whole message as one frame.
pub fn message(out: &mut Vec<u8>, message: Message<'_>, mask: Option<MaskKey>) {
    let opcode = if message.is_text() { Data::Text } else { Data::Binary };
    fragment(out, opcode, true, message.as_bytes(), mask);
}

/// Appends one frame of a message. The first has the message's opcode, the others are continuations, the last
/// has `fin` (§5.4). Text may be cut anywhere, also inside a character.
pub fn fragment(out: &mut Vec<u8>, opcode: Data, fin: bool, payload: &[u8], mask: Option<MaskKey>) {
    frame(out, fin, Reserved::NONE, OpCode::Data(opcode), &[payload], mask);
}

/// Appends a whole message as one frame with RSV1: `payload` was compressed by permessage-deflate (RFC 7692 §6).
pub fn compressed(out: &mut Vec<u8>, text: bool, payload: &[u8], mask: Option<MaskKey>) {
    let opcode = if text { Data::Text } else { Data::Binary };
    frame(out, true, Reserved::RSV1, OpCode::Data(opcode), &[payload], mask);
}

/// The header of an unfragmented frame, for a payload that the caller puts behind it (and masks, with a key).
pub fn header(opcode: OpCode, len: u64, mask: Option<MaskKey>) -> EncodedHeader {
    FrameHeader { fin: true, reserved: Reserved::NONE, opcode, mask, len }.encode()
}

/// Appends a ping.
///
/// # Errors
///
/// The payload has more than 125 bytes; nothing was written.
pub fn ping(out: &mut Vec<u8>, payload: &[u8], mask: Option<MaskKey>) -> Result<(), ControlTooLong> {
    control(out, Control::Ping, payload, mask)
}

/// Appends a pong.
///
/// # Errors
///
/// The payload has more than 125 bytes; nothing was written.
pub fn pong(out: &mut Vec<u8>, payload: &[u8], mask: Option<MaskKey>) -> Result<(), ControlTooLong> {
    control(out, Control::Pong, payload, mask)
}

/// Appends a close frame. The reason is cut between characters to fit 123 bytes. Without a code, or with one
/// that may not be sent ([`CloseCode::may_be_sent`]), the frame is empty.
pub fn close(out: &mut Vec<u8>, code: Option<CloseCode>, reason: &str, mask: Option<MaskKey>) {
    let opcode = OpCode::Control(Control::Close);
    match code.filter(|code| code.may_be_sent()) {
        Some(code) => {
            let reason = reason.get(..reason.floor_char_boundary(MAX_REASON_LEN)).unwrap_or_default();
            frame(out, true, Reserved::NONE, opcode, &[&code.get().to_be_bytes(), reason.as_bytes()], mask);
        }
        None => frame(out, true, Reserved::NONE, opcode, &[], mask),
    }
}

fn control(
    out: &mut Vec<u8>,
    control: Control,
    payload: &[u8],
    mask: Option<MaskKey>,
) -> Result<(), ControlTooLong> {
    if payload.len() > MAX_CONTROL_LEN {
        return Err(ControlTooLong);
    }
    frame(out, true, Reserved::NONE, OpCode::Control(control), &[payload], mask);
    Ok(())
}

fn frame(
    out: &mut Vec<u8>,
    fin: bool,
    reserved: Reserved,
    opcode: OpCode,
    payload: &[&[u8]],
    mask: Option<MaskKey>,
) {
    let len: usize = payload.iter().map(|part| part.len()).sum();
    let header = FrameHeader { fin, reserved, opcode, mask, len: len as u64 }.encode();
    out.reserve(header.len() + len);
    out.extend_from_slice(&header);
    let Some(mut key) = mask else {
        return payload.iter().for_each(|part| out.extend_from_slice(part));
    };
    for part in payload {
        mask::extend(out, part, key);
        key = mask::rotated(key, part.len());
    }
}
