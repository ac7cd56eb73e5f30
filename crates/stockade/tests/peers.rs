//! What buffers are known to get wrong, asked of the layers and of the pool.

use std::{
    convert::Infallible,
    future::{pending, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use stockade::{
    BreakerLayer, Error, LayerError, LimitLayer, Pool, RateLayer, Reason, RetryLayer, TimeoutLayer,
};
use tokio::task::{JoinSet, coop, yield_now};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneService};

type Refusal = Error<Infallible>;
type Stack = BoxCloneService<u32, u32, Refusal>;

const HOUR: Duration = Duration::from_secs(3_600);
const PANIC: u32 = u32::MAX;

async fn client(n: u32) -> Result<u32, Refusal> {
    assert!(n != PANIC, "what went wrong");
    Ok(n)
}

/// Five layers that let so many calls pass in this hour, and have nobody wait.
fn stack(calls: u32) -> Stack {
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(HOUR))
        .layer(RetryLayer::max_attempts(1))
        .layer(BreakerLayer::new())
        .layer(RateLayer::new(calls, HOUR).queue(0))
        .layer(LimitLayer::new(calls as usize).queue(0))
        .service_fn(client);
    BoxCloneService::new(stack)
}

fn reason(error: &Refusal) -> Option<Reason> {
    error.rejected().map(|rejected| rejected.reason())
}

#[tokio::test(start_paused = true)]
async fn ready_clones_that_sit_idle_hold_nothing() {
    let stack = stack(1);
    let mut idle: Vec<_> = (0..1_000).map(|_| stack.clone()).collect();
    for clone in &mut idle {
        assert_ready_ok!(task::spawn(()).enter(|cx, _| clone.poll_ready(cx)));
    }
    assert_eq!(stack.oneshot(7).await, Ok(7));
}

#[tokio::test(start_paused = true)]
async fn one_call_that_panics_ends_no_clone_and_its_cause_is_not_lost() {
    let stack = stack(100);
    // So few that the breaker stays closed.
    for _ in 0..9 {
        let ended = tokio::spawn(stack.clone().oneshot(PANIC)).await;
        let panic = ended.unwrap_err().into_panic();
        assert_eq!(panic.downcast_ref(), Some(&"what went wrong"));
        assert_eq!(stack.clone().oneshot(7).await, Ok(7));
    }

    let pool = Pool::builder().workers(1).build(service_fn(client));
    let clones: Vec<_> = (0..9).map(|_| pool.clone()).collect();
    for clone in clones {
        let error = pool.clone().oneshot(PANIC).await.unwrap_err();
        assert_eq!(reason(&error), Some(Reason::Panicked));
        assert_eq!(clone.oneshot(7).await, Ok(7));
    }
    assert_eq!(pool.stats().panicked, 9);
}

/// The first call runs, the second waits, and so the queue is full until the second is given up.
#[track_caller]
fn leaves_its_place<S>(mut service: S)
where
    S: Service<u32, Response = u32, Error = Refusal>,
{
    let mut call = |n| {
        assert_ready_ok!(task::spawn(()).enter(|cx, _| service.poll_ready(cx)));
        task::spawn(service.call(n))
    };
    let mut first = call(1);
    assert_pending!(first.poll());
    let mut second = call(2);
    assert_pending!(second.poll());
    for n in 3..9 {
        let refused = assert_ready_err!(call(n).poll());
        assert_eq!(reason(&refused), Some(Reason::QueueFull));
    }
    drop(second);
    assert_pending!(call(9).poll());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_cancelled_leaves_the_queue_at_once() {
    let hangs = || service_fn(|_: u32| pending::<Result<u32, Refusal>>());
    leaves_its_place(RateLayer::new(1, HOUR).queue(1).layer(hangs()));
    leaves_its_place(LimitLayer::new(1).queue(1).layer(hangs()));

    let pool = Pool::builder().workers(1).queue(1).build(hangs());
    let _runs = pool.submit(1);
    while pool.stats().running == 0 {
        yield_now().await;
    }
    let queued = pool.try_submit(2).unwrap();
    assert!(pool.try_submit(3).is_err());
    drop(queued);
    assert!(pool.try_submit(4).is_ok());
}

/// Runs `f` in a task whose cooperative budget is used up.
async fn starved<R>(f: impl FnOnce() -> R) -> R {
    let mut f = Some(f);
    poll_fn(|cx| {
        while pin!(coop::consume_budget()).poll(cx).is_ready() {}
        assert!(!coop::has_budget_remaining());
        Poll::Ready(f.take().expect("it is polled once")())
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_cooperative_budget_is_not_read_as_full() {
    const CALLS: u32 = 400;
    let stack = stack(CALLS);
    let calls = starved(|| {
        let mut calls = JoinSet::new();
        for n in 0..CALLS {
            let mut service = stack.clone();
            let ready = task::spawn(()).enter(|cx, _| service.poll_ready(cx));
            assert_ready_ok!(ready, "a stack that is not full is ready");
            let mut call = task::spawn(service.call(n));
            match call.poll() {
                Poll::Ready(answer) => assert_eq!(answer, Ok(n)),
                // It may wait for a budget, but not be refused.
                Poll::Pending => drop(calls.spawn(call.into_inner())),
            }
        }
        calls
    });
    for answer in calls.await.join_all().await {
        assert!(answer.is_ok(), "{answer:?}");
    }

    let pool = Pool::builder().workers(1).queue(CALLS as usize).build(service_fn(client));
    let jobs: Vec<_> = starved(|| {
        let submit = |n| {
            let mut clone = pool.clone();
            let ready = task::spawn(()).enter(|cx, _| clone.poll_ready(cx));
            assert_ready_ok!(ready, "a pool that is not full is ready");
            clone.call(n)
        };
        (0..CALLS).map(submit).collect()
    })
    .await;
    for (n, job) in jobs.into_iter().enumerate() {
        assert_eq!(job.await, Ok(n as u32));
    }
}
