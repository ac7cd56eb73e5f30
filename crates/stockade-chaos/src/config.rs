//! What the setters set.

use std::{ops::RangeInclusive, time::Duration};

use fastrand::Rng;
use stockade_core::config::{ConfigError, MAX_DURATION, check};

/// How long an answer is held back.
///
/// From a `Duration`, always that long; from a range, any length in it equally often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency(Kind);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Between(Duration, Duration),
    Exponential(Duration),
}

/// How often each fault comes, from 0 to 1.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Config {
    pub(crate) latency: f64,
    pub(crate) length: Option<Latency>,
    pub(crate) error: f64,
    pub(crate) reject: f64,
    pub(crate) hang: f64,
    pub(crate) panic: f64,
    pub(crate) name: Option<&'static str>,
}

// === impl Latency ===

impl Latency {
    /// Exponentially distributed: mostly short, now and then several times as long as `mean`.
    pub const fn exponential(mean: Duration) -> Self {
        Self(Kind::Exponential(mean))
    }

    pub(crate) fn check(self, setting: &str) -> Result<Self, ConfigError> {
        let (low, high) = match self.0 {
            Kind::Between(low, high) => (low, high),
            Kind::Exponential(mean) => (mean, mean),
        };
        check(setting, high, Duration::ZERO..=MAX_DURATION)?;
        check(setting, low, Duration::ZERO..=high)?;
        Ok(self)
    }

    pub(crate) fn draw(self, rng: &mut Rng) -> Duration {
        match self.0 {
            Kind::Between(low, high) => low + (high - low).mul_f64(rng.f64()),
            // The chance is never quite 1, so the logarithm is finite: at most 37 times the mean.
            Kind::Exponential(mean) => mean.mul_f64(-(1.0 - rng.f64()).ln()),
        }
    }
}

impl From<Duration> for Latency {
    fn from(length: Duration) -> Self {
        Self(Kind::Between(length, length))
    }
}

impl From<RangeInclusive<Duration>> for Latency {
    fn from(range: RangeInclusive<Duration>) -> Self {
        Self(Kind::Between(*range.start(), *range.end()))
    }
}
