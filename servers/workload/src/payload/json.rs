//! Writes JSON without spaces, as devices do.

use std::fmt::Display;

/// An object that is being written.
pub(super) struct Json {
    out: String,
}

impl Json {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        let mut out = String::with_capacity(bytes);
        out.push('{');
        Self { out }
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    /// Bytes of the whole if one more field `key` with an empty text ended it.
    pub(super) fn finished_len(&self, key: &str) -> usize {
        self.out.len() + key.len() + r#","":""}"#.len()
    }

    pub(super) fn finish(mut self) -> String {
        self.out.push('}');
        self.out
    }

    pub(super) fn number(&mut self, key: &str, value: impl Display) {
        self.key(key);
        self.out.push_str(&value.to_string());
    }

    pub(super) fn float(&mut self, key: &str, value: f64, decimals: usize) {
        self.number(key, format_args!("{value:.decimals$}"));
    }

    pub(super) fn flag(&mut self, key: &str, value: bool) {
        self.number(key, value);
    }

    pub(super) fn null(&mut self, key: &str) {
        self.number(key, "null");
    }

    /// `value` is written as it is: what JSON wants escaped is escaped already.
    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        self.quoted(value);
    }

    pub(super) fn text_element(&mut self, value: &str) {
        self.separate();
        self.quoted(value);
    }

    pub(super) fn object(&mut self, key: &str, fields: impl FnOnce(&mut Self)) {
        self.key(key);
        self.enclose(['{', '}'], fields);
    }

    pub(super) fn array(&mut self, key: &str, elements: impl FnOnce(&mut Self)) {
        self.key(key);
        self.enclose(['[', ']'], elements);
    }

    /// An object as an element of an array.
    pub(super) fn element(&mut self, fields: impl FnOnce(&mut Self)) {
        self.separate();
        self.enclose(['{', '}'], fields);
    }

    fn enclose(&mut self, [open, close]: [char; 2], inner: impl FnOnce(&mut Self)) {
        self.out.push(open);
        inner(self);
        self.out.push(close);
    }

    fn key(&mut self, key: &str) {
        self.separate();
        self.quoted(key);
        self.out.push(':');
    }

    fn quoted(&mut self, text: &str) {
        self.out.push('"');
        self.out.push_str(text);
        self.out.push('"');
    }

    fn separate(&mut self) {
        if !self.out.ends_with(['{', '[']) {
            self.out.push(',');
        }
    }
}
