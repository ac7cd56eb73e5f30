//! What the setters set, and its limits.

use std::{ops::RangeInclusive, time::Duration};

use stockade_core::{
    Budget, ConfigError, Name,
    config::{MAX_DURATION, MIN_DURATION, check_field},
};

use crate::{Backoff, Policy, RetryLayer};

/// The configuration of a retry, without the closures.
///
/// A layer is usually made with [`RetryLayer::max_attempts`] and its setters, which panic if a value is not allowed.
/// This is the same configuration as a value, for one that is read from a file: [`try_build`](Self::try_build) returns
/// an error.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use stockade_retry::Config;
///
/// let mut config = Config::new(4);
/// config.max_elapsed = Some(Duration::from_secs(2));
/// let retry = config.clone().try_build()?.idempotent(|path: &String| path != "/pay");
///
/// config.max_attempts = 0;
/// let error = config.try_build().unwrap_err();
/// assert_eq!(error.to_string(), "Config::max_attempts: 0 is not allowed, it has to be from 1 to 4294967295");
/// # Ok::<_, stockade_core::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, expecting = "a table of settings"))]
#[non_exhaustive]
pub struct Config {
    /// The most attempts of one call, the first one included, from 1.
    #[cfg_attr(feature = "serde", serde(with = "fields::max_attempts"))]
    pub max_attempts: u32,
    /// How long to wait before a further attempt. Default: exponential, 50 ms doubling to 10 s, full jitter.
    #[cfg_attr(feature = "serde", serde(default))]
    pub backoff: Backoff,
    /// How many further attempts there may be. Default, also for `None`: `Budget::new(0.2, 10.0)`, shared by
    /// nobody else.
    #[cfg_attr(feature = "serde", serde(default))]
    pub budget: Option<Budget>,
    /// No attempt starts this long after the first one, or later; from 1 ns to ten years. Default: none.
    #[cfg_attr(feature = "serde", serde(default, with = "fields::max_elapsed"))]
    pub max_elapsed: Option<Duration>,
    /// How long one call waits for layers inside that refuse it, all waits together; up to ten years.
    /// Default: `None`, a refusal ends the call.
    #[cfg_attr(feature = "serde", serde(default, with = "fields::retry_refusals"))]
    pub retry_refusals: Option<Duration>,
    /// Makes the jitter reproducible. Default: `None`, chance.
    #[cfg_attr(feature = "serde", serde(default, with = "fields::seed"))]
    pub seed: Option<u64>,
    /// The name in events and metrics. Default: none.
    #[cfg_attr(feature = "serde", serde(default))]
    pub name: Option<Name>,
}

const ATTEMPTS: RangeInclusive<u32> = 1..=u32::MAX;
const TIMES: RangeInclusive<Duration> = MIN_DURATION..=MAX_DURATION;
const WAITS: RangeInclusive<Duration> = Duration::ZERO..=MAX_DURATION;

#[cfg(feature = "serde")]
stockade_core::fields! {
    max_attempts: u32 = ATTEMPTS;
    max_elapsed: Option<Duration> = TIMES;
    retry_refusals: Option<Duration> = WAITS;
    seed: Option<u64> = 0..=u64::MAX;
}

// === impl Config ===

impl Config {
    /// At most `max_attempts` attempts of one call, and the defaults. Nothing is checked yet.
    pub fn new(max_attempts: u32) -> Self {
        Self {
            max_attempts,
            backoff: Backoff::default(),
            budget: None,
            max_elapsed: None,
            retry_refusals: None,
            seed: None,
            name: None,
        }
    }

    /// The layer.
    ///
    /// # Errors
    ///
    /// The first value that is not allowed, with what is.
    pub fn try_build(self) -> Result<RetryLayer, ConfigError> {
        self.check("Config")?;
        Ok(RetryLayer::with_config(self, Policy::default()))
    }

    /// Checks all values, which were set through `of`.
    pub(crate) fn check(&self, of: &str) -> Result<(), ConfigError> {
        check_field(of, "max_attempts", self.max_attempts, ATTEMPTS)?;
        check_field(of, "max_elapsed", self.max_elapsed, TIMES)?;
        check_field(of, "retry_refusals", self.retry_refusals, WAITS)?;
        Name::check_field(of, self.name.as_ref())
    }
}
