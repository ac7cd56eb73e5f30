//! What an adaptive limit follows: arithmetic alone, with the time passed in.

use std::time::Duration;

/// Says which limit follows from a call, for [`LimitLayer::adaptive`](crate::LimitLayer::adaptive).
///
/// It need not keep to bounds, nor find out whether the limit is used: the limit does both. It should not block and
/// not call the limit, because one call at a time is weighed, and others that end meanwhile are left out. A policy that
/// panics costs that call its answer.
///
/// [`Aimd`](crate::Aimd), [`Vegas`](crate::Vegas) and [`Gradient2`](crate::Gradient2) are ready-made.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use stockade_limit::{LimitLayer, Policy, Sample};
///
/// /// One more while answers come within 10 ms, else half as many.
/// #[derive(Clone)]
/// struct Brisk;
///
/// impl Policy for Brisk {
///     fn update(&mut self, sample: &Sample) -> f64 {
///         let slow = sample.dropped || sample.round_trip > Duration::from_millis(10);
///         if slow { sample.limit / 2.0 } else { sample.limit + 1.0 }
///     }
/// }
///
/// let limit = LimitLayer::adaptive(Brisk).max(100);
/// ```
pub trait Policy: Clone + Send + Sync + 'static {
    /// The limit after `sample`. A fraction is kept for the next one; NaN changes nothing.
    fn update(&mut self, sample: &Sample) -> f64;
}

/// What one call tells a [`Policy`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// The limit that the call was admitted under, with its fraction.
    pub limit: f64,
    /// How many calls were in flight when it began, itself included.
    pub in_flight: usize,
    /// From the call to its result.
    pub round_trip: Duration,
    /// Whether it was lost to overload, so that the round trip says nothing.
    pub dropped: bool,
}

// === impl Sample ===

impl Sample {
    /// A call that was admitted under `limit` as one of `in_flight`, and answered after `round_trip`; to test a
    /// policy with.
    pub fn new(limit: f64, in_flight: usize, round_trip: Duration) -> Self {
        Self { limit, in_flight, round_trip, dropped: false }
    }

    /// The same, lost to overload.
    #[must_use]
    pub fn lost(self) -> Self {
        Self { dropped: true, ..self }
    }

    /// The round trip in seconds, never zero.
    pub(crate) fn seconds(&self) -> f64 {
        self.round_trip.as_secs_f64().max(1e-9)
    }

    /// Whether at least half of the limit is in flight.
    pub(crate) fn is_used(&self) -> bool {
        self.in_flight as f64 * 2.0 >= self.limit.floor()
    }
}
