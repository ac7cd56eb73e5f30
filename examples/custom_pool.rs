//! A pool with a queue order and a scaling rule of its own, and a service made for each worker.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use stockade::{
    Error, Pool,
    pool::{Load, Order, Scale},
};
use tokio::time::sleep;
use tower::service_fn;

/// The most urgent job first; among equals the oldest.
struct MostUrgent;

impl Order<(u8, u32)> for MostUrgent {
    fn rank(&self, (urgency, _): &(u8, u32)) -> i64 {
        -i64::from(*urgency)
    }
}

/// One worker for every ten waiting jobs.
struct OnePerTen;

impl Scale for OnePerTen {
    fn workers(&self, load: &Load) -> usize {
        load.min + load.queued / 10
    }
}

// On one thread, so that all jobs are queued before the first one is taken.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let made = Arc::new(AtomicUsize::new(0));
    let order: Arc<Mutex<Vec<u8>>> = Arc::default();
    let (count, seen) = (Arc::clone(&made), Arc::clone(&order));
    let make = service_fn(move |_worker: usize| {
        count.fetch_add(1, Ordering::Relaxed);
        let seen = Arc::clone(&seen);
        let service = service_fn(move |(urgency, n): (u8, u32)| {
            seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(urgency);
            async move {
                sleep(Duration::from_millis(2)).await;
                Ok::<_, Error<Infallible>>(n)
            }
        });
        async move { Ok::<_, Infallible>(service) }
    });
    let pool = Pool::builder()
        .workers(1..=4)
        .scale(OnePerTen)
        .order(MostUrgent)
        .queue(64)
        .build_make(make);

    let mut jobs = Vec::new();
    for n in 0..60 {
        match pool.try_submit(((n % 3) as u8, n)) {
            Ok(job) => jobs.push(job),
            Err(error) => panic!("job {n}: {error}"),
        }
    }
    let mut sum = 0;
    for job in jobs {
        sum += job.await.unwrap_or_default();
    }

    let stats = pool.stats();
    let order = order.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    assert_eq!((sum, stats.succeeded, order.len()), ((0..60).sum(), 60, 60));
    assert!(order.is_sorted_by(|a, b| a >= b), "the urgent first: {order:?}");
    assert_eq!((stats.peak_workers, made.load(Ordering::Relaxed)), (4, 4));
    println!(
        "60 jobs, the urgent ones first, by {} workers at most, each with a service of its own",
        stats.peak_workers
    );
}
