//! What the setters of a layer set, and within which limits.

use std::{ops::RangeInclusive, time::Duration};

use stockade_core::{
    ConfigError, Name,
    config::{MAX_DURATION, MIN_DURATION, check_field},
};

use crate::TimeoutLayer;

/// The configuration of a timeout.
///
/// A layer is usually made with [`TimeoutLayer::new`] and its setters, which panic if a value is not allowed. This
/// is the same configuration as a value, for one that is read from a file: [`try_build`](Self::try_build) returns
/// an error.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use stockade_timeout::Config;
///
/// let mut config = Config::new(Duration::from_secs(2));
/// assert!(config.clone().try_build().is_ok());
///
/// config.limit = Duration::ZERO;
/// let error = config.try_build().unwrap_err();
/// assert_eq!(error.to_string(), "Config::limit: 0ns is not allowed, it has to be from 1ns to 315360000s");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, expecting = "a table of settings"))]
#[non_exhaustive]
pub struct Config {
    /// How long a call may take, from 1 ns to ten years.
    #[cfg_attr(feature = "serde", serde(with = "fields::limit"))]
    pub limit: Duration,
    /// Whether the time that `poll_ready` is pending counts too; `false` by default.
    #[cfg_attr(feature = "serde", serde(default))]
    pub readiness: bool,
    /// The name in refusals and events; `None` by default.
    #[cfg_attr(feature = "serde", serde(default))]
    pub name: Option<Name>,
}

pub(crate) const LIMITS: RangeInclusive<Duration> = MIN_DURATION..=MAX_DURATION;

#[cfg(feature = "serde")]
stockade_core::fields! {
    limit: Duration = LIMITS;
}

// === impl Config ===

impl Config {
    /// A call may take `limit`, and the defaults. Nothing is checked yet.
    pub const fn new(limit: Duration) -> Self {
        Self { limit, readiness: false, name: None }
    }

    /// The layer.
    ///
    /// # Errors
    ///
    /// The first value that is not allowed, with what is.
    pub fn try_build(self) -> Result<TimeoutLayer, ConfigError> {
        self.check("Config")?;
        Ok(TimeoutLayer::from_config(self))
    }

    pub(crate) fn check(&self, of: &str) -> Result<(), ConfigError> {
        check_field(of, "limit", self.limit, LIMITS)?;
        Name::check_field(of, self.name.as_ref())
    }
}
