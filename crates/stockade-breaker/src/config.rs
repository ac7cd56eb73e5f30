//! What the setters set, and its limits.

use std::{ops::RangeInclusive, time::Duration};

use stockade_core::{
    ConfigError,
    config::{MAX_DURATION, MIN_DURATION, check_field},
};

#[cfg(feature = "serde")]
use stockade_core::internal::written;

use crate::{BreakerLayer, Window};

/// The configuration of a breaker. The setters of [`BreakerLayer`] explain the fields.
///
/// For a configuration that comes from outside, where a wrong value is an error and not a panic, and to
/// [change](crate::BreakerHandle::set) a breaker that runs.
///
/// # Example
///
/// ```
/// use stockade_breaker::Config;
///
/// let mut config = Config::default();
/// config.failure_rate = 0.25;
/// assert!(config.try_build().is_ok());
/// config.probes = 0;
/// let wrong = config.try_build().unwrap_err();
/// assert_eq!(
///     wrong.to_string(),
///     "BreakerLayer::probes: 0 is not allowed, it has to be from 1 to 1000",
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(
    feature = "serde",
    serde(default, deny_unknown_fields, expecting = "a table of settings")
)]
#[non_exhaustive]
pub struct Config {
    /// See [`BreakerLayer::window`]. Default: the last 100 calls.
    pub window: Window,
    /// See [`BreakerLayer::failure_rate`]. Default: 0.5.
    #[cfg_attr(feature = "serde", serde(with = "fields::failure_rate"))]
    pub failure_rate: f64,
    /// See [`BreakerLayer::slow`]. Default: none.
    pub slow: Option<Slow>,
    /// See [`BreakerLayer::consecutive`]. Default: none.
    #[cfg_attr(feature = "serde", serde(with = "fields::consecutive"))]
    pub consecutive: Option<u32>,
    /// See [`BreakerLayer::min_calls`]. Default: 20.
    #[cfg_attr(feature = "serde", serde(with = "fields::min_calls"))]
    pub min_calls: u32,
    /// See [`BreakerLayer::open_for`]. Default: 5 s.
    #[cfg_attr(feature = "serde", serde(with = "fields::open_for"))]
    pub open_for: Duration,
    /// See [`BreakerLayer::max_open_for`]. Default: 60 s.
    #[cfg_attr(feature = "serde", serde(with = "fields::open_for"))]
    pub max_open_for: Duration,
    /// See [`BreakerLayer::probes`]. Default: 3.
    #[cfg_attr(feature = "serde", serde(with = "fields::probes"))]
    pub probes: u32,
    /// See [`BreakerLayer::probe_timeout`]. Default: `None`, which is as long as it was open.
    #[cfg_attr(feature = "serde", serde(with = "fields::probe_timeout"))]
    pub probe_timeout: Option<Duration>,
    /// See [`BreakerLayer::ramp`]. Default: none.
    #[cfg_attr(feature = "serde", serde(with = "fields::ramp"))]
    pub ramp: Option<Duration>,
    /// See [`BreakerLayer::observe_only`]. Default: `false`.
    pub observe_only: bool,
    /// See [`BreakerLayer::disabled`]. Default: `true`.
    pub enabled: bool,
    /// See [`BreakerLayer::name`]. Default: none.
    #[cfg_attr(feature = "serde", serde(with = "written::name"))]
    pub name: Option<StaticName>,
}

/// Which calls are slow, and how many of them open the breaker.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(
    feature = "serde",
    serde(deny_unknown_fields, expecting = "a table, such as { after = \"1s\", rate = 0.8 }")
)]
pub struct Slow {
    /// A call that takes this long, or longer, is slow.
    #[cfg_attr(feature = "serde", serde(with = "fields::open_for"))]
    pub after: Duration,
    /// The share of slow calls in the window that opens the breaker, above 0 and up to 1.
    #[cfg_attr(feature = "serde", serde(with = "fields::failure_rate"))]
    pub rate: f64,
}

/// The lowest rate that can be set: one call in the largest window.
const MIN_RATE: f64 = 1e-6;

/// The most probes that can be out at once.
const MAX_PROBES: u32 = 1_000;

/// The shortest time for a probe, unless one is configured.
const MIN_PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// The part of an open time that is random.
const JITTER: f64 = 0.2;

const RATES: RangeInclusive<f64> = MIN_RATE..=1.0;
const TIMES: RangeInclusive<Duration> = MIN_DURATION..=MAX_DURATION;
const COUNTS: RangeInclusive<u32> = 1..=u32::MAX;
const PROBES: RangeInclusive<u32> = 1..=MAX_PROBES;

/// A name of its own, because serde would borrow a reference that it sees.
type StaticName = &'static str;

#[cfg(feature = "serde")]
stockade_core::fields! {
    failure_rate: f64 = RATES;
    consecutive: Option<u32> = COUNTS;
    min_calls: u32 = COUNTS;
    open_for: Duration = TIMES;
    probes: u32 = PROBES;
    probe_timeout: Option<Duration> = TIMES;
    ramp: Option<Duration> = TIMES;
}

