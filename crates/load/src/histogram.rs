//! Times in an HDR histogram: recorded in nanoseconds, reported in microseconds.

use std::borrow::Cow;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bench::outcome::CurvePoint;

/// The longest time that is told apart; a longer one counts as this.
pub(crate) const LONGEST: Duration = Duration::from_secs(3600);
/// The shortest time that is told apart; the histogram takes the power of two of nanoseconds below it.
const SHORTEST: Duration = Duration::from_micros(1);
/// Digits that a recorded value keeps.
const SIGNIFICANT_DIGITS: u8 = 3;

/// Durations with their percentiles, to three digits or half a microsecond.
#[derive(Debug, Clone)]
pub struct Times {
    histogram: Histogram<u64>,
}

impl Default for Times {
    fn default() -> Times {
        Times::new()
    }
}

impl Times {
    /// An empty histogram; about 200 kB, whatever is recorded.
    ///
    /// # Panics
    /// Never: the bounds are constants which the histogram accepts.
    pub fn new() -> Times {
        let histogram =
            Histogram::new_with_bounds(nanoseconds(SHORTEST), nanoseconds(LONGEST), SIGNIFICANT_DIGITS);
        Times { histogram: histogram.expect("constant bounds are valid") }
    }

    /// Records one time; more than an hour counts as an hour.
    pub fn record(&mut self, time: Duration) {
        self.histogram.saturating_record(nanoseconds(time));
    }

    /// Adds everything that `other` holds.
    ///
    /// # Panics
    /// Never: every histogram here has the same bounds.
    pub fn add(&mut self, other: &Times) {
        if !other.histogram.is_empty() {
            self.histogram.add(&other.histogram).expect("equal bounds");
        }
    }

    /// Forgets everything; the memory stays.
    pub fn reset(&mut self) {
        if !self.histogram.is_empty() {
            self.histogram.reset();
        }
    }

    /// What two hold together: mostly one of them is empty.
    pub(crate) fn both<'a>(one: &'a Times, other: &'a Times) -> Cow<'a, Times> {
        match (one.count(), other.count()) {
            (0, _) => Cow::Borrowed(other),
            (_, 0) => Cow::Borrowed(one),
            _ => {
                let mut sum = one.clone();
                sum.add(other);
                Cow::Owned(sum)
            }
        }
    }

    /// How many times were recorded.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The time that the share `quantile` (0.0 to 1.0) of all stays at or below; zero when nothing was recorded.
    pub(crate) fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.histogram.value_at_quantile(quantile))
    }

    /// The percentiles for a report; `None` when nothing was recorded.
    pub(crate) fn summary(&self) -> Option<Summary> {
        let us = |ns: u64| ns as f64 / 1e3;
        let at = |quantile: f64| us(self.histogram.value_at_quantile(quantile));
        (!self.histogram.is_empty()).then(|| Summary {
            count: self.histogram.len(),
            min: us(self.histogram.min()),
            mean: self.histogram.mean() / 1e3,
            p50: at(0.50),
            p90: at(0.90),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: us(self.histogram.max()),
        })
    }
}

/// As pairs of a time in nanoseconds and how often it was recorded.
impl Serialize for Times {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(
            self.histogram.iter_recorded().map(|at| (at.value_iterated_to(), at.count_at_value())),
        )
    }
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Times, D::Error> {
        let mut times = Times::new();
        for (value, count) in Vec::<(u64, u64)>::deserialize(input)? {
            times.histogram.record_n(value, count).map_err(D::Error::custom)?;
        }
        Ok(times)
    }
}

/// Percentiles in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names are the percentiles")]
pub struct Summary {
    pub count: u64,
    pub min: f64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub p9999: f64,
    pub max: f64,
}

/// Latency, from two starting points.
///
/// A server that stops for a second also stops the load's own sending; counting from the time of sending would then
/// forget most of that second (coordinated omission). So the time that counts is the *intended* one.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Latency {
    /// From when the message was due.
    pub corrected: Times,
    /// From when it was really sent.
    pub uncorrected: Times,
}

impl Latency {
    /// Forgets everything; the memory stays.
    pub fn reset(&mut self) {
        self.corrected.reset();
        self.uncorrected.reset();
    }

    /// Records an answer at `answered` to a message that was due at `due` and sent at `sent`; all three from the
    /// same start.
    pub fn record(&mut self, due: Duration, sent: Duration, answered: Duration) {
        self.corrected.record(answered.saturating_sub(due));
        self.uncorrected.record(answered.saturating_sub(sent));
    }

