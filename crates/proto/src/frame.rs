//! Frame headers (RFC 6455 §5.2).

use core::fmt;
use core::ops::Deref;

use crate::error::ProtocolError;

/// Masks the payload of a client's frame (§5.3).
pub type MaskKey = [u8; 4];

/// Longest payload of a control frame, in bytes (§5.5).
pub const MAX_CONTROL_LEN: usize = 125;

/// Frames that carry messages (§5.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Data {
    /// A fragment behind the first.
    Continuation,
    /// The first or only fragment of a text message.
    Text,
    /// The first or only fragment of a binary message.
    Binary,
}

/// Frames that may come between the fragments of a message (§5.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Control {
    /// Begins or answers the closing handshake.
    Close,
    /// Asks for a pong.
    Ping,
    /// Answers a ping, or comes unasked.
    Pong,
}

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpCode {
    /// Part of a message.
    Data(Data),
    /// A control frame.
    Control(Control),
}

impl OpCode {
    /// Reads the low four bits of a frame's first byte; `None` for the reserved opcodes.
    pub const fn from_u4(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Data(Data::Continuation),
            0x1 => Self::Data(Data::Text),
            0x2 => Self::Data(Data::Binary),
            0x8 => Self::Control(Control::Close),
            0x9 => Self::Control(Control::Ping),
            0xa => Self::Control(Control::Pong),
            _ => return None,
        })
    }

    /// The four bits on the wire.
    pub const fn to_u4(self) -> u8 {
        match self {
            Self::Data(Data::Continuation) => 0x0,
            Self::Data(Data::Text) => 0x1,
            Self::Data(Data::Binary) => 0x2,
            Self::Control(Control::Close) => 0x8,
            Self::Control(Control::Ping) => 0x9,
            Self::Control(Control::Pong) => 0xa,
        }
    }

    /// Whether this is a control frame.
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Control(_))
    }
}

/// The three bits that extensions may use (§5.2, §9).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reserved {
    /// RSV1: permessage-deflate marks a compressed message with it (RFC 7692 §6).
    pub rsv1: bool,
    /// RSV2.
    pub rsv2: bool,
    /// RSV3.
    pub rsv3: bool,
}

impl Reserved {
    /// No bit.
    pub const NONE: Self = Self { rsv1: false, rsv2: false, rsv3: false };

    /// The bit of permessage-deflate (RFC 7692 §6).
    pub const RSV1: Self = Self { rsv1: true, rsv2: false, rsv3: false };

    /// Whether no bit is set.
    pub const fn is_none(self) -> bool {
        !(self.rsv1 || self.rsv2 || self.rsv3)
    }

    /// Whether every bit set here is also set in `claimed`.
    pub const fn is_within(self, claimed: Self) -> bool {
        (!self.rsv1 || claimed.rsv1) && (!self.rsv2 || claimed.rsv2) && (!self.rsv3 || claimed.rsv3)
    }

    pub(crate) const fn from_byte(byte: u8) -> Self {
        Self { rsv1: byte & 0x40 != 0, rsv2: byte & 0x20 != 0, rsv3: byte & 0x10 != 0 }
    }

    pub(crate) const fn to_byte(self) -> u8 {
        (self.rsv1 as u8) << 6 | (self.rsv2 as u8) << 5 | (self.rsv3 as u8) << 4
    }
}

/// Everything that stands before a frame's payload (§5.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    /// The last fragment of its message, or an unfragmented frame.
    pub fin: bool,
    /// The extension bits.
    pub reserved: Reserved,
    /// What the frame is.
    pub opcode: OpCode,
    /// The key, where the payload is masked.
    pub mask: Option<MaskKey>,
    /// Length of the payload in bytes; at most 2^63 - 1.
    pub len: u64,
}

impl FrameHeader {
    /// The longest header: two bytes, eight of length, four of mask.
    pub const MAX_LEN: usize = 14;

    /// Reads a header from the front of `input`. `Ok(None)`: more bytes are needed. Otherwise the header and
    /// the number of bytes it took; the payload follows.
    ///
    /// Whether the reserved bits and the mask are right depends on the connection: the
    /// [`Decoder`](crate::Decoder) checks them.
    ///
    /// # Errors
    ///
    /// As early as the bytes allow: an unknown opcode, a control frame that is fragmented or too long, a
    /// length not in its shortest form or above 63 bits.
    pub fn parse(input: &[u8]) -> Result<Option<(Self, usize)>, ProtocolError> {
        let [first, rest @ ..] = input else { return Ok(None) };
        let first = First::parse(*first)?;
        let [second, ..] = rest else { return Ok(None) };
        let second = Second::parse(*second, first.opcode)?;
        Self::parse_rest(first, second, input)
    }

