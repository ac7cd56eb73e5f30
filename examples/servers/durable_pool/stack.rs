//! The stack: five layers and a pool. It is the same for every queue, and the same as without one.

use std::time::Duration;

use stockade::{
    BoxError, BreakerLayer, LimitLayer, Pool, RateLayer, RetryLayer, TimeoutLayer, breaker,
};
use tower::{ServiceBuilder, service_fn};

/// How long the work of a job takes.
pub(crate) const WORK: Duration = Duration::from_millis(200);

/// A pool of four workers that run `work`, no more than forty a second.
///
/// A job that would have to wait long for the rate limit is refused and goes back to the queue, where another process
/// may take it.
pub(crate) fn pool<W, F>(work: W) -> Pool<u32, (), BoxError>
where
    W: Fn(u32) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(10)))
        .layer(RetryLayer::max_attempts(2)) // what failed; what is refused goes back at once
        .layer(BreakerLayer::new().window(breaker::Window::calls(20)))
        .layer(RateLayer::per_second(40).burst(4).max_wait(Duration::from_millis(20)))
        .layer(LimitLayer::new(4))
        .service(service_fn(work));
    Pool::builder().workers(4).queue(4).name("durable").build(stack)
}
