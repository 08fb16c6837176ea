//! One row: what there is, what is needed, and what to do about it.

use std::fmt;

use serde::Serialize;

/// What is needed leaves less than one part in so many to spare: tight.
const SPARE_ONE_IN: u64 = 10;

/// How a limit stands to what is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Enough.
    Ok,
    /// Enough with little to spare, or enough only under a condition that the note names.
    Tight,
    /// Not enough.
    Short,
    /// The kernel does not tell.
    Unknown,
}

impl Verdict {
    /// The word for people and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Tight => "tight",
            Verdict::Short => "short",
            Verdict::Unknown => "unknown",
        }
    }
}

/// A quantity with its unit, or a word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A number of things.
    Count(u64),
    /// Bytes.
    Bytes(u64),
    /// What is no number.
    Text(String),
}

impl Value {
    /// What a test or a program compares; none for a word.
    fn amount(&self) -> Option<u64> {
        match self {
            Value::Count(amount) | Value::Bytes(amount) => Some(*amount),
            Value::Text(_) => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The kernel's way of writing "no limit".
            Value::Count(amount) | Value::Bytes(amount) if *amount > 1 << 60 => f.write_str("no limit"),
            Value::Count(count) => write!(f, "{count}"),
            Value::Bytes(bytes) if *bytes >= 1_000_000_000 => write!(f, "{:.1} GB", *bytes as f64 / 1e9),
            Value::Bytes(bytes) if *bytes >= 1_000_000 => write!(f, "{:.0} MB", *bytes as f64 / 1e6),
            Value::Bytes(bytes) => write!(f, "{:.0} kB", *bytes as f64 / 1e3),
            Value::Text(text) => f.write_str(text),
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What is examined; the kernel's own name where it has one.
    pub name: &'static str,
    /// What there is; none if the kernel does not tell.
    pub now: Option<Value>,
    /// What the clients need; none where nothing is counted.
    pub needed: Option<Value>,
    /// How the one stands to the other.
    pub verdict: Verdict,
    /// The arithmetic, or what happens when there is not enough.
    pub note: String,
    /// Commands or lines of configuration that mend it; empty where nothing has to be mended.
    pub mend: Vec<String>,
}

impl Check {
    /// `now` is to be at least `needed`; unknown if `now` is not known.
    pub(super) fn at_least(name: &'static str, now: Option<Value>, needed: Value) -> Check {
        let verdict = match (now.as_ref().and_then(Value::amount), needed.amount()) {
            (Some(now), Some(needed)) if now < needed => Verdict::Short,
            (Some(now), Some(needed)) if now - needed < needed / SPARE_ONE_IN => Verdict::Tight,
            (Some(_), Some(_)) => Verdict::Ok,
            _ => Verdict::Unknown,
        };
        Check { name, now, needed: Some(needed), verdict, note: String::new(), mend: Vec::new() }
    }

    /// Of so many clients, about how many have what they need; none where nothing is counted.
    pub(crate) fn fitting(&self, clients: u32) -> u32 {
        let amount = |value: &Option<Value>| value.as_ref().and_then(Value::amount).map(u128::from);
        let fitting = match (amount(&self.now), amount(&self.needed)) {
            (Some(now), Some(needed)) if needed > 0 => u128::from(clients) * now / needed,
            _ => 0,
        };
        u32::try_from(fitting).unwrap_or(u32::MAX).min(clients)
    }

    /// [`Check::at_least`] for a number of things.
    pub(super) fn count(name: &'static str, now: Option<u64>, needed: u64) -> Check {
        Check::at_least(name, now.map(Value::Count), Value::Count(needed))
    }

    /// [`Check::at_least`] for bytes.
    pub(super) fn bytes(name: &'static str, now: Option<u64>, needed: u64) -> Check {
        Check::at_least(name, now.map(Value::Bytes), Value::Bytes(needed))
    }

    /// Something that is good or not, without a number to reach.
    pub(super) fn word(name: &'static str, now: Option<String>, is_good: bool) -> Check {
        let verdict = match &now {
            None => Verdict::Unknown,
            Some(_) if is_good => Verdict::Ok,
            Some(_) => Verdict::Tight,
        };
        Check {
            name,
            now: now.map(Value::Text),
            needed: None,
            verdict,
            note: String::new(),
            mend: Vec::new(),
        }
    }

    /// Just enough is enough.
    pub(super) fn without_spare(mut self) -> Check {
        if self.verdict == Verdict::Tight {
            self.verdict = Verdict::Ok;
        }
        self
    }

    /// Too little of it costs time, but no client.
    pub(super) fn never_short(mut self) -> Check {
        if self.verdict == Verdict::Short {
            self.verdict = Verdict::Tight;
        }
        self
    }

    pub(super) fn note(mut self, note: impl Into<String>) -> Check {
        self.note = note.into();
        self
    }

    /// What mends it; forgotten where nothing has to be mended.
    pub(super) fn mend<const N: usize>(mut self, commands: [String; N]) -> Check {
        if matches!(self.verdict, Verdict::Tight | Verdict::Short) {
            self.mend = commands.into();
        }
        self
    }

    /// The row as one sentence: for a load that is not begun.
    pub fn sentence(&self) -> String {
        let amount = |value: &Option<Value>| value.as_ref().map_or("?".to_owned(), Value::to_string);
        let (name, now, needed) = (self.name, amount(&self.now), amount(&self.needed));
        let mend =
            if self.mend.is_empty() { String::new() } else { format!(": {}", self.mend.join(", or ")) };
        format!("{name} is {now} and {needed} are needed ({}){mend}", self.note)
    }
}

#[cfg(test)]
mod tests {
    use super::Check;

    #[test]
    fn what_is_short_fits_fewer() {
        assert_eq!(Check::bytes("tcp_mem", Some(300_000), 1_200_000).fitting(100), 25);
        assert_eq!(Check::count("ports", Some(9_000), 100).fitting(100), 100);
        assert_eq!(Check::count("ports", None, 100).fitting(100), 0);
    }
}
