//! A retry around layers that refuse: it repeats what the service did, and not what its own stack refused.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use stockade_breaker::BreakerLayer;
use stockade_core::{Class, Error, LayerError, Reason, Rejected};
use stockade_limit::LimitLayer;
use stockade_pool::Pool;
use stockade_rate::RateLayer;
use stockade_retry::{Backoff, Budget, RetryHandle, RetryLayer};
use stockade_timeout::TimeoutLayer;
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneService};

const MS: Duration = Duration::from_millis(1);

type Failure = Error<&'static str>;
type Answer = Result<u32, Failure>;
type Stack = BoxCloneService<u32, u32, Failure>;

/// A service that counts its calls, and does what `answer` says.
fn client<F>(
    answer: impl Fn(u32) -> F + Clone + Send + 'static,
) -> (
    impl Service<u32, Response = u32, Error = Failure, Future = F> + Clone + Send + 'static,
    Arc<AtomicU32>,
)
where
    F: Future<Output = Answer> + Send + 'static,
{
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    let service = service_fn(move |n: u32| {
        count.fetch_add(1, SeqCst);
        answer(n)
    });
    (service, calls)
}

async fn fails(_: u32) -> Answer {
    Err(Error::Service("down"))
}

fn reason(answer: &Answer) -> Option<Reason> {
    answer.as_ref().err().and_then(LayerError::rejected).map(Rejected::reason)
}

/// Everything is transient to this one, refusals too.
fn all_transient(result: Result<&u32, &Failure>) -> Class {
    if result.is_ok() { Class::Success } else { Class::TRANSIENT }
}

/// The layers of the README, with the retry that is given, around a service that is down.
fn readme(retry: RetryLayer) -> (Stack, RetryHandle, Arc<AtomicU32>) {
    let (client, calls) = client(fails);
    let (retry, handle) = retry.classify(all_transient).with_handle();
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(MS * 10_000))
        .layer(retry)
        .layer(BreakerLayer::new().consecutive(5).open_for(MS * 60_000))
        .layer(RateLayer::per_second(100_000).burst(100_000))
        .layer(LimitLayer::new(64))
        .layer(TimeoutLayer::new(MS * 1_000))
        .service(client);
    (BoxCloneService::new(stack), handle, calls)
}

