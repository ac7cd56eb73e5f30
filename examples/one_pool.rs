//! One process: a pool in front of a stack with its own rate limit and breaker.
//!
//! `fleet_pool.rs` is the same program as one of a fleet.

use std::time::Duration;

use stockade::{BoxError, BreakerLayer, Pool, RateLayer, RetryLayer, TimeoutLayer};
use tokio::time::{Instant, sleep};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let breaker = BreakerLayer::new().name("geocoder");
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(10)))
        .layer(RetryLayer::max_attempts(3))
        .layer(breaker)
        .layer(RateLayer::per_second(50).burst(10))
        .service_fn(geocode);
    let pool = Pool::builder().workers(8).queue(64).build(stack);

    let begin = Instant::now();
    let mut outcomes = pool.run(0..60);
    let mut found = 0;
    while let Some(outcome) = outcomes.next().await {
        found += usize::from(outcome.result.is_ok());
    }
    println!("{found} of 60 places found in {:.1} s", begin.elapsed().as_secs_f64());
    Ok(())
}

/// Stands for a provider that allows fifty calls a second.
async fn geocode(place: u32) -> Result<u32, BoxError> {
    sleep(Duration::from_millis(20)).await;
    Ok(place)
}
