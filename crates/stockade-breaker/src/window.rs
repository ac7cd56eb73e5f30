//! Which outcomes a closed breaker looks at.

use std::time::Duration;

use stockade_core::{
    ConfigError,
    config::{MAX_DURATION, check, checked},
};
use tokio::time::Instant;

use self::{buckets::Buckets, ring::Ring};

mod buckets;
mod ring;

/// Which outcomes a closed breaker looks at: those of the last so many calls, or of the last so much time.
///
/// Both kinds slide with every call, and a call costs the same however large the window is. A window of
/// calls reads no clock; a window of time reads it once per call.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use stockade_breaker::{BreakerLayer, Window};
///
/// let by_count = BreakerLayer::new().window(Window::calls(50)).min_calls(10);
/// let by_time = BreakerLayer::new().window(Window::time(Duration::from_secs(30))).min_calls(100);
/// # let _ = (by_count, by_time);
/// ```
///
/// In a file (feature `serde`) it is `{ calls = 50 }` or `{ time = "30s" }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Written", into = "Kind"))]
pub struct Window(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
enum Kind {
    Calls(u32),
    Time(#[cfg_attr(feature = "serde", serde(serialize_with = "write_time"))] Duration),
}

/// How it is read from a file.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table, such as { calls = 100 } or { time = \"30s\" }")]
struct Written {
    #[serde(default, with = "fields::calls")]
    calls: Option<u32>,
    #[serde(default, with = "fields::time")]
    time: Option<Duration>,
}

#[cfg(feature = "serde")]
stockade_core::fields! {
    calls: Option<u32> = 1..=MAX_CALLS;
    time: Option<Duration> = MIN_TIME..=MAX_DURATION;
}

#[cfg(feature = "serde")]
fn write_time<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    fields::time::serialize(&Some(*time), serializer)
}

#[cfg(feature = "serde")]
impl TryFrom<Written> for Window {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, &'static str> {
        match (written.calls, written.time) {
            (Some(calls), None) => Ok(Self(Kind::Calls(calls))),
            (None, Some(time)) => Ok(Self(Kind::Time(time))),
            (None, None) => Err(
                "a window needs `calls` or `time`, such as { calls = 100 } or { time = \"30s\" }",
            ),
            (Some(_), Some(_)) => Err("a window has either `calls` or `time`, and not both"),
        }
    }
}

#[cfg(feature = "serde")]
impl From<Window> for Kind {
    fn from(window: Window) -> Self {
        window.0
    }
}

/// How a call that counts has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) failed: bool,
    pub(crate) slow: bool,
}

/// Calls by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) calls: u32,
    pub(crate) failures: u32,
    pub(crate) slow: u32,
}

/// The outcomes in a [`Window`].
#[derive(Debug)]
pub(crate) enum Outcomes {
    Calls(Ring),
    Time(Buckets),
}

/// The largest window of calls; it takes two megabytes.
const MAX_CALLS: u32 = 1_000_000;

/// The shortest window of time.
const MIN_TIME: Duration = Duration::from_millis(1);

// === impl Window ===

impl Window {
    pub(crate) const DEFAULT: Self = Self(Kind::Calls(100));

    /// The outcomes of the last `n` calls.
    ///
    /// # Panics
    ///
    /// If `n` is not from 1 to 1,000,000.
    #[track_caller]
    pub fn calls(n: u32) -> Self {
        checked(Self::try_calls(n))
    }

    /// The same as [`calls`](Self::calls).
    ///
    /// # Errors
    ///
    /// If `n` is not from 1 to 1,000,000.
    pub fn try_calls(n: u32) -> Result<Self, ConfigError> {
        check("Window::calls", n, 1..=MAX_CALLS).map(|n| Self(Kind::Calls(n)))
    }

    /// The outcomes of the calls that ended within the last `duration`. It is kept in ten buckets, so
    /// outcomes leave a tenth at a time, when they are nine to ten tenths of `duration` old.
    ///
    /// # Panics
    ///
    /// If `duration` is not from one millisecond to ten years.
    #[track_caller]
    pub fn time(duration: Duration) -> Self {
        checked(Self::try_time(duration))
    }

    /// The same as [`time`](Self::time).
    ///
    /// # Errors
    ///
    /// If `duration` is not from one millisecond to ten years.
    pub fn try_time(duration: Duration) -> Result<Self, ConfigError> {
        let checked = check("Window::time", duration, MIN_TIME..=MAX_DURATION);
        checked.map(|duration| Self(Kind::Time(duration)))
    }

