//! Runs twenty jobs on five workers, so in four rounds.

use std::time::Duration;

use stockade::{Error, Pool, pool::Status};
use tokio::time::{Instant, sleep};
use tower::ServiceBuilder;

const JOB: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() {
    let client = ServiceBuilder::new().map_err(Error::Service).service_fn(square);
    let pool = Pool::builder().workers(5).queue(20).build(client);

    let start = Instant::now();
    let mut outcomes = pool.run(1..=20);
    let mut sum = 0;
    while let Some(outcome) = outcomes.next().await {
        let worker = outcome.worker.unwrap_or_default();
        println!("{:>4} ms  job {:>2} by worker {worker}", start.elapsed().as_millis(), outcome.id);
        assert_eq!(outcome.status, Status::Success);
        sum += outcome.result.unwrap_or_default();
    }

    let (took, stats) = (start.elapsed(), pool.stats());
    assert_eq!(sum, (1..=20).map(|n| n * n).sum::<u64>());
    assert_eq!((stats.accepted, stats.succeeded, stats.peak_running), (20, 20, 5));
    assert!(took >= 4 * JOB, "five at a time take four rounds");
    println!("20 jobs of 100 ms by 5 workers in {} ms; the sum is {sum}", took.as_millis());
}

async fn square(n: u64) -> Result<u64, std::io::Error> {
    sleep(JOB).await;
    Ok(n * n)
}
