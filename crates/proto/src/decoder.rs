//! Frames into messages (RFC 6455 §5, §6.2).
//!
//! ```text
//!             header cut          header whole, payload cut
//!          .------------> Header ----------------------------> Payload --.
//!          |               |  ^                                 |  ^     | more bytes
//!          '---------------'  |    payload whole: a Step        |  '-----'
//!                             '---------------------------------'
//!   a message too long to be gathered: each call gives a Step with what it took
//!   a close frame ----> Closed: what follows is ignored
//!   any fault --------> Failed: every later call gives the same error
//! ```

use crate::close::CloseFrame;
use crate::error::ProtocolError;
use crate::frame::{
    Control, Data, EncodedHeader as HeaderBytes, First, FrameHeader, MaskKey, OpCode, Reserved, Second,
};
use crate::mask;
use crate::message::{Chunk, Message};
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
    /// Longest message in bytes that comes in pieces ([`Step::Chunk`], [`Step::ExtendedPart`]) because it is longer
    /// than [`max_message`](Self::max_message). Default 0: none does. Where an extension has marked it, an eighth and
    /// 64 bytes more may come.
    pub max_streamed: u64,
    /// Reserved bits that a negotiated extension has claimed. Default none.
    pub reserved: Reserved,
}

impl DecoderConfig {
    /// Default of [`max_message`](Self::max_message), in bytes.
    pub const MAX_MESSAGE: usize = 1 << 20;

    /// The defaults for one end.
    pub const fn new(role: Role) -> Self {
        Self { role, max_message: Self::MAX_MESSAGE, max_streamed: 0, reserved: Reserved::NONE }
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
    /// A part of a message that is longer than [`DecoderConfig::max_message`]. Comes only with a
    /// [`DecoderConfig::max_streamed`].
    Chunk(Chunk<'a>),
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
    /// The same of a message that is too long to be gathered: what has come of it since the last part.
    ExtendedPart {
        /// As in [`Step::Extended`].
        text: bool,
        /// Some of the payload, unmasked. Only the last part may be empty.
        payload: &'a [u8],
        /// The message ends here.
        is_last: bool,
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
    /// Unmasked payload of what is not whole: the message's (unless it is streamed), then the frame's under way.
    /// What stands behind the message's outside of a frame has been delivered.
    gathered: Vec<u8>,
    /// Payload bytes in the message's frames that ended; of one that is streamed, all that came.
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

impl Frame {
    /// Appends what came of the payload, unmasked.
    fn take(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        match &mut self.mask {
            Some(key) => {
                mask::extend(out, payload, *key);
                *key = mask::rotated(*key, payload.len());
            }
            None => out.extend_from_slice(payload),
        }
        self.remaining -= payload.len() as u64;
    }
}

/// A message under way.
#[derive(Clone, Copy, Debug)]
struct Begun {
    opcode: Data,
    /// [`Reserved`] as in the frame's first byte: this struct is in every connection.
    reserved: u8,
    way: Way,
    utf8: Utf8Validator,
}

impl Begun {
    fn new(opcode: Data, reserved: Reserved) -> Self {
        Self { opcode, reserved: reserved.to_byte(), way: Way::Gathered, utf8: Utf8Validator::new() }
    }

    fn is_streamed(&self) -> bool {
        self.way != Way::Gathered
    }

    /// Its payload must be UTF-8 as it stands on the wire.
    fn is_text(&self) -> bool {
        self.opcode == Data::Text && self.reserved == 0
    }

    /// What `bytes`, the next part of a message that is streamed, are for the caller.
    fn part<'a>(
        &mut self,
        bytes: &'a [u8],
        ends_frame: bool,
        is_last: bool,
    ) -> Result<Step<'a>, ProtocolError> {
        let nothing = if ends_frame { Step::Fragment } else { Step::NeedMore };
        if self.reserved != 0 {
            let part = Step::ExtendedPart { text: self.opcode == Data::Text, payload: bytes, is_last };
            return Ok(if bytes.is_empty() && !is_last { nothing } else { part });
        }
        let data = if self.is_text() {
            Message::Text(self.utf8.split(bytes, is_last).map_err(|_| ProtocolError::InvalidUtf8)?)
        } else {
            Message::Binary(bytes)
        };
        if data.is_empty() && !is_last {
            return Ok(nothing);
        }
        let is_first = self.way == Way::Streamed;
        self.way = Way::Continued;
        Ok(Step::Chunk(Chunk { data, is_first, is_last }))
    }
}

/// How a message under way reaches the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// As a whole, once it is there.
    Gathered,
    /// In pieces, none of which was given yet.
    Streamed,
    /// In pieces, and the first one was given.
    Continued,
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
            State::Payload(frame) => self.go_on(frame, input, 0, scratch),
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
            State::Header(_) if self.gathered_len() > 0 => self.gathered.truncate(self.gathered_len()),
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
        if self.is_too_long_to_gather(config, &header) {
            self.begun(&header).way = Way::Streamed;
        }
        let alone = header.opcode.is_control() || (header.fin && self.message.is_none());
        if alone && let Some(payload) = whole(behind(input, used), header.len) {
            unmask_into(scratch, payload, header.mask);
            let step = interpret(header.opcode, header.reserved, scratch);
            self.state = state_after(&step);
            return Ok((used + payload.len(), step?));
        }
        let frame = self.enter(&header);
        self.go_on(frame, input, used, scratch)
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
            held.push(input.get(..FrameHeader::MAX_LEN - before).unwrap_or(input));
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
        let max = config.max_streamed.max(config.max_message as u64);
        if self.is_longer(header, max) { Err(ProtocolError::MessageTooBig) } else { Ok(()) }
    }

