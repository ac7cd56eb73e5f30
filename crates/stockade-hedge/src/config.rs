//! What the setters set, and its limits.

use std::{ops::RangeInclusive, time::Duration};

use stockade_core::{
    Budget, ConfigError, Name,
    config::{MAX_DURATION, check},
};

use crate::HedgeLayer;

/// The configuration of a hedge, without the closures.
///
/// A layer is usually made with [`HedgeLayer::after`] or [`HedgeLayer::percentile`] and its setters, which panic if a
/// value is not allowed. This is the same configuration as a value, for one that is read from a file:
/// [`try_build`](Self::try_build) returns an error.
///
/// # Example
///
/// ```
/// use stockade_hedge::{Config, Rule};
///
/// let mut config = Config::new(Rule::Percentile(0.95));
/// assert!(config.clone().try_build().is_ok());
///
/// config.max = 0;
/// let error = config.try_build().unwrap_err();
/// assert_eq!(error.to_string(), "Config::max: 0 is not allowed, it has to be from 1 to 10");
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct Config {
    /// When a further attempt is made. In a file it is `{ after = "50ms" }` or `{ percentile = 0.95 }`.
    pub rule: Rule,
    /// See [`HedgeLayer::max`]. Default: 1.
    #[cfg_attr(feature = "serde", serde(default = "max", with = "fields::max"))]
    pub max: u32,
    /// See [`HedgeLayer::budget`]. Default, also for `None`: `Budget::new(0.05, 1.0)`, shared by nobody else.
    #[cfg_attr(feature = "serde", serde(default))]
    pub budget: Option<Budget>,
    /// See [`HedgeLayer::name`]. Default: none.
    #[cfg_attr(feature = "serde", serde(default))]
    pub name: Option<Name>,
}

/// When a further attempt is made.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Rule {
    /// See [`HedgeLayer::after`].
    After(#[cfg_attr(feature = "serde", serde(with = "fields::after"))] Duration),
    /// See [`HedgeLayer::percentile`].
    Percentile(#[cfg_attr(feature = "serde", serde(with = "fields::percentile"))] f64),
}

const MAXIMA: RangeInclusive<u32> = 1..=10;
const DELAYS: RangeInclusive<Duration> = Duration::ZERO..=MAX_DURATION;
const PERCENTILES: RangeInclusive<f64> = 0.5..=0.9999;

#[cfg(feature = "serde")]
stockade_core::fields! {
    max: u32 = MAXIMA;
    after: Duration = DELAYS;
    percentile: f64 = PERCENTILES;
}

#[cfg(feature = "serde")]
const fn max() -> u32 {
    1
}

// === impl Config ===

impl Config {
    /// Further attempts by this rule, and the defaults. Nothing is checked yet.
    pub const fn new(rule: Rule) -> Self {
        Self { rule, max: 1, budget: None, name: None }
    }

    /// The layer.
    ///
    /// # Errors
    ///
    /// The first value that is not allowed, with what is.
    pub fn try_build(self) -> Result<HedgeLayer, ConfigError> {
        self.check("Config")?;
        Ok(HedgeLayer::from_config(self))
    }

    pub(crate) fn check(&self, of: &str) -> Result<(), ConfigError> {
        let setting = |name| format!("{of}::{name}");
        match self.rule {
            Rule::After(delay) => check(&setting("after"), delay, DELAYS).map(drop),
            Rule::Percentile(share) => check(&setting("percentile"), share, PERCENTILES).map(drop),
        }?;
        check(&setting("max"), self.max, MAXIMA)?;
        self.name.clone().map(|name| name.check(&setting("name"))).transpose().map(drop)
    }
}
