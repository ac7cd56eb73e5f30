//! What the setters set.

use std::{ops::RangeInclusive, time::Duration};

use fastrand::Rng;
use stockade_core::config::{ConfigError, MAX_DURATION, check};

use crate::ChaosLayer;

/// How long an answer is held back.
///
/// From a `Duration`, always that long; from a range, any length in it.
///
/// In a file (feature `serde`) it is `{ between = ["10ms", "50ms"] }` or `{ exponential = "20ms" }`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Latency {
    /// From the first to the second, any length equally often.
    Between(
        #[cfg_attr(feature = "serde", serde(with = "fields::length"))] Duration,
        #[cfg_attr(feature = "serde", serde(with = "fields::length"))] Duration,
    ),
    /// Exponentially distributed around this mean: mostly short, now and then several times as long.
    Exponential(#[cfg_attr(feature = "serde", serde(with = "fields::length"))] Duration),
}

/// The configuration of chaos, without the closures: how often each fault comes, from 0 to 1, which is never by
/// default.
///
/// A layer is usually made with [`ChaosLayer::new`] and its setters, which panic if a value is not allowed. This is
/// the same configuration as a value, for one that is read from a file: [`try_build`](Self::try_build) returns an
/// error. Errors are made by a function: see [`ChaosLayer::error`].
///
/// # Example
///
/// ```
/// use stockade_chaos::Config;
///
/// let mut config = Config::default();
/// config.hang = 0.01;
/// assert!(config.try_build(42).is_ok());
///
/// config.hang = 2.0;
/// let error = config.try_build(42).unwrap_err();
/// assert_eq!(error.to_string(), "ChaosLayer::hang: 2.0 is not allowed, it has to be from 0.0 to 1.0");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct Config {
    /// How often an answer is held back.
    #[cfg_attr(feature = "serde", serde(with = "fields::probability"))]
    pub latency: f64,
    /// For how long; it has to be set where `latency` is.
    pub length: Option<Latency>,
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) error: f64,
    /// How often a call is refused.
    #[cfg_attr(feature = "serde", serde(with = "fields::probability"))]
    pub reject: f64,
    /// How often a call hangs for ever.
    #[cfg_attr(feature = "serde", serde(with = "fields::probability"))]
    pub hang: f64,
    /// How often the future of a call panics.
    #[cfg_attr(feature = "serde", serde(with = "fields::probability"))]
    pub panic: f64,
    /// See [`ChaosLayer::name`].
    #[cfg_attr(feature = "serde", serde(with = "stockade_core::internal::written::name"))]
    pub name: Option<StaticName>,
}

/// A name of its own, because serde would borrow a reference that it sees.
type StaticName = &'static str;

const PROBABILITIES: RangeInclusive<f64> = 0.0..=1.0;

#[cfg(feature = "serde")]
stockade_core::fields! {
    probability: f64 = PROBABILITIES;
    length: Duration = Duration::ZERO..=MAX_DURATION;
}

// === impl Config ===

impl Config {
    /// The layer, which is off until its handle turns it on. `seed` makes the faults repeatable.
    ///
    /// # Errors
    ///
    /// The first value that is not allowed, with what is.
    pub fn try_build(self, seed: u64) -> Result<ChaosLayer, ConfigError> {
        self.check()?;
        Ok(ChaosLayer::from_config(self, seed))
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        check("ChaosLayer::latency", self.latency, PROBABILITIES)?;
        check("ChaosLayer::error", self.error, PROBABILITIES)?;
        check("ChaosLayer::reject", self.reject, PROBABILITIES)?;
        check("ChaosLayer::hang", self.hang, PROBABILITIES)?;
        check("ChaosLayer::panic", self.panic, PROBABILITIES)?;
        match self.length {
            Some(length) => length.check(),
            None if self.latency == 0.0 => Ok(()),
            None => {
                let allowed = "set, because latency is";
                Err(ConfigError::new("ChaosLayer::length", &self.length, allowed))
            }
        }
    }
}

// === impl Latency ===

impl Latency {
    /// Exponentially distributed: mostly short, now and then several times as long as `mean`.
    pub const fn exponential(mean: Duration) -> Self {
        Self::Exponential(mean)
    }

    fn check(self) -> Result<(), ConfigError> {
        let (low, high) = match self {
            Self::Between(low, high) => (low, high),
            Self::Exponential(mean) => (mean, mean),
        };
        check("ChaosLayer::latency", high, Duration::ZERO..=MAX_DURATION)?;
        check("ChaosLayer::latency", low, Duration::ZERO..=high).map(drop)
    }

    pub(crate) fn draw(self, rng: &mut Rng) -> Duration {
        match self {
            Self::Between(low, high) => low + (high - low).mul_f64(rng.f64()),
            // The chance is never quite 1, so the logarithm is finite: at most 37 times the mean.
            Self::Exponential(mean) => mean.mul_f64(-(1.0 - rng.f64()).ln()),
        }
    }
}

impl From<Duration> for Latency {
    fn from(length: Duration) -> Self {
        Self::Between(length, length)
    }
}

impl From<RangeInclusive<Duration>> for Latency {
    fn from(range: RangeInclusive<Duration>) -> Self {
        Self::Between(*range.start(), *range.end())
    }
}
