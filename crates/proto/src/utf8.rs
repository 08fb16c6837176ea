//! UTF-8 checked as it arrives (RFC 3629, RFC 6455 §8.1).

use core::fmt;

/// The bytes are not UTF-8, and nothing that could follow would make them so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidUtf8;

impl fmt::Display for InvalidUtf8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid UTF-8")
    }
}

impl std::error::Error for InvalidUtf8 {}

/// Checks text that comes in pieces, cut at any byte.
///
/// [`push`](Self::push) fails on the piece that holds the first byte that cannot be valid, also where that
/// byte stands in a character which is not whole yet. After an error the validator's state has no meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Utf8Validator {
    /// The first bytes of a character that is not whole: at most three.
    tail: [u8; 3],
    tail_len: u8,
}

const _: () = assert!(size_of::<Utf8Validator>() <= 8);

impl Utf8Validator {
    /// A validator at the start of a text.
    pub const fn new() -> Self {
        Self { tail: [0; 3], tail_len: 0 }
    }

    /// Takes the next piece of the text.
    ///
    /// # Errors
    ///
    /// The text up to the end of this piece cannot be the beginning of valid UTF-8.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), InvalidUtf8> {
        let bytes = self.complete_tail(bytes)?;
        let (whole, tail) = bytes.split_at(bytes.len() - incomplete_len(bytes));
        simdutf8::basic::from_utf8(whole).map_err(|_| InvalidUtf8)?;
        tail.iter().try_for_each(|&byte| self.push_byte(byte))
    }

    /// The text of the whole characters in `bytes`, which begins with what was [carried](Self::carried). The first
    /// bytes of a last one that is cut are carried to the next call.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push); where these are the last bytes of the text, also as [`finish`](Self::finish).
    pub fn split<'b>(&mut self, bytes: &'b [u8], is_last: bool) -> Result<&'b str, InvalidUtf8> {
        *self = Self::new();
        let (whole, tail) = bytes.split_at(bytes.len() - incomplete_len(bytes));
        let text = simdutf8::basic::from_utf8(whole).map_err(|_| InvalidUtf8)?;
        tail.iter().try_for_each(|&byte| self.push_byte(byte))?;
        if is_last { self.finish().map(|()| text) } else { Ok(text) }
    }

    /// The bytes of a character that is cut: at most three.
    pub fn carried(&self) -> &[u8] {
        // At most three are counted.
        self.tail.get(..usize::from(self.tail_len)).unwrap_or(&self.tail)
    }

    /// Whether the text may end here: no character is cut.
    pub fn is_complete(&self) -> bool {
        self.tail_len == 0
    }

    /// Ends the text.
    ///
    /// # Errors
    ///
    /// The last character is not whole.
    pub fn finish(&self) -> Result<(), InvalidUtf8> {
        if self.is_complete() { Ok(()) } else { Err(InvalidUtf8) }
    }

    /// Feeds bytes until the carried character is whole; gives what is left.
    fn complete_tail<'a>(&mut self, mut bytes: &'a [u8]) -> Result<&'a [u8], InvalidUtf8> {
        while !self.is_complete() {
            let Some((&byte, rest)) = bytes.split_first() else { break };
            self.push_byte(byte)?;
            bytes = rest;
        }
        Ok(bytes)
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "a character has four bytes at most, and its last one is not carried"
    )]
    fn push_byte(&mut self, byte: u8) -> Result<(), InvalidUtf8> {
        let len = usize::from(self.tail_len);
        if len == 0 {
            return self.begin(byte);
        }
        let valid = if len == 1 { second_byte(self.tail[0]) } else { (0x80, 0xbf) };
        if byte < valid.0 || byte > valid.1 {
            return Err(InvalidUtf8);
        }
        if len + 1 == width(self.tail[0]) {
            self.tail_len = 0;
        } else {
            // `len` is 1 or 2: a character has four bytes at most, and its last one is not carried.
            self.tail[len] = byte;
            self.tail_len += 1;
        }
        Ok(())
    }

    fn begin(&mut self, lead: u8) -> Result<(), InvalidUtf8> {
        match width(lead) {
            0 => return Err(InvalidUtf8),
            1 => {}
            _ => {
                self.tail[0] = lead;
                self.tail_len = 1;
            }
        }
        Ok(())
    }
}

/// Bytes in the character that `lead` begins; 0 where no character begins so (RFC 3629 §4).
fn width(lead: u8) -> usize {
    match lead {
        0x00..=0x7f => 1,
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 0,
    }
}

/// The least and the greatest second byte behind `lead`: narrower than a continuation byte where the rest
/// would be an overlong form, a surrogate, or above U+10FFFF (RFC 3629 §4).
fn second_byte(lead: u8) -> (u8, u8) {
    match lead {
        0xe0 => (0xa0, 0xbf),
        0xed => (0x80, 0x9f),
        0xf0 => (0x90, 0xbf),
        0xf4 => (0x80, 0x8f),
        _ => (0x80, 0xbf),
    }
}

/// Bytes at the end of `bytes` which begin a character without finishing it.
fn incomplete_len(bytes: &[u8]) -> usize {
    for (behind, &byte) in bytes.iter().rev().take(3).enumerate() {
        if byte & 0xc0 != 0x80 {
            return if width(byte) > behind + 1 { behind + 1 } else { 0 };
        }
    }
    0
}
