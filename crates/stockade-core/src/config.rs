//! Configuration that is wrong fails where it is written.

use std::{error::Error as StdError, fmt, ops::RangeInclusive, time::Duration};

/// The longest duration that a setter takes: ten years. Sums of a few of them fit everywhere.
pub const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The shortest duration that a setter takes, where zero makes no sense.
pub const MIN_DURATION: Duration = Duration::from_nanos(1);

/// A value that a setting does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    setting: String,
    value: String,
    allowed: String,
}

/// Checks a configured value; `setting` is the setter, as the user writes it.
///
/// # Errors
///
/// If `value` is not within `range` (as NaN never is).
pub fn check<T: PartialOrd + fmt::Debug>(
    setting: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<T, ConfigError> {
    if range.contains(&value) {
        return Ok(value);
    }
    let allowed = format!("from {:?} to {:?}", range.start(), range.end());
    Err(ConfigError::new(setting, &value, allowed))
}

/// Checks a field of a configuration, if it is set. `of` is whose field it is, as the user writes it.
///
/// # Errors
///
/// If it is not within `range`.
pub fn check_field<T: PartialOrd + fmt::Debug>(
    of: &str,
    field: &str,
    value: impl Into<Option<T>>,
    range: RangeInclusive<T>,
) -> Result<(), ConfigError> {
    match value.into() {
        Some(value) if !range.contains(&value) => {
            check(&format!("{of}::{field}"), value, range).map(drop)
        }
        _ => Ok(()),
    }
}

/// The same as [`check`], for constructors and setters that have no error to return.
///
/// # Panics
///
/// If `value` is not within `range`, with a message that names setting, value and range, at the line of the
/// caller whose function is `#[track_caller]` too.
#[track_caller]
pub fn allow<T: PartialOrd + fmt::Debug>(setting: &str, value: T, range: RangeInclusive<T>) -> T {
    checked(check(setting, value, range))
}

/// The value of a check.
///
/// # Panics
///
/// With the error, at the line of the caller.
#[track_caller]
pub fn checked<T>(result: Result<T, ConfigError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

// === impl ConfigError ===

impl ConfigError {
    /// `value` is not allowed for `setting`; `allowed` says what is.
    pub fn new(setting: &str, value: &dyn fmt::Debug, allowed: impl Into<String>) -> Self {
        Self { setting: setting.to_owned(), value: format!("{value:?}"), allowed: allowed.into() }
    }

    /// The setting, as the user writes it: `"LimitLayer::new"`.
    pub fn setting(&self) -> &str {
        &self.setting
    }

    /// The value, as it was given.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What is allowed.
    pub fn allowed(&self) -> &str {
        &self.allowed
    }

    /// What is wrong, without the setting; for one that has another name in a file.
    pub fn reason(&self) -> String {
        format!("{} is not allowed, it has to be {}", self.value, self.allowed)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.reason())
    }
}

impl StdError for ConfigError {}

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

    #[test]
    fn the_same_check_is_there_as_an_error() {
        let error = check("RateLayer::burst", 0, 1..=9).unwrap_err();
        let parts = (error.setting(), error.value(), error.allowed());
        assert_eq!(parts, ("RateLayer::burst", "0", "from 1 to 9"));
    }
}
