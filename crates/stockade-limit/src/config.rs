//! What the setters of a layer set, and within which limits.

use std::{ops::RangeInclusive, time::Duration};

use stockade_core::{
    ConfigError, Name,
    config::{MAX_DURATION, check_field},
};

use crate::{Fixed, LimitLayer, semaphore::MAX};

/// The configuration of a limit.
///
/// A layer is usually made with [`LimitLayer::new`] and its setters, which panic if a value is not allowed. This is
/// the same configuration as a value, for one that is read from a file: [`try_build`](Self::try_build) returns an
/// error.
///
/// # Example
///
/// ```
/// use stockade_limit::Config;
///
/// let mut config = Config::new(64);
/// config.queue = 0;
/// assert!(config.clone().try_build().is_ok());
///
/// config.max = 0;
/// let error = config.try_build().unwrap_err();
/// assert_eq!(error.to_string(), "Config::max: 0 is not allowed, it has to be from 1 to 2147483647");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, expecting = "a table of settings"))]
#[non_exhaustive]
pub struct Config {
    /// How many calls may be in flight at once, from 1 to `i32::MAX`.
    #[cfg_attr(feature = "serde", serde(with = "fields::max"))]
    pub max: usize,
    /// How many calls may wait, at most `i32::MAX`; 1,024 by default.
    #[cfg_attr(feature = "serde", serde(default = "queue", with = "fields::queue"))]
    pub queue: usize,
    /// How long a call may wait, at most ten years; `None`, the default, is not bounded.
    #[cfg_attr(feature = "serde", serde(default, with = "fields::max_wait"))]
    pub max_wait: Option<Duration>,
    /// The name in refusals and events; `None` by default.
    #[cfg_attr(feature = "serde", serde(default))]
    pub name: Option<Name>,
}

pub(crate) const MAXIMA: RangeInclusive<usize> = 1..=MAX;
pub(crate) const QUEUES: RangeInclusive<usize> = 0..=MAX;
pub(crate) const WAITS: RangeInclusive<Duration> = Duration::ZERO..=MAX_DURATION;

#[cfg(feature = "serde")]
stockade_core::fields! {
    max: usize = MAXIMA;
    queue: usize = QUEUES;
    max_wait: Option<Duration> = WAITS;
}

#[cfg(feature = "serde")]
fn queue() -> usize {
    Config::new(1).queue
}

// === impl Config ===

impl Config {
    /// At most `max` calls in flight, and the defaults. Nothing is checked yet.
    pub const fn new(max: usize) -> Self {
        Self { max, queue: 1_024, max_wait: None, name: None }
    }

    /// The layer.
    ///
    /// # Errors
    ///
    /// The first value that is not allowed, with what is.
    pub fn try_build(self) -> Result<LimitLayer, ConfigError> {
        self.check("Config")?;
        Ok(LimitLayer::of(self, Fixed))
    }

    pub(crate) fn check(&self, of: &str) -> Result<(), ConfigError> {
        check_field(of, "max", self.max, MAXIMA)?;
        check_field(of, "queue", self.queue, QUEUES)?;
        check_field(of, "max_wait", self.max_wait, WAITS)?;
        Name::check_field(of, self.name.as_ref())
    }
}
