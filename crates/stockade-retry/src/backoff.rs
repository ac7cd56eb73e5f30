//! How long a call waits before it tries again. Pure: chance and the time that is left are passed in.

use std::{ops::RangeInclusive, time::Duration};

use fastrand::Rng;
use stockade_core::{
    ConfigError,
    config::{MAX_DURATION, MIN_DURATION, check, checked},
};

/// How long to wait before a further attempt.
///
/// It reads no clock and keeps no state, so one value serves all calls. The jitter of each wait of each call is drawn
/// anew. The default is `exponential(50 ms, 10 s)` with full jitter.
///
/// If the server says when to come back, the longer wait is used.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use stockade_retry::{Backoff, RetryLayer};
/// use tower::ServiceBuilder;
///
/// let backoff = Backoff::exponential(Duration::from_millis(10), Duration::from_secs(2)).factor(3.0);
/// let stack = ServiceBuilder::new().layer(RetryLayer::max_attempts(4).backoff(backoff));
/// ```
///
/// In a file (feature `serde`) it is one of
///
/// ```toml
/// backoff = { exponential = { base = "50ms", cap = "10s", factor = 2.0, jitter = "full" } } # or "none", "decorrelated"
/// backoff = { constant = "100ms" } # "0s" is to not wait
/// ```
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(try_from = "written::Written", into = "Kind"))]
pub struct Backoff(Kind);

#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
enum Kind {
    Exponential(Exponential),
    Constant(#[cfg_attr(feature = "serde", serde(with = "fields::cap"))] Duration),
    #[cfg_attr(feature = "serde", serde(skip))]
    Custom(fn(u32) -> Duration),
}

#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(
    feature = "serde",
    serde(deny_unknown_fields, expecting = "a table, such as { base = \"50ms\", cap = \"10s\" }")
)]
struct Exponential {
    #[cfg_attr(feature = "serde", serde(with = "fields::base"))]
    base: Duration,
    #[cfg_attr(feature = "serde", serde(with = "fields::cap"))]
    cap: Duration,
    #[cfg_attr(feature = "serde", serde(default = "written::factor", with = "fields::factor"))]
    factor: f64,
    #[cfg_attr(feature = "serde", serde(default))]
    jitter: Jitter,
}

#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
enum Jitter {
    None,
    #[default]
    Full,
    Decorrelated,
}

/// The waits of one call.
#[derive(Debug)]
pub(crate) struct Waits {
    rng: Rng,
    previous: Option<Duration>,
}

/// A tick of tokio's timer. A wait after a refusal is no shorter, so that a call without a backoff does not spin.
const SHORTEST: Duration = Duration::from_millis(1);

/// A wait that a server asks for is spread over one part in ten of it.
const SPREAD: u32 = 10;

const FACTOR: f64 = 2.0;
const FACTORS: RangeInclusive<f64> = 1.0..=100.0;

#[cfg(feature = "serde")]
stockade_core::fields! {
    base: Duration = MIN_DURATION..=MAX_DURATION;
    cap: Duration = Duration::ZERO..=MAX_DURATION;
    constant: Option<Duration> = Duration::ZERO..=MAX_DURATION;
    factor: f64 = FACTORS;
}

/// How it is read from a file.
#[cfg(feature = "serde")]
mod written {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, de::Error};

    use super::{Backoff, Exponential, FACTOR, Kind, check_cap, fields};

    #[derive(Deserialize)]
    #[serde(
        deny_unknown_fields,
        expecting = "a table, such as { exponential = { base = \"50ms\", cap = \"10s\" } }"
    )]
    pub(super) struct Written {
        #[serde(default, deserialize_with = "exponential")]
        exponential: Option<Exponential>,
        #[serde(default, with = "fields::constant")]
        constant: Option<Duration>,
    }

    fn exponential<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Exponential>, D::Error> {
        let read = Option::<Exponential>::deserialize(from)?;
        if let Some(Exponential { base, cap, .. }) = read {
            check_cap("cap", cap, base).map_err(D::Error::custom)?;
        }
        Ok(read)
    }

    pub(super) const fn factor() -> f64 {
        FACTOR
    }

    impl TryFrom<Written> for Backoff {
        type Error = &'static str;

        fn try_from(written: Written) -> Result<Self, &'static str> {
            match (written.exponential, written.constant) {
                (Some(exponential), None) => Ok(Self(Kind::Exponential(exponential))),
                (None, Some(wait)) => Ok(Self(Kind::Constant(wait))),
                (None, None) => Err("a backoff needs `exponential` or `constant`, such as \
                     { exponential = { base = \"50ms\", cap = \"10s\" } } or { constant = \"100ms\" }"),
                (Some(_), Some(_)) => {
                    Err("a backoff has either `exponential` or `constant`, and not both")
                }
            }
        }
    }
}

