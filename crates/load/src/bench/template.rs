//! Texts with fields that differ from message to message, or from client to client.
//!
//! | field | becomes |
//! |---|---|
//! | `{seq}` | the message's number, from 0, for each client |
//! | `{client}` | the client's number, from 0 |
//! | `{timestamp}` | the time of sending, in ms since 1970 |
//! | `{timestamp:s}`, `:ms`, `:us`, `:ns` | the same in other units |
//! | `{timestamp:rfc3339}` | the same as `2026-01-31T23:59:59.123456Z` |
//! | `{random:N}` | N letters and digits |
//! | `{random_int:A-B}` | a whole number from A to B |
//! | `{{` | one `{` |
//!
//! A `{` with no small letter behind it stands for itself, and so does every `}` outside a field: JSON is written as it
//! is. Random fields depend on client and message alone, so that an echo can be compared.

use std::fmt::{self, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::date::date;

/// Longest `{random:N}`, in characters.
const RANDOM_MAX: usize = 1 << 20;

/// A text with fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Part {
    Literal(String),
    Seq,
    Client,
    Timestamp(Unit),
    /// So many letters and digits.
    Random(usize),
    /// From the first to the last.
    RandomInt(i64, i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Unit {
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
    Rfc3339,
}

/// Where a text is no template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// The byte at which the field begins.
    pub at: usize,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: {}", self.at, self.what)
    }
}

impl std::error::Error for TemplateError {}

/// Which message it is, and when it is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Id {
    pub(crate) client: u32,
    pub(crate) number: u64,
    /// Since 1970.
    pub(crate) time: Duration,
}

impl Template {
    /// Reads a text with any of the fields.
    ///
    /// # Errors
    /// The first field that is none.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        let mut parts = Vec::new();
        let (mut literal, mut rest) = (String::new(), text);
        while let Some(brace) = rest.find('{') {
            literal += &rest[..brace];
            let (at, behind) = (text.len() - rest.len() + brace, &rest[brace + 1..]);
            rest = if let Some(behind) = behind.strip_prefix('{') {
                literal.push('{');
                behind
            } else if behind.starts_with(|c: char| c.is_ascii_lowercase()) {
                let error = |what: String| TemplateError { at, what };
                let (name, behind) = behind
                    .split_once('}')
                    .ok_or_else(|| error("a field is not closed by }; {{ stands for one {".into()))?;
                let part = field(name).map_err(error)?;
                parts.extend((!literal.is_empty()).then(|| Part::Literal(std::mem::take(&mut literal))));
                parts.push(part);
                behind
            } else {
                literal.push('{');
                behind
            };
        }
        literal += rest;
        parts.extend((!literal.is_empty()).then_some(Part::Literal(literal)));
        Ok(Template { parts })
    }

    /// Reads a text whose only field is `{client}`.
    ///
    /// # Errors
    /// The first field that is none, or another one.
    pub(crate) fn per_client(text: &str) -> Result<Template, TemplateError> {
        let template = Template::parse(text)?;
        if template.parts.iter().all(|part| matches!(part, Part::Literal(_) | Part::Client)) {
            return Ok(template);
        }
        let at = text.find('{').unwrap_or(0);
        Err(TemplateError { at, what: "here {client} is the only field".into() })
    }

    /// This text, without fields.
    pub(crate) fn literal(text: impl Into<String>) -> Template {
        Template { parts: vec![Part::Literal(text.into())] }
    }

    /// Whether it is the same text for every message and client.
    pub(crate) fn is_constant(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Literal(_)))
    }

    /// The longest text that it can become, in bytes.
    pub fn len_max(&self) -> usize {
        let part = |part: &Part| match part {
            Part::Literal(text) => text.len(),
            Part::Client => 10,
            Part::Seq | Part::RandomInt(..) | Part::Timestamp(_) => 32,
            Part::Random(count) => *count,
        };
        self.parts.iter().map(part).sum()
    }

    /// Appends the text of one message. Allocates nothing once `out` has grown.
    pub(crate) fn render(&self, id: Id, out: &mut String) {
        for (index, part) in self.parts.iter().enumerate() {
            let mut random = Random::new(id, index as u64);
            // A String takes everything.
            let _ = match part {
                Part::Literal(text) => out.write_str(text),
                Part::Seq => write!(out, "{}", id.number),
                Part::Client => write!(out, "{}", id.client),
                Part::Timestamp(unit) => timestamp(*unit, id.time, out),
                Part::Random(count) => {
                    out.extend((0..*count).map(|_| random.letter()));
                    Ok(())
                }
                Part::RandomInt(from, to) => write!(out, "{}", random.between(*from, *to)),
            };
        }
    }

    /// The text for one client, of a template that depends on nothing else.
    pub(crate) fn for_client(&self, client: u32) -> String {
        let mut text = String::new();
        self.render(Id { client, ..Id::default() }, &mut text);
        text
    }
}

