//! What the pool does when there is too much to do, on the paused clock.

use std::{convert::Infallible, time::Duration};

use stockade_core::{Error, LayerError, Reason};
use stockade_pool::{Pool, Status};
use tokio::time::sleep;
use tower::service_fn;

type Refusal = Error<Infallible>;

const MS: Duration = Duration::from_millis(1);

fn slow() -> Pool<u64, u64, Refusal> {
    let pool = Pool::builder().workers(1).queue(1_000).codel(20 * MS, 100 * MS);
    pool.build(service_fn(async |n: u64| {
        sleep(10 * MS).await;
        Ok::<_, Refusal>(n)
    }))
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_stands_is_shed_from_and_says_when_to_come_back() {
    let pool = slow();
    let mut outcomes = pool.run(0..300);
    let (mut shed, mut succeeded) = (0, 0);
    while let Some(outcome) = outcomes.next().await {
        match outcome.status {
            Status::Shed => {
                let rejected = *outcome.result.unwrap_err().rejected().unwrap();
                assert_eq!(rejected.reason(), Reason::Shed);
                assert_eq!(rejected.retry_after(), Some(100 * MS));
                assert_eq!((outcome.worker, outcome.attempts), (None, 0));
                shed += 1;
            }
            status => {
                assert_eq!(status, Status::Success);
                succeeded += 1;
            }
        }
    }
    assert!(shed > 20, "{shed} were shed");
    let stats = pool.stats();
    assert_eq!((stats.shed, stats.succeeded), (shed, succeeded));
    assert_eq!(stats.accepted, stats.ended());
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_let_through() {
    let pool = slow();
    let jobs: Vec<_> = (0..9).map(|n| pool.try_submit(n).unwrap()).collect();
    for (n, job) in jobs.into_iter().enumerate() {
        assert_eq!(job.await, Ok(n as u64));
    }
    assert_eq!(pool.stats().shed, 0);
}

#[test]
#[should_panic(expected = "PoolBuilder::codel: 2s is not allowed, it has to be from 1ns to 1s")]
fn a_target_above_the_interval_is_refused() {
    let _ = Pool::builder().codel(Duration::from_secs(2), Duration::from_secs(1));
}
