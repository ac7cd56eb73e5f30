use std::time::Duration;

use stockade_core::config::allow;

use crate::{Policy, Sample};

/// Adds one a round trip, and multiplies after a loss to overload: additive increase, multiplicative decrease.
///
/// It learns from losses alone, so it fits services that refuse or time out, and settles where they begin to.
/// [`slower_than`](Self::slower_than) makes a loss of each call that takes long.
///
/// From D.-M. Chiu and R. Jain, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance in
/// Computer Networks", 1989.
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
        Self { backoff: allow("Aimd::backoff", ratio, 0.1..=0.99), ..self }
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
