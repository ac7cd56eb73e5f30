//! What the setters of a quorum set, and within which limits.

use std::{ops::RangeInclusive, time::Duration};

use stockade_core::{
    ConfigError,
    config::{MAX_DURATION, check},
};

use super::{Quorum, board::Terms};
use crate::Redis;

/// The configuration of a [`Quorum`].
///
/// It is usually made with its constructors and setters, which panic if a value is not allowed. This is the same
/// configuration as a value, for one that is read from a file: [`try_build`](Self::try_build) returns an error.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use stockade_fleet::{Redis, breaker::Config};
///
/// # fn main() -> Result<(), stockade_fleet::RedisError> {
/// let redis = Redis::new("redis://127.0.0.1")?;
/// let mut config = Config::new();
/// config.open_for = Duration::from_secs(2);
/// assert!(config.clone().try_build(&redis, "search").is_ok());
///
/// config.at_least = Some(0);
/// let error = config.try_build(&redis, "search").unwrap_err();
/// assert_eq!(error.to_string(), "Config::at_least: 0 is not allowed, it has to be from 1 to 4294967295");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct Config {
    /// How many nodes have to agree, at least 1; `None`, the default, is more than half of those that report, and at
    /// least two.
    #[cfg_attr(feature = "serde", serde(with = "fields::at_least"))]
    pub at_least: Option<u32>,
    /// How long all are open before one of them probes: from 1 ms to ten years, 5 s by default.
    #[cfg_attr(feature = "serde", serde(with = "fields::time"))]
    pub open_for: Duration,
    /// How long one node may take to probe before another does: from 1 ms to ten years, 10 s by default.
    #[cfg_attr(feature = "serde", serde(with = "fields::time"))]
    pub lease: Duration,
    /// How often each node reports: from 1 ms to ten years, 500 ms by default.
    #[cfg_attr(feature = "serde", serde(with = "fields::time"))]
    pub interval: Duration,
}

const TIMES: RangeInclusive<Duration> = Duration::from_millis(1)..=MAX_DURATION;

#[cfg(feature = "serde")]
stockade_core::fields! {
    at_least: Option<u32> = 1..=u32::MAX;
    time: Duration = TIMES;
}

// === impl Config ===

impl Config {
    /// A majority, and the defaults.
    pub const fn new() -> Self {
        Self {
            at_least: None,
            open_for: Duration::from_secs(5),
            lease: Duration::from_secs(10),
            interval: Duration::from_millis(500),
        }
    }

    /// The quorum of those that call the service `key` in this Redis.
    ///
    /// # Errors
    ///
    /// The first value that is not allowed, with what is.
    pub fn try_build(self, redis: &Redis, key: impl Into<String>) -> Result<Quorum, ConfigError> {
        self.at_least.map(|nodes| check_nodes("Config::at_least", nodes)).transpose()?;
        check_time("Config::open_for", self.open_for)?;
        check_time("Config::lease", self.lease)?;
        check_time("Config::interval", self.interval)?;
        Ok(Quorum::of(redis, key.into(), self))
    }

    pub(crate) fn terms(&self) -> Terms {
        Terms {
            quorum: self.at_least.unwrap_or(0),
            open_for: self.open_for,
            lease: self.lease,
            forget_after: self.interval * 4,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

pub(crate) fn check_nodes(setting: &str, nodes: u32) -> Result<u32, ConfigError> {
    check(setting, nodes, 1..=u32::MAX)
}

pub(crate) fn check_time(setting: &str, time: Duration) -> Result<Duration, ConfigError> {
    check(setting, time, TIMES)
}
