//! What the pool does by what is in a request: weight, key and order; on the paused clock.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
};

use futures_util::StreamExt;
use stockade_pool::{Order, Pool, Stats};
use tokio::{sync::Semaphore, time::sleep};
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::service_fn;

use common::{MS, Refusal, accepted, settle};

fn balanced(stats: &Stats) {
    assert_eq!(stats.accepted, stats.ended() + stats.queued as u64 + stats.running as u64);
}

/// A pool of one worker that is blocked until permits are given, and weighs its requests.
fn weighed(budget: usize) -> (Arc<Semaphore>, Pool<usize, usize, Refusal>) {
    let gate = Arc::new(Semaphore::new(0));
    let pool =
        Pool::builder().workers(1).queue(100).weigh(|n: &usize| *n, budget).build(service_fn({
            let gate = Arc::clone(&gate);
            move |n| {
                let gate = Arc::clone(&gate);
                async move {
                    gate.acquire().await.unwrap().forget();
                    Ok::<_, Refusal>(n)
                }
            }
        }));
    (gate, pool)
}

#[tokio::test(start_paused = true)]
async fn a_budget_bounds_what_the_queued_jobs_weigh_together() {
    let (gate, pool) = weighed(100);
    let _running = pool.try_submit(1).unwrap();
    settle().await;
    let _queued = [60, 30].map(|n| pool.try_submit(n).unwrap());
    assert!(pool.try_submit(11).is_err());
    let _fits = pool.try_submit(10).unwrap();
    let mut heavy = task::spawn(accepted(pool.submit(70)));
    assert_pending!(heavy.poll());
    assert!(pool.try_submit(1).is_err(), "somebody waits");
    gate.add_permits(1);
    settle().await;
    // 60 has left, and 70 would make 110.
    assert_pending!(heavy.poll());
    gate.add_permits(1);
    settle().await;
    let _heavy = assert_ready_ok!(heavy.poll());
    balanced(&pool.stats());
}

