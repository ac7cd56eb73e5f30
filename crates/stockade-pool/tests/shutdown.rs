//! Closing a pool reaches everyone, on the paused clock.

mod common;

use std::time::Duration;

use stockade_core::{LayerError, Reason};
use stockade_pool::{Pool, Status};
use stockade_testkit::{Probe, Readiness, Request};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};
use tokio_test::{assert_pending, assert_ready, task};
use tower::service_fn;

use common::{MS, Refusal, settle};

fn never_made() -> Pool<u32, u32, Refusal> {
    let make = service_fn(async |_: usize| {
        Err::<tower::util::BoxCloneService<u32, u32, Refusal>, _>("there is no server")
    });
    Pool::builder().workers(2).build_make(make)
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_at_once_when_nothing_is_queued_although_no_service_is_ready() {
    let start = Instant::now();
    let probe = Probe::new();
    probe.set_ready(Readiness::Pending);
    let pool = Pool::builder().workers(4).build(probe);
    settle().await;
    assert!(pool.drain(Duration::from_secs(5)).await.is_complete());
    let pool = never_made();
    sleep(MS).await;
    assert!(pool.drain(Duration::from_secs(5)).await.is_complete());
    assert!(start.elapsed() < 10 * MS, "{:?}", start.elapsed());
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn pools_whose_service_is_never_ready_leave_no_task_when_they_are_dropped() {
    let probe = Probe::new();
    probe.set_ready(Readiness::Pending);
    for _ in 0..50 {
        drop(Pool::<Request, _, _>::builder().workers(2).build(probe.clone()));
        drop(never_made());
    }
    sleep(MS).await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_when_the_last_queued_job_is_cancelled_although_no_service_is_ready() {
    let probe = Probe::new();
    probe.set_ready(Readiness::Pending);
    let pool = Pool::builder().workers(2).build(probe);
    let job = pool.submit(Request::ready(1));
    settle().await;
    let mut drain = task::spawn(pool.drain(Duration::from_secs(5)));
    assert_pending!(drain.poll());
    drop(job);
    settle().await;
    assert!(assert_ready!(drain.poll()).is_complete());
}

#[tokio::test(start_paused = true)]
async fn jobs_that_were_queued_in_a_pause_run_when_a_pool_without_workers_is_closed() {
    for scaled in [false, true] {
        let builder = Pool::builder().workers(0..=4);
        let builder = if scaled { builder.scale(stockade_pool::PerJob) } else { builder };
        let pool = builder.build(service_fn(async |n: u32| Ok::<_, Refusal>(n)));
        pool.handle().pause();
        let jobs: Vec<_> = (0..8).map(|n| pool.submit(n)).collect();
        settle().await;
        pool.close();
        for (n, job) in jobs.into_iter().enumerate() {
            assert_eq!(job.await, Ok(n as u32));
        }
        assert!(pool.drain(Duration::from_secs(30)).await.is_complete());
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_saves_every_request_that_did_not_run_to_its_end() {
    let pool =
        Pool::builder().workers(2).queue(8).keep_requests().build(service_fn(async |n: u32| {
            sleep(Duration::from_secs(u64::from(n))).await;
            Ok::<_, Refusal>(n)
        }));
    let mut outcomes = pool.run([1, 100, 200, 300]);
    let first = outcomes.next().await.unwrap();
    assert_eq!((first.status, first.request), (Status::Success, None));
    let handle = pool.handle();
    let (mut drained, rest) = tokio::join!(handle.drain(Duration::from_secs(5)), outcomes.all());
    drained.started.sort_unstable();
    assert_eq!((drained.started, drained.unfinished), (vec![100, 200], vec![300]));
    assert_eq!((drained.cancelled, drained.stuck), (2, 0));
    let rest: Vec<_> = rest.into_iter().map(|outcome| (outcome.status, outcome.request)).collect();
    let back = |started, request| (Status::HandedBack { started }, Some(request));
    assert_eq!(rest, [back(true, 100), back(true, 200), back(false, 300)]);
    let stats = pool.stats();
    assert_eq!((stats.handed_back, stats.accepted), (3, stats.ended()));
}

#[tokio::test(start_paused = true)]
async fn a_drain_returns_by_its_limit_at_the_latest() {
    for millis in [10, 100, 1_000, 60_000] {
        let probe = Probe::new();
        let pool = Pool::builder().workers(1).build(probe);
        let job = pool.submit(Request::wait(0));
        let start = Instant::now();
        let drained = pool.drain(millis * MS).await;
        assert!(start.elapsed() <= millis * MS && start.elapsed() >= millis * MS * 9 / 10);
        assert_eq!((drained.cancelled, drained.stuck), (1, 0));
        let error = job.await.unwrap_err();
        assert_eq!(error.rejected().unwrap().reason(), Reason::Cancelled);
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_end_of_a_pool_is_told_when_it_is_closed() {
    let pool = Pool::builder().build(service_fn(async |n: u32| Ok::<_, Refusal>(n)));
    let handle = pool.handle();
    let mut closed = task::spawn(handle.closed());
    assert_pending!(closed.poll());
    assert!(!pool.is_closed() && !handle.is_closed());
    pool.close();
    assert!(closed.is_woken() && pool.is_closed() && handle.is_closed());
    assert_ready!(closed.poll());
}

#[tokio::test(start_paused = true)]
async fn detached_jobs_that_wait_for_a_place_are_run_or_handed_back() {
    let takes_10_ms = service_fn(async |n: u32| {
        sleep(10 * MS).await;
        Ok::<_, Refusal>(n)
    });
    for (limit, run) in [(25 * MS, 2), (1_000 * MS, 10)] {
        let pool = Pool::builder().workers(1).queue(1).build(takes_10_ms);
        (0..10).for_each(|n| pool.submit(n).detach());
        let awaited = tokio::spawn(pool.submit(99));
        settle().await;
        let drained = pool.drain(limit).await;
        let stats = pool.stats();
        // The one that was running at the end is stopped.
        let stopped = u64::from(run < 10);
        assert_eq!((stats.succeeded, drained.cancelled), (run, stopped), "{limit:?}");
        assert_eq!(drained.unfinished.len() as u64, 10 - run - stopped, "{limit:?}");
        assert_eq!(stats.accepted, stats.ended());
        // A caller that is there is told.
        let refused = awaited.await.unwrap().unwrap_err();
        assert_eq!(refused.rejected().unwrap().reason(), Reason::PoolClosed);
    }
}
