//! Services that break, panic or cannot be made, on the paused clock.

mod common;

use std::{
    convert::Infallible,
    future::{Ready, pending, ready},
    panic::{AssertUnwindSafe, resume_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_util::FutureExt;
use stockade_core::{Error, LayerError, Reason, Rejected};
use stockade_pool::{Pool, Status};
use stockade_testkit::{Fault, Probe, Readiness, Request};
use tokio::time::{sleep, timeout};
use tokio_test::{assert_pending, task};
use tower::{Service, service_fn};

use common::{MS, Refusal, settle};

/// A service that is told to panic when it is cloned or dropped.
#[derive(Default)]
struct Bomb {
    clone: Arc<AtomicBool>,
    drop: Arc<AtomicBool>,
}

impl Clone for Bomb {
    fn clone(&self) -> Self {
        if self.clone.swap(false, SeqCst) {
            resume_unwind(Box::new("cloned"));
        }
        Self { clone: self.clone.clone(), drop: self.drop.clone() }
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.drop.load(SeqCst) && !std::thread::panicking() {
            resume_unwind(Box::new("dropped"));
        }
    }
}

impl Service<u32> for Bomb {
    type Response = u32;
    type Error = Refusal;
    type Future = Ready<Result<u32, Refusal>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, n: u32) -> Self::Future {
        ready(Ok(n))
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_panics_when_it_is_dropped_lets_its_worker_go() {
    let bomb = Bomb::default();
    let drops = bomb.drop.clone();
    let pool = Pool::builder().workers(0..=2).idle(MS).build(bomb);
    assert_eq!(pool.submit(1).await, Ok(1));
    drops.store(true, SeqCst);
    sleep(3_000 * MS).await;
    assert_eq!((pool.stats().workers, pool.stats().rebuilt), (0, 0));
    assert_eq!(pool.submit(2).await, Ok(2));
    drops.store(false, SeqCst);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_panics_once_when_it_is_cloned_is_cloned_again() {
    let bomb = Bomb::default();
    let clones = bomb.clone.clone();
    let pool = Pool::builder().workers(0..=4).build(bomb);
    clones.store(true, SeqCst);
    assert_eq!(timeout(1_000 * MS, pool.submit(1)).await, Ok(Ok(1)));
    assert!(!pool.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_service_is_made_anew_after_a_result_that_is_fatal() {
    let made = Arc::new(AtomicUsize::new(0));
    let counted = made.clone();
    let make = service_fn(move |_: usize| {
        let made = counted.fetch_add(1, SeqCst);
        // The first connection breaks with its first call.
        let broken = Arc::new(AtomicBool::new(false));
        let service = service_fn(move |n: u32| {
            broken.fetch_or(made == 0, SeqCst);
            let broken = broken.load(SeqCst);
            async move { if broken { Err(Error::Service("connection reset")) } else { Ok(n) } }
        });
        async move { Ok::<_, Infallible>(service) }
    });
    let pool = Pool::builder().workers(1).queue(20);
    let pool =
        pool.rebuild_on(|result: &Result<u32, Error<&str>>| result.is_err()).build_make(make);
    let outcomes = pool.run(0..20).all().await;
    let failed = outcomes.iter().filter(|outcome| outcome.status == Status::Failed).count();
    assert_eq!((failed, made.load(SeqCst), pool.stats().rebuilt), (1, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn jobs_end_with_the_error_of_a_service_that_fails_to_become_ready_again_and_again() {
    let probe = Probe::new();
    probe.set_ready(Readiness::Error);
    let pool = Pool::builder().workers(1).give_up_after(3).build(probe.clone());
    let jobs = [0, 1].map(|n| pool.submit(Request::ready(n)));
    for job in jobs {
        let error: Error<Fault> = timeout(5_000 * MS, job).await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Service(_)), "the error of the service");
    }
    assert_eq!((pool.stats().failed, probe.calls()), (2, 0));
    probe.set_ready(Readiness::Ready);
    pool.submit(Request::ready(2)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn jobs_are_refused_as_unavailable_when_no_service_can_be_made() {
    let make = service_fn(async |_: usize| {
        Err::<tower::util::BoxCloneService<u32, u32, Refusal>, _>("there is no server")
    });
    let pool = Pool::builder().workers(2).give_up_after(2).build_make(make);
    let error = timeout(5_000 * MS, pool.submit(1)).await.unwrap().unwrap_err();
    assert_eq!(error.rejected().unwrap().reason(), Reason::Unavailable);
    let stats = pool.stats();
    assert_eq!((stats.failed, stats.accepted), (1, 1));
}

/// An error that cannot be made of a refusal without a panic.
#[derive(Debug, PartialEq)]
struct Unrefusable;

impl From<Rejected> for Unrefusable {
    fn from(_: Rejected) -> Self {
        resume_unwind(Box::new("not from a refusal"))
    }
}

impl LayerError for Unrefusable {
    fn rejected(&self) -> Option<&Rejected> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_cannot_be_made_of_a_refusal_costs_one_job_its_answer() {
    let pool = Pool::builder().workers(1).queue(4).build(service_fn(async |n: u32| match n {
        0 => resume_unwind(Box::new("as asked")),
        1 => pending().await,
        n => Ok::<_, Unrefusable>(n),
    }));
    let panics = AssertUnwindSafe(pool.submit(0)).catch_unwind();
    assert!(panics.await.is_err(), "the caller of that job gets the panic");
    assert_eq!(pool.submit(2).await, Ok(2));
    let stopped = pool.submit(1);
    let queued = pool.submit(3);
    settle().await;
    let drained = pool.drain(Duration::ZERO).await;
    assert_eq!((drained.cancelled, drained.unfinished), (1, vec![3]));
    for job in [stopped, queued] {
        assert!(AssertUnwindSafe(job).catch_unwind().await.is_err());
    }
    let stats = pool.stats();
    assert_eq!((stats.accepted, stats.ended()), (4, 4));
}

/// A waker that holds a job, as one of a small executor does, and uses the pool when it is dropped or woken.
struct Owning {
    pool: Pool<u32, u32, Refusal>,
    panics: bool,
    woken: AtomicUsize,
}

impl Wake for Owning {
    fn wake(self: Arc<Self>) {
        self.woken.fetch_add(1, SeqCst);
        let _ = self.pool.stats();
        if self.panics {
            resume_unwind(Box::new("woken"));
        }
    }
}

impl Drop for Owning {
    fn drop(&mut self) {
        let _ = self.pool.stats();
    }
}

#[tokio::test(start_paused = true)]
async fn no_waker_is_dropped_or_woken_under_the_lock_and_one_that_panics_loses_no_others_wake() {
    let pool = Pool::builder().workers(1).queue(0).build(service_fn(async |n: u32| {
        sleep(MS * n).await;
        Ok::<_, Refusal>(n)
    }));
    let owning =
        |panics| Arc::new(Owning { pool: pool.clone(), panics, woken: AtomicUsize::new(0) });
    let mut running = Box::pin(pool.submit(10));
    for panics in [false, true, false, true] {
        // The waker of before is replaced, and dropped with this.
        let waker = Waker::from(owning(panics));
        assert_pending!(running.as_mut().poll(&mut Context::from_waker(&waker)));
    }
    let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(pool.submit(1))).collect();
    let mut handle = pool.clone();
    let wakers = [true, true, false].map(owning);
    for (job, waker) in waiting.iter_mut().zip(&wakers) {
        let waker = Waker::from(waker.clone());
        assert_pending!(job.as_mut().poll(&mut Context::from_waker(&waker)));
    }
    let mut ready = task::spawn(Box::pin(tower::ServiceExt::ready(&mut handle)));
    assert_pending!(ready.poll());
    assert_eq!(running.await, Ok(10));
    sleep(10 * MS).await;
    assert!(wakers.iter().all(|waker| waker.woken.load(SeqCst) > 0), "all are woken");
    assert!(ready.is_woken());
    for job in waiting {
        assert_eq!(job.await, Ok(1));
    }
    drop(ready);
    assert_eq!(pool.stats().workers, 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_uses_the_pool_when_it_is_dropped_is_not_dropped_under_the_lock() {
    type Held = Pool<Using, (), Refusal>;
    struct Using(Option<Held>);
    impl Drop for Using {
        fn drop(&mut self) {
            let _ = self.0.take().map(|pool| pool.stats());
        }
    }
    let pool: Held = Pool::builder().workers(1).queue(1).max_waiting(1).build(service_fn(
        async |request: Using| {
            let _request = request;
            pending::<Result<(), Refusal>>().await
        },
    ));
    let request = || Using(Some(pool.clone()));
    let mut jobs = vec![pool.submit(request())];
    settle().await;
    jobs.extend([pool.submit(request()), pool.submit(request()), pool.submit(request())]);
    assert!(pool.try_submit(request()).is_err());
    assert_eq!(pool.stats().waiting, 1);
    for job in jobs {
        drop(job);
        settle().await;
    }
    drop(pool.run([request(), request()]));
    assert_eq!(pool.stats().queued, 0);
    drop(pool.abort());
}