// === impl Backoff ===

impl Backoff {
    /// Waits up to `base` at first, then up to twice that, and so on up to `cap`. Each wait is drawn evenly from
    /// zero to that bound, also at the cap ("full jitter", [Exponential Backoff And Jitter, AWS Architecture Blog,
    /// 2015]).
    ///
    /// [Exponential Backoff And Jitter, AWS Architecture Blog, 2015]: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    ///
    /// # Panics
    ///
    /// If `base` is zero, or `cap` is below `base` or above ten years.
    #[track_caller]
    pub fn exponential(base: Duration, cap: Duration) -> Self {
        checked(Self::try_exponential(base, cap))
    }

    /// The same as [`exponential`](Self::exponential), with an error instead of a panic.
    ///
    /// # Errors
    ///
    /// If `base` is zero, or `cap` is below `base` or above ten years.
    pub fn try_exponential(base: Duration, cap: Duration) -> Result<Self, ConfigError> {
        check("Backoff::exponential, base", base, MIN_DURATION..=MAX_DURATION)?;
        check_cap("Backoff::exponential, cap", cap, base)?;
        let exponential = Exponential { base, cap, factor: FACTOR, jitter: Jitter::Full };
        Ok(Self(Kind::Exponential(exponential)))
    }

    /// Waits for exactly `wait` each time, without jitter.
    ///
    /// # Panics
    ///
    /// If `wait` is zero (see [`none`](Self::none)) or above ten years.
    #[track_caller]
    pub fn constant(wait: Duration) -> Self {
        checked(Self::try_constant(wait))
    }

    /// The same as [`constant`](Self::constant), with an error instead of a panic.
    ///
    /// # Errors
    ///
    /// If `wait` is zero or above ten years.
    pub fn try_constant(wait: Duration) -> Result<Self, ConfigError> {
        check("Backoff::constant", wait, MIN_DURATION..=MAX_DURATION)?;
        Ok(Self(Kind::Constant(wait)))
    }

    /// Does not wait, unless the server says so.
    pub const fn none() -> Self {
        Self(Kind::Constant(Duration::ZERO))
    }

    /// Waits for what `wait` returns. It is given the number of attempts made so far, which is 1 before the second
    /// one.
    ///
    /// No jitter is added. More than ten years is taken as ten years.
    pub const fn custom(wait: fn(u32) -> Duration) -> Self {
        Self(Kind::Custom(wait))
    }

    /// The factor by which the bound of an exponential backoff grows each time. Default: 2. Other kinds stay as
    /// they are.
    ///
    /// # Panics
    ///
    /// If `factor` is not from 1 to 100.
    #[must_use]
    #[track_caller]
    pub fn factor(self, factor: f64) -> Self {
        checked(self.try_factor(factor))
    }

    /// The same as [`factor`](Self::factor), with an error instead of a panic.
    ///
    /// # Errors
    ///
    /// If `factor` is not from 1 to 100.
    pub fn try_factor(mut self, to: f64) -> Result<Self, ConfigError> {
        let to = check("Backoff::factor", to, FACTORS)?;
        if let Kind::Exponential(exponential) = &mut self.0 {
            exponential.factor = to;
        }
        Ok(self)
    }

    /// Draws each wait of an exponential backoff from `base` to three times the wait before it, up to the cap
    /// ("decorrelated jitter", the same source). [`factor`](Self::factor) is then not used. Other kinds stay as they
    /// are.
    #[must_use]
    pub const fn decorrelated(self) -> Self {
        self.jitter(Jitter::Decorrelated)
    }

