//! Medians and their uncertainty, and percents as one types them.

use std::{fmt, str::FromStr};

use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// A median, and between which bounds it lies with a probability of 95 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower bound.
    pub low: f64,
    /// The median.
    pub mid: f64,
    /// The upper bound.
    pub high: f64,
}

/// A part of a whole: `5%` or `5` is five hundredths.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Percent(pub f64);

const RESAMPLES: usize = 400;

/// The median; `None` of nothing.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    Some(f64::midpoint(values[last / 2], values[last.div_ceil(2)]))
}

// === impl Interval ===

impl Interval {
    /// By the bootstrap: the median is taken of many samples that are drawn from `values` with replacement, and
    /// the bounds are where 2.5 % of those medians are below and above. `None` of nothing.
    pub fn of(values: &[f64], seed: u64) -> Option<Self> {
        let mid = median(values.iter().copied())?;
        let mut rng = Rng::with_seed(seed);
        let mut drawn = vec![0.0; values.len()];
        let mut medians: Vec<f64> = (0..RESAMPLES)
            .filter_map(|_| {
                drawn.fill_with(|| values[rng.usize(..values.len())]);
                median(drawn.iter().copied())
            })
            .collect();
        medians.sort_by(f64::total_cmp);
        let tail = RESAMPLES / 40;
        Some(Self { low: medians[tail], mid, high: medians[RESAMPLES - 1 - tail] })
    }

    /// Whether the two have a value in common.
    pub fn touches(self, other: Self) -> bool {
        self.low <= other.high && other.low <= self.high
    }
}

// === impl Percent ===

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim().strip_suffix('%').unwrap_or(text).trim();
        match digits.parse::<f64>() {
            Ok(value) if value.is_finite() && value >= 0.0 => Ok(Self(value / 100.0)),
            _ => Err(format!("{text:?} is no percentage; write a number from 0 up, such as 5%")),
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", (self.0 * 1e4).round() / 1e2)
    }
}

/// Nanoseconds in a unit that needs few digits.
pub fn nanoseconds(ns: f64) -> String {
    match ns {
        ns if ns < 99.95 => format!("{ns:.1} ns"),
        ns if ns < 9_999.5 => format!("{ns:.0} ns"),
        ns if ns < 999_950.0 => format!("{:.1} µs", ns / 1e3),
        ns if ns < 999_950_000.0 => format!("{:.1} ms", ns / 1e6),
        ns => format!("{:.2} s", ns / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_two() {
        assert_eq!(median([4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([]), None);
    }

    #[test]
    fn values_that_agree_leave_no_doubt() {
        let interval = Interval::of(&[2.0; 9], 1).unwrap();
        assert_eq!(interval, Interval { low: 2.0, mid: 2.0, high: 2.0 });
    }

    #[test]
    fn the_bounds_hold_the_median_and_narrow_with_more_values() {
        let values = |n: usize| (0..n).map(|k| (k % 10) as f64).collect::<Vec<_>>();
        let few = Interval::of(&values(10), 1).unwrap();
        let many = Interval::of(&values(1_000), 1).unwrap();
        for interval in [few, many] {
            assert!(interval.low <= interval.mid && interval.mid <= interval.high);
        }
        assert!(many.high - many.low < few.high - few.low, "{many:?} {few:?}");
        assert!(few.low > 0.0 && few.high < 9.0, "{few:?}");
    }

    #[test]
    fn one_far_value_does_not_move_the_bounds() {
        let mut values = vec![1.0; 50];
        values.push(1e9);
        assert_eq!(Interval::of(&values, 1).unwrap().high, 1.0);
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let values: Vec<_> = (0..40).map(f64::from).collect();
        assert_eq!(Interval::of(&values, 5), Interval::of(&values, 5));
    }

    #[test]
    fn percents_are_read_with_and_without_the_sign() {
        assert_eq!("5%".parse(), Ok(Percent(0.05)));
        assert_eq!("5 %".parse(), Ok(Percent(0.05)));
        assert_eq!("2.5".parse(), Ok(Percent(0.025)));
        for wrong in ["five", "-1%", "%", "", "NaN", "inf%"] {
            let error = wrong.parse::<Percent>().unwrap_err();
            assert!(error.contains(&format!("{wrong:?}")) && error.contains("5%"), "{error}");
        }
        assert_eq!(Percent(0.05).to_string(), "5 %");
    }

    #[test]
    fn times_are_given_in_a_unit_that_needs_few_digits() {
        assert_eq!(nanoseconds(2.51), "2.5 ns");
        assert_eq!(nanoseconds(1_234.0), "1234 ns");
        assert_eq!(nanoseconds(45_300.0), "45.3 µs");
        assert_eq!(nanoseconds(45_300_000.0), "45.3 ms");
        assert_eq!(nanoseconds(2e9), "2.00 s");
    }
}
