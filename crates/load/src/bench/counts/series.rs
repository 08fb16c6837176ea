//! Counters on a page for Prometheus (its text format, version 0.0.4).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A counter, or those of its parts that have certain labels: `NAME` or `NAME{label="value"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series {
    name: String,
    /// `label="value"`, as they stand on the page.
    labels: Vec<String>,
}

/// This is no name of a counter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?}: wanted NAME or NAME{{label=\"value\"}}, as it stands on the page")]
pub struct SeriesError(String);

impl FromStr for Series {
    type Err = SeriesError;

    fn from_str(text: &str) -> Result<Series, SeriesError> {
        let wrong = || SeriesError(text.to_owned());
        let (name, labels) = match text.split_once('{') {
            None => (text, Vec::new()),
            Some((name, rest)) => (name, split(rest.strip_suffix('}').ok_or_else(wrong)?)),
        };
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:".contains(&byte))
        };
        let is_label = |label: &String| {
            label.split_once('=').is_some_and(|(name, value)| {
                is_name(name) && value.len() > 1 && value.starts_with('"') && value.ends_with('"')
            })
        };
        let is_series = is_name(name) && labels.iter().all(is_label);
        is_series.then(|| Series { name: name.to_owned(), labels }).ok_or_else(wrong)
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.labels.as_slice() {
            [] => f.write_str(&self.name),
            labels => write!(f, "{}{{{}}}", self.name, labels.join(",")),
        }
    }
}

impl Series {
    /// With this name, whatever the labels.
    pub(super) fn named(name: &str) -> Series {
        Series { name: name.to_owned(), labels: Vec::new() }
    }

    /// The sum over all that the page has of it. Zero where the page only announces it, as for a label that was not seen yet;
    /// none where it does not know it.
    pub(super) fn total(&self, page: &str) -> Option<u64> {
        let values: Vec<f64> = page.lines().filter_map(|line| self.value(line)).collect();
        if values.is_empty() {
            return page.lines().any(|line| self.announces(line)).then_some(0);
        }
        let sum: f64 = values.iter().sum();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not below zero; `as` saturates"
        )]
        Some(sum.round() as u64)
    }

    /// What a line says, if it is of this counter.
    fn value(&self, line: &str) -> Option<f64> {
        let rest = line.strip_prefix(&self.name)?;
        let (labels, rest) = match rest.strip_prefix('{') {
            // A value of a label may hold a brace; what follows the labels does not.
            Some(rest) => rest.rsplit_once('}')?,
            None if rest.starts_with([' ', '\t']) => ("", rest),
            None => return None,
        };
        let known = split(labels);
        let value: f64 = rest.split_ascii_whitespace().next()?.parse().ok()?;
        let is_of_it = self.labels.iter().all(|label| known.contains(label));
        (is_of_it && value.is_finite() && value >= 0.0).then_some(value)
    }

    fn announces(&self, line: &str) -> bool {
        let mut words = line.split_ascii_whitespace();
        words.next() == Some("#") && words.next() == Some("TYPE") && words.next() == Some(&self.name)
    }
}

/// The labels between two braces; a comma within quotes belongs to the value.
fn split(labels: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let (mut is_quoted, mut is_escaped) = (false, false);
    for character in labels.chars() {
        match character {
            ',' if !is_quoted => found.push(String::new()),
            ' ' if !is_quoted => {}
            _ => {
                is_quoted ^= character == '"' && !is_escaped;
                is_escaped = character == '\\' && !is_escaped;
                if let Some(last) = found.last_mut() {
                    last.push(character);
                }
            }
        }
    }
    found.retain(|label| !label.is_empty());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP messages_total What came.\n# TYPE messages_total counter\n\
        messages_total{direction=\"in\",kind=\"a,\\\"}b\"} 1e+06\n\
        messages_total{ direction=\"in\", kind=\"c\", } 2.0 1700000000000\n\
        messages_total{direction=\"out\"} 40\nmessages_total_of_others 7\nbroken_total NaN\n\
        # TYPE errors_total counter\nopen\t12\n";

    fn total(series: &str) -> Option<u64> {
        series.parse::<Series>().unwrap().total(PAGE)
    }

    #[test]
    fn a_counter_is_the_sum_of_its_parts() {
        assert_eq!(total("messages_total"), Some(1_000_042));
        assert_eq!(total("messages_total{direction=\"in\"}"), Some(1_000_002));
        assert_eq!(total("messages_total{kind=\"c\", direction=\"in\"}"), Some(2));
        assert_eq!(total("messages_total{kind=\"a,\\\"}b\"}"), Some(1_000_000));
        assert_eq!(total("open"), Some(12));
    }

    #[test]
    fn what_has_not_happened_yet_is_zero_and_what_is_unknown_is_none() {
        assert_eq!((total("errors_total"), total("messages_total{direction=\"up\"}")), (Some(0), Some(0)));
        assert_eq!((total("messages"), total("error"), total("broken_total")), (None, None, None));
    }

    #[test]
    fn names_are_read_and_written_as_they_stand_on_the_page() {
        for text in ["a_total", "a:b{c=\"d\"}", "a{c=\"d\",e=\"\"}"] {
            assert_eq!(text.parse::<Series>().unwrap().to_string(), text);
        }
        for text in ["", "a b", "a{", "a{b}", "a{b=c}", "{b=\"c\"}", "a{=\"c\"}", "a{b=\"}", "ä"] {
            assert!(text.parse::<Series>().is_err(), "{text}");
        }
    }
}