    /// Waits for the whole bound of an exponential backoff. Calls that failed together then come back together.
    /// Other kinds stay as they are.
    #[must_use]
    pub const fn without_jitter(self) -> Self {
        self.jitter(Jitter::None)
    }

    const fn jitter(mut self, chosen: Jitter) -> Self {
        if let Kind::Exponential(exponential) = &mut self.0 {
            exponential.jitter = chosen;
        }
        self
    }

    /// The wait after `attempts` attempts, of which there was at least one.
    fn wait(&self, attempts: u32, waits: &mut Waits) -> Duration {
        let Exponential { base, cap, factor, jitter } = match self.0 {
            Kind::Constant(wait) => return wait,
            Kind::Custom(wait) => return wait(attempts).min(MAX_DURATION),
            Kind::Exponential(exponential) => exponential,
        };
        let bound = || bound(base, cap, factor, attempts.saturating_sub(1));
        let wait = match jitter {
            Jitter::None => bound(),
            Jitter::Full => waits.draw(Duration::ZERO, bound()),
            Jitter::Decorrelated => {
                let previous = waits.previous.unwrap_or(base);
                waits.draw(base, previous.saturating_mul(3).min(cap))
            }
        };
        waits.previous = Some(wait);
        wait
    }
}

#[cfg(feature = "serde")]
impl From<Backoff> for Kind {
    fn from(backoff: Backoff) -> Self {
        backoff.0
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::exponential(Duration::from_millis(50), Duration::from_secs(10))
    }
}

fn check_cap(setting: &str, cap: Duration, base: Duration) -> Result<(), ConfigError> {
    let allowed = format!("at least `base`, {base:?}, and at most ten years");
    let is_allowed = (base..=MAX_DURATION).contains(&cap);
    if is_allowed { Ok(()) } else { Err(ConfigError::new(setting, &cap, allowed)) }
}

/// `min(cap, base * factor^exponent)`. What overflows becomes infinite, and so the cap.
fn bound(base: Duration, cap: Duration, factor: f64, exponent: u32) -> Duration {
    let exponent = i32::try_from(exponent).unwrap_or(i32::MAX);
    let grown = nanos(base) as f64 * factor.powi(exponent);
    Duration::from_nanos(grown as u64).min(cap)
}

/// Durations of at most ten years fit.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

// === impl Waits ===

impl Waits {
    pub(crate) const fn new(rng: Rng) -> Self {
        Self { rng, previous: None }
    }

    /// The wait after an attempt that failed, for which the server may have said when to come back. `None` if it
    /// would not end within `room`.
    pub(crate) fn after_failure(
        &mut self,
        backoff: &Backoff,
        attempts: u32,
        told: Option<Duration>,
        room: Duration,
    ) -> Option<Duration> {
        let told = match told {
            Some(told) => self.not_before(told, room)?,
            None => Duration::ZERO,
        };
        let wait = backoff.wait(attempts, self).max(told);
        (wait < room).then_some(wait)
    }

    /// The wait after so many refusals in a row, the last of which may have told when to come back. `None` if it
    /// would not end within `room`, or would take longer than `left`.
    pub(crate) fn after_refusal(
        &mut self,
        backoff: &Backoff,
        refusals: u32,
        told: Option<Duration>,
        left: Duration,
        room: Duration,
    ) -> Option<Duration> {
        let wait = match told {
            Some(told) => self.not_before(told.max(SHORTEST), room.min(left + MIN_DURATION))?,
            None => backoff.wait(refusals, self).min(left).max(SHORTEST),
        };
        (wait <= left && wait < room).then_some(wait)
    }

    /// A wait that is never shorter than `told`, and up to a tenth longer where `room` allows it: a fleet that was
    /// told the same time does not come back in one instant.
    fn not_before(&mut self, told: Duration, room: Duration) -> Option<Duration> {
        let spare = room.checked_sub(told).filter(|spare| !spare.is_zero())?;
        let most = spare.saturating_sub(SHORTEST).min(told / SPREAD);
        Some(told + self.draw(Duration::ZERO, most))
    }