    /// Reads length and mask, which stand behind the first two bytes of `input`.
    pub(crate) fn parse_rest(
        first: First,
        second: Second,
        input: &[u8],
    ) -> Result<Option<(Self, usize)>, ProtocolError> {
        let Some((len, len_end)) = parse_len(second.len, input)? else { return Ok(None) };
        let (mask, used) = if second.masked {
            let key = input.get(len_end..).and_then(<[u8]>::first_chunk::<4>);
            let Some(key) = key else { return Ok(None) };
            (Some(*key), len_end + 4)
        } else {
            (None, len_end)
        };
        let header = Self { fin: first.fin, reserved: first.reserved, opcode: first.opcode, mask, len };
        Ok(Some((header, used)))
    }

    /// The header's bytes, with the length in its shortest form.
    pub fn encode(&self) -> EncodedHeader {
        let mut out = EncodedHeader::EMPTY;
        out.push(&[u8::from(self.fin) << 7 | self.reserved.to_byte() | self.opcode.to_u4()]);
        let masked = u8::from(self.mask.is_some()) << 7;
        match (u8::try_from(self.len), u16::try_from(self.len)) {
            (Ok(len @ 0..=125), _) => out.push(&[masked | len]),
            (_, Ok(len)) => {
                out.push(&[masked | LEN_16]);
                out.push(&len.to_be_bytes());
            }
            _ => {
                out.push(&[masked | LEN_64]);
                out.push(&self.len.to_be_bytes());
            }
        }
        if let Some(key) = self.mask {
            out.push(&key);
        }
        out
    }
}

/// In the seven bits of length: the length stands in the next two bytes.
const LEN_16: u8 = 126;
/// In the seven bits of length: the length stands in the next eight bytes.
const LEN_64: u8 = 127;

/// What the first byte says.
#[derive(Clone, Copy)]
pub(crate) struct First {
    pub(crate) fin: bool,
    pub(crate) reserved: Reserved,
    pub(crate) opcode: OpCode,
}

impl First {
    pub(crate) fn parse(byte: u8) -> Result<Self, ProtocolError> {
        let fin = byte & 0x80 != 0;
        let opcode = OpCode::from_u4(byte & 0x0f).ok_or(ProtocolError::UnknownOpCode)?;
        if opcode.is_control() && !fin {
            return Err(ProtocolError::FragmentedControl);
        }
        Ok(Self { fin, reserved: Reserved::from_byte(byte), opcode })
    }
}

/// What the second byte says.
#[derive(Clone, Copy)]
pub(crate) struct Second {
    pub(crate) masked: bool,
    /// Seven bits: the length itself up to 125, else where it stands.
    len: u8,
}

impl Second {
    pub(crate) fn parse(byte: u8, opcode: OpCode) -> Result<Self, ProtocolError> {
        let len = byte & 0x7f;
        if opcode.is_control() && usize::from(len) > MAX_CONTROL_LEN {
            return Err(ProtocolError::ControlTooLong);
        }
        Ok(Self { masked: byte & 0x80 != 0, len })
    }
}

/// The payload's length, and where in `input` it ends.
fn parse_len(short: u8, input: &[u8]) -> Result<Option<(u64, usize)>, ProtocolError> {
    let behind = input.get(2..).unwrap_or_default();
    match short {
        LEN_16 => parse_len_16(behind),
        LEN_64 => parse_len_64(behind),
        len => Ok(Some((u64::from(len), 2))),
    }
}

fn parse_len_16(bytes: &[u8]) -> Result<Option<(u64, usize)>, ProtocolError> {
    match *bytes {
        [high, low, ..] => match u16::from_be_bytes([high, low]) {
            0..126 => Err(ProtocolError::NonMinimalLength),
            len => Ok(Some((u64::from(len), 4))),
        },
        _ => Ok(None),
    }
}

fn parse_len_64(bytes: &[u8]) -> Result<Option<(u64, usize)>, ProtocolError> {
    if bytes.first().is_some_and(|high| high & 0x80 != 0) {
        return Err(ProtocolError::LengthOverflow);
    }
    // Six zero bytes leave sixteen bits at most: that is the shorter form's.
    if bytes.starts_with(&[0; 6]) {
        return Err(ProtocolError::NonMinimalLength);
    }
    Ok(bytes.first_chunk().map(|len| (u64::from_be_bytes(*len), 10)))
}

/// The bytes of a [`FrameHeader`], without heap.
#[derive(Clone, Copy)]
pub struct EncodedHeader {
    bytes: [u8; FrameHeader::MAX_LEN],
    len: u8,
}

impl EncodedHeader {
    pub(crate) const EMPTY: Self = Self { bytes: [0; FrameHeader::MAX_LEN], len: 0 };

    /// # Panics
    ///
    /// More than `MAX_LEN` bytes in all.
    #[expect(
        clippy::indexing_slicing,
        reason = "callers see to it that it fits, with a number that is no peer's"
    )]
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.bytes[usize::from(self.len)] = *byte;
            self.len += 1;
        }
    }
}

impl Deref for EncodedHeader {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl AsRef<[u8]> for EncodedHeader {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for EncodedHeader {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for EncodedHeader {}

impl fmt::Debug for EncodedHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
