//! All five layers and a pool in front: a client that fails sometimes looks as if it never did.

use std::{
    io,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use stockade::{
    BreakerLayer, Error, LimitLayer, Pool, RateLayer, RetryLayer, TimeoutLayer, pool::Status,
};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() {
    let retry = RetryLayer::max_attempts(4);
    let (retry, retries) = retry.with_handle();

    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(5))) // the whole call, with all its attempts
        .layer(retry)
        .layer(BreakerLayer::new())
        .layer(RateLayer::per_second(1_000).burst(50))
        .layer(LimitLayer::new(8)) // calls at once
        .map_err(Error::Service)
        .service_fn(fetch);
    let pool = Pool::builder().workers(16).queue(64).build(stack);

    let mut outcomes = pool.run(1..=100);
    let mut sum = 0;
    while let Some(outcome) = outcomes.next().await {
        assert_eq!(outcome.status, Status::Success);
        sum += outcome.result.unwrap_or_default();
    }
    assert_eq!(sum, (1..=100).map(|n| n * n).sum::<u64>());
    println!(
        "100 of 100 requests succeeded, with {} retries; the sum is {sum}",
        retries.stats().retried
    );
}

/// The client. Every tenth call fails.
async fn fetch(n: u64) -> io::Result<u64> {
    static CALLS: AtomicU32 = AtomicU32::new(1);
    tokio::time::sleep(Duration::from_millis(5)).await;
    if CALLS.fetch_add(1, Ordering::Relaxed).is_multiple_of(10) {
        return Err(io::Error::other("out of luck"));
    }
    Ok(n * n)
}