// === impl Config ===

impl Config {
    pub(crate) const DEFAULT: Self = Self {
        window: Window::DEFAULT,
        failure_rate: 0.5,
        slow: None,
        consecutive: None,
        min_calls: 20,
        open_for: Duration::from_secs(5),
        max_open_for: Duration::from_secs(60),
        probes: 3,
        probe_timeout: None,
        ramp: None,
        observe_only: false,
        enabled: true,
        name: None,
    };

    /// A layer with this configuration.
    ///
    /// # Errors
    ///
    /// If a value is outside its range. The error names the setter, the value and the range.
    pub fn try_build(self) -> Result<BreakerLayer, ConfigError> {
        self.check().map(|()| BreakerLayer::from_config(self))
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let of = "BreakerLayer";
        check_field(of, "failure_rate", self.failure_rate, RATES)?;
        check_field(of, "slow", self.slow.map(|slow| slow.after), TIMES)?;
        check_field(of, "slow", self.slow.map(|slow| slow.rate), RATES)?;
        check_field(of, "consecutive", self.consecutive, COUNTS)?;
        check_field(of, "min_calls", self.min_calls, COUNTS)?;
        check_field(of, "open_for", self.open_for, TIMES)?;
        check_field(of, "max_open_for", self.max_open_for, TIMES)?;
        check_field(of, "probes", self.probes, PROBES)?;
        check_field(of, "probe_timeout", self.probe_timeout, TIMES)?;
        check_field(of, "ramp", self.ramp, TIMES)
    }

    /// Never more than fit into the window.
    pub(crate) fn min_calls(&self) -> u32 {
        self.min_calls.min(self.window.capacity())
    }

    /// When a probe is overdue after `reopened` recoveries that failed. By default it grows with the open time, so
    /// that a service whose calls take longer than that recovers all the same.
    pub(crate) fn probe_timeout(&self, reopened: u32) -> Duration {
        self.probe_timeout.unwrap_or_else(|| self.open_time(reopened, 0.0).max(MIN_PROBE_TIMEOUT))
    }

    /// Whether calls need to know when they began.
    pub(crate) const fn is_timed(&self) -> bool {
        self.slow.is_some() && self.enabled
    }

    /// How long to be open after `reopened` recoveries that failed. It doubles up to the longest open time;
    /// then the jitter, for which `random` is from 0 to 1, takes away up to a fifth. So the configured
    /// time is never exceeded, and the jitter is as wide at the longest time as elsewhere.
    pub(crate) fn open_time(&self, reopened: u32, random: f64) -> Duration {
        let factor = 2_u32.saturating_pow(reopened);
        let full = self.open_for.saturating_mul(factor).min(self.open_for.max(self.max_open_for));
        full.saturating_sub(full.mul_f64(JITTER * random.clamp(0.0, 1.0)))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_open_time_doubles_up_to_the_longest() {
        let config = Config::default();
        let seconds: Vec<_> = (0..6).map(|n| config.open_time(n, 0.0).as_secs()).collect();
        assert_eq!(seconds, [5, 10, 20, 40, 60, 60]);
    }

    #[test]
    fn the_jitter_is_alive_at_the_longest_open_time() {
        let config = Config::default();
        assert_eq!(config.open_time(9, 1.0), Duration::from_secs(48));
        assert_eq!(config.open_time(9, 0.5), Duration::from_secs(54));
    }

    #[test]
    fn an_open_time_above_the_longest_stays_as_configured() {
        let open_for = Config::default().max_open_for * 3;
        let config = Config { open_for, ..Config::default() };
        assert_eq!(config.open_time(0, 0.0), open_for);
        assert_eq!(config.open_time(3, 0.0), open_for);
    }

    #[test]
    fn a_lower_longest_open_time_ends_the_doubling_sooner() {
        let max_open_for = Duration::from_secs(8);
        let config = Config { max_open_for, ..Config::default() };
        let seconds: Vec<_> = (0..4).map(|n| config.open_time(n, 0.0).as_secs()).collect();
        assert_eq!(seconds, [5, 8, 8, 8]);
    }

    proptest! {
        #[test]
        fn the_open_time_is_within_a_fifth_of_what_is_configured(
            nanos in 1..=MAX_DURATION.as_nanos() as u64, reopened: u32, random in 0.0..1.0,
        ) {
            let open_for = Duration::from_nanos(nanos);
            let config = Config { open_for, ..Config::default() };
            let time = config.open_time(reopened, random);
            prop_assert!(time >= open_for.mul_f64(0.79) && time <= open_for.max(config.max_open_for), "{time:?}");
        }
    }

    #[test]
    fn a_window_below_min_calls_lowers_them() {
        let config = Config { window: Window::calls(7), ..Config::default() };
        assert_eq!(config.min_calls(), 7);
        assert_eq!(Config::default().min_calls(), 20);
    }
}
