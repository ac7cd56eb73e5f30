//! What the setters of a layer set, and within which limits.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use stockade_core::{
    ConfigError, Name,
    config::{MAX_DURATION, MIN_DURATION, check},
};
use stockade_rate::backend::Bounds;

use super::{
    RateLayer,
    bucket::{MAX_FILL, Quota},
    shared::{Plan, Shared},
};
use crate::Redis;

/// The configuration of a shared rate limit.
///
/// A layer is usually made with [`RateLayer::new`] and its setters, which panic if a value is not allowed. This is the
/// same configuration as a value, for one that is read from a file: [`try_build`](Self::try_build) returns an error.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use stockade_fleet::{Redis, rate::{Config, Outage}};
///
/// # fn main() -> Result<(), stockade_fleet::RedisError> {
/// let redis = Redis::new("redis://127.0.0.1")?;
/// let mut config = Config::new(600, Duration::from_secs(60));
/// config.outage = Outage::Share(4);
/// assert!(config.clone().try_build(&redis, "geocoder").is_ok());
///
/// config.lease = 0;
/// let error = config.try_build(&redis, "geocoder").unwrap_err();
/// assert_eq!(error.to_string(), "Config::lease: 0 is not allowed, it has to be from 1 to 4294967295");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct Config {
    /// How many calls of the fleet pass in the time [`per`](Self::per): from 1 to the number of nanoseconds in it.
    #[cfg_attr(feature = "serde", serde(with = "sizes::calls"))]
    pub calls: u32,
    /// The time in which that many calls pass: from 1 ns to ten days.
    #[cfg_attr(feature = "serde", serde(with = "fields::per"))]
    pub per: Duration,
    /// How many calls pass at once after a pause, at least 1; `None`, the default, is as many as
    /// [`calls`](Self::calls). As many periods may take at most ten days.
    #[cfg_attr(feature = "serde", serde(default, with = "sizes::burst"))]
    pub burst: Option<u32>,
    /// How many calls of this node may wait, at most 4,294,967,294; 1,024 by default.
    #[cfg_attr(feature = "serde", serde(default = "default::queue", with = "fields::queue"))]
    pub queue: usize,
    /// How long a call may wait, at most ten years; `None`, the default, is not bounded.
    #[cfg_attr(feature = "serde", serde(default, with = "fields::max_wait"))]
    pub max_wait: Option<Duration>,
    /// How many tokens are fetched at a time, at least 1, the default.
    #[cfg_attr(feature = "serde", serde(default = "default::lease", with = "sizes::lease"))]
    pub lease: u32,
    /// What to do while the Redis is away; [`Outage::Closed`] by default. A share is that of 1 to 1,000,000 nodes.
    #[cfg_attr(feature = "serde", serde(default = "default::outage"))]
    pub outage: Outage,
    /// The name in refusals and events; `None` by default.
    #[cfg_attr(feature = "serde", serde(default))]
    pub name: Option<Name>,
}

/// What to do with calls while the Redis is away.
///
/// In a file (feature `serde`) it is `"open"`, `"closed"` or `{ share = 4 }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Outage {
    /// Lets all calls pass: the rate does not hold in the meantime.
    Open,
    /// Refuses all calls as [`Unavailable`](stockade_core::Reason::Unavailable), also those that wait.
    Closed,
    /// With `Share(n)` this node goes on with an n-th of the rate and of the burst, from an empty bucket. With up to `n` nodes
    /// the rate holds while the Redis is away for all of them. If it is away for some nodes only, their shares come on
    /// top of it.
    Share(#[cfg_attr(feature = "serde", serde(with = "fields::share"))] u32),
}

const NODES: RangeInclusive<u32> = 1..=1_000_000;

// Sizes, because calls may cost bytes.
#[cfg(feature = "serde")]
stockade_core::sizes! {
    calls: u32 = 1..=u32::MAX;
    burst: Option<u32> = 1..=u32::MAX;
    lease: u32 = 1..=u32::MAX;
}

