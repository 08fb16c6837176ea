//! Where a value stands on an axis, and where the axis is labelled.

const DAY: f64 = 86_400.0;
/// Steps of time that people count in, the seconds of the unit that they are written in, and its name.
const TIME_STEPS: [(f64, f64, &str); 17] = [
    (1.0, 1.0, "s"),
    (2.0, 1.0, "s"),
    (5.0, 1.0, "s"),
    (10.0, 1.0, "s"),
    (20.0, 1.0, "s"),
    (30.0, 1.0, "s"),
    (60.0, 60.0, "min"),
    (120.0, 60.0, "min"),
    (300.0, 60.0, "min"),
    (600.0, 60.0, "min"),
    (1200.0, 60.0, "min"),
    (1800.0, 60.0, "min"),
    (3600.0, 3600.0, "h"),
    (7200.0, 3600.0, "h"),
    (14_400.0, 3600.0, "h"),
    (21_600.0, 3600.0, "h"),
    (43_200.0, 3600.0, "h"),
];

/// How values are spread over an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spread {
    Linear,
    Log,
}

/// An axis from one value to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    spread: Spread,
    low: f64,
    high: f64,
}

impl Scale {
    /// An axis from zero that holds all `values`.
    pub(super) fn from_zero(values: impl Iterator<Item = f64>) -> Scale {
        let high = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        let high = if high > 0.0 { high } else { 1.0 };
        let step = step(high / 4.0);
        Scale { spread: Spread::Linear, low: 0.0, high: (high / step).ceil() * step }
    }

    /// An axis that holds all `values` and no more.
    pub(super) fn exact(values: impl Iterator<Item = f64>) -> Scale {
        let (low, high) = range(values).unwrap_or((0.0, 1.0));
        Scale { spread: Spread::Linear, low, high: if high > low { high } else { low + low.abs().max(1.0) } }
    }

    /// A logarithmic axis for what is above zero; its ends are at 1, 2 or 5 times a power of ten.
    pub(super) fn log(values: impl Iterator<Item = f64>) -> Scale {
        let (low, high) = range(values.filter(|value| *value > 0.0)).unwrap_or((1.0, 10.0));
        let (low, high) = (floor_125(low), ceil_125(high));
        Scale { spread: Spread::Log, low, high: if high > low { high } else { low * 10.0 } }
    }

    /// Whether `value` is on the axis.
    pub(super) fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// Where `value` stands: 0.0 at the low end, 1.0 at the high one.
    pub(super) fn at(&self, value: f64) -> f64 {
        let share = match self.spread {
            Spread::Linear => (value - self.low) / (self.high - self.low),
            Spread::Log => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
        };
        share.clamp(0.0, 1.0)
    }

    /// Where it is labelled: some four to seven values.
    pub(super) fn ticks(&self) -> Vec<f64> {
        match self.spread {
            Spread::Linear => self.linear_ticks(),
            Spread::Log => self.log_ticks(),
        }
    }

    /// Where an axis of seconds is labelled, and how: at whole seconds, minutes, hours or days.
    pub(super) fn time_ticks(&self) -> Vec<(f64, String)> {
        let about = (self.high - self.low) / 6.0;
        let whole = TIME_STEPS.into_iter().find(|(step, ..)| *step >= about && about > 0.5);
        let (step, unit, name) = whole.unwrap_or_else(|| match about {
            about if about > 0.5 => (step(about / DAY) * DAY, DAY, "d"),
            about => (step(about), 1.0, "s"),
        });
        let label = |tick: f64| (tick, format!("{} {name}", (tick / unit * 1e3).round() / 1e3));
        self.ticks_each(step).into_iter().map(label).collect()
    }

    fn linear_ticks(&self) -> Vec<f64> {
        self.ticks_each(step((self.high - self.low) / 6.0))
    }

    fn ticks_each(&self, step: f64) -> Vec<f64> {
        let first = (self.low / step).ceil();
        (0..32)
            .map(|n| (first + f64::from(n)) * step)
            .take_while(|tick| *tick <= self.high + step * 1e-6)
            .collect()
    }

