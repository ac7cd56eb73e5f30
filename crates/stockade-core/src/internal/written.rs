//! Settings as people write them in files: `"250ms"`, `"64KiB"`, and within a range.
//!
//! The fields of a `Config` are read through [`fields!`](crate::fields), so that an error names the value as it was
//! written and what is allowed, at the place in the file. A number may be text, because some formats know nothing else.

use std::{
    fmt::{self, Debug},
    ops::RangeInclusive,
    time::Duration,
};

use bytesize::ByteSize;
use humantime::{format_duration, parse_duration};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};

use crate::{
    Budget, ConfigError, Name,
    budget::{PER_SECOND, RATIO},
};

/// What a setting can be.
pub trait Value: PartialOrd + Debug + Sized {
    /// What to write.
    const WHAT: &'static str;

    /// From a whole number.
    fn whole(_: i128) -> Option<Self> {
        None
    }

    /// From a number with a fraction.
    fn fraction(_: f64) -> Option<Self> {
        None
    }

    /// From text.
    fn text(text: &str) -> Option<Self>;

    /// From text, where what is counted may be bytes: `64KiB`.
    fn size(text: &str) -> Option<Self> {
        Self::text(text)
    }

    /// As it is written.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
}

/// A [`Value`], or an option of one.
pub trait Field: Sized {
    /// What can be written.
    type Value;

    /// Reads a setting within `range`; text is read by `parse`.
    ///
    /// # Errors
    ///
    /// If it is something else, or outside.
    fn read<'de, D: Deserializer<'de>>(
        deserializer: D,
        range: RangeInclusive<Self::Value>,
        parse: Parse<Self::Value>,
    ) -> Result<Self, D::Error>;

    /// As it is written.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
}

/// Reads a value from text.
pub type Parse<T> = fn(&str) -> Option<T>;

/// Reads a value within the range.
struct Within<T>(RangeInclusive<T>, Parse<T>);

/// Reads nothing, or a value within the range.
struct Optional<T>(RangeInclusive<T>, Parse<T>);

/// Makes the modules that serde's attribute `with` names, one for each field: `fields::max` for
/// `fields! { max: usize = 1..=9; }`.
#[doc(hidden)]
#[macro_export]
macro_rules! fields {
    ($($field:tt)*) => { $crate::written! { fields text $($field)* } };
}

/// The same for numbers that may be written as sizes: `sizes::calls`.
#[doc(hidden)]
#[macro_export]
macro_rules! sizes {
    ($($field:tt)*) => { $crate::written! { sizes size $($field)* } };
}

#[doc(hidden)]
#[macro_export]
macro_rules! written {
    ($module:ident $parse:ident $($name:ident: $type:ty = $range:expr;)*) => {
        mod $module {
            $(pub(super) mod $name {
                #[allow(unused_imports, reason = "types and ranges may have no name")]
                use super::super::*;
                use $crate::internal::written::{Field, Value};

                pub(crate) fn deserialize<'de, D: ::serde::Deserializer<'de>>(
                    deserializer: D,
                ) -> Result<$type, D::Error> {
                    <$type>::read(deserializer, $range, Value::$parse)
                }

                #[allow(dead_code, reason = "some are only read")]
                pub(crate) fn serialize<S: ::serde::Serializer>(
                    value: &$type,
                    serializer: S,
                ) -> Result<S::Ok, S::Error> {
                    Field::write(value, serializer)
                }
            })*
        }
    };
}

// === impl Field ===

impl<T: Value> Field for T {
    type Value = T;

    fn read<'de, D: Deserializer<'de>>(
        deserializer: D,
        range: RangeInclusive<T>,
        parse: Parse<T>,
    ) -> Result<T, D::Error> {
        deserializer.deserialize_any(Within(range, parse))
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Value::write(self, serializer)
    }
}

impl<T: Value> Field for Option<T> {
    type Value = T;

    fn read<'de, D: Deserializer<'de>>(
        deserializer: D,
        range: RangeInclusive<T>,
        parse: Parse<T>,
    ) -> Result<Self, D::Error> {
        deserializer.deserialize_option(Optional(range, parse))
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Written<'a, T>(&'a T);

        impl<T: Value> Serialize for Written<'_, T> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.write(serializer)
            }
        }

        self.as_ref().map(Written).serialize(serializer)
    }
}

// === impl Within, Optional ===

impl<T: Value> Within<T> {
    fn take<E: Error>(self, value: Option<T>, written: &dyn Debug) -> Result<T, E> {
        let in_range = value.filter(|value| self.0.contains(value));
        in_range.ok_or_else(|| E::custom(ConfigError::new("", written, allowed(&self.0)).reason()))
    }
}