#[tokio::test(start_paused = true)]
async fn the_refusal_of_an_open_breaker_reaches_the_caller_within_a_millisecond() {
    let (stack, handle, calls) = readme(RetryLayer::max_attempts(3));
    // Until the breaker is open.
    while reason(&stack.clone().oneshot(7).await) != Some(Reason::BreakerOpen) {}
    let (before, asked) = (handle.stats(), calls.load(SeqCst));
    for _ in 0..100 {
        sleep(MS * 100).await;
        let start = Instant::now();
        let Err(Error::Rejected(rejected)) = stack.clone().oneshot(7).await else {
            panic!("the breaker is open")
        };
        assert_eq!((rejected.reason(), rejected.layer()), (Reason::BreakerOpen, "breaker"));
        assert!(rejected.retry_after().is_some(), "the caller is told when to come back");
        assert!(start.elapsed() < MS);
    }
    assert_eq!(calls.load(SeqCst), asked, "the service is left alone");
    let stats = handle.stats();
    assert_eq!((stats.retried, stats.over_budget), (before.retried, before.over_budget));
    assert_eq!((stats.refused - before.refused, stats.gave_up()), (100, before.gave_up()));
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_retry_meets_the_open_breaker_ends_with_the_error_of_the_service() {
    let (stack, handle, calls) = readme(RetryLayer::max_attempts(9).backoff(Backoff::none()));
    // Five failures open the breaker, and the sixth attempt is refused.
    assert_eq!(stack.clone().oneshot(7).await, Err(Error::Service("down")));
    assert_eq!((calls.load(SeqCst), handle.stats().retried, handle.stats().refused), (5, 5, 1));
}

#[tokio::test(start_paused = true)]
async fn behind_a_pool_a_thousand_jobs_fail_fast_too() {
    let (stack, handle, _) = readme(RetryLayer::max_attempts(3));
    while reason(&stack.clone().oneshot(7).await) != Some(Reason::BreakerOpen) {}
    let pool = Pool::builder().workers(16).queue(1_000).build(stack);
    let start = Instant::now();
    let jobs: Vec<_> = (0..1_000).map(|n| tokio::spawn(pool.clone().oneshot(n))).collect();
    for job in jobs {
        assert_eq!(reason(&job.await.unwrap()), Some(Reason::BreakerOpen));
    }
    assert!(start.elapsed() < MS * 300, "{:?}", start.elapsed());
    assert!(handle.stats().refused >= 1_000);
}

#[tokio::test(start_paused = true)]
async fn callers_who_wait_out_an_open_breaker_all_succeed_and_come_back_spread_out() {
    let well_at = Instant::now() + MS * 1_000;
    let (client, _) = client(move |n| async move {
        sleep(MS * 200).await;
        if Instant::now() < well_at { Err(Error::Service("down")) } else { Ok(n) }
    });
    let budget = Budget::new(0.0, 0.0);
    let retry = RetryLayer::max_attempts(3).budget(budget).retry_refusals(MS * 10_000);
    let (retry, handle) = retry.with_handle();
    let breaker = BreakerLayer::new().consecutive(1).open_for(MS * 5_000);
    let stack = retry.layer(breaker.layer(client));
    assert!(stack.clone().oneshot(0).await.is_err(), "it opens");
    let calls: Vec<_> = (0..50)
        .map(|n| {
            let call = stack.clone().oneshot(n);
            tokio::spawn(async move { (call.await, Instant::now()) })
        })
        .collect();
    let mut ended = Vec::new();
    for (n, call) in (0..).zip(calls) {
        let (answer, at) = call.await.unwrap();
        assert_eq!(answer, Ok(n));
        ended.push(at);
    }
    ended.sort();
    ended.dedup();
    assert!(ended.len() > 20, "not all in one instant: {}", ended.len());
    assert_eq!((handle.stats().retried, handle.stats().recovered), (0, 50));
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_full_refuses_at_once_and_is_waited_for_only_on_request() {
    let (client, calls) = client(|n| async move {
        sleep(MS * 500).await;
        Ok(n)
    });
    let inner = LimitLayer::new(1).queue(0).layer(client);
    let retry =
        || RetryLayer::max_attempts(3).backoff(Backoff::constant(MS * 100)).classify(all_transient);
    let (fails_fast, waits) = (retry(), retry().retry_refusals(MS * 1_000));
    let (fails_fast, waits) = (fails_fast.layer(inner.clone()), waits.layer(inner.clone()));
    let running = tokio::spawn(inner.oneshot(1));
    tokio::task::yield_now().await;

    let start = Instant::now();
    assert_eq!(reason(&fails_fast.clone().oneshot(2).await), Some(Reason::QueueFull));
    assert!(start.elapsed() < MS);
    let handle = waits.handle();
    assert_eq!(waits.oneshot(3).await, Ok(3));
    assert_eq!(running.await.unwrap(), Ok(1));
    assert_eq!((calls.load(SeqCst), handle.stats().retried), (2, 0));
    assert!(handle.stats().refusal_waits >= 3, "more often than there are attempts");
}

#[tokio::test(start_paused = true)]
async fn a_full_limit_is_waited_for_no_longer_than_the_total() {
    let (client, _) = client(|_| std::future::pending());
    let inner = LimitLayer::new(1).queue(0).layer(client);
    let running = tokio::spawn(inner.clone().oneshot(1));
    tokio::task::yield_now().await;
    let retry = RetryLayer::max_attempts(3).backoff(Backoff::constant(MS * 100));
    let stack = retry.retry_refusals(MS * 250).layer(inner);
    let start = Instant::now();
    assert_eq!(reason(&stack.clone().oneshot(2).await), Some(Reason::QueueFull));
    assert_eq!(start.elapsed(), MS * 250);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn what_can_never_pass_is_not_waited_for() {
    let (client, calls) = client(|n| async move { Ok(n) });
    let retry = || {
        let retry = RetryLayer::max_attempts(4).classify(all_transient);
        retry.budget(Budget::new(0.0, 0.0)).retry_refusals(MS * 60_000)
    };
    let start = Instant::now();

    let rate = RateLayer::per_second(1_000).burst(10).cost(|n: &u32| *n);
    let too_costly = retry().layer(rate.layer(client.clone()));
    assert_eq!(reason(&too_costly.clone().oneshot(11).await), Some(Reason::TooCostly));

    let pool = Pool::builder().workers(1).queue(1).build(client.clone());
    pool.close();
    let closed = retry().layer(pool);
    assert_eq!(reason(&closed.clone().oneshot(1).await), Some(Reason::PoolClosed));

    let breaker = BreakerLayer::new().layer(client);
    let held = breaker.handle().force_open();
    let forced = retry().layer(breaker);
    assert_eq!(reason(&forced.clone().oneshot(1).await), Some(Reason::ForcedOpen));
    drop(held);

    assert_eq!((start.elapsed(), calls.load(SeqCst)), (Duration::ZERO, 0));
    for stats in [too_costly.handle(), closed.handle(), forced.handle()].map(|h| h.stats()) {
        assert_eq!((stats.refused, stats.refusal_waits, stats.over_budget), (1, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_bucket_refuses_at_once_whatever_the_classifier_says() {
    let (client, calls) = client(|n| async move { Ok(n) });
    let inner = RateLayer::new(1, MS * 3_600_000).queue(0).layer(client);
    let retry = RetryLayer::max_attempts(4).classify(all_transient);
    let stack = retry.layer(inner);
    assert_eq!(stack.clone().oneshot(1).await, Ok(1));
    let start = Instant::now();
    let Err(Error::Rejected(rejected)) = stack.clone().oneshot(2).await else {
        panic!("the bucket is empty")
    };
    assert_eq!(rejected.reason(), Reason::RateLimited);
    assert!(rejected.retry_after().is_some());
    assert_eq!((start.elapsed(), calls.load(SeqCst)), (Duration::ZERO, 1));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_timed_out_is_repeated_because_the_service_was_slow() {
    let (client, calls) = client(|_| std::future::pending());
    let inner = TimeoutLayer::new(MS * 100).layer(client);
    let retry = RetryLayer::max_attempts(3).backoff(Backoff::none());
    let stack = retry.layer(inner);
    assert_eq!(reason(&stack.clone().oneshot(1).await), Some(Reason::Elapsed));
    assert_eq!((calls.load(SeqCst), stack.handle().stats().exhausted), (3, 1));
}
