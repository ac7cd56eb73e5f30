//! An instant, or none, in one word.

use std::{fmt, sync::OnceLock, time::Duration};

use tokio::time::Instant;

/// An instant of tokio's clock, or none, in one word.
///
/// An `Option<Instant>` is two, and moved about in three pieces. What most calls carry without ever needing it is
/// better kept in here. It says nothing outside of the process.
///
/// # Example
///
/// ```
/// use stockade_core::internal::Moment;
/// use tokio::time::Instant;
///
/// let now = Instant::now();
/// assert_eq!(Moment::of(now).get(), Some(now));
/// assert_eq!(Moment::NONE.get(), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Moment(
    // Nanoseconds after `zero`, or before it.
    i64,
);

/// Whatever it is, it is less than 292 years away from any other.
fn zero() -> Instant {
    static ZERO: OnceLock<Instant> = OnceLock::new();
    *ZERO.get_or_init(Instant::now)
}

// === impl Moment ===

impl Moment {
    /// No instant.
    pub const NONE: Self = Self(i64::MIN);

    /// This instant.
    pub fn of(instant: Instant) -> Self {
        let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        let zero = zero();
        Self(match instant.checked_duration_since(zero) {
            Some(after) => nanos(after),
            None => -nanos(zero.duration_since(instant)),
        })
    }

    /// The instant, if there is one.
    pub fn get(self) -> Option<Instant> {
        let time = Duration::from_nanos(self.0.unsigned_abs());
        match self.0 {
            i64::MIN => None,
            0.. => zero().checked_add(time),
            _ => zero().checked_sub(time),
        }
    }
}

impl From<Option<Instant>> for Moment {
    #[inline]
    fn from(instant: Option<Instant>) -> Self {
        instant.map_or(Self::NONE, Self::of)
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_the_instant_that_it_was_made_of() {
        let zero = zero();
        for nanos in [0, 1, 999_999_999, 1_000_000_000, 86_400 * 365 * 1_000_000_000] {
            let away = Duration::from_nanos(nanos);
            assert_eq!(Moment::of(zero + away).get(), Some(zero + away));
            // There may be no instant so early.
            if let Some(before) = zero.checked_sub(away) {
                assert_eq!(Moment::of(before).get(), Some(before));
            }
        }
        assert_eq!(Moment::from(None).get(), None);
    }
}
