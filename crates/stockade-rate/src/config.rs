//! What the setters of a layer set, and within which limits.

use std::{num::NonZeroU32, ops::RangeInclusive, time::Duration};

use governor::Quota;
use stockade_core::{
    ConfigError, Name,
    config::{MAX_DURATION, MIN_DURATION, check, check_field},
};

use crate::{
    RateLayer,
    backend::Bounds,
    bucket::{self, MAX_FILL},
};

/// The configuration of a rate limit.
///
/// A layer is usually made with [`RateLayer::new`] and its setters, which panic if a value is not allowed. This is the
/// same configuration as a value, for one that is read from a file: [`try_build`](Self::try_build) returns an error.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use stockade_rate::Config;
///
/// let mut config = Config::new(600, Duration::from_secs(60));
/// config.burst = Some(20);
/// assert!(config.clone().try_build().is_ok());
///
/// config.calls = 0;
/// let error = config.try_build().unwrap_err();
/// assert_eq!(error.to_string(), "Config::calls: 0 is not allowed, it has to be from 1 to 4294967295");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, expecting = "a table of settings"))]
#[non_exhaustive]
pub struct Config {
    /// How many calls pass in the time [`per`](Self::per): from 1 to the number of nanoseconds in it.
    #[cfg_attr(feature = "serde", serde(with = "sizes::calls"))]
    pub calls: u32,
    /// The time in which that many calls pass: from 1 ns to ten years.
    #[cfg_attr(feature = "serde", serde(with = "fields::per"))]
    pub per: Duration,
    /// How many calls pass at once after a pause, at least 1; `None`, the default, is as many as
    /// [`calls`](Self::calls). As many periods may take at most twenty years.
    #[cfg_attr(feature = "serde", serde(default, with = "sizes::burst"))]
    pub burst: Option<u32>,
    /// How many tokens of the burst are kept for critical calls; 0 by default. One token is always there for all.
    #[cfg_attr(feature = "serde", serde(default, with = "sizes::reserve"))]
    pub reserve: u32,
    /// How many calls may wait, at most 4,294,967,294; 1,024 by default.
    #[cfg_attr(feature = "serde", serde(default = "queue", with = "fields::queue"))]
    pub queue: usize,
    /// How long a call may wait, at most ten years; `None`, the default, is not bounded.
    #[cfg_attr(feature = "serde", serde(default, with = "fields::max_wait"))]
    pub max_wait: Option<Duration>,
    /// The name in refusals, events and metrics; `None` by default.
    #[cfg_attr(feature = "serde", serde(default))]
    pub name: Option<Name>,
}

/// The longest queue, which still fits the keys of its places.
pub(crate) const MAX_QUEUE: usize = (u32::MAX - 1) as usize;

const PERS: RangeInclusive<Duration> = MIN_DURATION..=MAX_DURATION;
const WAITS: RangeInclusive<Duration> = Duration::ZERO..=MAX_DURATION;

// How many calls fit into the time is looked at when the layer is made.
// Sizes, because calls may cost bytes.
#[cfg(feature = "serde")]
stockade_core::sizes! {
    calls: u32 = 1..=u32::MAX;
    burst: Option<u32> = 1..=u32::MAX;
    reserve: u32 = 0..=u32::MAX;
}

#[cfg(feature = "serde")]
stockade_core::fields! {
    per: Duration = PERS;
    queue: usize = 0..=MAX_QUEUE;
    max_wait: Option<Duration> = WAITS;
}

#[cfg(feature = "serde")]
fn queue() -> usize {
    Config::new(1, MIN_DURATION).queue
}

// === impl Config ===

impl Config {
    /// Up to `calls` calls in the time `per`, and the defaults. Nothing is checked yet.
    pub const fn new(calls: u32, per: Duration) -> Self {
        Self { calls, per, burst: None, reserve: 0, queue: 1024, max_wait: None, name: None }
    }

    /// The layer.
    ///
    /// # Errors
    ///
    /// The first value that is not allowed, with what is.
    pub fn try_build(self) -> Result<RateLayer, ConfigError> {
        self.check("Config")?;
        Ok(RateLayer::of(self))
    }

    pub(crate) fn check(&self, of: &str) -> Result<(), ConfigError> {
        self.check_rate(&format!("{of}::calls"), &format!("{of}::per"))?;
        let most = saturate(MAX_FILL.as_nanos() / self.period().as_nanos());
        check_field(of, "burst", self.burst, 1..=most)?;
        check_field(of, "queue", self.queue, 0..=MAX_QUEUE)?;
        check_field(of, "max_wait", self.max_wait, WAITS)?;
        Name::check_field(of, self.name.as_ref())
    }

    pub(crate) fn check_rate(&self, calls: &str, per: &str) -> Result<(), ConfigError> {
        check(per, self.per, PERS)?;
        check(calls, self.calls, 1..=saturate(self.per.as_nanos()))?;
        Ok(())
    }

    /// The time in which one token comes.
    pub(crate) fn period(&self) -> Duration {
        bucket::period(self.calls, self.per)
    }

    pub(crate) const fn bounds(&self) -> Bounds {
        Bounds { queue: self.queue, max_wait: self.max_wait }
    }

    /// What governor decides by: without the reserve.
    pub(crate) fn quota(&self) -> Quota {
        let burst = self.burst.unwrap_or(self.calls) - self.reserved(self.calls);
        bucket::quota(self.period(), non_zero(burst))
    }

    /// How many tokens are kept for critical calls, where `calls` pass in the time `per`.
    pub(crate) fn reserved(&self, calls: u32) -> u32 {
        self.reserve.min(self.burst.unwrap_or(calls).saturating_sub(1))
    }
}

fn saturate(n: u128) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn non_zero(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN)
}