#[cfg(feature = "serde")]
stockade_core::fields! {
    per: Duration = MIN_DURATION..=MAX_FILL;
    queue: usize = 0..=MAX_QUEUE;
    max_wait: Option<Duration> = Duration::ZERO..=MAX_DURATION;
    share: u32 = NODES;
}

/// What is not in a file.
#[cfg(feature = "serde")]
mod default {
    use super::{Config, MIN_DURATION, Outage};

    pub(super) fn queue() -> usize {
        Config::new(1, MIN_DURATION).queue
    }

    pub(super) fn lease() -> u32 {
        Config::new(1, MIN_DURATION).lease
    }

    pub(super) fn outage() -> Outage {
        Config::new(1, MIN_DURATION).outage
    }
}

/// The longest queue, which still fits the keys of its places.
const MAX_QUEUE: usize = (u32::MAX - 1) as usize;

// === impl Config ===

impl Config {
    /// Up to `calls` calls of the fleet in the time `per`, and the defaults. Nothing is checked yet.
    pub const fn new(calls: u32, per: Duration) -> Self {
        Self {
            calls,
            per,
            burst: None,
            queue: 1024,
            max_wait: None,
            lease: 1,
            outage: Outage::Closed,
            name: None,
        }
    }

    /// The layer, whose bucket is at `key` in this Redis.
    ///
    /// # Errors
    ///
    /// The first value that is not allowed, with what is.
    pub fn try_build(
        self,
        redis: &Redis,
        key: impl Into<String>,
    ) -> Result<RateLayer, ConfigError> {
        self.check_rate("Config::calls", "Config::per")?;
        self.burst.map(|burst| self.check_burst("Config::burst", burst)).transpose()?;
        check_queue("Config::queue", self.queue)?;
        self.max_wait.map(|wait| check_wait("Config::max_wait", wait)).transpose()?;
        check_lease("Config::lease", self.lease)?;
        check_outage("Config::outage", self.outage)?;
        self.name.clone().map(|name| name.check("Config::name")).transpose()?;
        let plan = Plan { shared: Arc::new(Shared::new(redis.clone(), self)), key: key.into() };
        Ok(RateLayer::of(plan))
    }

    pub(crate) fn check_rate(&self, calls: &str, per: &str) -> Result<(), ConfigError> {
        check(per, self.per, MIN_DURATION..=MAX_FILL)?;
        check(calls, self.calls, 1..=saturate(self.per.as_nanos()))?;
        Ok(())
    }

    pub(crate) fn check_burst(&self, setting: &str, burst: u32) -> Result<u32, ConfigError> {
        check(setting, burst, 1..=saturate(MAX_FILL.as_nanos() / u128::from(self.quota().period)))
    }

    pub(crate) const fn bounds(&self) -> Bounds {
        Bounds { queue: self.queue, max_wait: self.max_wait }
    }

    pub(crate) fn quota(&self) -> Quota {
        // Rounded up, so that never more pass than promised.
        let period = self.per.as_nanos().div_ceil(u128::from(self.calls));
        let period = u64::try_from(period).expect("at most ten days in nanoseconds");
        Quota { period, burst: self.burst.unwrap_or(self.calls) }
    }

    pub(crate) fn static_name(&self) -> Option<&'static str> {
        self.name.clone().and_then(|name| name.check("name").ok())
    }
}

pub(crate) fn check_queue(setting: &str, queue: usize) -> Result<usize, ConfigError> {
    check(setting, queue, 0..=MAX_QUEUE)
}

pub(crate) fn check_wait(setting: &str, wait: Duration) -> Result<Duration, ConfigError> {
    check(setting, wait, Duration::ZERO..=MAX_DURATION)
}

pub(crate) fn check_lease(setting: &str, lease: u32) -> Result<u32, ConfigError> {
    check(setting, lease, 1..=u32::MAX)
}

pub(crate) fn check_outage(setting: &str, outage: Outage) -> Result<Outage, ConfigError> {
    if let Outage::Share(nodes) = outage {
        check(&format!("{setting}, Outage::Share"), nodes, NODES)?;
    }
    Ok(outage)
}

fn saturate(n: u128) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