/// The field between the braces.
fn field(text: &str) -> Result<Part, String> {
    let (name, argument) = text.split_once(':').map_or((text, None), |(name, value)| (name, Some(value)));
    match (name, argument) {
        ("seq", None) => Ok(Part::Seq),
        ("client", None) => Ok(Part::Client),
        ("timestamp", unit) => match unit {
            Some("s") => Ok(Part::Timestamp(Unit::Seconds)),
            None | Some("ms") => Ok(Part::Timestamp(Unit::Milliseconds)),
            Some("us") => Ok(Part::Timestamp(Unit::Microseconds)),
            Some("ns") => Ok(Part::Timestamp(Unit::Nanoseconds)),
            Some("rfc3339") => Ok(Part::Timestamp(Unit::Rfc3339)),
            Some(other) => Err(format!("{{timestamp:{other}}}: use s, ms, us, ns or rfc3339")),
        },
        ("random", Some(count)) => match count.parse() {
            Ok(count) if count <= RANDOM_MAX => Ok(Part::Random(count)),
            _ => Err(format!("{{random:{count}}}: wanted a number of characters up to {RANDOM_MAX}")),
        },
        ("random_int", Some(range)) => random_int(range)
            .ok_or_else(|| format!("{{random_int:{range}}}: wanted A-B, as {{random_int:1-100}}")),
        ("random" | "random_int", None) => {
            Err(format!("{{{name}}} wants more: {{random:8}}, {{random_int:1-100}}"))
        }
        _ => Err(format!(
            "{{{text}}} is no field: use seq, client, timestamp, random:N or random_int:A-B, and {{{{ for one {{"
        )),
    }
}

fn random_int(range: &str) -> Option<Part> {
    // The first number may have a sign of its own.
    let dash = 1 + range.get(1..)?.find('-')?;
    let (from, to) = (range[..dash].parse().ok()?, range[dash + 1..].parse().ok()?);
    (from <= to).then_some(Part::RandomInt(from, to))
}

fn timestamp(unit: Unit, time: Duration, out: &mut String) -> fmt::Result {
    match unit {
        Unit::Seconds => write!(out, "{}", time.as_secs()),
        Unit::Milliseconds => write!(out, "{}", time.as_millis()),
        Unit::Microseconds => write!(out, "{}", time.as_micros()),
        Unit::Nanoseconds => write!(out, "{}", time.as_nanos()),
        Unit::Rfc3339 => {
            let (year, month, day) = date(time.as_secs() / 86_400);
            let second = time.as_secs() % 86_400;
            let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
            let micros = time.subsec_micros();
            write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
        }
    }
}

/// What a message looks like is decided by who sends it, and by its number.
struct Random(workload::random::Random);

impl Random {
    fn new(id: Id, part: u64) -> Random {
        let first = workload::random::Random::new(u64::from(id.client) << 32 ^ part).draw();
        Random(workload::random::Random::new(first ^ id.number))
    }

    fn next(&mut self) -> u64 {
        self.0.draw()
    }

    fn letter(&mut self) -> char {
        const ALPHABET: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ab";
        char::from(ALPHABET[(self.next() >> 58) as usize])
    }

