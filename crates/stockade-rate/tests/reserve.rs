//! Tokens that are kept for critical calls, on the paused clock.

mod common;

use std::time::Duration;

use common::{MS, NS};
use stockade_core::{
    Error, LayerError, Reason,
    priority::{self, Priority, PriorityLayer},
};
use stockade_rate::RateLayer;
use stockade_testkit::{Probe, contract};
use tokio::time::{Instant, advance, sleep};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt, service_fn};

type Refusal = Error<()>;

fn echo() -> impl Service<u32, Response = u32, Error = Refusal, Future: Send> + Clone + Send {
    service_fn(async |n: u32| Ok::<_, Refusal>(n))
}

fn critical<F>(future: F) -> priority::Scoped<F> {
    priority::scope(Priority::Critical, future)
}

fn reason<T>(result: Result<T, Refusal>) -> Reason {
    result.err().and_then(|error| error.rejected().map(|r| r.reason())).expect("a refusal")
}

#[tokio::test(start_paused = true)]
async fn the_last_tokens_are_for_critical_calls_alone() {
    let (layer, handle) = RateLayer::per_second(10).reserve(3).queue(0).with_handle();
    let svc = layer.layer(echo());
    assert_eq!(handle.available(), 7);
    for n in 0..7 {
        assert!(svc.clone().oneshot(n).await.is_ok());
    }
    for other in [Priority::Default, Priority::Sheddable, Priority::Background] {
        let call = priority::scope(other, svc.clone().oneshot(7));
        let error = call.await.unwrap_err();
        let refused = error.rejected().unwrap();
        assert_eq!(
            (refused.reason(), refused.retry_after()),
            (Reason::RateLimited, Some(100 * MS))
        );
    }
    for n in 0..3 {
        assert!(critical(svc.clone().oneshot(n)).await.is_ok());
    }
    let error = critical(svc.clone().oneshot(7)).await.unwrap_err();
    assert_eq!(error.rejected().unwrap().retry_after(), Some(100 * MS));
    // The reserve fills up again before others pass.
    advance(400 * MS - NS).await;
    assert_eq!(reason(svc.clone().oneshot(8).await), Reason::RateLimited);
    advance(NS).await;
    assert_eq!(svc.clone().oneshot(8).await, Ok(8));
    assert_eq!(critical(svc.oneshot(9)).await, Ok(9));
}

#[tokio::test(start_paused = true)]
async fn a_critical_call_overtakes_those_that_wait_and_waits_before_them() {
    let (layer, handle) = RateLayer::per_second(10).burst(2).reserve(1).with_handle();
    let svc = layer.layer(echo());
    assert!(svc.clone().oneshot(0).await.is_ok());
    let mut others = [1, 2].map(|n| task::spawn(svc.clone().oneshot(n)));
    others.iter_mut().for_each(|call| assert_pending!(call.poll()));
    assert_ready_ok!(task::spawn(critical(svc.clone().oneshot(3))).poll());
    let mut first = task::spawn(critical(svc.clone().oneshot(4)));
    assert_pending!(first.poll());
    assert_eq!(handle.waiting(), 3);
    let start = Instant::now();
    assert_eq!(first.await, Ok(4));
    assert_eq!(start.elapsed(), 100 * MS);
    assert!(others.iter_mut().all(|call| call.poll().is_pending()));
    // One for the reserve, and then one each.
    let [one, two] = others;
    assert_eq!(one.await, Ok(1));
    assert_eq!(start.elapsed(), 300 * MS);
    assert_eq!(two.await, Ok(2));
    assert_eq!(start.elapsed(), 400 * MS);
}

#[tokio::test(start_paused = true)]
async fn over_a_second_no_more_pass_than_the_rate_and_the_burst_whoever_they_are() {
    let layer = RateLayer::per_second(100).burst(20).reserve(10).queue(50);
    let class =
        |n: &u32| if n.is_multiple_of(2) { Priority::Critical } else { Priority::Background };
    let svc = PriorityLayer::new(class).layer(layer.layer(echo()));
    let (mut critical, mut others, mut tasks) = (0, 0, Vec::new());
    let end = Instant::now() + 10_000 * MS;
    for n in 0..2_000 {
        // Two hundred a second, half of them critical.
        let call = svc.clone().oneshot(n);
        tasks.push(tokio::spawn(async move { (n, call.await.is_ok() && Instant::now() <= end) }));
        sleep(5 * MS).await;
    }
    for task in tasks {
        let (n, passed) = task.await.unwrap();
        *if n.is_multiple_of(2) { &mut critical } else { &mut others } += u32::from(passed);
    }
    assert!(critical + others <= 1_021, "{critical} {others}");
    assert!(critical >= 990, "{critical} {others}");
}

