//! A pool that grows from two to ten workers for a burst of forty jobs, and shrinks again.

use std::{convert::Infallible, time::Duration};

use stockade::{Error, Pool};
use tokio::time::{Instant, sleep};
use tower::service_fn;

const IDLE: Duration = Duration::from_millis(300);

#[tokio::main]
async fn main() {
    let pool =
        Pool::builder().workers(2..=10).idle(IDLE).queue(64).build(service_fn(async |n: u32| {
            sleep(Duration::from_millis(100)).await;
            Ok::<_, Error<Infallible>>(n)
        }));
    let start = Instant::now();
    let mut size = pool.handle().watch();
    let watcher = tokio::spawn(async move {
        let mut most = 0;
        while size.changed().await.is_ok() {
            let workers = *size.borrow_and_update();
            println!("{:>4} ms  {workers} workers", start.elapsed().as_millis());
            most = most.max(workers);
        }
        most
    });

    let mut outcomes = pool.run(0..40);
    let mut done = 0;
    while outcomes.next().await.is_some() {
        done += 1;
    }
    println!("{:>4} ms  all {done} jobs done", start.elapsed().as_millis());

    while pool.stats().workers > 2 {
        sleep(IDLE / 10).await;
    }
    let back = start.elapsed();
    let stats = pool.stats();
    assert_eq!((done, stats.succeeded, stats.peak_workers, stats.workers), (40, 40, 10, 2));
    drop((outcomes, pool));
    let most = watcher.await.unwrap_or_default();
    assert!(most <= 10);
    println!("back to 2 of {} workers after {} ms", stats.peak_workers, back.as_millis());
}
