use std::ops::RangeInclusive;

use stockade_core::config::allow;

use super::baseline::Baseline;
use crate::{Policy, Sample};

/// Keeps a few calls waiting inside the service: adds one a round while fewer wait, and takes some off while more do. A
/// round is as many answers as the limit lets calls in, and at least ten.
///
/// How many wait follows from how much longer the calls of a round took than calls usually take. What is usual is
/// measured every thirty rounds, with half of the limit, so that nothing waits inside. After a loss to overload
/// it takes a quarter off. Of a small limit at most two fifths wait, so it stays within twice of what the service does at
/// once.
///
/// It does not find out that a service has become slower for good before the next measurement; until then the limit may
/// shrink.
///
/// From L. S. Brakmo and L. L. Peterson, "TCP Vegas: End to End Congestion Avoidance on a Global Internet", 1995, with
/// the thresholds of Netflix's concurrency-limits. The measurement is that of its "Gradient".
///
/// # Example
///
/// ```
/// use stockade_core::Error;
/// use stockade_limit::{LimitLayer, Vegas};
/// use tower::{ServiceBuilder, ServiceExt};
///
/// let svc = ServiceBuilder::new()
///     .layer(LimitLayer::adaptive(Vegas::new().waiting(2.0..=5.0)))
///     .map_err(Error::Service)
///     .service_fn(async |n: u32| Ok::<_, std::io::Error>(n + 1));
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// assert_eq!(svc.oneshot(1).await.unwrap(), 2);
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct Vegas {
    few: f64,
    many: f64,
    baseline: Baseline,
}

/// The parts of a small limit that may wait.
const FEW: f64 = 0.2;
const MANY: f64 = 0.4;

// === impl Vegas ===

impl Vegas {
    /// Three to six calls wait inside.
    pub const fn new() -> Self {
        Self { few: 3.0, many: 6.0, baseline: Baseline::new() }
    }

    /// How many calls may wait inside (default 3 to 6): below the limit grows, above it shrinks.
    ///
    /// # Panics
    ///
    /// If an end is not from 0 to 1,000,000, or the range is empty.
    #[must_use]
    #[track_caller]
    pub fn waiting(self, calls: RangeInclusive<f64>) -> Self {
        let few = allow("Vegas::waiting", *calls.start(), 0.0..=1e6);
        let many = allow("Vegas::waiting", *calls.end(), few..=1e6);
        Self { few, many, ..self }
    }
}

impl Default for Vegas {
    fn default() -> Self {
        Self::new()
    }
}

impl Policy for Vegas {
    fn update(&mut self, sample: &Sample) -> f64 {
        let limit = sample.limit;
        let (few, many) = (self.few.min(limit * FEW), self.many.min(limit * MANY));
        self.baseline.follow(sample, 0.75, |usual, round| {
            let waiting = round.in_flight * (1.0 - usual / round.seconds);
            if waiting < few {
                limit + 1.0
            } else if waiting > many {
                limit - ((waiting - many) / 2.0).clamp(1.0, (limit / 4.0).max(1.0))
            } else {
                limit
            }
        })
    }
}