    fn is_too_long_to_gather(&self, config: &DecoderConfig, header: &FrameHeader) -> bool {
        self.message.is_none_or(|begun| !begun.is_streamed())
            && self.is_longer(header, config.max_message as u64)
    }

    /// Whether a message would have more than `max` bytes with the frame that `header` begins.
    fn is_longer(&self, header: &FrameHeader, max: u64) -> bool {
        let total = header.len.saturating_add(self.message_len as u64);
        let is_extended = self.message.map_or(!header.reserved.is_none(), |begun| begun.reserved != 0);
        let max = if is_extended { max.saturating_add(max / 8 + 64) } else { max };
        !header.opcode.is_control() && total > max
    }

    /// Bytes of the message under way that stand in `gathered`, besides the frame's.
    fn gathered_len(&self) -> usize {
        match &self.message {
            Some(begun) if !begun.is_streamed() => self.message_len,
            _ => 0,
        }
    }

    /// Begins a frame.
    fn enter(&mut self, header: &FrameHeader) -> Frame {
        let opcode = match header.opcode {
            OpCode::Data(_) => OpCode::Data(self.begun(header).opcode),
            control => control,
        };
        Frame { remaining: header.len, mask: header.mask, opcode, fin: header.fin }
    }

    /// The message that a data frame belongs to.
    fn begun(&mut self, header: &FrameHeader) -> &mut Begun {
        let opcode = match header.opcode {
            OpCode::Data(data) => data,
            OpCode::Control(_) => Data::Continuation,
        };
        self.message.get_or_insert(Begun::new(opcode, header.reserved))
    }

    /// Takes payload of a frame, from `input[used..]`.
    fn go_on<'d>(
        &'d mut self,
        frame: Frame,
        input: &[u8],
        used: usize,
        scratch: &'d mut Vec<u8>,
    ) -> Result<(usize, Step<'d>), ProtocolError> {
        match self.message {
            Some(begun) if begun.is_streamed() && !frame.opcode.is_control() => {
                self.stream(begun, frame, input, used, scratch)
            }
            _ => self.gather(frame, input, used),
        }
    }

    /// Takes payload of a frame that is gathered, from `input[used..]`.
    fn gather<'d>(
        &'d mut self,
        mut frame: Frame,
        input: &[u8],
        used: usize,
    ) -> Result<(usize, Step<'d>), ProtocolError> {
        let arrived = behind(input, used);
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
        frame.take(payload, &mut self.gathered);
        let arrived = behind(&self.gathered, start);
        match &mut self.message {
            Some(begun) if begun.is_text() && !frame.opcode.is_control() => {
                begun.utf8.push(arrived).map_err(|_| ProtocolError::InvalidUtf8)
            }
            _ => Ok(()),
        }
    }

    /// The same of a message that is given away as it arrives.
    fn stream<'d>(
        &'d mut self,
        mut begun: Begun,
        mut frame: Frame,
        input: &[u8],
        used: usize,
        scratch: &'d mut Vec<u8>,
    ) -> Result<(usize, Step<'d>), ProtocolError> {
        let arrived = behind(input, used);
        let payload = whole(arrived, frame.remaining).unwrap_or(arrived);
        scratch.clear();
        if begun.way == Way::Streamed && !self.gathered.is_empty() {
            // What was gathered before the message was known to be long.
            *scratch = std::mem::take(&mut self.gathered);
        } else {
            scratch.extend_from_slice(begun.utf8.carried());
        }
        frame.take(payload, scratch);
        self.message_len += payload.len();
        let is_last = frame.remaining == 0 && frame.fin;
        let step = match begun.part(scratch, frame.remaining == 0, is_last) {
            Ok(step) => step,
            Err(error) => return Err(self.fail(error)),
        };
        self.state = if frame.remaining == 0 { State::BETWEEN_FRAMES } else { State::Payload(frame) };
        (self.message, self.message_len) = if is_last { (None, 0) } else { (Some(begun), self.message_len) };
        Ok((used + payload.len(), step))
    }

    fn end_frame(&mut self, frame: Frame) -> Result<Step<'_>, ProtocolError> {
        self.state = State::BETWEEN_FRAMES;
        let (start, reserved) = match frame.opcode {
            OpCode::Control(_) => (self.gathered_len(), Reserved::NONE),
            OpCode::Data(_) if !frame.fin => {
                self.message_len = self.gathered.len();
                return Ok(Step::Fragment);
            }
            OpCode::Data(_) => {
                self.message_len = 0;
                (0, self.message.take().map_or(Reserved::NONE, |begun| Reserved::from_byte(begun.reserved)))
            }
        };
        let step = interpret(frame.opcode, reserved, behind(&self.gathered, start));
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

/// What stands in `bytes` behind the first `used`.
fn behind(bytes: &[u8], used: usize) -> &[u8] {
    bytes.get(used..).unwrap_or_default()
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
