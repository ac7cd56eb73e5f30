//! The stacks under test, and their peers from `tower`. None of them ever limits, retries or opens.

use std::{fmt::Debug, future, time::Duration};

use stockade::{BreakerLayer, LimitLayer, Pool, RateLayer, RetryLayer, TimeoutLayer};
use tower::{Service, ServiceBuilder, buffer::Buffer, retry::Policy};

use crate::inner::{Busy, Failure, Inner, Ready};

/// What a driver can call.
pub trait Client:
    Service<u64, Response = u64, Error: Debug + Send, Future: Send> + Send + 'static
{
}

impl<S> Client for S where
    S: Service<u64, Response = u64, Error: Debug + Send, Future: Send> + Send + 'static
{
}

const MAX: usize = 64;
const LIMIT: Duration = Duration::from_secs(10);
const ATTEMPT: Duration = Duration::from_secs(2);
/// The workers of every pool.
pub const WORKERS: usize = 4;
/// The queue of every pool.
pub const QUEUE: usize = 1_024;

/// A token a nanosecond.
fn huge_rate() -> RateLayer {
    RateLayer::per_second(1_000_000_000)
}

// === ours ===

/// The concurrency limit alone.
pub fn limit(inner: impl Inner) -> impl Client + Clone {
    ServiceBuilder::new().layer(LimitLayer::new(MAX)).service(inner)
}

/// The rate limit alone.
pub fn rate(inner: impl Inner) -> impl Client + Clone {
    ServiceBuilder::new().layer(huge_rate()).service(inner)
}

/// The timeout alone.
pub fn timeout(inner: impl Inner) -> impl Client + Clone {
    ServiceBuilder::new().layer(TimeoutLayer::new(LIMIT)).service(inner)
}

/// A timeout of the whole call, and a shorter one inside, as each attempt of a retry would have.
pub fn two_timeouts(inner: impl Inner) -> impl Client + Clone {
    let (total, attempt) = (TimeoutLayer::new(LIMIT), TimeoutLayer::new(ATTEMPT));
    ServiceBuilder::new().layer(total).layer(attempt).service(inner)
}

/// The retry alone.
pub fn retry(inner: impl Inner) -> impl Client + Clone {
    ServiceBuilder::new().layer(RetryLayer::max_attempts(3)).service(inner)
}

/// The breaker alone.
pub fn breaker(inner: impl Inner) -> impl Client + Clone {
    ServiceBuilder::new().layer(BreakerLayer::new()).service(inner)
}

/// All five, in the recommended order.
pub fn five(inner: impl Inner) -> impl Client + Clone {
    ServiceBuilder::new()
        .layer(RetryLayer::max_attempts(3))
        .layer(BreakerLayer::new())
        .layer(huge_rate())
        .layer(LimitLayer::new(MAX))
        .layer(TimeoutLayer::new(LIMIT))
        .service(inner)
}

/// A pool of four workers that do nothing. Built inside a runtime.
pub fn pool() -> Pool<u64, u64, Failure> {
    Pool::builder().workers(WORKERS).queue(QUEUE).build(Ready)
}

/// A pool of two workers whose jobs keep a processor busy. Built inside a runtime.
pub fn busy_pool() -> Pool<u64, u64, Failure> {
    Pool::builder().workers(2).queue(QUEUE).build(Busy)
}

// === tower's ===

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

/// tower's `ConcurrencyLimit`.
pub fn tower_limit(inner: impl Inner) -> impl Client + Clone {
    ServiceBuilder::new().concurrency_limit(MAX).service(inner)
}

/// tower's `RateLimit`, which cannot be cloned.
pub fn tower_rate(inner: impl Inner) -> impl Client {
    ServiceBuilder::new().rate_limit(u64::MAX, Duration::from_secs(1)).service(inner)
}

/// tower's `Timeout`. Called inside a runtime.
pub fn tower_timeout(inner: impl Inner) -> impl Client + Clone {
    ServiceBuilder::new().timeout(LIMIT).service(inner)
}

/// Two of tower's `Timeout`. Called inside a runtime.
pub fn tower_two_timeouts(inner: impl Inner) -> impl Client + Clone {
    ServiceBuilder::new().timeout(LIMIT).timeout(ATTEMPT).service(inner)
}

/// tower's `Retry` with [`Never`].
pub fn tower_retry(inner: impl Inner) -> impl Client + Clone {
    ServiceBuilder::new().retry(Never).service(inner)
}

/// tower's own five: load shed, concurrency limit, rate limit, retry, timeout. It cannot be cloned.
pub fn tower_five(inner: impl Inner) -> impl Client {
    ServiceBuilder::new()
        .load_shed()
        .concurrency_limit(MAX)
        .rate_limit(u64::MAX, Duration::from_secs(1))
        .retry(Never)
        .timeout(LIMIT)
        .service(inner)
}

/// tower's five behind a `Buffer`, so that they can be shared. Built inside a runtime.
pub fn tower_five_shared(inner: impl Inner) -> impl Client + Clone {
    ServiceBuilder::new()
        .buffer(QUEUE)
        .load_shed()
        .concurrency_limit(MAX)
        .rate_limit(u64::MAX, Duration::from_secs(1))
        .retry(Never)
        .timeout(LIMIT)
        .service(inner)
}

/// What `tower` has in the place of a pool: a `Buffer` over a `ConcurrencyLimit`. Built inside a runtime.
pub fn tower_pool() -> impl Client + Clone {
    Buffer::new(tower::limit::ConcurrencyLimit::new(Ready, WORKERS), QUEUE)
}
