use stockade_core::config::allow;

use super::baseline::Baseline;
use crate::{Policy, Sample};

/// Follows the ratio of how long calls usually take to how long they take now.
///
/// While the calls of a round take no longer than usual, with some tolerance, the limit grows by a twentieth, and by four
/// calls at most. The longer they take, the more it shrinks, by a tenth at most. A round is as many answers as the
/// limit lets calls in, and at least ten. After a loss to overload it shrinks by a tenth. So over a service that is
/// busy the limit settles near what the service does at once, times the tolerance.
///
/// What is usual is measured every thirty rounds, with half of the limit, so that nothing waits inside.
///
/// From "Gradient2" in Netflix's concurrency-limits, 2018. There the usual time is a long average of all calls, which follows
/// the calls of a busy service up, and the limit with it; here it is measured, as in its older "Gradient".
///
/// # Example
///
/// ```
/// use stockade_core::Error;
/// use stockade_limit::{Gradient2, LimitLayer};
/// use tower::{ServiceBuilder, ServiceExt};
///
/// let svc = ServiceBuilder::new()
///     .layer(LimitLayer::adaptive(Gradient2::new().tolerance(2.0)).max(200))
///     .map_err(Error::Service)
///     .service_fn(async |n: u32| Ok::<_, std::io::Error>(n + 1));
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// assert_eq!(svc.oneshot(1).await.unwrap(), 2);
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct Gradient2 {
    tolerance: f64,
    baseline: Baseline,
}

/// What is left of the limit, at least, when it shrinks.
const LEAST: f64 = 0.9;
/// How much it grows at a time, at most: by as many calls as may wait inside.
const MOST: f64 = 4.0;

// === impl Gradient2 ===

impl Gradient2 {
    /// Calls may take half as long again as usual.
    pub const fn new() -> Self {
        Self { tolerance: 1.5, baseline: Baseline::new() }
    }

    /// How many times as long as usual calls may take before the limit shrinks (default 1.5). Above 2 the limit may settle
    /// beyond twice of what a service does at once.
    ///
    /// # Panics
    ///
    /// If `ratio` is not from 1 to 1,000.
    #[must_use]
    #[track_caller]
    pub fn tolerance(self, ratio: f64) -> Self {
        Self { tolerance: allow("Gradient2::tolerance", ratio, 1.0..=1e3), ..self }
    }
}

impl Default for Gradient2 {
    fn default() -> Self {
        Self::new()
    }
}

impl Policy for Gradient2 {
    fn update(&mut self, sample: &Sample) -> f64 {
        let (limit, tolerance) = (sample.limit, self.tolerance);
        self.baseline.follow(sample, LEAST, |usual, round| {
            let gradient = tolerance * usual / round.seconds;
            if gradient < 1.0 {
                limit * f64::midpoint(1.0, gradient).max(LEAST)
            } else if round.is_used(limit) {
                limit + (limit / 20.0).clamp(0.5, MOST)
            } else {
                limit
            }
        })
    }
}
