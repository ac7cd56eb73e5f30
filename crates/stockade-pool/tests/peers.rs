//! What pools are known to get wrong.

mod common;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use futures_util::future::join_all;
use stockade_core::{Error, LayerError, Reason, Rejected};
use stockade_pool::{Pool, Status};
use stockade_testkit::{Behaviour, Probe, Readiness, Request};
use tokio::{
    task::yield_now,
    time::{Instant, sleep},
};
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::service_fn;

use common::{MS, Refusal, accepted, settle};

#[tokio::test(start_paused = true)]
async fn scaling_down_ends_workers_also_under_backlog() {
    let probe = Probe::new();
    let pool = Pool::builder().workers(4).queue(64).build(probe.clone());
    let _jobs: Vec<_> = (0..40).map(|id| pool.try_submit(Request::wait(id)).unwrap()).collect();
    settle().await;
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    pool.handle().resize(1).unwrap();
    probe.release_all();
    settle().await;
    assert_eq!((pool.stats().workers, probe.in_flight()), (1, 1));
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), tasks - 3);
    assert!(pool.stats().queued > 30);
}

#[tokio::test(start_paused = true)]
async fn fifty_shutdowns_with_a_slow_reader_lose_no_accepted_job() {
    for round in 0..50 {
        let pool = Pool::builder().workers(4).queue(8);
        let pool = pool.build(service_fn(async |n: u64| Ok::<_, Refusal>(n)));
        let mut outcomes = pool.run(0..100u64);
        let mut seen = 0;
        for _ in 0..round {
            seen += u64::from(outcomes.next().await.is_some());
            sleep(MS).await;
        }
        let drained = pool.drain(Duration::ZERO).await;
        while outcomes.next().await.is_some() {
            seen += 1;
        }
        let stats = pool.stats();
        assert_eq!(seen, stats.accepted, "each accepted job is reported");
        assert_eq!(stats.handed_back, drained.unfinished.len() as u64);
        assert_eq!(stats.accepted, stats.ended());
        assert_eq!(outcomes.into_remaining().count() as u64, 100 - seen);
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_is_not_taken_while_the_service_is_not_ready_and_none_is_dropped() {
    let probe = Probe::new();
    probe.set_ready(Readiness::Pending);
    let pool = Pool::builder().workers(1).queue(4).build(probe.clone());
    let jobs = [0, 1].map(|id| pool.try_submit(Request::ready(id)).unwrap());
    settle().await;
    assert_eq!((pool.stats().queued, probe.calls()), (2, 0));
    pool.close();
    settle().await;
    assert_eq!(pool.stats().queued, 2);
    probe.set_ready(Readiness::Ready);
    for job in jobs {
        job.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn to_submit_to_a_pool_that_shuts_down_is_an_error_and_never_a_panic() {
    let pool = Pool::builder().workers(2).queue(2);
    let pool = pool.build(service_fn(async |n: u64| Ok::<_, Refusal>(n)));
    let senders = (0..50).map(|n| {
        let pool = pool.clone();
        tokio::spawn(async move {
            for _ in 0..n {
                yield_now().await;
            }
            accepted(pool.submit(n)).await.map(drop)
        })
    });
    let senders: Vec<_> = senders.collect();
    for _ in 0..20 {
        yield_now().await;
    }
    pool.close();
    let (mut taken, mut back) = (0, 0);
    for sent in join_all(senders).await {
        match sent.expect("no panic") {
            Ok(()) => taken += 1,
            Err(_) => back += 1,
        }
    }
    assert!(taken > 0 && back > 0, "{taken} and {back}");
    assert_eq!(pool.stats().accepted, taken);
}

#[tokio::test(start_paused = true)]
async fn every_status_that_is_declared_is_produced() {
    let service = service_fn(async |n: u32| match n {
        0 => Ok(n),
        1 => Err(Error::Service("failed")),
        2 => Err(Rejected::new(&"timeout", Reason::Elapsed).with_limit(MS).into()),
        3 => std::panic::resume_unwind(Box::new("as asked")),
        _ => {
            sleep(10 * MS).await;
            Ok(n)
        }
    });
    let pool = Pool::builder().workers(1).queue(20).max_wait(100 * MS).build(service);
    let mut outcomes = pool.run((0..4).chain(std::iter::repeat_n(4, 60)));
    let mut seen = Vec::new();
    let mut until = stockade_core::deadline::Deadline::At(Instant::now() + 500 * MS);
    loop {
        let outcome = {
            let mut next = std::pin::pin!(outcomes.next());
            std::future::poll_fn(|cx| until.enter(|| next.as_mut().poll(cx))).await
        };
        let Some(outcome) = outcome else { break };
        if !seen.contains(&outcome.status) {
            seen.push(outcome.status);
        }
        if outcome.id == 40 {
            drop(pool.abort());
        }
    }
    for status in [
        Status::Success,
        Status::Failed,
        Status::TimedOut,
        Status::Panicked,
        Status::Shed,
        Status::Cancelled,
        Status::HandedBack { started: false },
    ] {
        assert!(seen.contains(&status), "{status:?} is missing: {seen:?}");
    }
    let pool = Pool::builder().workers(1).build(service_fn(async |n: u32| Ok::<_, Refusal>(n)));
    let mut past = stockade_core::deadline::Deadline::At(Instant::now());
    let mut outcomes = pool.run([1]);
    assert!(past.enter(|| task::spawn(Box::pin(outcomes.next())).poll()).is_pending());
    assert_eq!(outcomes.next().await.unwrap().status, Status::Expired);
}

#[tokio::test(start_paused = true)]
async fn a_panic_leaves_no_waiter_asleep_and_tells_its_caller() {
    let probe = Probe::new();
    let pool = Pool::builder().workers(1).queue(1).build(probe.clone());
    settle().await;
    let mut panicking =
        task::spawn(pool.try_submit(Request::new(0, Behaviour::PanicInFuture)).unwrap());
    let _queued = pool.try_submit(Request::ready(1)).unwrap();
    let mut waiting: Vec<_> =
        (2..6).map(|id| task::spawn(accepted(pool.submit(Request::ready(id))))).collect();
    waiting.iter_mut().for_each(|submit| assert!(submit.poll().is_pending()));
    settle().await;
    let refused = tokio_test::assert_ready!(panicking.poll()).unwrap_err();
    assert_eq!(refused.rejected().unwrap().reason(), Reason::Panicked);
    for submit in waiting {
        submit.await.unwrap().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_nested_submit_does_not_deadlock() {
    type Nested = Pool<u32, u32, Refusal>;
    let own: Arc<std::sync::OnceLock<Nested>> = Arc::default();
    let service = service_fn({
        let own = Arc::clone(&own);
        move |depth: u32| {
            let pool = own.get().unwrap().clone();
            async move {
                if depth == 0 {
                    return Ok(0);
                }
                // Boxed, because a job that submits itself has no size.
                let inner: Pin<Box<dyn Future<Output = _> + Send>> =
                    Box::pin(async move { pool.submit(depth - 1).await });
                inner.await.or(Ok::<_, Refusal>(100))
            }
        }
    });
    let pool = Pool::builder().workers(3).queue(16).build(service);
    assert!(own.set(pool.clone()).is_ok());
    settle().await;
    let job = accepted(pool.submit(2)).await.unwrap();
    assert_eq!(job.await, Ok(0));
    let job = accepted(pool.submit(3)).await.unwrap();
    assert_eq!(job.await, Ok(100), "the fourth level finds nobody free");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_waiter_does_not_swallow_a_wake() {
    let probe = Probe::new();
    let pool = Pool::builder().workers(1).queue(0).build(probe.clone());
    settle().await;
    let _running = pool.try_submit(Request::wait(0)).unwrap();
    settle().await;
    let mut waiting: Vec<_> =
        (1..1_025).map(|id| task::spawn(accepted(pool.submit(Request::ready(id))))).collect();
    waiting.iter_mut().for_each(|submit| assert!(submit.poll().is_pending()));
    let mut last = waiting.pop().unwrap();
    probe.release(0);
    settle().await;
    for submit in waiting {
        assert!(submit.is_woken());
        drop(submit);
    }
    assert!(last.is_woken());
    assert_ready_ok!(last.poll()).await.unwrap();
}

#[test]
fn blocking_work_runs_on_threads_of_its_own_and_not_on_the_callers_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let here = thread::current().id();
    runtime.block_on(async {
        let pool = Pool::builder().workers(2).threads();
        let pool = pool.build(service_fn(async |()| Ok::<_, Refusal>(thread::current().id())));
        for _ in 0..10 {
            assert_ne!(pool.submit(()).await.unwrap(), here);
        }
        assert!(pool.drain(Duration::from_secs(10)).await.is_complete());
    });
}

/// Counts how often the future inside is polled.
struct Counted<F>(Pin<Box<F>>, Arc<AtomicU64>);

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.1.fetch_add(1, SeqCst);
        self.0.as_mut().poll(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn waiters_do_not_spin() {
    let (polls, ready) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
    let pool = Pool::builder().workers(1).queue(1);
    let pool = pool.build(service_fn(async |n: u64| {
        sleep(180 * MS).await;
        Ok::<_, Refusal>(n)
    }));
    let callers = (0..20).map(|n| {
        let (pool, ready) = (pool.clone(), Arc::clone(&ready));
        let call = async move {
            pool.submit(n).await.unwrap();
            ready.fetch_add(1, SeqCst);
        };
        tokio::spawn(Counted(Box::pin(call), Arc::clone(&polls)))
    });
    let callers: Vec<_> = callers.collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(ready.load(SeqCst), 20);
    // One to wait for a place, one that has it, one for the answer.
    assert!(polls.load(SeqCst) <= 60, "{polls:?} polls");
    let mut idle = task::spawn(accepted(pool.submit(0)));
    let mut job = task::spawn(assert_ready_ok!(idle.poll()));
    assert_pending!(job.poll());
    settle().await;
    assert!(!job.is_woken());
}
