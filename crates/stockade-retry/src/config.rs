//! What the setters set, and its limits.

use std::time::Duration;

use stockade_core::{
    Budget, ConfigError, Name,
    config::{MAX_DURATION, MIN_DURATION, check},
};

use crate::{Backoff, Policy, RetryLayer};

/// The values of a [`RetryLayer`]: what its setters set, without the closures.
///
/// Use it where values come from a file or from a user: [`try_build`](Self::try_build) returns an error
/// where the setters panic.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use stockade_retry::Config;
///
/// let mut config = Config::default();
/// config.max_attempts = 4;
/// config.max_elapsed = Some(Duration::from_secs(2));
/// let retry = config.clone().try_build()?.idempotent(|path: &String| path != "/pay");
///
/// config.max_attempts = 0;
/// let error = config.try_build().unwrap_err();
/// assert_eq!(error.setting(), "RetryLayer::max_attempts");
/// # Ok::<_, stockade_core::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The most attempts of one call, the first one included, from 1. Default: 3.
    pub max_attempts: u32,
    /// How long to wait before a further attempt. Default: exponential, 50 ms doubling to 10 s, full jitter.
    pub backoff: Backoff,
    /// How many further attempts there may be. Default, also for `None`: `Budget::new(0.2, 10.0)`, shared by
    /// nobody else.
    pub budget: Option<Budget>,
    /// No attempt starts this long after the first one, or later; from 1 ns to ten years. Default: none.
    pub max_elapsed: Option<Duration>,
    /// How long one call waits for layers inside that refuse it, all waits together; up to ten years.
    /// Default: `None`, a refusal ends the call.
    pub retry_refusals: Option<Duration>,
    /// Makes the jitter reproducible. Default: `None`, chance.
    pub seed: Option<u64>,
    /// The name in events and metrics. Default: none.
    pub name: Option<Name>,
}

// === impl Config ===

impl Config {
    /// The layer with these values, and no closures yet.
    ///
    /// # Errors
    ///
    /// If a value is not within its limits.
    pub fn try_build(self) -> Result<RetryLayer, ConfigError> {
        self.check()?;
        Ok(RetryLayer::with_config(self, Policy::default()))
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        check("RetryLayer::max_attempts", self.max_attempts, 1..=u32::MAX)?;
        if let Some(max_elapsed) = self.max_elapsed {
            check("RetryLayer::max_elapsed", max_elapsed, MIN_DURATION..=MAX_DURATION)?;
        }
        if let Some(total) = self.retry_refusals {
            check("RetryLayer::retry_refusals", total, Duration::ZERO..=MAX_DURATION)?;
        }
        self.checked_name().map(drop)
    }

    pub(crate) fn checked_name(&self) -> Result<Option<&'static str>, ConfigError> {
        self.name.clone().map(|name| name.check("RetryLayer::name")).transpose()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            backoff: Backoff::default(),
            budget: None,
            max_elapsed: None,
            retry_refusals: None,
            seed: None,
            name: None,
        }
    }
}
