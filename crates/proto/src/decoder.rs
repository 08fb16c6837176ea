//! Frames into messages (RFC 6455 §5, §6.2).
//!
//! ```text
//!             header cut          header whole, payload cut
//!          .------------> Header ----------------------------> Payload --.
//!          |               |  ^                                 |  ^     | more bytes
//!          '---------------'  |    payload whole: a Step        |  '-----'
//!                             '---------------------------------'
//!   a close frame ----> Closed: what follows is ignored
//!   any fault --------> Failed: every later call gives the same error
//! ```

use crate::close::CloseFrame;
use crate::error::ProtocolError;
use crate::frame::{
    Control, Data, EncodedHeader as HeaderBytes, First, FrameHeader, MaskKey, OpCode, Reserved, Second,
};
use crate::mask;
use crate::message::Message;
use crate::role::Role;
use crate::utf8::Utf8Validator;

/// What a server or client demands of all its connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecoderConfig {
    /// Which end this is: a server takes masked frames only, a client unmasked ones only (§5.1).
    pub role: Role,
    /// Longest message in bytes, over all its fragments. Default 1 MiB. Of one that an extension has marked, an
    /// eighth and 64 bytes more may come: what DEFLATE cannot shorten it makes that much longer at most. How
    /// long it may be once decoded is for the extension to see to.
    pub max_message: usize,
    /// Reserved bits that a negotiated extension has claimed. Default none.
    pub reserved: Reserved,
}

impl DecoderConfig {
    /// Default of [`max_message`](Self::max_message), in bytes.
    pub const MAX_MESSAGE: usize = 1 << 20;

    /// The defaults for one end.
    pub const fn new(role: Role) -> Self {
        Self { role, max_message: Self::MAX_MESSAGE, reserved: Reserved::NONE }
    }
}

/// What a call of [`Decoder::decode`] made. Borrows until the next call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step<'a> {
    /// All input is used, and nothing is finished.
    NeedMore,
    /// A data frame ended, its message goes on.
    Fragment,
    /// A message.
    Message(Message<'a>),
    /// A message that an extension has marked with a reserved bit: its payload is for the extension to decode
    /// and has not been checked. Comes only where [`DecoderConfig::reserved`] claims a bit.
    Extended {
        /// Whether it was sent as text, so that it must be UTF-8 once decoded.
        text: bool,
        /// The bits on the first frame.
        reserved: Reserved,
        /// The payload of all fragments, unmasked.
        payload: &'a [u8],
    },
    /// A ping: a pong with the same payload is owed (§5.5.2).
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// The peer's close frame. Input behind it is ignored.
    Close(Option<CloseFrame<'a>>),
}

/// Decodes what one peer sends. Owns no heap between messages.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Unmasked payload of what is not whole: the message's in `..message_len`, then the frame's under way.
    /// What stands behind `message_len` outside of a frame has been delivered.
    gathered: Vec<u8>,
    message_len: usize,
    state: State,
    /// The message whose first frame has begun and whose last has not ended.
    message: Option<Begun>,
}

const _: () = assert!(size_of::<Decoder>() <= 64);

#[derive(Clone, Copy, Debug)]
enum State {
    /// Between frames, with the first bytes of a header that is not whole.
    Header(HeaderBytes),
    /// Inside a frame whose payload is not whole.
    Payload(Frame),
    /// A close frame came.
    Closed,
    Failed(ProtocolError),
}

impl State {
    const BETWEEN_FRAMES: Self = Self::Header(HeaderBytes::EMPTY);
}

impl Default for State {
    fn default() -> Self {
        Self::BETWEEN_FRAMES
    }
}

/// A frame under way.
#[derive(Clone, Copy, Debug)]
struct Frame {
    /// Payload bytes still to come.
    remaining: u64,
    /// Turned so that its first byte is for the next payload byte.
    mask: Option<MaskKey>,
    /// A continuation has the opcode of its message here.
    opcode: OpCode,
    fin: bool,
}

/// A message under way.
#[derive(Clone, Copy, Debug)]
struct Begun {
    opcode: Data,
    reserved: Reserved,
    utf8: Utf8Validator,
}

