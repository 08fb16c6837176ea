//! What came of a load, for people: one HTML page that needs nothing else, and time series for other programs.
//!
//! - [`page`]: the page's frame, its text and its tables.
//! - [`plot`]: lines over time, as parts of a page; [`bars`]: bars, and figures beside what they are held against.
//! - [`html`]: the page of one load.
//! - [`text`]: the same for a terminal.
//! - [`csv`]: the seconds of one load.
//! - [`mod@unit`]: figures with their units.
//! - [`redact`]: what was typed, without what is secret.

mod advice;
pub mod bars;
pub mod csv;
#[cfg(test)]
pub(crate) mod documented;
pub(crate) mod facts;
pub mod html;
pub mod page;
pub mod plot;
pub mod redact;
mod scale;
pub mod text;
pub mod unit;