impl<T: Value> Visitor<'_> for Within<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&allowed(&self.0))
    }

    fn visit_i64<E: Error>(self, n: i64) -> Result<T, E> {
        self.take(T::whole(n.into()), &n)
    }

    fn visit_u64<E: Error>(self, n: u64) -> Result<T, E> {
        self.take(T::whole(n.into()), &n)
    }

    fn visit_f64<E: Error>(self, n: f64) -> Result<T, E> {
        self.take(T::fraction(n), &n)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        let value = self.1(text);
        self.take(value, &text)
    }
}

impl<'de, T: Value> Visitor<'de> for Optional<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&allowed(&self.0))
    }

    fn visit_none<E: Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        T::read(deserializer, self.0, self.1).map(Some)
    }
}

fn allowed<T: Value>(range: &RangeInclusive<T>) -> String {
    format!("{} from {:?} to {:?}", T::WHAT, range.start(), range.end())
}

// === impl Value ===

macro_rules! whole {
    ($($type:ty)*) => {$(
        impl Value for $type {
            const WHAT: &'static str = "a whole number";

            fn whole(n: i128) -> Option<Self> {
                n.try_into().ok()
            }

            fn text(text: &str) -> Option<Self> {
                text.parse().ok()
            }

            /// With or without a unit.
            fn size(text: &str) -> Option<Self> {
                text.parse::<ByteSize>().ok()?.as_u64().try_into().ok()
            }

            fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.serialize(serializer)
            }
        }
    )*};
}

whole!(u32 u64 usize);

impl Value for f64 {
    const WHAT: &'static str = "a number";

    fn whole(n: i128) -> Option<Self> {
        Some(n as Self)
    }

    fn fraction(n: f64) -> Option<Self> {
        Some(n)
    }

    fn text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize(serializer)
    }
}

impl Value for Duration {
    const WHAT: &'static str = r#"a duration, such as "250ms" or "2m 30s","#;

    fn text(text: &str) -> Option<Self> {
        parse_duration(text).ok()
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_duration(*self))
    }
}

// === impl Name ===

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.clone().check("").unwrap_or_default().serialize(serializer)
    }
}

/// Of an optional name that was checked.
pub mod name {
    use super::*;

    /// Reads it.
    ///
    /// # Errors
    ///
    /// If it cannot be a name.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<&'static str>, D::Error> {
        let name = Option::<Name>::deserialize(deserializer)?;
        Ok(name.and_then(|name| name.check("").ok()))
    }

    /// Writes it.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(
        name: &Option<&'static str>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        name.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Self::from(String::deserialize(deserializer)?);
        name.check("").map(Self::from).map_err(|error| D::Error::custom(error.reason()))
    }
}

// === impl Budget ===

/// The rates of a budget that has a limit.
#[derive(Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Limited {
    #[serde(with = "fields::ratio")]
    ratio: f64,
    #[serde(with = "fields::per_second")]
    per_second: f64,
}

crate::fields! {
    ratio: f64 = RATIO;
    per_second: f64 = PER_SECOND;
}

struct Written;

impl Default for Limited {
    fn default() -> Self {
        let budget = Budget::default();
        let or_none = Option::unwrap_or_default;
        Self { ratio: or_none(budget.ratio()), per_second: or_none(budget.per_second()) }
    }
}

impl Serialize for Budget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.ratio().zip(self.per_second()) {
            Some((ratio, per_second)) => Limited { ratio, per_second }.serialize(serializer),
            None => serializer.serialize_str("unlimited"),
        }
    }
}

impl<'de> Deserialize<'de> for Budget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

