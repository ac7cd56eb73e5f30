//! What the handle turns at run time, on the paused clock.

mod common;

use std::time::Duration;

use common::{Call, MS, NS, call, passes, refusal, service, waiter};
use stockade_core::Reason;
use stockade_rate::RateLayer;
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready_ok};

const SECOND: Duration = Duration::from_secs(1);

/// When the call is served.
async fn served(start: Instant, call: Call) -> Duration {
    call.await.expect("it is served");
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_rises_reaches_the_head_and_all_behind_it_follow() {
    let (mut service, _) = service(RateLayer::new(1, 10 * SECOND).burst(1));
    let start = Instant::now();
    assert!(passes(&mut service, 0));
    let mut waiters = [1, 2, 3].map(|id| waiter(&mut service, id));
    advance(SECOND).await;
    service.handle().set_rate(10, SECOND).unwrap();
    assert!(!waiters[0].is_woken() && !waiters[1].is_woken());
    // A tenth of its token has come in the old rate.
    assert_pending!(waiters[0].poll());
    let mut at = Vec::new();
    for waiter in waiters {
        at.push(served(start, waiter).await.as_millis());
    }
    assert_eq!(at, [1_090, 1_190, 1_290]);
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_falls_makes_a_sleeping_head_sleep_longer_and_refusals_say_so() {
    let (mut service, _) = service(RateLayer::per_second(10).burst(1).queue(1));
    let start = Instant::now();
    assert!(passes(&mut service, 0));
    let waiting = waiter(&mut service, 1);
    advance(50 * MS).await;
    service.handle().set_rate(1, SECOND).unwrap();
    let refused = refusal(&mut service, 2);
    assert_eq!((refused.reason(), refused.retry_after()), (Reason::QueueFull, Some(500 * MS)));
    assert_eq!(served(start, waiting).await, 550 * MS);
}

#[tokio::test(start_paused = true)]
async fn tokens_stay_when_the_rate_changes_and_what_does_not_fit_runs_over() {
    let (mut service, _) = service(RateLayer::per_second(10).queue(0));
    let handle = service.handle();
    for id in 0..4 {
        assert!(passes(&mut service, id));
    }
    handle.set_rate(100, SECOND).unwrap();
    assert_eq!(handle.available(), 6);
    handle.set_rate(2, SECOND).unwrap();
    assert_eq!(handle.available(), 2);
    handle.set_rate(10, SECOND).unwrap();
    assert_eq!(handle.available(), 2, "back at the first rate");
    assert!(passes(&mut service, 4) && passes(&mut service, 5));
    assert_eq!(refusal(&mut service, 6).retry_after(), Some(100 * MS));
    advance(900 * MS).await;
    assert_eq!(handle.available(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_burst_that_was_set_stays_when_the_rate_changes() {
    let (service, _) = service(RateLayer::per_second(10).burst(3));
    service.handle().set_rate(1, 60 * SECOND).unwrap();
    assert_eq!(service.handle().available(), 3);
}

#[tokio::test(start_paused = true)]
async fn while_the_rate_changes_no_more_calls_pass_than_each_rate_gives() {
    let (mut service, _) = service(RateLayer::per_second(10).burst(2).queue(0));
    let handle = service.handle();
    let mut passed = 0;
    for ms in 0..10_000_u32 {
        if ms % 50 == 0 {
            handle.set_rate(if ms % 100 == 0 { 10 } else { 30 }, SECOND).unwrap();
        }
        passed += u32::from(passes(&mut service, 0));
        advance(MS).await;
    }
    // Half the time at 10/s and half at 30/s, and the burst.
    assert!((200..=202).contains(&passed), "{passed}");
}

#[tokio::test(start_paused = true)]
async fn a_penalty_keeps_everybody_waiting_until_it_is_over_and_retry_after_follows() {
    let (mut service, probe) = service(RateLayer::per_second(10).queue(2));
    let (start, handle) = (Instant::now(), service.handle());
    assert!(passes(&mut service, 0));
    handle.penalize(3 * SECOND);
    assert_eq!(handle.available(), 0);
    let waiters = [1, 2].map(|id| waiter(&mut service, id));
    assert_eq!(refusal(&mut service, 3).retry_after(), Some(3 * SECOND));
    let mut at = Vec::new();
    for waiter in waiters {
        at.push(served(start, waiter).await.as_millis());
    }
    assert_eq!(at, [3_000, 3_100], "one token, and then one a period");
    assert_eq!(probe.started(), [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_penalty_reaches_a_head_that_sleeps_already() {
    let (mut service, _) = service(RateLayer::per_second(10).burst(1));
    let start = Instant::now();
    assert!(passes(&mut service, 0));
    let waiting = waiter(&mut service, 1);
    advance(99 * MS).await;
    service.handle().penalize(SECOND);
    assert_eq!(served(start, waiting).await, 1_099 * MS);
}

#[tokio::test(start_paused = true)]
async fn a_penalty_never_makes_a_token_come_earlier_and_no_change_of_the_rate_ends_it() {
    let (mut service, _) = service(RateLayer::per_second(1).burst(1).queue(0));
    let handle = service.handle();
    assert!(passes(&mut service, 0));
    handle.penalize(10 * MS);
    assert_eq!(refusal(&mut service, 1).retry_after(), Some(SECOND));
    handle.penalize(1_500 * MS);
    handle.penalize(SECOND);
    assert_eq!(refusal(&mut service, 1).retry_after(), Some(1_500 * MS));
    for rate in [1_000_000, 1, 500] {
        handle.set_rate(rate, SECOND).unwrap();
        let after = refusal(&mut service, 1).retry_after();
        assert!(after >= Some(1_500 * MS), "{after:?} at {rate}/s");
    }
    advance(1_500 * MS - NS).await;
    assert!(!passes(&mut service, 2));
    handle.set_rate(1_000_000, SECOND).unwrap();
    assert!(!passes(&mut service, 2));
    // One token of the rate that holds.
    advance(Duration::from_micros(1)).await;
    assert!(passes(&mut service, 2));
}

#[tokio::test(start_paused = true)]
async fn a_penalty_of_any_length_is_taken() {
    let (mut service, _) = service(RateLayer::per_second(10));
    service.handle().penalize(Duration::MAX);
    service.handle().penalize(Duration::ZERO);
    assert_pending!(call(&mut service, 0).poll());
    assert_eq!(service.handle().available(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_dropped_after_the_rate_has_changed_leaves_its_token_to_the_next() {
    let (mut service, _) = service(RateLayer::per_second(1).burst(1));
    assert!(passes(&mut service, 0));
    let [head, mut next] = [1, 2].map(|id| waiter(&mut service, id));
    service.handle().set_rate(10, SECOND).unwrap();
    drop(head);
    assert_pending!(next.poll());
    advance(100 * MS).await;
    assert!(next.is_woken());
    assert_ready_ok!(next.poll());
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_is_not_allowed_is_an_error_and_changes_nothing() {
    let (_, handle) = RateLayer::per_second(10).burst(3).with_handle();
    let never = handle.set_rate(1, Duration::from_secs(10 * 365 * 86_400)).unwrap_err();
    let message = never.to_string();
    assert!(message.starts_with("RateHandle::set_rate, per / n: 315360000s is not"), "{message}");
    let none = handle.set_rate(0, SECOND).unwrap_err();
    assert_eq!((none.setting(), none.value()), ("RateHandle::set_rate, n", "0"));
    assert_eq!((handle.config().calls, handle.config().per), (10, SECOND));
    handle.set_rate(7, 2 * SECOND).unwrap();
    assert_eq!((handle.config().calls, handle.config().per), (7, 2 * SECOND));
}
