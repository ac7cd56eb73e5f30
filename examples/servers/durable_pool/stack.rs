//! The stack, which is the same whatever the queue: five layers and a pool, as without any.

use std::time::Duration;

use stockade::{
    BoxError, BreakerLayer, LimitLayer, Pool, RateLayer, RetryLayer, TimeoutLayer, breaker,
};
use tower::{ServiceBuilder, service_fn};

/// How long the work of a job takes.
pub(crate) const WORK: Duration = Duration::from_millis(200);

/// A pool of four workers that run `work`, no more than forty a second.
///
/// A job that would have to wait for the rate limit for long is refused, and goes back to where all jobs wait: there
/// another process may take it.
pub(crate) fn pool<W, F>(work: W) -> Pool<u32, (), BoxError>
where
    W: Fn(u32) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(10)))
        .layer(RetryLayer::max_attempts(2).classify(patience))
        .layer(BreakerLayer::new().window(breaker::Window::calls(20)))
        .layer(RateLayer::per_second(40).burst(4).max_wait(Duration::from_millis(20)))
        .layer(LimitLayer::new(4))
        .service(service_fn(work));
    Pool::builder().workers(4).queue(4).name("durable").build(stack)
}

/// Failures are tried again at once; refusals are not, because the queue outside waits for them.
fn patience(result: Result<&(), &BoxError>) -> stockade::Class {
    use stockade::{Class, LayerError};
    match result {
        Ok(()) => Class::Success,
        Err(error) if error.rejected().is_some() => Class::Permanent,
        Err(_) => Class::Transient { after: None },
    }
}
