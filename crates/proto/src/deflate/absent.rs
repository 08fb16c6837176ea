//! The codec of a build without the feature `deflate`: there is no [`Deflate`](super::Deflate) to agree with, so that nobody
//! comes to make one of these.

use core::convert::Infallible;

use super::Piece;
use crate::error::ProtocolError;
use crate::message::Message;

/// Needs the feature `deflate`.
#[derive(Debug)]
pub struct Deflater(Infallible);

impl Deflater {
    /// Needs the feature `deflate`.
    ///
    /// # Panics
    /// Always; it takes a [`Deflate`](super::Deflate) to come here.
    #[must_use]
    pub fn new(_level: u8, _window_bits: u8, _context_takeover: bool) -> Self {
        unreachable!("nothing was agreed on: the feature `deflate` is off")
    }

    /// The level in force.
    #[must_use]
    pub fn level(&self) -> u8 {
        match self.0 {}
    }

    /// The window in force.
    #[must_use]
    pub fn window_bits(&self) -> u8 {
        match self.0 {}
    }

    /// A compressed message.
    pub fn message<'o>(&mut self, _payload: &[u8], _out: &'o mut Vec<u8>) -> Option<&'o [u8]> {
        match self.0 {}
    }
}

/// Needs the feature `deflate`.
#[derive(Debug)]
pub struct Inflater(Infallible);

impl Inflater {
    /// Needs the feature `deflate`.
    ///
    /// # Panics
    /// Always; it takes a [`Deflate`](super::Deflate) to come here.
    #[must_use]
    pub fn new(_window_bits: u8, _context_takeover: bool) -> Self {
        unreachable!("nothing was agreed on: the feature `deflate` is off")
    }

    /// A decompressed message.
    ///
    /// # Errors
    /// None: nobody has an `Inflater`.
    pub fn message<'o>(
        &mut self,
        _payload: &[u8],
        _text: bool,
        _max: usize,
        _out: &'o mut Vec<u8>,
    ) -> Result<Message<'o>, ProtocolError> {
        match self.0 {}
    }

    /// A piece of a decompressed message.
    ///
    /// # Errors
    /// None: nobody has an `Inflater`.
    pub fn piece<'o>(
        &mut self,
        _input: &[u8],
        _is_all: bool,
        _text: bool,
        _piece_max: usize,
        _max: u64,
        _out: &'o mut Vec<u8>,
    ) -> Result<Piece<'o>, ProtocolError> {
        match self.0 {}
    }
}
