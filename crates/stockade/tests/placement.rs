//! Where the layers stand that are not in every stack: each test runs a wrong place beside the right one. The paragraphs
//! of `stockade::order` say the same in words.

#![cfg(all(feature = "chaos", feature = "coalesce", feature = "fallback", feature = "hedge"))]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use stockade::{
    BreakerLayer, ChaosLayer, CoalesceLayer, Error, FallbackLayer, HedgeLayer, LayerError,
    LimitLayer, Reason, RetryLayer, TimeoutLayer,
    breaker::{State, Window},
    retry::{Backoff, Budget},
};
use tokio::{task::JoinSet, time::sleep};
use tower::{ServiceBuilder, ServiceExt, service_fn};

type Failure = Error<&'static str>;

const MS: Duration = Duration::from_millis(1);
const CALLERS: usize = 10;

fn retry() -> RetryLayer {
    let backoff = Backoff::exponential(MS * 100, MS * 100);
    RetryLayer::max_attempts(3).backoff(backoff).budget(Budget::unlimited())
}

#[tokio::test(start_paused = true)]
async fn with_the_fallback_inside_of_the_breaker_the_breaker_sees_no_failure() {
    let breaker = || BreakerLayer::new().window(Window::calls(4)).min_calls(4).with_handle();
    let fallback = || FallbackLayer::new(async |_: Failure| Ok::<_, Failure>("stale"));
    let fails = service_fn(async |()| Err::<&'static str, _>(Error::Service("down")));

    let (layer, inside) = breaker();
    let wrong = ServiceBuilder::new().layer(layer).layer(fallback()).service(fails);
    let (layer, outside) = breaker();
    let right = ServiceBuilder::new().layer(fallback()).layer(layer).service(fails);
    for _ in 0..10 {
        assert_eq!(wrong.clone().oneshot(()).await, Ok("stale"));
        assert_eq!(right.clone().oneshot(()).await, Ok("stale"));
    }
    assert_eq!((inside.state(), outside.state()), (State::Closed, State::Open));
}

#[tokio::test(start_paused = true)]
async fn with_the_fallback_inside_of_the_total_timeout_a_call_that_takes_too_long_is_not_answered()
{
    let fallback = || FallbackLayer::new(async |_: Failure| Ok::<_, Failure>("stale"));
    let timeout = || TimeoutLayer::new(MS * 100);
    let hangs =
        service_fn(async |()| std::future::pending::<Result<&'static str, Failure>>().await);
    let wrong = ServiceBuilder::new().layer(timeout()).layer(fallback()).service(hangs);
    let right = ServiceBuilder::new().layer(fallback()).layer(timeout()).service(hangs);
    assert_eq!(wrong.oneshot(()).await.unwrap_err().rejected().unwrap().reason(), Reason::Elapsed);
    assert_eq!(right.oneshot(()).await, Ok("stale"));
}

#[tokio::test(start_paused = true)]
async fn with_coalesce_inside_of_retry_callers_share_an_attempt_and_then_go_their_own_ways() {
    let coalesce = || CoalesceLayer::new(|key: &u32| *key);
    let mut seen = Vec::new();
    for inside in [true, false] {
        let attempts = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&attempts);
        let fails = service_fn(move |_: u32| {
            count.fetch_add(1, SeqCst);
            async {
                sleep(MS).await;
                Err::<(), Failure>(Error::Service("down"))
            }
        });
        let mut calls = JoinSet::new();
        if inside {
            let stack = ServiceBuilder::new().layer(retry()).layer(coalesce()).service(fails);
            (0..CALLERS).for_each(|_| drop(calls.spawn(stack.clone().oneshot(7))));
        } else {
            let stack = ServiceBuilder::new().layer(coalesce()).layer(retry()).service(fails);
            (0..CALLERS).for_each(|_| drop(calls.spawn(stack.clone().oneshot(7))));
        }
        assert!(calls.join_all().await.iter().all(Result::is_err));
        seen.push(attempts.load(SeqCst));
    }
    assert!(seen[0] > 3 && seen[1] == 3, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn with_the_hedge_inside_of_the_limit_second_attempts_are_not_limited() {
    let hedge = || HedgeLayer::after(MS * 10).budget(Budget::unlimited());
    let mut seen = Vec::new();
    for inside in [true, false] {
        let (running, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (run, peak) = (Arc::clone(&running), Arc::clone(&most));
        let slow = service_fn(move |()| {
            peak.fetch_max(run.fetch_add(1, SeqCst) + 1, SeqCst);
            let run = Arc::clone(&run);
            async move {
                sleep(MS * 100).await;
                run.fetch_sub(1, SeqCst);
                Ok::<_, Failure>(())
            }
        });
        let limit = LimitLayer::new(2);
        let mut calls = JoinSet::new();
        if inside {
            let stack = ServiceBuilder::new().layer(limit).layer(hedge()).service(slow);
            (0..2).for_each(|_| drop(calls.spawn(stack.clone().oneshot(()))));
        } else {
            let stack = ServiceBuilder::new().layer(hedge()).layer(limit).service(slow);
            (0..2).for_each(|_| drop(calls.spawn(stack.clone().oneshot(()))));
        }
        assert!(calls.join_all().await.iter().all(Result::is_ok));
        seen.push(most.load(SeqCst));
    }
    assert_eq!(seen, [4, 2]);
}

#[tokio::test(start_paused = true)]
async fn with_chaos_outside_of_retry_the_stack_does_not_meet_what_it_makes_up() {
    let chaos = || {
        let layer = ChaosLayer::new(1).error(0.3, || Failure::Service("made up"));
        let (layer, handle) = layer.with_handle();
        handle.set_enabled(true);
        layer
    };
    let well = service_fn(async |()| Ok::<_, Failure>(()));
    let wrong = ServiceBuilder::new().layer(chaos()).layer(retry()).service(well);
    let right = ServiceBuilder::new().layer(retry()).layer(chaos()).service(well);
    let mut failed = [0; 2];
    for _ in 0..200 {
        failed[0] += u32::from(wrong.clone().oneshot(()).await.is_err());
        failed[1] += u32::from(right.clone().oneshot(()).await.is_err());
    }
    assert!(failed[0] > 40 && failed[1] < 20, "{failed:?}");
}
