//! A straight line through what was seen, and how well it is known.

use serde::Serialize;

/// How fast something grows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Slope {
    /// An hour.
    pub per_hour: f64,
    /// Two standard errors: with a probability of about 95 % it lies within so much of the truth.
    pub error: f64,
    /// The point in the middle of what was seen, in seconds and in what grows, through which it goes.
    #[serde(skip)]
    pub(super) middle: (f64, f64),
}

impl Slope {
    /// By least squares, through points of seconds and values.
    ///
    /// What a point deviates by, the next one tends to deviate by as well; so many points say less than they would if
    /// they were independent, and the error is widened by sqrt((1+r)/(1−r)) for a correlation r of neighbours.
    pub(super) fn through(points: &[(f64, f64)]) -> Option<Slope> {
        let n = points.len() as f64;
        if points.len() < 3 {
            return None;
        }
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
        let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
        let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        if spread <= 0.0 {
            return None;
        }
        let slope = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / spread;
        let residuals: Vec<f64> = points.iter().map(|(x, y)| y - mean_y - slope * (x - mean_x)).collect();
        let squares: f64 = residuals.iter().map(|residual| residual * residual).sum();
        let neighbours: f64 = residuals.windows(2).map(|pair| pair[0] * pair[1]).sum();
        let r = if squares > 0.0 { (neighbours / squares).clamp(0.0, 0.99) } else { 0.0 };
        let error = (squares / (n - 2.0) / spread).sqrt() * ((1.0 + r) / (1.0 - r)).sqrt();
        Some(Slope { per_hour: slope * 3600.0, error: 2.0 * error * 3600.0, middle: (mean_x, mean_y) })
    }

    /// What a line through the same middle has at `seconds`, if it grows `more` an hour than this one.
    pub(super) fn at(&self, seconds: f64, more: f64) -> f64 {
        let (x, y) = self.middle;
        y + (self.per_hour + more) * (seconds - x) / 3600.0
    }
}

#[cfg(test)]
mod tests {
    use workload::random::Random;

    use super::*;

    #[test]
    fn a_line_is_found_exactly() {
        let points: Vec<_> = (0..10).map(|x| (f64::from(x), 5.0 + 2.0 * f64::from(x))).collect();
        let slope = Slope::through(&points).unwrap();
        assert!((slope.per_hour - 7200.0).abs() < 1e-6 && slope.error < 1e-6, "{slope:?}");
        assert!((slope.at(7.0, 0.0) - 19.0).abs() < 1e-6 && (slope.at(7.5, 3600.0) - 23.0).abs() < 1e-6);
        assert_eq!(Slope::through(&points[..2]), None);
        assert_eq!(Slope::through(&[(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]), None);
    }

    /// Noise around a line, of which a part stays from one point to the next.
    fn noisy(seed: u64, stays: f64) -> Slope {
        let (mut random, mut noise) = (Random::new(seed), 0.0);
        let points: Vec<_> = (0..400)
            .map(|x| {
                noise = noise * stays + random.between(-1000.0, 1000.0);
                (f64::from(x), f64::from(x) + noise)
            })
            .collect();
        Slope::through(&points).unwrap()
    }

    #[test]
    fn the_error_covers_the_truth() {
        for stays in [0.0, 0.8] {
            let covered =
                (0..100).map(|seed| noisy(seed, stays)).filter(|it| (it.per_hour - 3600.0).abs() <= it.error);
            let covered = covered.count();
            assert!(covered >= 90, "{covered} of 100 with {stays}");
        }
        assert!(noisy(1, 0.8).error > 2.0 * noisy(1, 0.0).error);
    }
}