impl Decoder {
    /// A decoder at the start of a connection, behind the HTTP upgrade.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes from the front of `input`, at most one frame's, and gives how many it took and what they
    /// made. Call it again with the rest until it gives [`Step::NeedMore`].
    ///
    /// `scratch` may be shared by all connections of a thread: what is whole in `input` is unmasked there, in
    /// place of what was there before. It keeps its capacity. What is not whole is gathered in the decoder's own memory,
    /// which grows only with bytes that arrived and is given back by the first call after its delivery, also
    /// with empty input.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol or a limit. Every later call gives the same error.
    pub fn decode<'d>(
        &'d mut self,
        config: &DecoderConfig,
        input: &[u8],
        scratch: &'d mut Vec<u8>,
    ) -> Result<(usize, Step<'d>), ProtocolError> {
        self.release();
        match self.state {
            State::Header(held) => self.begin_frame(config, held, input, scratch),
            State::Payload(frame) => self.gather(frame, input, 0),
            State::Closed => Ok((input.len(), Step::NeedMore)),
            State::Failed(error) => Err(error),
        }
    }

    /// Whether a frame or a fragmented message has begun and is not finished.
    pub fn is_mid_message(&self) -> bool {
        match self.state {
            State::Header(held) => !held.is_empty() || self.message.is_some(),
            State::Payload(_) => true,
            State::Closed | State::Failed(_) => false,
        }
    }

    /// Heap bytes held.
    pub fn buffered(&self) -> usize {
        self.gathered.capacity()
    }

    /// Gives back the memory of what has been delivered; keeps what is not finished.
    pub fn release(&mut self) {
        match self.state {
            State::Payload(_) => {}
            State::Header(_) if self.message.is_some() => self.gathered.truncate(self.message_len),
            _ if self.gathered.capacity() > 0 => self.gathered = Vec::new(),
            _ => {}
        }
    }

    fn begin_frame<'d>(
        &'d mut self,
        config: &DecoderConfig,
        held: HeaderBytes,
        input: &[u8],
        scratch: &'d mut Vec<u8>,
    ) -> Result<(usize, Step<'d>), ProtocolError> {
        let (header, used) = match self.header(config, held, input) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return Ok((input.len(), Step::NeedMore)),
            Err(error) => return Err(self.fail(error)),
        };
        self.state = State::BETWEEN_FRAMES;
        let alone = header.opcode.is_control() || (header.fin && self.message.is_none());
        if alone && let Some(payload) = whole(&input[used..], header.len) {
            unmask_into(scratch, payload, header.mask);
            let step = interpret(header.opcode, header.reserved, scratch);
            self.state = state_after(&step);
            return Ok((used + payload.len(), step?));
        }
        let frame = self.enter(&header);
        self.gather(frame, input, used)
    }

    /// The next header, checked, and the bytes of `input` that it took. Keeps the bytes if it is not whole.
    fn header(
        &mut self,
        config: &DecoderConfig,
        mut held: HeaderBytes,
        input: &[u8],
    ) -> Result<Option<(FrameHeader, usize)>, ProtocolError> {
        let before = held.len();
        let parsed = if before == 0 {
            self.parse_header(config, input)?
        } else {
            held.push(&input[..input.len().min(FrameHeader::MAX_LEN - before)]);
            self.parse_header(config, &held)?
        };
        if parsed.is_none() {
            if before == 0 {
                held.push(input);
            }
            self.state = State::Header(held);
        }
        Ok(parsed.map(|(header, used)| (header, used - before)))
    }

    /// Checks each byte as soon as it is there, in order, so that the same fault is found wherever the input
    /// is cut.
    fn parse_header(
        &self,
        config: &DecoderConfig,
        input: &[u8],
    ) -> Result<Option<(FrameHeader, usize)>, ProtocolError> {
        let [first, rest @ ..] = input else { return Ok(None) };
        let first = First::parse(*first)?;
        self.check_first(config, first)?;
        let [second, ..] = rest else { return Ok(None) };
        let second = Second::parse(*second, first.opcode)?;
        check_mask(config.role, second.masked)?;
        let parsed = FrameHeader::parse_rest(first, second, input)?;
        if let Some((header, _)) = &parsed {
            self.check_len(config, header)?;
        }
        Ok(parsed)
    }

    fn check_first(&self, config: &DecoderConfig, first: First) -> Result<(), ProtocolError> {
        let begins_message = matches!(first.opcode, OpCode::Data(Data::Text | Data::Binary));
        // Extensions work on messages: their bits stand on the first frame (RFC 7692 §6.1).
        let claimed = if begins_message { config.reserved } else { Reserved::NONE };
        if !first.reserved.is_within(claimed) {
            return Err(ProtocolError::ReservedBits);
        }
        match first.opcode {
            OpCode::Data(Data::Continuation) if self.message.is_none() => {
                Err(ProtocolError::UnexpectedContinuation)
            }
            OpCode::Data(Data::Text | Data::Binary) if self.message.is_some() => {
                Err(ProtocolError::ExpectedContinuation)
            }
            _ => Ok(()),
        }
    }

    fn check_len(&self, config: &DecoderConfig, header: &FrameHeader) -> Result<(), ProtocolError> {
        let total = header.len.saturating_add(self.message_len as u64);
        let reserved = self.message.map_or(header.reserved, |begun| begun.reserved);
        let max = config.max_message as u64;
        let max = if reserved.is_none() { max } else { max.saturating_add(max / 8 + 64) };
        if !header.opcode.is_control() && total > max {
            return Err(ProtocolError::MessageTooBig);
        }
        Ok(())
    }

    /// Begins to gather a frame.
    fn enter(&mut self, header: &FrameHeader) -> Frame {
        let mut opcode = header.opcode;
        if let OpCode::Data(data) = opcode {
            let begun = self.message.get_or_insert(Begun {
                opcode: data,
                reserved: header.reserved,
                utf8: Utf8Validator::new(),
            });
            opcode = OpCode::Data(begun.opcode);
        }
        Frame { remaining: header.len, mask: header.mask, opcode, fin: header.fin }
    }

    /// Takes payload of a frame that is gathered, from `input[used..]`.
    fn gather<'d>(
        &'d mut self,
        mut frame: Frame,
        input: &[u8],
        used: usize,
    ) -> Result<(usize, Step<'d>), ProtocolError> {
        let arrived = &input[used..];
        let payload = whole(arrived, frame.remaining).unwrap_or(arrived);
        let used = used + payload.len();
        if let Err(error) = self.append(&mut frame, payload) {
            return Err(self.fail(error));
        }
        if frame.remaining > 0 {
            self.state = State::Payload(frame);
            return Ok((used, Step::NeedMore));
        }
        self.end_frame(frame).map(|step| (used, step))
    }

    fn append(&mut self, frame: &mut Frame, payload: &[u8]) -> Result<(), ProtocolError> {
        let start = self.gathered.len();
        match &mut frame.mask {
            Some(key) => {
                mask::extend(&mut self.gathered, payload, *key);
                *key = mask::rotated(*key, payload.len());
            }
            None => self.gathered.extend_from_slice(payload),
        }
        let arrived = &self.gathered[start..];
        frame.remaining -= payload.len() as u64;
        match &mut self.message {
            Some(begun) if frame.opcode == OpCode::Data(Data::Text) && begun.reserved.is_none() => {
                begun.utf8.push(arrived).map_err(|_| ProtocolError::InvalidUtf8)
            }
            _ => Ok(()),
        }
    }

    fn end_frame(&mut self, frame: Frame) -> Result<Step<'_>, ProtocolError> {
        self.state = State::BETWEEN_FRAMES;
        let (start, reserved) = match frame.opcode {
            OpCode::Control(_) => (self.message_len, Reserved::NONE),
            OpCode::Data(_) if !frame.fin => {
                self.message_len = self.gathered.len();
                return Ok(Step::Fragment);
            }
            OpCode::Data(_) => {
                self.message_len = 0;
                (0, self.message.take().map_or(Reserved::NONE, |begun| begun.reserved))
            }
        };
        let step = interpret(frame.opcode, reserved, &self.gathered[start..]);
        self.state = state_after(&step);
        step
    }

    /// Latches an error and gives back all memory.
    fn fail(&mut self, error: ProtocolError) -> ProtocolError {
        *self = Self { state: State::Failed(error), ..Self::default() };
        error
    }
}

