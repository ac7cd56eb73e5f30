//! Values of a scenario, each with the range that is allowed; what is outside of it is refused while the file is
//! read, so the reader knows the place.

use std::time::Duration;

use serde::Deserialize;

/// A whole number from 1 to a million.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "i64")]
pub struct Count(u32);

/// A whole number from 0 to a million.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "i64")]
pub struct CountOrNone(u32);

/// A number above 0, up to a million.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, PartialOrd)]
#[serde(try_from = "f64")]
pub struct Positive(f64);

/// A number from 0 to a million.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, PartialOrd)]
#[serde(try_from = "f64")]
pub struct Amount(f64);

/// A number above 0, up to 1.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, PartialOrd)]
#[serde(try_from = "f64")]
pub struct Share(f64);

/// A time from a millisecond to a day, such as `"250ms"`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
pub struct Span(Duration);

/// A time from the beginning of the simulation: as a [`Span`], or `"0s"`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
pub struct Moment(Duration);

const MOST: f64 = 1e6;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MILLISECOND: Duration = Duration::from_millis(1);

// === reading ===

impl TryFrom<i64> for Count {
    type Error = String;

    fn try_from(n: i64) -> Result<Self, String> {
        whole(n, 1).map(Self)
    }
}

impl TryFrom<i64> for CountOrNone {
    type Error = String;

    fn try_from(n: i64) -> Result<Self, String> {
        whole(n, 0).map(Self)
    }
}

impl TryFrom<f64> for Positive {
    type Error = String;

    fn try_from(n: f64) -> Result<Self, String> {
        let allowed = n > 0.0 && n <= MOST;
        allowed.then_some(Self(n)).ok_or_else(|| refuse(n, "a number above 0, up to 1000000"))
    }
}

impl TryFrom<f64> for Amount {
    type Error = String;

    fn try_from(n: f64) -> Result<Self, String> {
        let allowed = (0.0..=MOST).contains(&n);
        allowed.then_some(Self(n)).ok_or_else(|| refuse(n, "a number from 0 to 1000000"))
    }
}

impl TryFrom<f64> for Share {
    type Error = String;

    fn try_from(n: f64) -> Result<Self, String> {
        let allowed = n > 0.0 && n <= 1.0;
        allowed
            .then_some(Self(n))
            .ok_or_else(|| refuse(n, "a share above 0, up to 1, such as 0.75"))
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        time(&text, MILLISECOND).map(Self)
    }
}

impl TryFrom<String> for Moment {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        time(&text, Duration::ZERO).map(Self)
    }
}

fn whole(n: i64, least: u32) -> Result<u32, String> {
    let allowed = u32::try_from(n).ok().filter(|n| *n >= least && f64::from(*n) <= MOST);
    allowed.ok_or_else(|| refuse(n, &format!("a whole number from {least} to 1000000")))
}

fn time(text: &str, least: Duration) -> Result<Duration, String> {
    const UNITS: &str = "write a number and a unit, such as \"250ms\", \"5s\" or \"1m 30s\"";
    let time = humantime::parse_duration(text)
        .map_err(|error| format!("{text:?} is not a time ({error}); {UNITS}"))?;
    if time < least || time > DAY {
        return Err(format!("{text:?} is not allowed; a time from 1ms to 1day is"));
    }
    Ok(time)
}

fn refuse(n: impl std::fmt::Display, allowed: &str) -> String {
    format!("{n} is not allowed; {allowed} is")
}

// === use ===

impl Count {
    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number, to count things in memory with.
    pub const fn size(self) -> usize {
        self.0 as usize
    }
}

impl CountOrNone {
    /// The number, to count things in memory with.
    pub const fn size(self) -> usize {
        self.0 as usize
    }
}

impl Positive {
    /// The number 1.
    pub const ONE: Self = Self(1.0);

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl Amount {
    /// The number 1.
    pub const ONE: Self = Self(1.0);

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl Share {
    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl Span {
    /// The time.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl Moment {
    /// The time since the beginning.
    pub const fn get(self) -> Duration {
        self.0
    }
}