    fn between(&mut self, from: i64, to: i64) -> i64 {
        let span = u128::from(to.abs_diff(from)) + 1;
        let offset = i128::from(self.next()).rem_euclid(span.cast_signed());
        i64::try_from(i128::from(from) + offset).unwrap_or(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-02-28T23:59:59.000012345Z.
    const TIME: Duration = Duration::new(1_772_323_199, 12_345);

    fn render(text: &str, client: u32, number: u64) -> String {
        let mut out = String::new();
        Template::parse(text).unwrap().render(Id { client, number, time: TIME }, &mut out);
        out
    }

    #[test]
    fn json_is_written_as_it_is() {
        let text = r#"{"id": {client}, "n": {seq}, "list": [{}, {"a": {"b": 1}}]}"#;
        assert_eq!(render(text, 7, 12), r#"{"id": 7, "n": 12, "list": [{}, {"a": {"b": 1}}]}"#);
        assert_eq!(render("{{seq} {{{seq}}", 0, 3), "{seq} {3}");
        assert!(Template::parse("{\"a\": 1}").unwrap().is_constant());
    }

    #[test]
    fn times_in_every_unit() {
        let text =
            "{timestamp} {timestamp:s} {timestamp:ms} {timestamp:us} {timestamp:ns} {timestamp:rfc3339}";
        assert_eq!(
            render(text, 0, 0),
            "1772323199000 1772323199 1772323199000 1772323199000012 1772323199000012345 \
             2026-02-28T23:59:59.000012Z"
        );
    }

    #[test]
    fn random_fields_differ_and_come_again() {
        assert_eq!(render("{random:12}", 1, 1).len(), 12);
        let texts = [render("{random:12}", 1, 1), render("{random:12}", 1, 2), render("{random:12}", 2, 1)];
        assert!(texts[0] != texts[1] && texts[0] != texts[2] && texts[1] != texts[2], "{texts:?}");
        assert_eq!(render("{random:12}", 1, 1), texts[0]);
        let both = render("{random:9}{random:9}", 1, 1);
        assert_ne!(both[..9], both[9..]);
        for number in 0..200 {
            let dice: i64 = render("{random_int:-3-3}", 0, number).parse().unwrap();
            assert!((-3..=3).contains(&dice), "{dice}");
        }
        let all = format!("{{random_int:{}-{}}}", i64::MIN, i64::MAX);
        assert!(render(&all, 0, 0).parse::<i64>().is_ok());
        assert_eq!(render("{random_int:5-5}", 0, 0), "5");
    }

    #[test]
    fn what_is_no_field_is_refused_with_its_place() {
        let cases = [
            ("a {name}", 2, "{name} is no field"),
            ("{seq", 0, "not closed"),
            ("{seq:3}", 0, "no field"),
            ("ü{timestamp:h}", 2, "rfc3339"),
            ("{random}", 0, "{random:8}"),
            ("{random:x}", 0, "number of characters"),
            ("{random:99999999}", 0, "up to"),
            ("{random_int:5}", 0, "A-B"),
            ("{random_int:9-1}", 0, "A-B"),
            ("{random_int:}", 0, "A-B"),
        ];
        for (text, at, words) in cases {
            let error = Template::parse(text).unwrap_err();
            assert!(error.at == at && error.what.contains(words), "{text}: {error}");
        }
        let error = Template::per_client("/x/{client}/{seq}").unwrap_err();
        assert!(error.to_string().contains("the only field"), "{error}");
        assert_eq!(Template::per_client("/x/{client}").unwrap().for_client(8), "/x/8");
    }

    #[test]
    fn no_text_is_longer_than_announced() {
        let text =
            "{seq}{client}{timestamp:ns}{timestamp:rfc3339}{random:7}{random_int:-9223372036854775808--1}x";
        let template = Template::parse(text).unwrap();
        let mut out = String::new();
        template
            .render(Id { client: u32::MAX, number: u64::MAX, time: Duration::from_secs(1 << 40) }, &mut out);
        assert!(out.len() <= template.len_max(), "{out}");
    }
}
