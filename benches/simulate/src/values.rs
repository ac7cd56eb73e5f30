//! Values of a scenario, each with the range that is allowed; what is outside of it is refused while the file is
//! read, so the reader knows the place.

use std::{fmt, marker::PhantomData, str::FromStr, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{
        Error, IntoDeserializer, Unexpected, Visitor,
        value::{Error as Refused, F64Deserializer, I64Deserializer, StrDeserializer},
    },
};

/// A whole number from 1 to a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(u32);

/// A whole number from 0 to a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountOrNone(u32);

/// A number above 0, up to a million.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Positive(f64);

/// A number from 0 to a million.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Amount(f64);

/// A number above 0, up to 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Share(f64);

/// A time from a millisecond to a day, such as `"250ms"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(Duration);

/// A time from the beginning of the simulation: as a [`Span`], or `"0s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

const MOST: f64 = 1e6;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How one kind of value is read; `None` for what it does not take.
trait Value: Sized {
    /// What would have been right.
    const ALLOWED: &str;

    fn whole(n: i64) -> Option<Self> {
        Self::number(n as f64)
    }

    fn number(_: f64) -> Option<Self> {
        None
    }

    fn time(_: Duration) -> Option<Self> {
        None
    }
}

struct Reader<T>(PhantomData<T>);

// === what is allowed ===

impl Value for Count {
    const ALLOWED: &str = "a whole number from 1 to 1000000";

    fn whole(n: i64) -> Option<Self> {
        (1..=MOST as i64).contains(&n).then_some(Self(n as u32))
    }
}

impl Value for CountOrNone {
    const ALLOWED: &str = "a whole number from 0 to 1000000";

    fn whole(n: i64) -> Option<Self> {
        (0..=MOST as i64).contains(&n).then_some(Self(n as u32))
    }
}

impl Value for Positive {
    const ALLOWED: &str = "a number above 0, up to 1000000";

    fn number(n: f64) -> Option<Self> {
        (n > 0.0 && n <= MOST).then_some(Self(n))
    }
}

impl Value for Amount {
    const ALLOWED: &str = "a number from 0 to 1000000";

    fn number(n: f64) -> Option<Self> {
        (0.0..=MOST).contains(&n).then_some(Self(n))
    }
}

impl Value for Share {
    const ALLOWED: &str = "a share above 0, up to 1, such as 0.75";

    fn number(n: f64) -> Option<Self> {
        (n > 0.0 && n <= 1.0).then_some(Self(n))
    }
}

impl Value for Span {
    const ALLOWED: &str =
        "a time with its unit from \"1ms\" to \"1day\", such as \"250ms\" or \"1m 30s\"";

    fn time(time: Duration) -> Option<Self> {
        (Duration::from_millis(1)..=DAY).contains(&time).then_some(Self(time))
    }
}

impl Value for Moment {
    const ALLOWED: &str =
        "a time with its unit from \"0s\" to \"1day\", such as \"250ms\" or \"1m 30s\"";

    fn time(time: Duration) -> Option<Self> {
        (time <= DAY).then_some(Self(time))
    }
}

// === reading ===

impl<T: Value> Visitor<'_> for Reader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::ALLOWED)
    }

    fn visit_i64<E: Error>(self, n: i64) -> Result<T, E> {
        T::whole(n).ok_or_else(|| E::invalid_value(Unexpected::Signed(n), &self))
    }

    fn visit_f64<E: Error>(self, n: f64) -> Result<T, E> {
        T::number(n).ok_or_else(|| E::invalid_value(Unexpected::Float(n), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        let time = humantime::parse_duration(text).ok().and_then(T::time);
        time.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

macro_rules! read {
    ($($value:ident)*) => { $(
        impl<'de> Deserialize<'de> for $value {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Reader(PhantomData))
            }
        }

        /// As on a command line.
        impl FromStr for $value {
            type Err = Refused;

            fn from_str(text: &str) -> Result<Self, Refused> {
                if let Ok(n) = text.parse::<i64>() {
                    let n: I64Deserializer<Refused> = n.into_deserializer();
                    return Self::deserialize(n);
                }
                if let Ok(n) = text.parse::<f64>() {
                    let n: F64Deserializer<Refused> = n.into_deserializer();
                    return Self::deserialize(n);
                }
                let text: StrDeserializer<'_, Refused> = text.into_deserializer();
                Self::deserialize(text)
            }
        }
    )* };
}

read!(Count CountOrNone Positive Amount Share Span Moment);

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
