//! From text to [`Telemetry`](crate::telemetry::Telemetry), and what is said when that fails.

use std::fmt;

#[cfg(any(feature = "serde_json", feature = "sonic-rs"))]
use crate::telemetry::{Borrowed, Owned};

/// Most bytes that a close frame's reason can have (RFC 6455 §5.5: 125, less two for the code).
pub const CLOSE_REASON_BYTES_MAX: usize = 123;

/// Where a message does not fit the struct, and why. At most [`CLOSE_REASON_BYTES_MAX`] bytes long, so that it
/// can go to the client as the reason of a close frame with code 1007.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError(String);

impl ParseError {
    /// The line and column count from 1, in bytes. `what` may end with a place of its own, which is taken off.
    #[cfg(any(feature = "serde_json", feature = "sonic-rs"))]
    fn new(line: usize, column: usize, what: &str) -> Self {
        let what = what.lines().next().unwrap_or_default();
        let what = what.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(what);
        let mut text = format!("line {line}, column {column}: {what}");
        text.truncate(text.floor_char_boundary(CLOSE_REASON_BYTES_MAX));
        Self(text)
    }

    /// The sentence, ready for a close frame.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ParseError {}

#[cfg(feature = "serde_json")]
impl From<serde_json::Error> for ParseError {
    fn from(error: serde_json::Error) -> Self {
        Self::new(error.line(), error.column(), &error.to_string())
    }
}

#[cfg(feature = "sonic-rs")]
impl From<sonic_rs::Error> for ParseError {
    fn from(error: sonic_rs::Error) -> Self {
        Self::new(error.line(), error.column(), &error.to_string())
    }
}

/// By `serde_json`, into the owned form.
///
/// # Errors
/// The text is no JSON, or a field is missing, unknown or of the wrong type.
#[cfg(feature = "serde_json")]
pub fn parse_owned(text: &str) -> Result<Owned, ParseError> {
    Ok(serde_json::from_str(text)?)
}

/// By `serde_json`, into the borrowed form.
///
/// # Errors
/// As [`parse_owned`].
#[cfg(feature = "serde_json")]
pub fn parse_borrowed(text: &str) -> Result<Borrowed<'_>, ParseError> {
    Ok(serde_json::from_str(text)?)
}

/// By `sonic-rs`, into the borrowed form.
///
/// # Errors
/// As [`parse_owned`].
#[cfg(feature = "sonic-rs")]
pub fn parse_fast(text: &str) -> Result<Borrowed<'_>, ParseError> {
    Ok(sonic_rs::from_str(text)?)
}

/// By `sonic-rs`, into the owned form.
///
/// # Errors
/// As [`parse_owned`].
#[cfg(feature = "sonic-rs")]
pub fn parse_fast_owned(text: &str) -> Result<Owned, ParseError> {
    Ok(sonic_rs::from_str(text)?)
}
