//! How many workers there are, as it is written in a file: a number, or a table with the fewest and the most.

use std::{fmt, ops::RangeInclusive};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, IntoDeserializer, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::roster::MOST;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Span {
    #[serde(with = "fields::min")]
    min: usize,
    #[serde(with = "fields::max")]
    max: usize,
}

stockade_core::fields! {
    min: usize = 0..=MOST;
    max: usize = 1..=MOST;
}

struct Written;

pub(crate) fn serialize<S: Serializer>(
    workers: &RangeInclusive<usize>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let (min, max) = (*workers.start(), *workers.end());
    if min == max { max.serialize(serializer) } else { Span { min, max }.serialize(serializer) }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<RangeInclusive<usize>, D::Error> {
    deserializer.deserialize_any(Written)
}

fn fixed<E: Error>(n: impl IntoDeserializer<'static, E>) -> Result<RangeInclusive<usize>, E> {
    fields::max::deserialize(n.into_deserializer()).map(|n| n..=n)
}

// === impl Written ===

impl<'de> Visitor<'de> for Written {
    type Value = RangeInclusive<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from 1 to {MOST}, or a table with min and max")
    }

    fn visit_i64<E: Error>(self, n: i64) -> Result<RangeInclusive<usize>, E> {
        fixed(n)
    }

    fn visit_u64<E: Error>(self, n: u64) -> Result<RangeInclusive<usize>, E> {
        fixed(n)
    }

    fn visit_str<E: Error>(self, n: &str) -> Result<RangeInclusive<usize>, E> {
        fixed(n.to_owned())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RangeInclusive<usize>, A::Error> {
        let Span { min, max } = Span::deserialize(MapAccessDeserializer::new(map))?;
        if min > max {
            return Err(A::Error::custom(format!("min: {min} is above max, {max}")));
        }
        Ok(min..=max)
    }
}
