//! One process of a fleet: the stack of `one_pool.rs`, with a rate limit and a breaker shared by all processes.
//!
//! Redis is at `$REDIS_URL`, or on this machine. Without it, this process uses its quarter of the rate.

use std::time::Duration;

use stockade::{BoxError, BreakerLayer, Pool, RetryLayer, TimeoutLayer};
use stockade_fleet::{Redis, breaker::Quorum, rate::Outage, rate::RateLayer};
use tokio::time::{Instant, sleep};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let url = std::env::var("REDIS_URL").unwrap_or("redis://127.0.0.1:6379".into());
    let redis = Redis::new(&url)?;
    let (breaker, handle) = BreakerLayer::new().name("geocoder").with_handle();
    let _member = Quorum::majority(&redis, "geocoder").join(handle);
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(10)))
        .layer(RetryLayer::max_attempts(3))
        .layer(breaker)
        .layer(RateLayer::per_second(&redis, "geocoder", 50).burst(10).outage(Outage::Share(4)))
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
