//! Arithmetic over repeated runs: medians with their range, slopes, ratios pair by pair.

use serde::Serialize;

/// A figure that was measured several times.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one (of an even number the mean of the two in the middle).
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// How many there were.
    pub runs: usize,
}

impl Spread {
    /// Median and range of `values`; none without values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
            _ => sorted[middle],
        };
        Some(Spread { median, min, max, runs: sorted.len() })
    }
}

/// Ratios all of which lie within this share of one are no difference.
const ALIKE: f64 = 0.05;

/// Whether two servers differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Difference {
    /// Every pair says that it is less, by more than noise.
    Less,
    /// Every pair lies within 5 %.
    None,
    /// The pairs disagree, or it may be noise.
    Unclear,
    /// Every pair says that it is more, by more than noise.
    More,
}

impl Difference {
    /// What `ratios` tell where the same server measured twice differs from itself by the share `noise`; where that was not
    /// measured, by what counts as no difference.
    pub fn of(ratios: &Spread, noise: Option<f64>) -> Difference {
        let noise = noise.unwrap_or(ALIKE);
        match ratios {
            Spread { min, max, .. } if *min >= 1.0 - ALIKE && *max <= 1.0 + ALIKE => Difference::None,
            Spread { max, .. } if *max < 1.0 - noise => Difference::Less,
            Spread { min, .. } if *min > 1.0 + noise => Difference::More,
            _ => Difference::Unclear,
        }
    }
}

/// The ratios of what `a` and `b` measured in the same round; each is a list of (round, figure). None where no round
/// has both.
pub(crate) fn ratios(a: &[(usize, f64)], b: &[(usize, f64)]) -> Option<Spread> {
    let of_round = |round: usize| b.iter().find(|(other, value)| *other == round && *value > 0.0);
    Spread::of(a.iter().filter_map(|(round, value)| Some(value / of_round(*round)?.1)))
}

/// A straight line through points, by least squares.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Line {
    /// What one more of x adds to y.
    pub slope: f64,
    /// y where x is zero.
    pub intercept: f64,
    /// How much of the spread of y the line explains: 1.0 is all.
    pub r_squared: f64,
}

impl Line {
    /// The line through `points` of (x, y); none with fewer than two different x.
    pub fn through(points: &[(f64, f64)]) -> Option<Line> {
        let n = points.len() as f64;
        let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / n;
        let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / n;
        let sum =
            |f: &dyn Fn(f64, f64) -> f64| points.iter().map(|(x, y)| f(x - mean_x, y - mean_y)).sum::<f64>();
        let (xx, xy, yy) = (sum(&|x, _| x * x), sum(&|x, y| x * y), sum(&|_, y| y * y));
        if xx.is_nan() || xx <= 0.0 {
            return None;
        }
        let slope = xy / xx;
        let r_squared = if yy > 0.0 { xy * xy / (xx * yy) } else { 1.0 };
        Some(Line { slope, intercept: mean_y - slope * mean_x, r_squared })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_not_the_mean() {
        let spread = Spread::of([9.0, 1.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { median: 2.0, min: 1.0, max: 9.0, runs: 3 });
        assert_eq!(Spread::of([4.0, 2.0]).unwrap().median, 3.0);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn ratios_are_of_pairs() {
        // The second round ran on a machine half as fast: the ratio does not notice.
        let spread = ratios(&[(0, 10.0), (1, 20.0)], &[(1, 80.0), (0, 40.0)]).unwrap();
        assert_eq!((spread.min, spread.max), (0.25, 0.25));
        // A rejected run takes its pair with it.
        assert_eq!(ratios(&[(0, 10.0), (1, 20.0)], &[(1, 40.0)]).unwrap().runs, 1);
        assert_eq!(ratios(&[(0, 1.0)], &[(0, 0.0)]), None);
    }

    #[test]
    fn a_difference_is_more_than_noise() {
        let of = |min, max, noise| {
            Difference::of(&Spread { median: f64::midpoint(min, max), min, max, runs: 2 }, noise)
        };
        assert_eq!(of(0.96, 1.05, Some(0.2)), Difference::None);
        assert_eq!(of(0.41, 0.56, Some(0.07)), Difference::Less);
        assert_eq!(of(1.19, 1.31, Some(0.07)), Difference::More);
        assert_eq!(of(1.05, 1.08, Some(0.07)), Difference::Unclear);
        assert_eq!(of(0.8, 1.2, Some(0.01)), Difference::Unclear);
        assert_eq!((of(0.9, 0.94, None), of(0.9, 0.96, None)), (Difference::Less, Difference::Unclear));
    }

    #[test]
    fn slope_ignores_what_does_not_grow() {
        let points: Vec<(f64, f64)> =
            [500.0, 1000.0, 2000.0].map(|n| (n, 6_000_000.0 + 3_700.0 * n)).to_vec();
        let line = Line::through(&points).unwrap();
        assert!((line.slope - 3_700.0).abs() < 1e-6 && (line.intercept - 6e6).abs() < 1e-3);
        assert!(line.r_squared > 0.999_999);
    }

    #[test]
    fn one_point_has_no_slope() {
        assert_eq!(Line::through(&[]), None);
        assert_eq!(Line::through(&[(5.0, 1.0)]), None);
        assert_eq!(Line::through(&[(5.0, 1.0), (5.0, 2.0)]), None);
        let noisy = Line::through(&[(0.0, 0.0), (1.0, 2.0), (2.0, 1.0), (3.0, 3.0)]).unwrap();
        assert!((noisy.slope - 0.8).abs() < 1e-9 && (noisy.r_squared - 0.64).abs() < 1e-9);
    }
}
