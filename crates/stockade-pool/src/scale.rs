//! How many workers there are within the range: the rule that moves the number.
//!
//! Nothing ticks here. The rule is asked when a job is queued or waits for a place, which may add workers, and when a
//! worker has been idle for a while, which may let it go.

use std::{
    ops::{Range, RangeInclusive},
    time::Duration,
};

/// Decides how many workers a pool has, within the range it was given.
///
/// It is asked when a job is queued, or finds no place; then the missing workers are started at once. It is also
/// asked when a worker has been idle for [`PoolBuilder::idle`](crate::PoolBuilder::idle); the worker leaves if there
/// are more than the answer. A worker that is busy is not stopped. No lock is held while it is asked, and a panic in
/// it counts as "as many as there are".
///
/// Without a rule a pool works like [`PerJob`].
///
/// # Example
///
/// One more worker, but only when the oldest job has waited for too long:
///
/// ```
/// use std::{convert::Infallible, time::Duration};
/// use stockade_core::Error;
/// use stockade_pool::{Load, Pool, Scale};
/// use tower::{ServiceBuilder, ServiceExt};
///
/// struct Patient;
/// impl Scale for Patient {
///     fn workers(&self, load: &Load) -> usize {
///         if load.oldest > Duration::from_millis(5) { load.live + 1 } else { load.busy.max(1) }
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let pool = ServiceBuilder::new()
///     .layer(Pool::builder().workers(1..=8).scale(Patient))
///     .service_fn(async |n: u32| Ok::<_, Error<Infallible>>(n));
/// # assert_eq!(pool.oneshot(1).await, Ok(1));
/// # }
/// ```
pub trait Scale: Send + Sync + 'static {
    /// How many workers there ought to be. Kept within the range of the pool, and above 0 while jobs are queued.
    fn workers(&self, load: &Load) -> usize;
}

/// What a [`Scale`] goes by; all numbers are of the same instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Load {
    /// Jobs that wait for a worker, and those that wait for a place in the queue.
    pub queued: usize,
    /// How long the first of the queued jobs has waited; zero if there is none.
    pub oldest: Duration,
    /// Workers that cannot take a job now: they run one, or their service is not ready.
    pub busy: usize,
    /// Workers that are alive or about to start.
    pub live: usize,
    /// The fewest workers that the pool keeps.
    pub min: usize,
    /// The most workers that the pool may have.
    pub max: usize,
}

/// As many workers as there are jobs, queued or running.
///
/// A worker is added when a job is queued and none is idle, and one that is idle for long leaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct PerJob;

/// A number of workers, or a range of it: `8`, `2..=32` or `2..33`.
///
/// A range that ends below its start, or at 0, is refused where it is given.
/// With a start of 0 the last idle worker leaves too.
pub trait Workers {
    /// From the fewest to the most.
    #[doc(hidden)]
    fn range(self) -> RangeInclusive<usize>;
}

// === impl PerJob ===

impl Scale for PerJob {
    fn workers(&self, load: &Load) -> usize {
        load.busy.saturating_add(load.queued)
    }
}

// === impl Workers ===

impl Workers for usize {
    fn range(self) -> RangeInclusive<usize> {
        self..=self
    }
}

impl Workers for RangeInclusive<usize> {
    fn range(self) -> RangeInclusive<usize> {
        self
    }
}

impl Workers for Range<usize> {
    fn range(self) -> RangeInclusive<usize> {
        self.start..=self.end.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::Workers;
    use crate::roster::Size;

    #[test]
    fn a_number_and_every_kind_of_range_is_taken() {
        let size = |min, max| Ok(Size { min, max });
        assert_eq!(Size::check("workers", 8.range()), size(8, 8));
        assert_eq!(Size::check("workers", (2..=32).range()), size(2, 32));
        assert_eq!(Size::check("workers", (2..33).range()), size(2, 32));
    }

    #[test]
    fn a_range_that_ends_below_its_start_is_refused() {
        #[expect(clippy::reversed_empty_ranges, reason = "that is the mistake")]
        let error = Size::check("workers", (9..=3).range()).unwrap_err();
        assert_eq!(error.to_string(), "workers: 9 is not allowed, it has to be from 0 to 3");
    }
}