    fn log_ticks(&self) -> Vec<f64> {
        let decades = (self.high / self.low).log10();
        let all = |factors: &'static [f64]| {
            let mut power = 10f64.powf(self.low.log10().floor());
            let mut ticks = Vec::new();
            while power <= self.high * 1.001 && ticks.len() < 64 {
                ticks.extend(factors.iter().map(|factor| factor * power));
                power *= 10.0;
            }
            ticks.retain(|tick| *tick >= self.low * 0.999 && *tick <= self.high * 1.001);
            ticks
        };
        match decades {
            d if d <= 2.1 => all(&[1.0, 2.0, 5.0]),
            d if d <= 7.0 => all(&[1.0]),
            d => {
                let each = (d / 6.0).ceil();
                all(&[1.0]).into_iter().filter(|tick| (tick.log10() / each).fract().abs() < 1e-6).collect()
            }
        }
    }
}

fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |range, value| {
        let (low, high) = range.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

/// The least of 1, 2, 5 times a power of ten that is not below `about`.
fn step(about: f64) -> f64 {
    ceil_125(about.max(f64::MIN_POSITIVE * 1e16))
}

fn ceil_125(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= value * 0.999_999);
    factor.unwrap_or(10.0) * power
}

fn floor_125(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let factor = [5.0, 2.0].into_iter().find(|factor| factor * power <= value * 1.000_001);
    factor.unwrap_or(1.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: &[f64], b: &[f64]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= b.abs() * 1e-6)
    }

    #[test]
    fn linear_axes_begin_at_zero_and_end_round() {
        let scale = Scale::from_zero([3.0, 87.0].into_iter());
        assert!(near(&scale.ticks(), &[0.0, 20.0, 40.0, 60.0, 80.0, 100.0]), "{:?}", scale.ticks());
        assert_eq!((scale.at(0.0), scale.at(50.0), scale.at(1e9)), (0.0, 0.5, 1.0));
    }

    #[test]
    fn time_is_labelled_at_whole_steps() {
        let labels = |low: f64, high: f64| {
            let ticks = Scale::exact([low, high].into_iter()).time_ticks();
            ticks.into_iter().map(|(_, label)| label).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(labels(0.0, 12.0), "0 s, 2 s, 4 s, 6 s, 8 s, 10 s, 12 s");
        assert_eq!(labels(0.0, 1.0), "0 s, 0.2 s, 0.4 s, 0.6 s, 0.8 s, 1 s");
        assert_eq!(labels(0.0, 170.0), "0 s, 30 s, 60 s, 90 s, 120 s, 150 s");
        assert_eq!(labels(361.0, 1799.0), "10 min, 15 min, 20 min, 25 min");
        assert_eq!(labels(0.0, 86_400.0), "0 h, 4 h, 8 h, 12 h, 16 h, 20 h, 24 h");
        assert_eq!(labels(0.0, 7.0 * DAY), "0 d, 2 d, 4 d, 6 d");
    }

    #[test]
    fn log_axes_are_labelled_by_their_length() {
        let short = Scale::log([230.0, 4_100.0].into_iter());
        assert!(near(&short.ticks(), &[200.0, 500.0, 1000.0, 2000.0, 5000.0]), "{:?}", short.ticks());
        let long = Scale::log([3.0, 2e6].into_iter());
        assert!(near(&long.ticks(), &[10.0, 100.0, 1e3, 1e4, 1e5, 1e6]), "{:?}", long.ticks());
        assert!((Scale::log([1.0, 100.0].into_iter()).at(10.0) - 0.5).abs() < 1e-9);
        assert!(Scale::log([1e-9, 1e12].into_iter()).ticks().len() <= 8);
    }

    #[test]
    fn nothing_one_value_and_huge_ones_have_an_axis() {
        for values in [vec![], vec![0.0], vec![5.0], vec![f64::NAN], vec![f64::INFINITY], vec![1e300]] {
            for scale in [
                Scale::from_zero(values.iter().copied()),
                Scale::exact(values.iter().copied()),
                Scale::log(values.iter().copied()),
            ] {
                let ticks = scale.ticks();
                assert!((1..=33).contains(&ticks.len()), "{values:?} {ticks:?}");
                assert!(ticks.iter().all(|tick| (0.0..=1.0).contains(&scale.at(*tick))), "{values:?}");
            }
        }
    }
}