    /// How many outcomes can be in it.
    pub(crate) const fn capacity(self) -> u32 {
        match self.0 {
            Kind::Calls(n) => n,
            Kind::Time(_) => u32::MAX,
        }
    }

    /// Whether an outcome has to come with the instant of its call's end.
    pub(crate) const fn needs_clock(self) -> bool {
        matches!(self.0, Kind::Time(_))
    }

    pub(crate) fn outcomes(self) -> Outcomes {
        match self.0 {
            Kind::Calls(n) => Outcomes::Calls(Ring::new(n)),
            Kind::Time(duration) => Outcomes::Time(Buckets::new(duration)),
        }
    }
}

// === impl Outcome ===

impl Outcome {
    #[cfg(test)]
    pub(crate) const SUCCESS: Self = Self { failed: false, slow: false };
    #[cfg(test)]
    pub(crate) const FAILURE: Self = Self { failed: true, slow: false };
}

// === impl Tally ===

impl Tally {
    pub(crate) fn of(Outcome { failed, slow }: Outcome) -> Self {
        Self { calls: 1, failures: u32::from(failed), slow: u32::from(slow) }
    }

    pub(crate) fn add(&mut self, new: Self) {
        self.calls = self.calls.saturating_add(new.calls);
        self.failures = self.failures.saturating_add(new.failures);
        self.slow = self.slow.saturating_add(new.slow);
    }

    pub(crate) fn subtract(&mut self, gone: Self) {
        self.calls = self.calls.saturating_sub(gone.calls);
        self.failures = self.failures.saturating_sub(gone.failures);
        self.slow = self.slow.saturating_sub(gone.slow);
    }

    /// Whether `part` of the calls is at least `rate` of them. By division, because `0.07 * 100.0` is
    /// more than 7, while `7.0 / 100.0` is what the literal `0.07` is.
    pub(crate) fn reaches(self, part: u32, rate: f64) -> bool {
        part > 0 && f64::from(part) / f64::from(self.calls) >= rate
    }
}

// === impl Outcomes ===

impl Outcomes {
    /// Takes in an outcome; `now` matters to a window of time only.
    pub(crate) fn push(&mut self, outcome: Outcome, now: Option<Instant>) {
        match self {
            Self::Calls(ring) => ring.push(outcome),
            Self::Time(buckets) => buckets.push(outcome, now.unwrap_or_else(Instant::now)),
        }
    }

    /// Drops the outcomes that are too old.
    pub(crate) fn slide(&mut self, now: Instant) {
        if let Self::Time(buckets) = self {
            buckets.slide(now);
        }
    }

    pub(crate) fn clear(&mut self) {
        match self {
            Self::Calls(ring) => ring.clear(),
            Self::Time(buckets) => buckets.clear(),
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        match self {
            Self::Calls(ring) => ring.tally(),
            Self::Time(buckets) => buckets.tally(),
        }
    }

    /// Whether one more quick success would change nothing at all.
    pub(crate) fn is_clean(&self) -> bool {
        match self {
            Self::Calls(ring) => {
                let tally = ring.tally();
                ring.is_full() && tally.failures == 0 && tally.slow == 0
            }
            // The number of calls in it counts too.
            Self::Time(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_reached_exactly() {
        for hundredths in 1..=100 {
            let tally = Tally { calls: 100, ..Tally::default() };
            let rate = format!("{}.{:02}", hundredths / 100, hundredths % 100).parse().unwrap();
            assert!(tally.reaches(hundredths, rate), "{rate}");
            assert!(!tally.reaches(hundredths - 1, rate), "{rate}");
        }
    }

    #[test]
    #[should_panic(expected = "Window::calls: 0 is not allowed, it has to be from 1 to 1000000")]
    fn a_window_of_no_calls_is_not_allowed() {
        Window::calls(0);
    }

    #[test]
    #[should_panic(expected = "Window::time: 0ns is not allowed, it has to be from 1ms to ")]
    fn a_window_of_no_time_is_not_allowed() {
        Window::time(Duration::ZERO);
    }

    #[test]
    #[should_panic(expected = "Window::time: ")]
    fn an_endless_window_is_not_allowed() {
        Window::time(Duration::MAX);
    }
}
