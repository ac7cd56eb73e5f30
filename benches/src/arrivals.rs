//! When calls arrive and how long the service takes for each: drawn beforehand, from the seed alone.
//!
//! Arrivals are a Poisson process: nobody who arrives knows of the others, or waits for an answer to somebody else. A
//! stall is then charged to every call that it delays, because latency counts from the arrival that was fixed.

use std::{f64::consts::TAU, time::Duration};

use fastrand::Rng;

/// Arrivals at `per_second` on average, until `span` has passed, in order.
pub fn poisson(per_second: f64, span: Duration, seed: u64) -> Vec<Duration> {
    let mut rng = Rng::with_seed(seed);
    let mut at = 0.0;
    let mut arrivals = Vec::new();
    loop {
        // The inverse of the exponential distribution of the gaps; one minus, so that it is no logarithm of zero.
        at -= (1.0 - rng.f64()).ln() / per_second;
        if at >= span.as_secs_f64() {
            return arrivals;
        }
        arrivals.push(Duration::from_secs_f64(at));
    }
}

/// A distribution of service times: lognormal, and a part of the calls takes ten times as long.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The mean of all.
    pub mean: Duration,
    /// The part that takes ten times as long.
    pub slow: f64,
    /// What it is drawn from.
    pub seed: u64,
}

/// The standard deviation of the logarithm.
const SIGMA: f64 = 0.5;
const TIMES_AS_LONG: f64 = 10.0;

// === impl Times ===

impl Times {
    /// How long this attempt at this request takes, whichever stack it comes through: stacks are compared over the
    /// same times.
    pub fn of(&self, request: u64, attempt: u32) -> Duration {
        let mut rng = Rng::with_seed(
            self.seed
                ^ request.wrapping_mul(0x9E37_79B9_7F4A_7C15)
                ^ u64::from(attempt).wrapping_mul(0xD1B5_4A32_D192_ED03),
        );
        // The generator's first values are close where seeds are.
        let (_, radius, angle) = (rng.u64(..), rng.f64(), rng.f64());
        let normal = (-2.0 * (1.0 - radius).ln()).sqrt() * (TAU * angle).cos();
        let usual = (SIGMA * normal - SIGMA * SIGMA / 2.0).exp();
        let factor = if rng.f64() < self.slow { TIMES_AS_LONG } else { 1.0 };
        let scale = 1.0 + self.slow * (TIMES_AS_LONG - 1.0);
        self.mean.mul_f64(usual * factor / scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(100);

    #[test]
    fn the_same_seed_gives_the_same_arrivals() {
        assert_eq!(poisson(50.0, SPAN, 7), poisson(50.0, SPAN, 7));
        assert_ne!(poisson(50.0, SPAN, 7), poisson(50.0, SPAN, 8));
    }

    #[test]
    fn arrivals_come_in_order_and_at_the_rate() {
        let arrivals = poisson(100.0, SPAN, 1);
        assert!(arrivals.is_sorted());
        assert!(arrivals.last().unwrap() < &SPAN);
        // Ten thousand on average, with a standard deviation of a hundred.
        assert!((9_500..10_500).contains(&arrivals.len()), "{}", arrivals.len());
    }

    #[test]
    fn gaps_are_as_irregular_as_those_of_a_poisson_process() {
        let arrivals = poisson(100.0, SPAN, 1);
        let gaps: Vec<_> = arrivals.windows(2).map(|w| (w[1] - w[0]).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // The deviation of an exponential distribution is its mean.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.05, "{}", variance.sqrt() / mean);
    }

    #[test]
    fn service_times_have_the_mean_that_was_asked_for() {
        let times = Times { mean: Duration::from_millis(50), slow: 0.01, seed: 3 };
        let all: Vec<_> = (0..20_000).map(|n| times.of(n, 1).as_secs_f64()).collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        assert!((mean / 0.05 - 1.0).abs() < 0.03, "{mean}");
        let slow = all.iter().filter(|time| **time > 0.25).count();
        assert!((80..320).contains(&slow), "{slow}");
    }

    #[test]
    fn another_attempt_takes_another_time() {
        let times = Times { mean: Duration::from_millis(50), slow: 0.0, seed: 3 };
        assert_eq!(times.of(1, 1), times.of(1, 1));
        assert_ne!(times.of(1, 1), times.of(1, 2));
    }
}
