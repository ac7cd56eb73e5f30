//! Configuration that is wrong fails where it is written.

use std::{fmt::Debug, ops::RangeInclusive, time::Duration};

/// The longest duration that a setter takes: ten years. Sums of a few of them fit everywhere.
pub const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The shortest duration that a setter takes, where zero makes no sense.
pub const MIN_DURATION: Duration = Duration::from_nanos(1);

/// Checks a configured value; `what` is the setter, as the user writes it.
///
/// # Panics
///
/// If `value` is not within `range` (as NaN never is), with a message that names all three, at the line
/// of the caller whose function is `#[track_caller]` too.
#[track_caller]
pub fn allow<T: PartialOrd + Debug>(what: &str, value: T, range: RangeInclusive<T>) -> T {
    assert!(
        range.contains(&value),
        "{what}: {value:?} is not allowed, it has to be from {:?} to {:?}",
        range.start(),
        range.end(),
    );
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "Budget::ratio: NaN is not allowed, it has to be from 0.0 to 1.0")]
    fn nan_is_within_no_range() {
        allow("Budget::ratio", f64::NAN, 0.0..=1.0);
    }

    #[test]
    #[should_panic(expected = "LimitLayer::new: 0 is not allowed, it has to be from 1 to 9")]
    fn names_the_setter_the_value_and_the_range() {
        allow("LimitLayer::new", 0, 1..=9);
    }
}