    /// From the median on, as far as there are messages to tell percentiles apart, and the slowest; empty without any.
    pub fn curve(&self) -> Vec<CurvePoint> {
        let (count, us) = (self.corrected.count(), |time: Duration| time.as_secs_f64() * 1e6);
        let point = |quantile| CurvePoint {
            quantile,
            corrected_us: us(self.corrected.quantile(quantile)),
            uncorrected_us: (self.uncorrected.count() > 0).then(|| us(self.uncorrected.quantile(quantile))),
        };
        if count == 0 {
            return Vec::new();
        }
        // Four points for each factor of two in what is left above.
        let steps = (4..).map(|step| 1.0 - 0.5f64.powf(f64::from(step) / 4.0));
        let steps = steps.take_while(|quantile| (1.0 - quantile) * count as f64 >= 1.0);
        steps.chain([1.0]).map(point).collect()
    }

    /// Adds everything that `other` holds.
    pub fn add(&mut self, other: &Latency) {
        self.corrected.add(&other.corrected);
        self.uncorrected.add(&other.uncorrected);
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() <= b * 0.001
    }

    #[test]
    fn percentiles_in_microseconds() {
        let mut times = Times::new();
        assert_eq!(times.summary(), None);
        (1..=1000).for_each(|n| times.record(ms(n)));
        let summary = times.summary().unwrap();
        assert_eq!(summary.count, 1000);
        assert!(
            near(summary.p50, 500_000.0) && near(summary.p99, 990_000.0) && near(summary.p999, 999_000.0)
        );
        assert!(near(summary.max, 1_000_000.0) && near(summary.mean, 500_500.0));
    }

    #[test]
    fn extremes_are_kept_in_range() {
        let mut times = Times::new();
        times.record(Duration::ZERO);
        times.record(Duration::MAX);
        assert_eq!(times.count(), 2);
        assert!(near(times.quantile(1.0).as_secs_f64(), 3600.0));
    }

    #[test]
    fn short_times_are_told_to_half_a_microsecond() {
        for ns in (0..2_000_000).step_by(977) {
            let mut times = Times::new();
            times.record(Duration::from_nanos(ns));
            let summary = times.summary().unwrap();
            for us in [summary.min, summary.mean, summary.p50, summary.max] {
                let off = (us - ns as f64 / 1e3).abs();
                assert!(off <= 0.512 || off <= us / 1e3, "{ns} ns as {us} µs");
            }
        }
    }

    #[test]
    fn adding_keeps_every_value() {
        let (mut all, mut other) = (Times::new(), Times::new());
        all.record(ms(1));
        other.record(ms(100));
        other.record(ms(100));
        all.add(&other);
        assert_eq!(all.count(), 3);
        assert!(near(all.quantile(0.9).as_secs_f64(), 0.1));
    }

    #[test]
    fn a_curve_goes_from_the_median_to_the_slowest() {
        let mut latency = Latency::default();
        assert!(latency.curve().is_empty());
        latency.record(ms(0), ms(1), ms(3));
        assert_eq!(latency.curve().len(), 1);
        (0..1000).for_each(|n| latency.record(ms(0), ms(0), ms(n)));
        let curve = latency.curve();
        assert_eq!((curve[0].quantile, curve.last().unwrap().quantile), (0.5, 1.0));
        assert!(
            near(curve[0].corrected_us, 499_500.0) && near(curve.last().unwrap().corrected_us, 999_000.0)
        );
        assert!(curve.windows(2).all(|pair| pair[0].quantile < pair[1].quantile));
        assert!((30..=60).contains(&curve.len()), "{}", curve.len());
    }

    #[test]
    fn a_curve_of_what_was_never_answered_has_one_side() {
        let mut latency = Latency::default();
        latency.corrected.record(ms(5000));
        let [point] = latency.curve()[..] else { panic!("{:?}", latency.curve()) };
        assert!(near(point.corrected_us, 5_000_000.0) && point.uncorrected_us.is_none());
    }

    /// A client due every 10 ms whose server stops from 100 ms to 1100 ms: everything that was due in that second is
    /// sent at its end and answered at once.
    #[test]
    fn a_pause_shows_only_when_corrected() {
        let mut latency = Latency::default();
        for due in (0..2000).step_by(10) {
            let sent = if (100..1100).contains(&due) { 1100 } else { due };
            latency.record(ms(due), ms(sent), ms(sent + 1));
        }
        assert!(latency.corrected.quantile(0.9) > ms(700));
        assert!(latency.uncorrected.quantile(0.999) < ms(2));
    }
}
