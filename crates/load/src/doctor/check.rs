//! One row: what there is, what is needed, and what to do about it.

use std::fmt;

use serde::Serialize;

/// What is needed leaves less than one part in so many to spare: tight.
const SPARE_ONE_IN: u64 = 10;

/// What is needed with something to spare.
pub(super) fn with_spare(needed: u64) -> u64 {
    needed.saturating_add(needed / SPARE_ONE_IN)
}

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

/// What mends a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mend {
    /// A command for a shell, as it is to be typed.
    Command(String),
    /// A line of a systemd unit's section `[Service]`.
    Unit(String),
    /// What is to be done where no command does it.
    Words(String),
}

impl fmt::Display for Mend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mend::Command(text) | Mend::Words(text) => f.write_str(text),
            Mend::Unit(line) => write!(f, "{line} in [Service] of the systemd unit"),
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
    /// What mends it, each by itself; empty where nothing has to be mended.
    pub mend: Vec<Mend>,
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
    pub(super) fn mend(mut self, mends: impl IntoIterator<Item = Mend>) -> Check {
        if matches!(self.verdict, Verdict::Tight | Verdict::Short) {
            self.mend = mends.into_iter().collect();
        }
        self
    }

    /// Nothing is needed, and nothing has to be mended, whatever there is.
    pub(super) fn not_needed(self) -> Check {
        match self.verdict {
            Verdict::Unknown => self,
            _ => Check { verdict: Verdict::Ok, needed: None, ..self },
        }
    }

    /// The row as one sentence: for a load that is not begun.
    pub fn sentence(&self) -> String {
        let now = self.now.as_ref().map_or("not known".to_owned(), Value::to_string);
        let needed = self.needed.as_ref().map(|needed| format!(" where {needed} are needed"));
        let mends: Vec<String> = self.mend.iter().map(Mend::to_string).collect();
        let mend = if mends.is_empty() { String::new() } else { format!(": {}", mends.join(", or ")) };
        format!("{}: {now}{} ({}){mend}", self.name, needed.unwrap_or_default(), self.note)
    }
}

#[cfg(test)]
mod tests {
    use super::{Check, Mend};

    #[test]
    fn what_is_short_fits_fewer() {
        assert_eq!(Check::bytes("tcp_mem", Some(300_000), 1_200_000).fitting(100), 25);
        assert_eq!(Check::count("ports", Some(9_000), 100).fitting(100), 100);
        assert_eq!(Check::count("ports", None, 100).fitting(100), 0);
    }

    #[test]
    fn a_row_is_a_sentence() {
        let mend = || [Mend::Command("sysctl -w a=2".into()), Mend::Unit("A=2".into())];
        let short = Check::count("a", Some(1), 2).note("two of them").mend(mend());
        let words =
            "a: 1 where 2 are needed (two of them): sysctl -w a=2, or A=2 in [Service] of the systemd unit";
        assert_eq!(short.sentence(), words);
        let word = Check::word("b", Some("slow".into()), false).note("why");
        assert_eq!(word.sentence(), "b: slow (why)");
        assert_eq!(
            Check::count("c", None, 2).note("why").mend(mend()).sentence(),
            "c: not known where 2 are needed (why)"
        );
    }
}