    fn draw(&mut self, from: Duration, to: Duration) -> Duration {
        Duration::from_nanos(self.rng.u64(nanos(from)..=nanos(to)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn waits(seed: u64) -> Waits {
        Waits::new(Rng::with_seed(seed))
    }

    #[test]
    fn the_bound_doubles_up_to_the_cap() {
        let backoff = Backoff::exponential(MS * 50, MS * 300).without_jitter();
        let seen = [1, 2, 3, 4, 5, 1_000_000, u32::MAX].map(|n| backoff.wait(n, &mut waits(0)));
        assert_eq!(seen, [50, 100, 200, 300, 300, 300, 300].map(|n| MS * n));
        let tripled = backoff.factor(3.0);
        assert_eq!(
            [1, 2, 3].map(|n| tripled.wait(n, &mut waits(0))),
            [50, 150, 300].map(|n| MS * n)
        );
    }

    #[test]
    fn the_longest_durations_saturate() {
        let backoff = Backoff::exponential(MAX_DURATION, MAX_DURATION);
        for n in [1, 2, 1_000_000, u32::MAX] {
            assert_eq!(backoff.without_jitter().wait(n, &mut waits(1)), MAX_DURATION);
            assert!(backoff.wait(n, &mut waits(1)) <= MAX_DURATION);
            let mut decorrelated = waits(1);
            for _ in 0..9 {
                assert_eq!(backoff.decorrelated().wait(n, &mut decorrelated), MAX_DURATION);
            }
        }
        assert_eq!(Backoff::custom(|_| Duration::MAX).wait(1, &mut waits(1)), MAX_DURATION);
    }

    #[test]
    fn jitter_is_alive_at_the_cap() {
        let backoff = Backoff::exponential(MS * 50, MS * 100);
        let mut one_call = waits(7);
        let drawn: Vec<_> = (0..1_000).map(|_| backoff.wait(1_000_000, &mut one_call)).collect();
        let below = drawn.iter().filter(|wait| **wait < MS * 50).count();
        assert!((400..600).contains(&below), "half of them are in the lower half: {below}");
        assert!(drawn.iter().all(|wait| *wait <= MS * 100));
        assert!(drawn.iter().any(|wait| *wait > MS * 99));
    }

    #[test]
    fn custom_is_told_the_attempts_so_far() {
        let backoff = Backoff::custom(|attempts| MS * attempts);
        assert_eq!([1, 2, 9].map(|n| backoff.wait(n, &mut waits(0))), [MS, MS * 2, MS * 9]);
        assert_eq!(Backoff::none().wait(1, &mut waits(0)), Duration::ZERO);
        assert_eq!(Backoff::constant(MS).factor(9.0).decorrelated().wait(8, &mut waits(0)), MS);
    }

    /// More than any wait.
    const ROOM: Duration = Duration::from_secs(1 << 40);

    #[test]
    fn a_time_that_a_server_told_is_spread_over_the_tenth_after_it() {
        let told = MS * 1_000;
        let mut one_call = waits(3);
        let none = Backoff::none();
        let mut drawn = |room| one_call.after_failure(&none, 1, Some(told), room);
        let all: Vec<_> = (0..1_000).map(|_| drawn(ROOM).unwrap()).collect();
        assert!(all.iter().all(|wait| (told..=MS * 1_100).contains(wait)));
        assert!(all.iter().any(|wait| *wait < MS * 1_010));
        assert!(all.iter().any(|wait| *wait > MS * 1_090));
        assert!((0..1_000).all(|_| drawn(MS * 1_005).unwrap() < MS * 1_005), "it fits if it can");
        assert_eq!([told, MS * 999].map(drawn), [None, None]);
    }

    #[test]
    fn a_told_time_does_not_shorten_a_longer_backoff() {
        let backoff = Backoff::constant(MS * 100);
        for (told, wait) in [(Duration::ZERO, 100), (MS, 100), (MS * 100, 100)] {
            let drawn = waits(1).after_failure(&backoff, 1, Some(told), ROOM).unwrap();
            assert!((MS * wait..MS * wait + told / 9).contains(&drawn) || drawn == MS * wait);
        }
        assert_eq!(waits(1).after_failure(&backoff, 1, None, MS * 100), None);
    }

    #[test]
    fn a_wait_after_a_refusal_takes_no_more_than_is_left_and_never_nothing() {
        let (none, constant) = (Backoff::none(), Backoff::constant(MS * 100));
        let after =
            |backoff: &Backoff, told, left| waits(2).after_refusal(backoff, 1, told, left, ROOM);
        assert_eq!(after(&none, None, MS * 5), Some(MS), "so it does not spin");
        assert_eq!(after(&none, Some(Duration::ZERO), MS), Some(MS));
        assert_eq!(after(&constant, None, MS * 250), Some(MS * 100));
        assert_eq!(after(&constant, None, MS * 30), Some(MS * 30));
        assert_eq!(after(&constant, None, Duration::ZERO), None);
        assert_eq!(after(&none, Some(MS * 30), MS * 30), Some(MS * 30));
        assert_eq!(after(&none, Some(MS * 31), MS * 30), None);
        assert_eq!(after(&none, Some(Duration::MAX), MAX_DURATION), None);
    }

    #[test]
    #[should_panic(expected = "Backoff::exponential, base: 0ns is not allowed")]
    fn a_base_of_zero_is_wrong() {
        Backoff::exponential(Duration::ZERO, MS);
    }

    #[test]
    #[should_panic(
        expected = "Backoff::exponential, cap: 1ms is not allowed, it has to be at least `base`, 2ms, and at most ten years"
    )]
    fn a_cap_below_the_base_is_wrong() {
        Backoff::exponential(MS * 2, MS);
    }

    #[test]
    #[should_panic(expected = "Backoff::exponential, cap: 18446744073709551615.999999999s")]
    fn an_endless_cap_is_wrong() {
        Backoff::exponential(MS, Duration::MAX);
    }

    #[test]
    #[should_panic(expected = "Backoff::constant: 18446744073709551615.999999999s is not allowed")]
    fn an_endless_wait_is_wrong() {
        Backoff::constant(Duration::MAX);
    }

    #[test]
    #[should_panic(
        expected = "Backoff::factor: NaN is not allowed, it has to be from 1.0 to 100.0"
    )]
    fn a_factor_that_is_no_number_is_wrong() {
        let _ = Backoff::default().factor(f64::NAN);
    }

    proptest! {
        #[test]
        fn at_the_cap_the_jitter_spreads_over_all_of_it_and_is_another_for_each_call(
            base in 1_000_u64..1_000_000_000,
            factor in 1_u32..1_000,
            attempts in 40_u32..,
            seed: u64,
            decorrelated: bool,
        ) {
            let cap = Duration::from_nanos(base) * factor;
            let backoff = Backoff::exponential(Duration::from_nanos(base), cap);
            let backoff = if decorrelated { backoff.decorrelated() } else { backoff };
            let draw = |seed: u64| {
                let mut one_call = waits(seed);
                (0..200).map(|n| backoff.wait(attempts.saturating_add(n), &mut one_call)).collect::<Vec<_>>()
            };
            let drawn = draw(seed);
            prop_assert!(drawn.iter().all(|wait| *wait <= cap));
            if !decorrelated {
                prop_assert!(drawn.iter().any(|wait| *wait < cap / 4), "{drawn:?}");
                prop_assert!(drawn.iter().any(|wait| *wait > cap / 4 * 3), "{drawn:?}");
            }
            // Decorrelated waits are from the base on, so there is nothing to draw if that is the cap.
            if !decorrelated || factor > 1 {
                prop_assert!(drawn != draw(seed.wrapping_add(1)));
            }
        }

        #[test]
        fn a_wait_is_within_its_bounds(
            base in 1..=u64::MAX,
            more in 0..=u64::MAX,
            attempts in 1..=u32::MAX,
            seed: u64,
        ) {
            let base = Duration::from_nanos(base).min(MAX_DURATION);
            let cap = base.saturating_add(Duration::from_nanos(more)).min(MAX_DURATION);
            let backoff = Backoff::exponential(base, cap);
            let most = backoff.without_jitter().wait(attempts, &mut waits(seed));
            prop_assert!(base <= most && most <= cap);
            prop_assert!(backoff.wait(attempts, &mut waits(seed)) <= most);
            let mut one_call = waits(seed);
            let mut previous = base;
            for n in 1..20 {
                let wait = backoff.decorrelated().wait(n, &mut one_call);
                prop_assert!(base <= wait && wait <= cap && wait <= previous.saturating_mul(3));
                previous = wait;
            }
        }
    }
}
