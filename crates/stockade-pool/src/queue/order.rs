//! Which job is next, by a rank that it gets when it is submitted.

use super::slab::Key;

/// Decides which of the queued jobs is next, by giving each a rank.
///
/// The job of the smallest rank is next; among equals, the one that was queued first. The rank is asked for when
/// the job is submitted, on the caller's side and without a lock, so an order may keep state of its own (a counter
/// for each tenant, say). Every `Fn(&Req) -> i64` is an order.
///
/// An order by rank alone can starve a job for ever; [`priority`](crate::PoolBuilder::priority) cannot.
///
/// # Example
///
/// ```
/// use std::convert::Infallible;
/// use stockade_core::Error;
/// use stockade_pool::Pool;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// // The largest first.
/// let pool = ServiceBuilder::new()
///     .layer(Pool::builder().order(|size: &u32| -i64::from(*size)))
///     .service_fn(async |n: u32| Ok::<_, Error<Infallible>>(n));
/// # assert_eq!(pool.oneshot(1).await, Ok(1));
/// # }
/// ```
pub trait Order<Req>: Send + Sync + 'static {
    /// The rank of a job; the smallest is next.
    fn rank(&self, request: &Req) -> i64;
}

/// How many jobs that were submitted later may overtake a job for each level of priority that they are above it.
const AGEING: i64 = 32;

// === impl Order ===

impl<Req, F> Order<Req> for F
where
    F: Fn(&Req) -> i64 + Send + Sync + 'static,
{
    fn rank(&self, request: &Req) -> i64 {
        self(request)
    }
}

/// The rank of a job. With `ageing` what it is sorted by is a priority, of which the highest is next.
pub(super) fn rank(job: Key, sort: i64, ageing: bool) -> i64 {
    if ageing { aged(sort, job.serial()) } else { sort }
}

/// The rank of a job with this priority that was submitted as the `n`th: a line in which each level is worth
/// [`AGEING`] places. So a job is overtaken by so many and no more, and nothing starves.
fn aged(priority: i64, n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX) - priority * AGEING
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_overtaken_by_32_later_ones_for_each_level_and_no_more() {
        let low = aged(1, 100);
        assert!(aged(2, 131) < low && aged(2, 133) > low);
        assert!(aged(4, 195) < low && aged(4, 197) > low);
    }
}