#[tokio::test(start_paused = true)]
async fn one_heavy_job_that_leaves_makes_room_for_many_light_ones() {
    let (_gate, pool) = weighed(100);
    let _running = pool.try_submit(1).unwrap();
    settle().await;
    let heavy = pool.try_submit(100).unwrap();
    let mut light: Vec<_> = (0..5).map(|_| task::spawn(accepted(pool.submit(20)))).collect();
    light.iter_mut().for_each(|submit| assert!(submit.poll().is_pending()));
    drop(heavy);
    let jobs: Vec<_> = light.iter_mut().map(|submit| assert_ready_ok!(submit.poll())).collect();
    assert_eq!((jobs.len(), pool.stats().queued), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn a_job_heavier_than_the_budget_is_let_in_alone() {
    let (gate, pool) = weighed(10);
    gate.add_permits(1_000);
    let ids: Vec<usize> =
        pool.run([1, 50, 1, 50, 50]).map(|outcome| outcome.result.unwrap()).collect().await;
    assert_eq!(ids, [1, 50, 1, 50, 50]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_gives_up_a_heavy_wait_lets_the_light_ones_in() {
    let (_gate, pool) = weighed(100);
    let _running = pool.try_submit(1).unwrap();
    settle().await;
    let _queued = pool.try_submit(50).unwrap();
    let mut heavy = task::spawn(accepted(pool.submit(60)));
    let mut light = task::spawn(accepted(pool.submit(40)));
    assert_pending!(heavy.poll());
    assert_pending!(light.poll());
    drop(heavy);
    assert!(light.is_woken());
    let _job = assert_ready_ok!(light.poll());
}

#[tokio::test(start_paused = true)]
async fn jobs_of_a_key_run_one_at_a_time_in_order_on_one_worker() {
    let seen: Arc<Mutex<HashMap<u64, Vec<u64>>>> = Arc::default();
    let running: Arc<Mutex<HashMap<u64, usize>>> = Arc::default();
    let service = service_fn({
        let (seen, running) = (Arc::clone(&seen), Arc::clone(&running));
        move |(key, n): (u64, u64)| {
            let (seen, running) = (Arc::clone(&seen), Arc::clone(&running));
            async move {
                *running.lock().unwrap().entry(key).or_default() += 1;
                assert_eq!(running.lock().unwrap()[&key], 1, "one at a time");
                sleep(MS * (n as u32 % 3)).await;
                seen.lock().unwrap().entry(key).or_default().push(n);
                *running.lock().unwrap().entry(key).or_default() -= 1;
                Ok::<_, Refusal>(key)
            }
        }
    });
    let pool = Pool::builder().workers(4).queue(400).affinity(|(key, _): &(u64, u64)| *key);
    let pool = pool.build(service);
    let requests = (0..80).map(|n| (n % 4, n));
    let mut workers: HashMap<u64, Vec<usize>> = HashMap::new();
    pool.handle().pause();
    let mut outcomes = pool.run(requests);
    {
        let mut next = task::spawn(Box::pin(outcomes.next()));
        (0..100).for_each(|_| assert_pending!(next.poll()));
    }
    pool.handle().resume();
    while let Some(outcome) = outcomes.next().await {
        workers.entry(outcome.result.unwrap()).or_default().push(outcome.worker.unwrap());
    }
    for (key, workers) in workers {
        assert_eq!(workers.len(), 20);
        assert!(workers.iter().all(|worker| *worker == workers[0]), "key {key}: {workers:?}");
    }
    for (key, order) in seen.lock().unwrap().iter() {
        assert!(order.is_sorted(), "key {key}: {order:?}");
    }
    balanced(&pool.stats());
}

#[tokio::test(start_paused = true)]
async fn a_hot_key_does_not_stall_others() {
    let pool = Pool::builder().workers(2).queue(400).affinity(|(key, _): &(u8, u32)| *key);
    let pool = pool.build(service_fn(async |(key, millis): (u8, u32)| {
        sleep(MS * millis).await;
        Ok::<_, Refusal>(key)
    }));
    settle().await;
    let _hot: Vec<_> = (0..100).map(|_| pool.try_submit((0, 100)).unwrap()).collect();
    let start = tokio::time::Instant::now();
    for key in 1..6 {
        assert_eq!(pool.submit((key, 10)).await, Ok(key));
    }
    assert!(start.elapsed() <= 60 * MS, "{:?}", start.elapsed());
    assert_eq!(pool.stats().running, 1);
}

#[tokio::test(start_paused = true)]
async fn as_many_hot_keys_as_workers_let_others_have_their_turn() {
    let pool = Pool::builder().workers(1).queue(400).affinity(|(key, _): &(u8, u32)| *key);
    let pool = pool.build(service_fn(async |(key, n): (u8, u32)| {
        sleep(MS).await;
        Ok::<_, Refusal>((key, n))
    }));
    let requests = (0..100).map(|n| (0, n)).chain([(1, 0)]);
    let answers: Vec<_> = pool.run(requests).map(|outcome| outcome.result.unwrap()).collect().await;
    let cold = answers.iter().position(|answer| *answer == (1, 0)).unwrap();
    assert_eq!(cold, 32);
    let hot: Vec<u32> = answers.iter().filter(|(key, _)| *key == 0).map(|(_, n)| *n).collect();
    assert!(hot.is_sorted());
}

#[tokio::test(start_paused = true)]
async fn cancelled_jobs_of_a_key_leave_no_trace() {
    let pool = Pool::builder().workers(2).queue(400).affinity(|key: &u8| *key);
    let pool = pool.build(service_fn(async |key: u8| {
        sleep(MS * u32::from(key)).await;
        Ok::<_, Refusal>(key)
    }));
    settle().await;
    let running = pool.try_submit(10).unwrap();
    settle().await;
    let mut queued: Vec<_> = (0..50).map(|_| pool.try_submit(10).unwrap()).collect();
    let last = queued.pop().unwrap();
    drop(queued);
    assert_eq!(pool.stats().queued, 1);
    assert_eq!(running.await, Ok(10));
    assert_eq!(last.await, Ok(10));
    let (a, b) = (pool.try_submit(20).unwrap(), pool.try_submit(20).unwrap());
    drop(b);
    drop(a);
    assert_eq!(pool.submit(20).await, Ok(20));
    balanced(&pool.stats());
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_job_panics_goes_on_with_the_next() {
    let pool = Pool::builder().workers(2).queue(16).affinity(|_: &u8| ());
    let pool = pool.build(service_fn(async |n: u8| {
        if n == 0 {
            std::panic::resume_unwind(Box::new("as asked"));
        }
        Ok::<_, Refusal>(n)
    }));
    let jobs = [0, 1, 0, 2].map(|n| pool.try_submit(n).unwrap());
    let [a, b, c, d] = jobs;
    assert!(a.await.is_err());
    assert_eq!(b.await, Ok(1));
    assert!(c.await.is_err());
    assert_eq!(d.await, Ok(2));
}

/// The greatest first, and of equals the first.
struct Greatest;

impl Order<(u8, u8)> for Greatest {
    fn rank(&self, (rank, _): &(u8, u8)) -> i64 {
        -i64::from(*rank)
    }
}

#[tokio::test(start_paused = true)]
async fn another_order_decides_which_job_is_next() {
    let pool = Pool::builder().workers(1).queue(16).order(Greatest);
    let pool = pool.build(service_fn(async |request: (u8, u8)| Ok::<_, Refusal>(request)));
    pool.handle().pause();
    settle().await;
    let given = [(1, 0), (5, 0), (3, 0), (5, 1), (9, 0), (5, 2)];
    let mut outcomes = pool.run(given);
    {
        let mut next = task::spawn(Box::pin(outcomes.next()));
        (0..10).for_each(|_| assert_pending!(next.poll()));
    }
    pool.handle().resume();
    let order: Vec<_> = outcomes.map(|outcome| outcome.result.unwrap()).collect().await;
    assert_eq!(order, [(9, 0), (5, 0), (5, 1), (5, 2), (3, 0), (1, 0)]);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_panics_costs_one_caller_its_job_and_loses_none() {
    let pool = Pool::builder().workers(2).queue(4).order(|n: &u8| {
        if n.is_multiple_of(2) {
            std::panic::resume_unwind(Box::new("as asked"));
        }
        0
    });
    let pool = pool.build(service_fn(async |n: u8| Ok::<_, Refusal>(n)));
    for n in 0..20 {
        let submitted = catch_unwind(AssertUnwindSafe(|| pool.submit(n)));
        match submitted {
            Ok(job) => assert_eq!(job.await, Ok(n)),
            Err(_) => assert!(n.is_multiple_of(2)),
        }
    }
    assert_eq!(pool.stats().succeeded, 10);
    balanced(&pool.stats());
}