#[tokio::test(start_paused = true)]
async fn a_reserve_as_large_as_the_burst_leaves_one_token_for_all() {
    for layer in [
        RateLayer::per_second(5).reserve(u32::MAX),
        RateLayer::per_second(9).reserve(7).burst(5),
        RateLayer::per_second(9).burst(5).reserve(5),
    ] {
        let (layer, handle) = layer.queue(0).with_handle();
        let svc = layer.layer(echo());
        assert_eq!(handle.available(), 1);
        assert!(svc.clone().oneshot(1).await.is_ok());
        assert!(svc.clone().oneshot(1).await.is_err());
        for _ in 0..4 {
            assert!(critical(svc.clone().oneshot(1)).await.is_ok());
        }
        assert!(critical(svc.oneshot(1)).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_critical_call_may_cost_more_than_others() {
    let layer = RateLayer::per_second(10).reserve(4).queue(0).cost(|n: &u32| *n);
    let svc = layer.layer(echo());
    assert_eq!(reason(svc.clone().oneshot(7).await), Reason::TooCostly);
    assert_eq!(reason(critical(svc.clone().oneshot(11)).await), Reason::TooCostly);
    assert!(critical(svc.clone().oneshot(10)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_reserve_outlasts_a_change_of_the_rate_and_is_not_there_during_a_penalty() {
    let (layer, handle) = RateLayer::per_second(10).reserve(3).queue(0).with_handle();
    let svc = layer.layer(echo());
    handle.set_rate(100, Duration::from_secs(1)).unwrap();
    advance(1_000 * MS).await;
    assert_eq!(handle.available(), 97);
    handle.penalize(50 * MS);
    assert_eq!(reason(critical(svc.clone().oneshot(1)).await), Reason::RateLimited);
    advance(50 * MS).await;
    assert!(svc.clone().oneshot(1).await.is_ok());
    assert!(svc.clone().oneshot(1).await.is_err());
    for _ in 0..3 {
        assert!(critical(svc.clone().oneshot(1)).await.is_ok());
    }
    assert!(critical(svc.oneshot(1)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn critical_calls_that_wait_through_a_penalty_go_when_it_ends() {
    let (layer, handle) = RateLayer::per_second(10).reserve(5).with_handle();
    let svc = layer.layer(echo());
    handle.penalize(1_000 * MS);
    let start = Instant::now();
    let calls: Vec<_> = (0..6).map(|n| tokio::spawn(critical(svc.clone().oneshot(n)))).collect();
    let other = tokio::spawn(svc.oneshot(7));
    for call in calls {
        assert!(call.await.unwrap().is_ok());
    }
    assert_eq!(start.elapsed(), 1_000 * MS);
    assert!(other.await.unwrap().is_ok());
    assert_eq!(start.elapsed(), 1_600 * MS);
}

#[tokio::test(start_paused = true)]
async fn each_key_and_each_handle_has_its_reserve() {
    let layer = RateLayer::per_second(4).reserve(2).queue(0).keyed(|n: &u32| *n, 10);
    let svc = layer.layer(echo());
    for key in [1, 2] {
        for passes in [true, true, false] {
            assert_eq!(svc.clone().oneshot(key).await.is_ok(), passes);
        }
        for passes in [true, true, false] {
            assert_eq!(critical(svc.clone().oneshot(key)).await.is_ok(), passes);
        }
    }
    let (_, handle) = RateLayer::per_second(4).reserve(2).with_handle();
    assert!(handle.try_take(2).is_ok() && handle.try_take(1).is_err());
    Priority::Critical.enter(|| assert!(handle.try_take(2).is_ok() && handle.try_take(1).is_err()));
    let mut taken = task::spawn(critical(handle.take(1)));
    assert_pending!(taken.poll());
    advance(250 * MS).await;
    assert!(assert_ready!(taken.poll()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_with_a_reserve_keeps_the_contract() {
    contract(|inner: Probe| RateLayer::per_second(1_000_000).reserve(10).layer(inner))
        .run()
        .await
        .assert();
    contract(|inner: Probe| {
        RateLayer::per_second(1_000_000).reserve(10).backpressure().layer(inner)
    })
    .run()
    .await
    .assert();
}
