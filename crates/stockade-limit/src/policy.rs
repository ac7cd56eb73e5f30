//! What an adaptive limit follows: arithmetic alone, that is told the time and never asks for it.

use std::time::Duration;

/// Answers the limit that follows from a call, for [`LimitLayer::adaptive`](crate::LimitLayer::adaptive).
///
/// It need not keep to bounds, nor find out whether the limit is used: the layer sees to both. It reads no clock
/// and waits for nothing, because it runs under a lock that all calls of the limit share; one that panics costs
/// that call its answer.
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

/// Adds one a round trip, and multiplies when a call is lost to overload: additive increase, multiplicative decrease.
///
/// It learns from losses alone, so it fits services that refuse or time out; [`slower_than`](Self::slower_than)
/// makes a loss of what takes long. From D.-M. Chiu and R. Jain, "Analysis of the Increase and Decrease
/// Algorithms for Congestion Avoidance in Computer Networks", 1989.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use stockade_core::Error;
/// use stockade_limit::{Aimd, LimitLayer};
/// use tower::{ServiceBuilder, ServiceExt};
///
/// let policy = Aimd::new().backoff(0.8).slower_than(Duration::from_secs(1));
/// let svc = ServiceBuilder::new()
///     .layer(LimitLayer::adaptive(policy).min(4).max(200))
///     .map_err(Error::Service)
///     .service_fn(async |n: u32| Ok::<_, std::io::Error>(n + 1));
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// assert_eq!(svc.oneshot(1).await.unwrap(), 2);
/// # });
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Aimd {
    backoff: f64,
    slow: Option<Duration>,
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

// === impl Aimd ===

impl Aimd {
    /// A tenth less after a loss, however long calls take.
    pub const fn new() -> Self {
        Self { backoff: 0.9, slow: None }
    }

    /// What the limit is multiplied by after a loss (default 0.9).
    ///
    /// # Panics
    ///
    /// If `ratio` is not from 0.1 to 0.99.
    #[must_use]
    #[track_caller]
    pub fn backoff(self, ratio: f64) -> Self {
        Self { backoff: stockade_core::config::allow("Aimd::backoff", ratio, 0.1..=0.99), ..self }
    }

    /// A call that takes longer than `limit` counts as lost (default: none does).
    #[must_use]
    pub const fn slower_than(self, limit: Duration) -> Self {
        Self { slow: Some(limit), ..self }
    }
}

impl Default for Aimd {
    fn default() -> Self {
        Self::new()
    }
}

impl Policy for Aimd {
    fn update(&mut self, sample: &Sample) -> f64 {
        let slow = self.slow.is_some_and(|slow| sample.round_trip > slow);
        if sample.dropped || slow { sample.limit * self.backoff } else { sample.limit + 1.0 }
    }
}
