//! What can be set on a pool, and what its handle shows; on the paused clock.

mod common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use stockade_core::{
    LayerError, Reason,
    deadline::{self, Deadline},
    priority::{self, Priority},
    waits::Counter,
};
use stockade_pool::{Config, Pool, PoolBuilder, Status};
use tokio::{
    task::yield_now,
    time::{Instant, sleep},
};
use tokio_test::{assert_pending, task};
use tower::{Service, ServiceExt, service_fn};

use common::{MS, Refusal, settle};

/// A pool whose jobs take so many milliseconds.
fn sleeping(builder: PoolBuilder<u32>) -> Pool<u32, u32, Refusal> {
    builder.build(service_fn(async |millis: u32| {
        sleep(MS * millis).await;
        Ok::<_, Refusal>(millis)
    }))
}

#[tokio::test(start_paused = true)]
async fn a_new_pool_accepts_as_many_jobs_as_it_has_workers_and_room_at_once() {
    for queue in [0, 3] {
        let pool = sleeping(Pool::builder().workers(4).queue(queue));
        let mut jobs: Vec<_> = (0..4 + queue).map(|_| pool.try_submit(1).unwrap()).collect();
        assert!(pool.try_submit(1).is_err());
        settle().await;
        pool.handle().resize(6).unwrap();
        jobs.extend([0, 1].map(|_| pool.try_submit(1).unwrap()));
        assert!(pool.try_submit(1).is_err());
    }
    let shedding = sleeping(Pool::builder().workers(4).queue(0));
    let calls = (0..4).map(|_| {
        let mut pool = tower::load_shed::LoadShed::new(shedding.clone());
        tokio::spawn(async move { pool.ready().await.unwrap().call(1).await.is_ok() })
    });
    for call in calls.collect::<Vec<_>>() {
        assert!(call.await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_rendezvous_pool_without_workers_grows_by_a_rule_of_its_own_as_without_one() {
    for submits in [true, false] {
        let pool = Pool::builder().workers(0..=4).queue(0).scale(stockade_pool::PerJob);
        let mut pool = sleeping(pool);
        for _ in 0..4 {
            let job = match submits {
                true => pool.submit(1),
                false => pool.ready().await.unwrap().call(1),
            };
            assert_eq!(job.await, Ok(1));
        }
        let _jobs = [0; 4].map(|_| pool.try_submit(10).unwrap());
        assert!(pool.try_submit(10).is_err());
        settle().await;
        assert_eq!(pool.stats().running, 4);
    }
}

#[tokio::test(start_paused = true)]
async fn jobs_of_a_higher_priority_run_first_and_no_other_starves() {
    let ran: Arc<Mutex<Vec<(u8, u32)>>> = Arc::default();
    let seen = Arc::clone(&ran);
    let pool = Pool::builder().workers(1).queue(1_000).priority(|job: &(u8, u32)| job.0);
    let pool = pool.build(service_fn(move |job| {
        seen.lock().unwrap().push(job);
        async { Ok::<_, Refusal>(()) }
    }));
    pool.handle().pause();
    let low = [(0, 0), (0, 1)].map(|job| pool.submit(job));
    let high: Vec<_> = (0..100).map(|n| pool.submit((1, n))).collect();
    pool.handle().resume();
    for job in low.into_iter().chain(high) {
        job.await.unwrap();
    }
    let ran = ran.lock().unwrap();
    let at = |job| ran.iter().position(|of| *of == job).unwrap();
    assert!(ran[..30].iter().all(|(priority, _)| *priority == 1), "{:?}", &ran[..30]);
    assert!(at((0, 0)) <= 33 && at((0, 0)) < at((0, 1)), "it is overtaken by 32 and no more");
    assert!(at((1, 0)) < at((1, 99)));
}

#[tokio::test(start_paused = true)]
async fn a_busy_key_does_not_fill_the_queue_for_others() {
    for by_call in [false, true] {
        let pool = Pool::builder().workers(4).queue(64).affinity(|(key, _): &(u8, u32)| *key);
        let pool = pool.build(service_fn(async |(_, millis): (u8, u32)| {
            sleep(MS * millis).await;
            Ok::<_, Refusal>(())
        }));
        let mut hot = Vec::new();
        for _ in 0..200 {
            let mut pool = pool.clone();
            hot.push(tokio::spawn(async move {
                match by_call {
                    true => pool.ready().await.unwrap().call((0, 10)).await,
                    false => pool.submit((0, 10)).await,
                }
            }));
        }
        settle().await;
        let start = Instant::now();
        pool.clone().oneshot((1, 1)).await.unwrap();
        pool.submit((2, 1)).await.unwrap();
        assert!(start.elapsed() < 10 * MS, "{:?}", start.elapsed());
        let stats = pool.stats();
        assert_eq!((stats.queued, stats.running), (32, 1));
        for call in hot {
            call.await.unwrap().unwrap();
        }
        assert_eq!(pool.stats().accepted, pool.stats().ended());
    }
}

#[tokio::test(start_paused = true)]
async fn jobs_of_a_busy_key_that_wait_keep_their_order_and_can_be_cancelled() {
    let ran: Arc<Mutex<Vec<u32>>> = Arc::default();
    let seen = Arc::clone(&ran);
    let pool = Pool::builder().workers(2).queue(8).affinity(|_: &u32| 0).per_key(1);
    let pool = pool.build(service_fn(move |n| {
        seen.lock().unwrap().push(n);
        async {
            sleep(MS).await;
            Ok::<_, Refusal>(())
        }
    }));
    let mut jobs: Vec<_> = (0..20).map(|n| pool.submit(n)).collect();
    assert_eq!((pool.stats().queued, pool.stats().waiting), (1, 19));
    drop(jobs.remove(10));
    for job in jobs {
        job.await.unwrap();
    }
    let ran = ran.lock().unwrap();
    assert_eq!(*ran, (0..20).filter(|n| *n != 10).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn weights_of_any_size_are_added_without_overflow() {
    let pool = Pool::builder().workers(1).queue(8).weigh(|_: &u32| usize::MAX, 10);
    let pool = pool.build(service_fn(async |n: u32| {
        sleep(MS * n).await;
        Ok::<_, Refusal>(())
    }));
    pool.handle().pause();
    let mut jobs: Vec<_> = (0..3).map(|n| pool.submit(n)).collect();
    let mut handle = pool.clone();
    assert_pending!(task::spawn(handle.ready()).poll());
    pool.handle().resume();
    for job in jobs.drain(..) {
        job.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn cancelled_jobs_leave_an_order_at_once() {
    let pool = Pool::builder().workers(1).queue(10).order(|n: &u32| i64::from(*n));
    let pool = pool.build(service_fn(async |n: u32| Ok::<_, Refusal>(n)));
    pool.handle().pause();
    let kept = pool.submit(9);
    for n in 0..200_000 {
        drop(pool.try_submit(n % 7).unwrap());
    }
    assert_eq!(pool.stats().queued, 1);
    pool.handle().resume();
    assert_eq!(kept.await, Ok(9));
}

#[tokio::test(start_paused = true)]
async fn an_outcome_is_there_after_the_first_job_although_the_source_is_slow() {
    let pool = sleeping(Pool::builder().workers(4).queue(128));
    let mut taken = 0;
    let source = (0..1_000).map(|_| {
        taken += 1;
        assert!(taken < 10, "the source is asked for more before anything is reported");
        0
    });
    let mut outcomes = pool.run(source);
    for _ in 0..2 {
        assert_eq!(outcomes.next().await.unwrap().status, Status::Success);
    }
}

#[tokio::test(start_paused = true)]
async fn running_jobs_are_listed_with_their_names_and_ages() {
    let pool = Pool::builder().workers(2).job_name(|n: &u32| format!("job {n}"));
    let pool = pool.build(service_fn(async |n: u32| {
        sleep(MS * n).await;
        Ok::<_, Refusal>(())
    }));
    let _jobs = [pool.submit(100), pool.submit(200), pool.submit(300)];
    sleep(150 * MS).await;
    let running = pool.handle().running();
    let names: Vec<_> = running.iter().map(|job| job.name.as_deref()).collect();
    assert_eq!(names, [Some("job 200"), Some("job 300")]);
    assert!(running[0].running_for > running[1].running_for);
    assert!((145..=151).contains(&running[0].running_for.unwrap().as_millis()));
}

#[tokio::test(start_paused = true)]
async fn the_stats_show_the_oldest_job_and_the_bounds() {
    let pool = sleeping(Pool::builder().workers(1..=3).queue(7).measure());
    pool.handle().pause();
    let _job = pool.submit(1);
    sleep(40 * MS).await;
    let stats = pool.stats();
    assert_eq!((stats.min_workers, stats.max_workers, stats.capacity), (1, 3, 7));
    assert!((40..=41).contains(&stats.oldest.unwrap().as_millis()), "{:?}", stats.oldest);
}

#[tokio::test(start_paused = true)]
async fn a_detached_job_goes_on_also_from_where_it_waits_for_a_place() {
    let pool = sleeping(Pool::builder().workers(1).queue(0));
    let first = pool.submit(10);
    pool.submit(20).detach();
    pool.submit(30).detach();
    assert_eq!(pool.stats().waiting, 2);
    drop(first);
    sleep(60 * MS).await;
    let stats = pool.stats();
    assert_eq!((stats.succeeded, stats.cancelled, stats.waiting), (2, 1, 0));
}

tokio::task_local! {
    static USER: u32;
}

#[tokio::test(start_paused = true)]
async fn task_locals_are_carried_to_the_worker() {
    let pool = Pool::builder().workers(1).queue(8).carry(
        || USER.try_with(|user| *user).unwrap_or_default(),
        |user, poll| USER.sync_scope(*user, poll),
    );
    let pool = pool.build(service_fn(async |n: u32| {
        sleep(MS * n).await;
        Ok::<_, Refusal>(USER.get())
    }));
    let jobs = [1, 2, 3].map(|user| USER.sync_scope(user, || pool.submit(user)));
    for (user, job) in [1, 2, 3].into_iter().zip(jobs) {
        assert_eq!(job.await, Ok(user));
    }
    assert_eq!(pool.submit(0).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn a_pool_of_tasks_runs_futures() {
    let pool = Pool::builder().workers(2).build_tasks();
    let jobs = [3, 2, 1].map(|n| {
        pool.spawn(async move {
            sleep(MS * n).await;
            n
        })
    });
    for (n, job) in [3, 2, 1].into_iter().zip(jobs) {
        assert_eq!(job.await, Ok(n));
    }
    let panics = pool.spawn(async { std::panic::resume_unwind(Box::new("as asked")) });
    assert_eq!(panics.await.unwrap_err().rejected().unwrap().reason(), Reason::Panicked);
}

#[tokio::test(start_paused = true)]
async fn what_is_due_at_the_deadline_is_late_when_its_turn_comes() {
    let pool = sleeping(Pool::builder().workers(1).queue(4));
    let mut until = Deadline::At(Instant::now() + 10 * MS);
    let first = pool.submit(10);
    let second = until.enter(|| pool.submit(1));
    assert_eq!(first.await, Ok(10));
    let error = second.await.unwrap_err();
    assert_eq!(error.rejected().unwrap().reason(), Reason::Expired);
    assert!(deadline::current().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_priority_goes_with_the_job_however_it_is_submitted_and_ends_with_it() {
    let pool = Pool::builder().workers(1).queue(8).build(service_fn(async |_: u32| {
        let before = priority::current();
        yield_now().await;
        Ok::<_, Refusal>([before, priority::current()])
    }));
    let critical = Priority::Critical.enter(|| pool.submit(1));
    let (default, called) =
        (pool.submit(2), priority::scope(Priority::Background, pool.clone().oneshot(3)));
    assert_eq!(critical.await, Ok([Priority::Critical; 2]));
    assert_eq!(default.await, Ok([Priority::Default; 2]));
    assert_eq!(called.await, Ok([Priority::Background; 2]));
    let outcomes = priority::scope(Priority::Sheddable, pool.run([4, 5]).all()).await;
    for outcome in outcomes {
        assert_eq!(outcome.result, Ok([Priority::Sheddable; 2]));
    }
}

#[tokio::test(start_paused = true)]
async fn who_counts_the_waits_of_a_call_hears_how_long_it_was_queued() {
    let pool = sleeping(Pool::builder().workers(1).queue(4));
    let _first = pool.submit(30);
    let mut counter = Counter::default();
    let mut call = task::spawn(counter.enter(|| pool.clone().call(20)));
    let start = Instant::now();
    let mut polled = counter.enter(|| call.poll());
    while polled.is_pending() {
        sleep(MS).await;
        polled = counter.enter(|| call.poll());
    }
    let (waited, took) = (counter.waited(), start.elapsed());
    assert!((29..=32).contains(&waited.as_millis()), "{waited:?} of {took:?}");

    let _first = pool.submit(30);
    let mut counter = Counter::default();
    let dropped = counter.enter(|| pool.clone().call(20));
    settle().await;
    counter.enter(|| drop(dropped));
    assert!(counter.waited() > Duration::ZERO, "it was waiting when it was dropped");
}

#[tokio::test(start_paused = true)]
async fn behind_an_open_breaker_no_worker_sleeps() {
    use stockade_core::Rejected;
    let breaker = Rejected::new(&"breaker", Reason::BreakerOpen).with_retry_after(MS * 5_000);
    let pool = Pool::builder().workers(16).queue(128);
    let pool =
        pool.build(service_fn(move |_: u32| async move { Err::<(), _>(Refusal::from(breaker)) }));
    let start = Instant::now();
    let outcomes = pool.run(0..1_000).all().await;
    assert_eq!(outcomes.len(), 1_000);
    for outcome in outcomes {
        assert_eq!(outcome.status, Status::Failed);
        let rejected = *outcome.result.unwrap_err().rejected().unwrap();
        assert_eq!((rejected.reason(), rejected.layer()), (Reason::BreakerOpen, "breaker"));
    }
    assert!(start.elapsed() < 10 * MS, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_setting_that_is_not_allowed_is_an_error_where_it_may_be_wrong() {
    let mut config = Config::default();
    config.queue = usize::MAX;
    assert_eq!(config.try_build::<()>().unwrap_err().setting(), "PoolBuilder::queue");
    let mut config = Config::default();
    (config.workers, config.name) = (2..=2, Some("db".to_owned().into()));
    let pool = sleeping(config.try_build().unwrap());
    assert_eq!(pool.stats().max_workers, 2);
    let error = pool.handle().resize(0).unwrap_err();
    assert_eq!(error.setting(), "PoolHandle::resize");
    assert_eq!(pool.stats().max_workers, 2);
}

#[test]
fn a_pool_outside_a_runtime_is_an_error_of_try_build() {
    let service = service_fn(async |n: u32| Ok::<_, Refusal>(n));
    assert!(matches!(
        Pool::builder().try_build(service),
        Err(stockade_pool::BuildError::NoRuntime)
    ));
}