fn check_mask(role: Role, masked: bool) -> Result<(), ProtocolError> {
    match (role, masked) {
        (Role::Server, false) => Err(ProtocolError::Unmasked),
        (Role::Client, true) => Err(ProtocolError::Masked),
        _ => Ok(()),
    }
}

/// The first `len` bytes of `input`, if they are there.
fn whole(input: &[u8], len: u64) -> Option<&[u8]> {
    input.get(..usize::try_from(len).ok()?)
}

fn unmask_into(scratch: &mut Vec<u8>, payload: &[u8], key: Option<MaskKey>) {
    match key {
        Some(key) => mask::copy(scratch, payload, key),
        None => {
            scratch.clear();
            scratch.extend_from_slice(payload);
        }
    }
}

/// What the whole payload of a message or control frame means.
fn interpret(opcode: OpCode, reserved: Reserved, payload: &[u8]) -> Result<Step<'_>, ProtocolError> {
    Ok(match opcode {
        OpCode::Control(Control::Ping) => Step::Ping(payload),
        OpCode::Control(Control::Pong) => Step::Pong(payload),
        OpCode::Control(Control::Close) => Step::Close(CloseFrame::parse(payload)?),
        OpCode::Data(data) if !reserved.is_none() => {
            Step::Extended { text: data == Data::Text, reserved, payload }
        }
        OpCode::Data(Data::Text) => {
            // Gathered text was checked as it arrived, but only a second look makes a `str` of it without
            // unsafe.
            let text = simdutf8::basic::from_utf8(payload).map_err(|_| ProtocolError::InvalidUtf8)?;
            Step::Message(Message::Text(text))
        }
        OpCode::Data(_) => Step::Message(Message::Binary(payload)),
    })
}

fn state_after(step: &Result<Step<'_>, ProtocolError>) -> State {
    match step {
        Err(error) => State::Failed(*error),
        Ok(Step::Close(_)) => State::Closed,
        Ok(_) => State::BETWEEN_FRAMES,
    }
}
