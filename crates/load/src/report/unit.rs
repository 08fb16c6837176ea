//! Figures as people read them.

use std::collections::BTreeSet;

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Things a second.
    PerSecond,
    /// Times that are given in microseconds.
    Microseconds,
    /// Times that are given in seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// Shares of one processor; 1.0 is all of it.
    Processor,
    /// Shares below one, of times and the like: 0.99 is written as p99.
    Percentile,
}

impl Unit {
    /// The figure with its unit, to about three digits. What is no number is written as a dash.
    pub fn format(self, value: f64) -> String {
        self.precise(value, 0)
    }

    /// The same with some `more` digits.
    pub(crate) fn precise(self, value: f64, more: usize) -> String {
        if !value.is_finite() {
            return "–".into();
        }
        match self {
            Unit::Count => grouped(value, more),
            Unit::PerSecond => format!("{}/s", grouped(value, more)),
            Unit::Microseconds => time(value, more),
            Unit::Seconds => seconds(value, more),
            Unit::Bytes => bytes(value, more),
            Unit::Processor => format!("{} %", digits(value * 100.0, more)),
            Unit::Percentile => percentile(value),
        }
    }

    /// How many more digits it takes to tell these values apart.
    pub(crate) fn digits_apart(self, values: &[f64]) -> usize {
        const MORE_MAX: usize = 4;
        let are_apart = |more: &usize| {
            let texts = values.iter().map(|value| self.precise(*value, *more));
            texts.collect::<BTreeSet<_>>().len() == values.len()
        };
        (0..MORE_MAX).find(are_apart).unwrap_or(MORE_MAX)
    }
}

/// What each of so many clients has added to so many bytes; none where there are fewer than before, as nothing can be told
/// then.
pub(crate) fn bytes_a_client(after: u64, before: u64, clients: u32) -> Option<String> {
    let grown = after.checked_sub(before).filter(|grown| *grown > 0 && clients > 0)?;
    Some(Unit::Bytes.format(grown as f64 / f64::from(clients)))
}

/// Three digits or so, without zeros at the end.
fn digits(value: f64, more: usize) -> String {
    let decimals = match value.abs() {
        v if v >= 99.95 || v == 0.0 => 0,
        v if v >= 9.995 => 1,
        v if v >= 0.9995 => 2,
        _ => 3,
    } + more;
    let text = format!("{value:.decimals$}");
    if decimals == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

/// A whole number with its thousands apart; three digits below 100.
fn grouped(value: f64, more: usize) -> String {
    if value.abs() < 100.0 {
        return digits(value, more);
    }
    if value.abs() >= 1e15 {
        return format!("{value:.2e}");
    }
    let text = format!("{:.0}", value.abs());
    let mut grouped = String::from(if value < 0.0 { "-" } else { "" });
    for (at, digit) in text.chars().enumerate() {
        if at > 0 && (text.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn time(us: f64, more: usize) -> String {
    match us.abs() {
        v if v < 999.5 => format!("{} µs", digits(us, more)),
        v if v < 999_500.0 => format!("{} ms", digits(us / 1e3, more)),
        _ => seconds(us / 1e6, more),
    }
}

fn seconds(s: f64, more: usize) -> String {
    match s.abs() {
        v if v < 120.0 => format!("{} s", digits(s, more)),
        v if v < 7200.0 => format!("{} min", digits(s / 60.0, more)),
        v if v < 172_800.0 => format!("{} h", digits(s / 3600.0, more)),
        _ => format!("{} d", digits(s / 86_400.0, more)),
    }
}

fn bytes(bytes: f64, more: usize) -> String {
    match bytes.abs() {
        v if v < 999.5 => format!("{} B", digits(bytes, more)),
        v if v < 999_500.0 => format!("{} kB", digits(bytes / 1e3, more)),
        v if v < 999_500_000.0 => format!("{} MB", digits(bytes / 1e6, more)),
        _ => format!("{} GB", digits(bytes / 1e9, more)),
    }
}

/// 0.999 as `p99.9`, 1.0 as `max`.
fn percentile(share: f64) -> String {
    if share >= 1.0 {
        return "max".into();
    }
    let percent = format!("{:.5}", share * 100.0);
    format!("p{}", percent.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shrank_says_nothing_of_a_client() {
        assert_eq!(bytes_a_client(30_000, 10_000, 5).as_deref(), Some("4 kB"));
        assert_eq!(
            (bytes_a_client(10, 20, 5), bytes_a_client(20, 20, 5), bytes_a_client(20, 10, 0)),
            (None, None, None)
        );
    }

    #[test]
    fn figures_that_are_close_are_told_apart() {
        let more = |values: &[f64]| Unit::Bytes.digits_apart(values);
        assert_eq!(more(&[123e6, 124e6]), 0);
        assert_eq!(more(&[123.41e6, 123.42e6]), 2);
        assert_eq!(Unit::Bytes.precise(123.41e6, 2), "123.41 MB");
        assert_eq!((more(&[5.0, 5.0]), more(&[])), (4, 0));
    }

    #[test]
    fn figures_keep_three_digits() {
        let cases = [
            (Unit::Count, 7.0, "7"),
            (Unit::Count, 1_234_567.0, "1,234,567"),
            (Unit::Count, 1e300, "1.00e300"),
            (Unit::PerSecond, 12.345, "12.3/s"),
            (Unit::PerSecond, 10_000.0, "10,000/s"),
            (Unit::Microseconds, 0.0, "0 µs"),
            (Unit::Microseconds, 12.3, "12.3 µs"),
            (Unit::Microseconds, 1_234.0, "1.23 ms"),
            (Unit::Microseconds, 250_000.0, "250 ms"),
            (Unit::Microseconds, 999_600.0, "1 s"),
            (Unit::Seconds, 3600.0, "60 min"),
            (Unit::Seconds, 345_600.0, "4 d"),
            (Unit::Bytes, 10_240.0, "10.2 kB"),
            (Unit::Bytes, 4.2e9, "4.2 GB"),
            (Unit::Processor, 0.25, "25 %"),
            (Unit::Percentile, 0.5, "p50"),
            (Unit::Percentile, 0.9999, "p99.99"),
            (Unit::Percentile, 1.0, "max"),
            (Unit::Bytes, f64::NAN, "–"),
        ];
        for (unit, value, text) in cases {
            assert_eq!(unit.format(value), text, "{unit:?} {value}");
        }
    }
}
