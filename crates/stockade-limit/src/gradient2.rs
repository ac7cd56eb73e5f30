use stockade_core::config::allow;

use crate::{Policy, Sample};

/// Follows the ratio of how long calls take usually to how long they take now.
///
/// While calls take no longer than usual, with some tolerance, the limit grows by a little more than nothing
/// waiting inside would allow; the longer they take now, the more it shrinks, each time by a tenth at most. After a
/// loss to overload it shrinks by a tenth too. What is usual is an average over some six hundred samples, so
/// it fits services whose calls take unequally long; it also means that a service which is overloaded
/// slowly enough is taken for a slow one, so set a [`max`](crate::LimitLayer::max).
///
/// From "Gradient2" in Netflix's concurrency-limits, 2018.
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
    /// The usual round trip in seconds, an average.
    usual: f64,
    /// How many samples it is made of, up to [`WARM_UP`].
    samples: u32,
}

/// So many samples are averaged with equal weights, until the moving average has something to start from.
const WARM_UP: u32 = 10;
/// The weight of a sample in the average.
const WEIGHT: f64 = 2.0 / 601.0;
/// How many calls may wait inside.
const QUEUE: f64 = 4.0;
/// How much of the way to the new limit is gone at once.
const STEP: f64 = 0.2;

// === impl Gradient2 ===

impl Gradient2 {
    /// Calls may take half as long again as usual.
    pub const fn new() -> Self {
        Self { tolerance: 1.5, usual: 0.0, samples: 0 }
    }

    /// How many times as long as usual calls may take before the limit shrinks (default 1.5).
    ///
    /// # Panics
    ///
    /// If `ratio` is not from 1 to 1,000.
    #[must_use]
    #[track_caller]
    pub fn tolerance(self, ratio: f64) -> Self {
        Self { tolerance: allow("Gradient2::tolerance", ratio, 1.0..=1e3), ..self }
    }

    fn learn(&mut self, seconds: f64) {
        self.samples = (self.samples + 1).min(WARM_UP + 1);
        let weight = if self.samples <= WARM_UP { f64::from(self.samples).recip() } else { WEIGHT };
        self.usual += (seconds - self.usual) * weight;
        // After a long time of slow calls it would take the average too long to come down again.
        if self.usual > seconds * 2.0 {
            self.usual *= 0.95;
        }
    }
}

impl Default for Gradient2 {
    fn default() -> Self {
        Self::new()
    }
}

impl Policy for Gradient2 {
    fn update(&mut self, sample: &Sample) -> f64 {
        let limit = sample.limit;
        if sample.dropped {
            return limit * (1.0 - STEP / 2.0);
        }
        let seconds = sample.seconds();
        self.learn(seconds);
        if !sample.is_used() {
            // How long it took says nothing about the limit.
            return limit;
        }
        let gradient = (self.tolerance * self.usual / seconds).clamp(0.5, 1.0);
        let wanted = limit * gradient + QUEUE;
        limit + (wanted - limit) * STEP
    }
}
