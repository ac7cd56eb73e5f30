//! Compares a pool without a queue to one with: six jobs arrive at once, and two workers take 100 ms for each.
//!
//! With `queue(0)` a job is accepted only when a worker is free, so the producer waits for the workers. With
//! `queue(4)` all six are accepted at once, and the producer can do something else.

use std::{convert::Infallible, time::Duration};

use stockade::{Error, Pool};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tower::service_fn;

const JOB: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() {
    let rendezvous = produce("rendezvous", 0).await;
    let buffered = produce("buffered", 4).await;
    assert!(rendezvous >= 2 * JOB, "the last pair waits for two pairs before it");
    assert!(buffered < JOB, "all are accepted at once");
}

/// Submits six jobs one after the other, and returns when the last one was accepted.
async fn produce(name: &str, queue: usize) -> Duration {
    println!("{name}: a queue of {queue} before 2 workers");
    let pool = Pool::builder().workers(2).queue(queue).build(service_fn(async |_: u32| {
        sleep(JOB).await;
        Ok::<_, Error<Infallible>>(())
    }));
    while pool.stats().idle < 2 {
        tokio::task::yield_now().await;
    }

    let start = Instant::now();
    let mut answers = JoinSet::new();
    for n in 1..=6 {
        let mut job = pool.submit(n);
        if job.accepted().await.is_err() {
            unreachable!("nobody closes the pool");
        }
        println!("  {:>4} ms  job {n} accepted", start.elapsed().as_millis());
        answers.spawn(async move {
            let fine = job.await.is_ok();
            println!("  {:>4} ms  job {n} done", start.elapsed().as_millis());
            fine
        });
    }
    let accepted = start.elapsed();
    assert_eq!(answers.join_all().await, [true; 6]);

    let stats = pool.stats();
    assert_eq!((stats.accepted, stats.succeeded, stats.queued), (6, 6, 0));
    assert!(stats.peak_queued <= queue + 2, "never more than the queue and the free workers hold");
    println!("  the producer was free after {} ms", accepted.as_millis());
    accepted
}
