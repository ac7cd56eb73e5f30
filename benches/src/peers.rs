//! What could stand in the place of our layers and our pool: tower's own here, others with the feature `peers`.
//!
//! None of them ever limits, retries or opens.

use std::{future, time::Duration};

use tower::{
    ServiceBuilder,
    hedge::{self, Hedge},
    retry::Policy,
};

use crate::service::{AtOnce, Client, Stack};

#[cfg(feature = "peers")]
pub mod elsewhere;

/// Whether this was built with the peers of other crates than tower.
pub const ALL: bool = cfg!(feature = "peers");

const MAX: usize = 4_096;
const LIMIT: Duration = Duration::from_secs(10);
const QUEUE: usize = 1_024;

/// Looks at each result as a policy would, and never retries.
#[derive(Clone, Copy, Debug)]
pub struct Never;

impl<E> Policy<u64, u64, E> for Never {
    type Future = future::Ready<()>;

    fn retry(&mut self, _: &mut u64, result: &mut Result<u64, E>) -> Option<Self::Future> {
        std::hint::black_box(result.is_err());
        None
    }

    fn clone_request(&mut self, request: &u64) -> Option<u64> {
        Some(*request)
    }
}

impl hedge::Policy<u64> for Never {
    fn clone_request(&self, request: &u64) -> Option<u64> {
        Some(*request)
    }

    fn can_retry(&self, _: &u64) -> bool {
        false
    }
}

/// tower's `ConcurrencyLimit`.
pub fn limit(inner: impl Stack) -> impl Client + Clone {
    ServiceBuilder::new().concurrency_limit(MAX).service(inner)
}

/// tower's `RateLimit`, which cannot be cloned.
pub fn rate(inner: impl Stack) -> impl Client {
    ServiceBuilder::new().rate_limit(u64::MAX, Duration::from_secs(1)).service(inner)
}

/// tower's `Timeout`. Called inside a runtime.
pub fn timeout(inner: impl Stack) -> impl Client + Clone {
    ServiceBuilder::new().timeout(LIMIT).service(inner)
}

/// Two of tower's `Timeout`.
pub fn two_timeouts(inner: impl Stack) -> impl Client + Clone {
    ServiceBuilder::new().timeout(3 * LIMIT).timeout(LIMIT).service(inner)
}

/// tower's `Retry` with [`Never`].
pub fn retry(inner: impl Stack) -> impl Client + Clone {
    ServiceBuilder::new().retry(Never).service(inner)
}

/// tower's `Hedge` by the 95th percentile, with [`Never`]. It cannot be cloned.
pub fn hedge(inner: impl Stack) -> impl Client {
    Hedge::new(inner, Never, 100, 0.95, Duration::from_secs(30))
}

/// tower's timeout, concurrency limit, retry and timeout: all of its layers that the README's stack has, too.
pub fn four(inner: impl Stack) -> impl Client + Clone {
    ServiceBuilder::new()
        .timeout(3 * LIMIT)
        .concurrency_limit(MAX)
        .retry(Never)
        .timeout(LIMIT)
        .service(inner)
}

/// tower's own five: load shed, concurrency limit, rate limit, retry, timeout. It cannot be cloned.
pub fn five(inner: impl Stack) -> impl Client {
    ServiceBuilder::new()
        .load_shed()
        .concurrency_limit(MAX)
        .rate_limit(u64::MAX, Duration::from_secs(1))
        .retry(Never)
        .timeout(LIMIT)
        .service(inner)
}

/// tower's five behind a `Buffer`, so that they can be shared. Built inside a runtime.
pub fn five_buffered(inner: impl Stack) -> impl Client + Clone {
    ServiceBuilder::new()
        .buffer(QUEUE)
        .load_shed()
        .concurrency_limit(MAX)
        .rate_limit(u64::MAX, Duration::from_secs(1))
        .retry(Never)
        .timeout(LIMIT)
        .service(inner)
}

/// tower in the place of a pool with this many workers. Built inside a runtime.
pub fn pool(workers: usize) -> impl Client + Clone {
    ServiceBuilder::new().buffer(QUEUE).concurrency_limit(workers).service(AtOnce::<200>)
}
