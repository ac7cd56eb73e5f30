//! Runs CPU-bound jobs on threads of the pool's own, while the runtime's timers stay punctual.

use std::{convert::Infallible, time::Duration};

use stockade::{Error, Pool, pool::Sizing};
use tokio::time::{Instant, interval};
use tower::service_fn;

const LIMIT: u64 = 3_000_000;
const JOBS: u64 = 16;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let pool = Pool::builder()
        .sizing(Sizing::cpu_bound())
        .threads()
        .queue(64)
        .build(service_fn(async |part: u64| Ok::<_, Error<Infallible>>(primes(part))));

    // This runs on the runtime's only thread, which a busy worker must not block.
    let start = Instant::now();
    let ticks = tokio::spawn(async {
        let mut ticks = interval(Duration::from_millis(10));
        let (mut last, mut worst) = (ticks.tick().await, Duration::ZERO);
        loop {
            let now = ticks.tick().await.max(Instant::now());
            worst = worst.max(now - last);
            last = now;
            WORST.store(worst.as_millis() as u64, std::sync::atomic::Ordering::Relaxed);
        }
    });

    let mut outcomes = pool.run(0..JOBS);
    let (mut found, mut parts) = (0, 0);
    while let Some(outcome) = outcomes.next().await {
        found += outcome.result.unwrap_or_default();
        parts += 1;
    }
    ticks.abort();

    let stats = pool.stats();
    assert_eq!((parts, stats.succeeded, found), (JOBS, JOBS, 216_816));
    println!(
        "{found} primes below {LIMIT} in {} ms on {} threads; the longest between two ticks of 10 ms was {} ms",
        start.elapsed().as_millis(),
        stats.peak_workers,
        WORST.load(std::sync::atomic::Ordering::Relaxed)
    );
    assert!(pool.drain(Duration::from_secs(5)).await.is_complete());
}

static WORST: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// Counts the primes in one part of the numbers below the limit, without an await.
fn primes(part: u64) -> u64 {
    let is_prime =
        |n: &u64| *n > 1 && (2..).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    (LIMIT * part / JOBS..LIMIT * (part + 1) / JOBS).filter(is_prime).count() as u64
}