impl<'de> Visitor<'de> for Written {
    type Value = Budget;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"unlimited\", or a table with ratio and per_second")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Budget, E> {
        if text == "unlimited" {
            return Ok(Budget::unlimited());
        }
        Err(E::invalid_value(Unexpected::Str(text), &self))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Budget, A::Error> {
        let Limited { ratio, per_second } = Limited::deserialize(MapAccessDeserializer::new(map))?;
        Budget::try_new(ratio, per_second).map_err(|error| A::Error::custom(error.reason()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
    #[serde(default, deny_unknown_fields)]
    struct Settings {
        #[serde(with = "sizes::calls")]
        calls: usize,
        #[serde(with = "fields::jobs", skip_serializing)]
        jobs: usize,
        #[serde(with = "fields::wait")]
        wait: Option<Duration>,
        #[serde(with = "fields::rate")]
        rate: f64,
        budget: Budget,
        name: Option<Name>,
    }

    crate::sizes! {
        calls: usize = 0..=9_999_999;
    }

    crate::fields! {
        jobs: usize = 0..=9;
        wait: Option<Duration> = Duration::ZERO..=crate::config::MAX_DURATION;
        rate: f64 = 0.0..=1.0;
    }

    impl PartialEq for Budget {
        fn eq(&self, other: &Self) -> bool {
            self.ratio() == other.ratio() && self.per_second() == other.per_second()
        }
    }

    fn read(json: &str) -> Result<Settings, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn durations_and_sizes_are_read_as_people_write_them() {
        for (text, wait) in [("250ms", 250), ("2s", 2_000), ("1m", 60_000), ("1m 30s", 90_000)] {
            let settings = read(&format!(r#"{{ "wait": "{text}" }}"#)).unwrap();
            assert_eq!(settings.wait, Some(Duration::from_millis(wait)), "{text}");
        }
        for (text, calls) in [("7", 7), (r#""7""#, 7), (r#""64KiB""#, 65_536), (r#""1kB""#, 1_000)]
        {
            assert_eq!(read(&format!(r#"{{ "calls": {text} }}"#)).unwrap().calls, calls, "{text}");
        }
        for (text, rate) in [("1", 1.0), ("0.5", 0.5), (r#""0.5""#, 0.5)] {
            assert_eq!(read(&format!(r#"{{ "rate": {text} }}"#)).unwrap().rate, rate, "{text}");
        }
        assert_eq!(read(r#"{ "wait": null }"#).unwrap().wait, None);
    }

    #[test]
    fn what_is_written_can_be_read_again() {
        let settings = Settings {
            calls: 7,
            jobs: 0,
            wait: Some(Duration::from_millis(90_250)),
            rate: 0.25,
            budget: Budget::new(0.1, 3.0),
            name: Some("db".into()),
        };
        let json = serde_json::to_string(&settings).unwrap();
        assert_eq!(
            json,
            r#"{"calls":7,"wait":"1m 30s 250ms","rate":0.25,"#.to_owned()
                + r#""budget":{"ratio":0.1,"per_second":3.0},"name":"db"}"#
        );
        assert_eq!(read(&json).unwrap(), settings);
    }

    #[test]
    fn a_budget_is_unlimited_or_a_table_of_rates() {
        assert_eq!(read(r#"{ "budget": "unlimited" }"#).unwrap().budget, Budget::unlimited());
        let budget = read(r#"{ "budget": { "ratio": 0.5 } }"#).unwrap().budget;
        assert_eq!(budget, Budget::new(0.5, 10.0));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        let longest = "from 0ns to 315360000s";
        let duration = r#"a duration, such as "250ms" or "2m 30s","#;
        for (json, error) in [
            (
                r#"{"wait": "5 parsecs"}"#,
                format!(r#""5 parsecs" is not allowed, it has to be {duration} {longest}"#),
            ),
            (r#"{"wait": 5}"#, format!("5 is not allowed, it has to be {duration} {longest}")),
            (
                r#"{"wait": true}"#,
                format!("invalid type: boolean `true`, expected {duration} {longest}"),
            ),
            (
                r#"{"calls": -1}"#,
                "-1 is not allowed, it has to be a whole number from 0 to 9999999".to_owned(),
            ),
            (
                r#"{"calls": "64MiB"}"#,
                r#""64MiB" is not allowed, it has to be a whole number from 0 to 9999999"#.to_owned(),
            ),
            (
                r#"{"jobs": "1B"}"#,
                r#""1B" is not allowed, it has to be a whole number from 0 to 9"#.to_owned(),
            ),
            (
                r#"{"rate": "NaN"}"#,
                r#""NaN" is not allowed, it has to be a number from 0.0 to 1.0"#.to_owned(),
            ),
            (
                r#"{"budget": {"ratio": -1}}"#,
                "-1 is not allowed, it has to be a number from 0.0 to 10.0".to_owned(),
            ),
            (
                r#"{"budget": "none"}"#,
                r#"invalid value: string "none", expected "unlimited", or a table with ratio and per_second"#
                    .to_owned(),
            ),
        ] {
            let told = read(json).unwrap_err();
            assert!(told.starts_with(&(error + " at line 1")), "{json}: {told}");
        }
        let long = format!(r#"{{ "name": "{}" }}"#, "x".repeat(1_000));
        assert!(read(&long).unwrap_err().contains("1000 bytes"));
    }
}
