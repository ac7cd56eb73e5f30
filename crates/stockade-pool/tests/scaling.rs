//! How many workers there are, on the paused clock.

mod common;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use futures_util::future::{BoxFuture, join_all};
use stockade_core::{Error, Reason};
use stockade_pool::{Load, OnDrop, Pool, Scale, Stats};
use stockade_testkit::{Fault, Probe, Request, Response};
use tokio::{
    runtime::Handle,
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{Service, service_fn};

use common::{MS, Refusal, accepted, settle};

type Probed = Pool<Request, Response, Error<Fault>>;

fn pool(min: usize, max: usize, queue: usize) -> (Probe, Probed) {
    let probe = Probe::new();
    let builder = Pool::builder().workers(min..=max).queue(queue).idle(100 * MS);
    (probe.clone(), builder.build(probe))
}

fn balanced(stats: &Stats) {
    assert_eq!(stats.accepted, stats.ended() + stats.queued as u64 + stats.running as u64);
}

#[tokio::test(start_paused = true)]
async fn a_worker_is_added_when_a_job_is_queued_and_nobody_is_idle() {
    let (probe, pool) = pool(1, 3, 8);
    settle().await;
    let mut jobs = Vec::new();
    for (id, workers) in [(0, 1), (1, 2), (2, 3), (3, 3)] {
        jobs.push(pool.try_submit(Request::wait(id)).unwrap());
        assert_eq!(pool.stats().workers, workers, "after job {id}");
        settle().await;
    }
    let stats = pool.stats();
    assert_eq!((stats.running, stats.queued, stats.peak_workers), (3, 1, 3));
    probe.release_all();
    settle().await;
    probe.release_all();
    for job in join_all(jobs).await {
        job.unwrap();
    }
    balanced(&pool.stats());
}

#[tokio::test(start_paused = true)]
async fn a_burst_before_the_workers_have_started_adds_one_for_each_job_and_no_more() {
    let (_probe, pool) = pool(2, 10, 16);
    let _jobs: Vec<_> = (0..5).map(|id| pool.try_submit(Request::wait(id)).unwrap()).collect();
    assert_eq!(pool.stats().workers, 5);
    settle().await;
    assert_eq!((pool.stats().workers, pool.stats().running), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn a_worker_idle_for_long_really_leaves_down_to_the_fewest() {
    let before = Handle::current().metrics().num_alive_tasks();
    let (probe, pool) = pool(2, 10, 16);
    let mut size = pool.handle().watch();
    let jobs: Vec<_> = (0..10).map(|id| pool.try_submit(Request::wait(id)).unwrap()).collect();
    settle().await;
    assert_eq!(*size.borrow_and_update(), 10);
    assert_eq!(Handle::current().metrics().num_alive_tasks(), before + 10);
    probe.release_all();
    join_all(jobs).await;
    sleep(90 * MS).await;
    assert_eq!(pool.stats().workers, 10);
    sleep(20 * MS).await;
    assert_eq!((pool.stats().workers, pool.stats().idle), (2, 2));
    assert_eq!(Handle::current().metrics().num_alive_tasks(), before + 2);
    assert!(size.has_changed().unwrap());
    assert_eq!(*size.borrow_and_update(), 2);
    pool.drain(Duration::from_secs(1)).await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), before);
}

#[tokio::test(start_paused = true)]
async fn a_worker_with_a_job_now_and_then_stays() {
    let (_probe, pool) = pool(0, 2, 4);
    assert_eq!(pool.stats().workers, 0);
    for id in 0..20 {
        pool.submit(Request::ready(id)).await.unwrap();
        sleep(60 * MS).await;
        assert_eq!(pool.stats().workers, 1);
    }
    sleep(60 * MS).await;
    assert_eq!(pool.stats().workers, 0);
    pool.submit(Request::ready(20)).await.unwrap();
    assert_eq!((pool.stats().workers, pool.stats().peak_workers), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_rendezvous_pool_grows_for_whom_nobody_is_free() {
    let (_probe, pool) = pool(0, 2, 0);
    let _first = pool.try_submit(Request::wait(0)).unwrap();
    let _second = pool.try_submit(Request::wait(1)).unwrap();
    assert!(pool.try_submit(Request::wait(2)).is_err());
    settle().await;
    assert_eq!(pool.stats().running, 2);
    assert!(pool.try_submit(Request::wait(2)).is_err());
}

#[tokio::test(start_paused = true)]
async fn resize_shrinks_under_backlog_and_loses_no_job() {
    let done = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&done);
    let pool = Pool::builder().workers(8).queue(100).build(service_fn(move |n: usize| {
        let done = Arc::clone(&counted);
        async move {
            sleep(10 * MS).await;
            done.fetch_add(1, SeqCst);
            Ok::<_, Refusal>(n)
        }
    }));
    let jobs: Vec<_> = (0..50).map(|n| pool.try_submit(n).unwrap()).collect();
    settle().await;
    assert_eq!(pool.stats().running, 8);
    pool.handle().resize(2).unwrap();
    sleep(11 * MS).await;
    let stats = pool.stats();
    assert_eq!((stats.workers, stats.running, stats.queued), (2, 2, 40));
    let start = Instant::now();
    for (n, job) in jobs.into_iter().enumerate() {
        assert_eq!(job.await, Ok(n));
    }
    assert!(start.elapsed() >= 200 * MS, "two workers take their time");
    assert_eq!(done.load(SeqCst), 50);
    balanced(&pool.stats());
}

#[tokio::test(start_paused = true)]
async fn resize_starts_workers_for_what_is_queued() {
    let (_probe, pool) = pool(1, 1, 16);
    let _jobs: Vec<_> = (0..6).map(|id| pool.try_submit(Request::wait(id)).unwrap()).collect();
    settle().await;
    pool.handle().resize(1..=4).unwrap();
    settle().await;
    assert_eq!((pool.stats().workers, pool.stats().running), (4, 4));
    pool.handle().resize(6).unwrap();
    settle().await;
    assert_eq!((pool.stats().workers, pool.stats().running), (6, 6));
}

#[tokio::test(start_paused = true)]
async fn idle_workers_leave_at_once_when_there_are_too_many() {
    let (_probe, pool) = pool(5, 5, 16);
    settle().await;
    pool.handle().resize(1..=2).unwrap();
    settle().await;
    assert_eq!(pool.stats().workers, 2);
    sleep(110 * MS).await;
    assert_eq!(pool.stats().workers, 1);
}

#[tokio::test(start_paused = true)]
async fn numbers_of_workers_that_left_are_given_again() {
    let pool = Pool::builder().workers(0..=4).idle(MS).queue(8).build_make(service_fn(
        async |worker: usize| {
            Ok::<_, Infallible>(service_fn(move |()| async move {
                sleep(MS).await;
                Ok::<_, Refusal>(worker)
            }))
        },
    ));
    for _ in 0..3 {
        let jobs: Vec<_> = (0..4).map(|_| pool.try_submit(()).unwrap()).collect();
        let mut seen: Vec<usize> = join_all(jobs).await.into_iter().map(Result::unwrap).collect();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3]);
        sleep(10 * MS).await;
        assert_eq!(pool.stats().workers, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn another_rule_decides_within_the_range() {
    struct ByWait;
    impl Scale for ByWait {
        fn workers(&self, load: &Load) -> usize {
            if load.oldest >= 5 * MS { usize::MAX } else { load.busy }
        }
    }
    let probe = Probe::new();
    let pool = Pool::builder().workers(1..=4).queue(16).idle(50 * MS).scale(ByWait);
    let pool = pool.build(probe.clone());
    settle().await;
    let mut jobs: Vec<_> = (0..3).map(|id| pool.try_submit(Request::wait(id)).unwrap()).collect();
    settle().await;
    assert_eq!(pool.stats().workers, 1);
    sleep(6 * MS).await;
    jobs.push(pool.try_submit(Request::wait(3)).unwrap());
    assert_eq!(pool.stats().workers, 4);
    settle().await;
    assert_eq!(pool.stats().running, 4);
    probe.release_all();
    settle().await;
    sleep(60 * MS).await;
    assert_eq!(pool.stats().workers, 1);
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_panics_or_looks_at_the_pool_harms_nothing() {
    struct Broken;
    impl Scale for Broken {
        fn workers(&self, _: &Load) -> usize {
            std::panic::resume_unwind(Box::new("as asked"))
        }
    }
    let pool = Pool::builder().workers(1..=4).queue(4).scale(Broken);
    let pool = pool.build(service_fn(async |n: u8| Ok::<_, Refusal>(n)));
    assert_eq!(pool.submit(1).await, Ok(1));
    assert_eq!(pool.stats().workers, 1);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_panics_when_a_worker_is_added_costs_no_wake_and_no_worker() {
    struct Bomb(Arc<AtomicBool>);
    impl Clone for Bomb {
        fn clone(&self) -> Self {
            if self.0.load(SeqCst) {
                std::panic::resume_unwind(Box::new("cloned"));
            }
            Self(self.0.clone())
        }
    }
    impl Service<u32> for Bomb {
        type Response = u32;
        type Error = Refusal;
        type Future = BoxFuture<'static, Result<u32, Refusal>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, n: u32) -> Self::Future {
            Box::pin(async move {
                sleep(MS).await;
                Ok(n)
            })
        }
    }
    let armed = Arc::new(AtomicBool::new(false));
    let builder = Pool::builder().workers(1..=4).queue(64).idle(100 * MS);
    let pool = builder.build(Bomb(armed.clone()));
    let first = pool.try_submit(0).unwrap();
    sleep(10_000 * MS).await;
    assert_eq!((first.await, pool.stats().workers), (Ok(0), 1));
    // Several are queued at once, for which the one that sleeps is woken and others are missing.
    armed.store(true, SeqCst);
    let jobs: Vec<_> = (0..8).map(|n| pool.try_submit(n).unwrap()).collect();
    for (n, job) in jobs.into_iter().enumerate() {
        assert_eq!(timeout(1_000 * MS, job).await, Ok(Ok(n as u32)));
    }
    armed.store(false, SeqCst);
    let next = pool.try_submit(1).unwrap();
    assert_eq!(timeout(1_000 * MS, next).await, Ok(Ok(1)));
    sleep(10_000 * MS).await;
    assert_eq!(pool.stats().workers, 1);
    let _jobs = [1, 2, 3, 4].map(|n| pool.try_submit(n).unwrap());
    settle().await;
    assert_eq!((pool.stats().workers, pool.stats().running), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_paused_starts_nothing_until_it_is_resumed() {
    let (probe, pool) = pool(2, 2, 2);
    let handle = pool.handle();
    settle().await;
    handle.pause();
    let jobs = [0, 1].map(|id| pool.try_submit(Request::ready(id)).unwrap());
    assert!(pool.try_submit(Request::ready(2)).is_err(), "idle workers are not room in a pause");
    let mut waiting = task::spawn(accepted(pool.submit(Request::ready(3))));
    assert_pending!(waiting.poll());
    sleep(1_000 * MS).await;
    assert_eq!((probe.calls(), pool.stats().queued), (0, 2));
    handle.resume();
    assert!(waiting.is_woken());
    for job in jobs {
        job.await.unwrap();
    }
    assert_ready_ok!(waiting.poll()).await.unwrap();
    handle.pause();
    let last = pool.try_submit(Request::ready(4)).unwrap();
    assert!(pool.drain(Duration::from_secs(5)).await.is_complete(), "a drain ends the pause");
    last.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_resumed_grows_for_the_jobs_that_were_queued_meanwhile() {
    let (probe, pool) = pool(1, 3, 8);
    settle().await;
    pool.handle().pause();
    let jobs: Vec<_> = (0..4).map(|id| pool.try_submit(Request::wait(id)).unwrap()).collect();
    settle().await;
    assert_eq!((pool.stats().workers, pool.stats().queued), (1, 4));
    pool.handle().resume();
    settle().await;
    assert_eq!((pool.stats().workers, pool.stats().running), (3, 3));
    probe.release_all();
    settle().await;
    probe.release_all();
    for job in join_all(jobs).await {
        job.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn abort_hands_back_what_is_queued_and_cancels_what_runs() {
    let before = Handle::current().metrics().num_alive_tasks();
    let (_probe, pool) = pool(1, 1, 8);
    let mut jobs: Vec<_> =
        (0..3).map(|id| task::spawn(pool.try_submit(Request::wait(id)).unwrap())).collect();
    settle().await;
    let back: Vec<u64> = pool.abort().into_iter().map(|request| request.id).collect();
    assert_eq!(back, [1, 2]);
    settle().await;
    let mut reason = |job: usize| {
        let error = assert_ready!(jobs[job].poll()).unwrap_err();
        stockade_core::LayerError::rejected(&error).unwrap().reason()
    };
    assert_eq!(
        [reason(0), reason(1), reason(2)],
        [Reason::Cancelled, Reason::PoolClosed, Reason::PoolClosed]
    );
    let stats = pool.stats();
    assert_eq!((stats.handed_back, stats.cancelled, stats.workers), (2, 1, 0));
    assert_eq!(Handle::current().metrics().num_alive_tasks(), before);
    balanced(&stats);
}

#[tokio::test(start_paused = true)]
async fn the_first_signal_drains_and_the_second_aborts() {
    let (_probe, pool) = pool(1, 1, 8);
    let signal = Arc::new(Notify::new());
    let shutdown = tokio::spawn({
        let (handle, signal) = (pool.handle(), Arc::clone(&signal));
        async move {
            let signals = || signal.notified();
            handle.shutdown_on(signals, Duration::from_secs(3_600)).await
        }
    });
    let _jobs = [0, 1].map(|id| pool.try_submit(Request::wait(id)).unwrap());
    settle().await;
    assert!(pool.try_submit(Request::wait(2)).is_ok(), "no signal yet");
    signal.notify_one();
    settle().await;
    assert!(pool.try_submit(Request::wait(3)).is_err());
    assert!(!shutdown.is_finished());
    let start = Instant::now();
    signal.notify_one();
    let drained = shutdown.await.unwrap();
    assert!(start.elapsed() < 10 * MS);
    assert_eq!((drained.cancelled, drained.unfinished.len(), drained.stuck), (1, 1, 0));
    balanced(&pool.stats());
}

#[tokio::test(start_paused = true)]
async fn detached_jobs_go_on_when_their_answer_is_dropped() {
    let probe = Probe::new();
    let pool = Pool::builder().workers(1).queue(4).on_drop(OnDrop::Detach).build(probe.clone());
    let jobs = [0, 1].map(|id| pool.try_submit(Request::wait(id)).unwrap());
    settle().await;
    drop(jobs);
    settle().await;
    assert_eq!((probe.in_flight(), pool.stats().queued), (1, 1));
    probe.release(0);
    settle().await;
    probe.release(1);
    settle().await;
    let stats = pool.stats();
    assert_eq!((stats.succeeded, stats.cancelled), (2, 0));
    balanced(&stats);
}

#[tokio::test(start_paused = true)]
async fn a_busy_thread_never_stalls_the_timers_of_the_runtime() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let wait = Arc::new(wait);
    let pool = Pool::builder().workers(1).threads().build(service_fn(move |()| {
        // Keeps its thread until the runtime's timer has fired; on the runtime's own it never would.
        let in_time = wait.lock().unwrap().recv_timeout(Duration::from_secs(20)).is_ok();
        let name = thread::current().name().map(str::to_owned);
        async move { Ok::<_, Refusal>((in_time, name)) }
    }));
    let job = accepted(pool.submit(())).await.unwrap();
    while pool.stats().running == 0 {
        thread::yield_now();
    }
    sleep(1_000 * MS).await;
    go.send(()).unwrap();
    assert_eq!(job.await, Ok((true, Some("stockade-pool-0".to_owned()))));
}

#[cfg(target_os = "linux")]
#[test]
fn the_number_of_threads_returns_to_where_it_was_after_a_drain() {
    fn named(name: &str) -> usize {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names =
            tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|comm| comm.starts_with(name)).count()
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let pool = Pool::builder().workers(1..=4).queue(64).name("counted").threads();
        let pool = pool.build(service_fn(async |n: u64| {
            sleep(MS).await;
            Ok::<_, Refusal>(n)
        }));
        let jobs: Vec<_> = (0..32).map(|n| pool.try_submit(n).unwrap()).collect();
        for (n, job) in jobs.into_iter().enumerate() {
            assert_eq!(job.await, Ok(n as u64));
        }
        while pool.stats().idle < 4 {
            sleep(MS).await;
        }
        assert_eq!(named("counted"), 4);
        let drained = pool.drain(Duration::from_secs(10)).await;
        assert!(drained.is_complete());
        // A thread that has ended is listed until the system has cleared it away.
        while named("counted") > 0 {
            sleep(MS).await;
        }
        balanced(&pool.stats());
    });
}
