//! Calls that cost more than one token, on the paused clock.

mod common;

use std::time::Duration;

use common::{Call, MS, NS, YEAR, future_of};
use stockade_core::{LayerError, Reason, Rejected, deadline::Deadline};
use stockade_rate::{Costly, Rate, RateLayer};
use stockade_testkit::{Probe, Request, contract};
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt};

/// The cost is the hundreds of the id.
type Cost = fn(&Request) -> u32;
const COST: Cost = |request| u32::try_from(request.id / 100).expect("an id of the tests");

fn service(layer: RateLayer) -> (Rate<Probe, Costly<Cost>>, Probe) {
    let probe = Probe::new();
    (layer.cost(COST).layer(probe.clone()), probe)
}

fn call(service: &mut Rate<Probe, Costly<Cost>>, id: u64) -> Call {
    task::spawn(future_of(service, id))
}

fn waiter(service: &mut Rate<Probe, Costly<Cost>>, id: u64) -> Call {
    let mut call = call(service, id);
    assert_pending!(call.poll());
    call
}

fn refusal(service: &mut Rate<Probe, Costly<Cost>>, id: u64) -> Rejected {
    *assert_ready_err!(call(service, id).poll()).rejected().expect("a refusal, not a fault")
}

#[tokio::test(start_paused = true)]
async fn a_call_takes_as_many_tokens_as_it_costs_all_or_none() {
    let (mut service, _) = service(RateLayer::per_second(10).queue(0));
    assert_ready_ok!(call(&mut service, 700).poll());
    assert_eq!(service.handle().available(), 3);
    assert_eq!(refusal(&mut service, 500).retry_after(), Some(200 * MS));
    assert_eq!(service.handle().available(), 3);
    assert_ready_ok!(call(&mut service, 300).poll());
    advance(200 * MS - NS).await;
    assert_eq!(refusal(&mut service, 200).retry_after(), Some(NS));
    advance(NS).await;
    assert_ready_ok!(call(&mut service, 200).poll());
}

#[tokio::test(start_paused = true)]
async fn a_cost_above_the_burst_is_refused_at_once_and_says_no_time() {
    let (mut service, probe) = service(RateLayer::per_second(10).burst(3));
    let refused = refusal(&mut service, 400);
    assert_eq!((refused.reason(), refused.retry_after()), (Reason::TooCostly, None));
    assert_eq!((service.handle().available(), service.handle().waiting()), (3, 0));
    let refused = refusal(&mut service, u64::from(u32::MAX) * 100);
    assert_eq!(refused.reason(), Reason::TooCostly);
    assert_ready_ok!(call(&mut service, 300).poll());
    assert_eq!(probe.started(), [300]);
}

#[tokio::test(start_paused = true)]
async fn a_cost_of_zero_passes_at_once_while_others_wait_and_takes_nothing() {
    let (mut service, _) = service(RateLayer::per_second(10).burst(1));
    assert_ready_ok!(call(&mut service, 100).poll());
    let mut waiting = waiter(&mut service, 101);
    for id in 0..50 {
        assert_ready_ok!(call(&mut service, id).poll());
    }
    advance(100 * MS).await;
    assert_ready_ok!(waiting.poll());
}

#[tokio::test(start_paused = true)]
async fn a_costly_head_is_not_overtaken_by_cheap_calls() {
    let (mut service, probe) = service(RateLayer::per_second(10));
    assert_ready_ok!(call(&mut service, 1000).poll());
    let start = Instant::now();
    let mut costly = waiter(&mut service, 1001);
    let mut cheap = [101, 102, 103].map(|id| waiter(&mut service, id));
    advance(900 * MS).await;
    // Nine tokens are there, and they are the costly one's.
    assert_eq!(service.handle().available(), 0);
    assert_pending!(costly.poll());
    assert_pending!(cheap[0].poll());
    assert_pending!(call(&mut service, 104).poll());
    costly.await.expect("it is served");
    assert_eq!(start.elapsed(), Duration::from_secs(1));
    for (cheap, ms) in cheap.into_iter().zip([1_100, 1_200, 1_300]) {
        cheap.await.expect("it is served");
        assert_eq!(start.elapsed(), ms * MS);
    }
    assert_eq!(probe.started(), [1000, 1001, 101, 102, 103]);
}

#[tokio::test(start_paused = true)]
async fn a_predicted_wait_is_the_sum_of_the_costs_ahead_and_ones_own() {
    let layer = RateLayer::per_second(10).burst(5).max_wait(Duration::from_secs(1));
    let (mut service, _) = service(layer);
    assert_ready_ok!(call(&mut service, 500).poll());
    let _four = waiter(&mut service, 400);
    let three = waiter(&mut service, 300);
    let refused = refusal(&mut service, 401);
    assert_eq!((refused.reason(), refused.retry_after()), (Reason::WaitExceeded, Some(100 * MS)));
    let mut short = Deadline::after(899 * MS);
    let mut late = short.enter(|| call(&mut service, 200));
    let refused = *assert_ready_err!(late.poll()).rejected().expect("a refusal");
    assert_eq!((refused.reason(), refused.retry_after()), (Reason::Expired, Some(MS + NS)));
    let _in_time = waiter(&mut service, 300);
    assert_eq!(service.handle().waiting(), 3);
    // Who leaves takes its cost along.
    drop(three);
    assert_pending!(call(&mut service, 300).poll());
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_free_again_when_its_head_has_all_its_tokens() {
    let (mut service, _) = service(RateLayer::per_second(10).burst(5).queue(1));
    assert_ready_ok!(call(&mut service, 500).poll());
    let mut head = waiter(&mut service, 400);
    let refused = refusal(&mut service, 100);
    assert_eq!((refused.reason(), refused.retry_after()), (Reason::QueueFull, Some(400 * MS)));
    advance(400 * MS).await;
    assert_ready_ok!(head.poll());
    assert_pending!(call(&mut service, 100).poll());
}

#[tokio::test(start_paused = true)]
async fn who_costs_more_than_a_burst_that_fell_is_refused_when_its_turn_comes() {
    let (mut service, _) = service(RateLayer::per_second(10));
    assert_ready_ok!(call(&mut service, 1000).poll());
    let [mut head, mut next, mut last] = [600, 700, 200].map(|id| waiter(&mut service, id));
    service.handle().set_rate(5, Duration::from_secs(1)).unwrap();
    for costly in [&mut head, &mut next] {
        assert!(costly.is_woken());
        let error = assert_ready_err!(costly.poll());
        assert_eq!(error.rejected().map(Rejected::reason), Some(Reason::TooCostly));
    }
    assert_pending!(last.poll());
    advance(400 * MS).await;
    assert!(last.is_woken());
    assert_ready_ok!(last.poll());
}

#[tokio::test(start_paused = true)]
async fn the_largest_costs_wait_without_an_overflow() {
    let layer = RateLayer::new(u32::MAX, 10 * YEAR).queue(100);
    let (mut service, _) = service(layer);
    let all = u64::from(u32::MAX) * 100;
    assert_ready_ok!(call(&mut service, all).poll());
    let waiters: Vec<_> = (0..100).map(|id| waiter(&mut service, all + id)).collect();
    assert_eq!(refusal(&mut service, 100).reason(), Reason::QueueFull);
    assert_eq!(service.handle().waiting(), waiters.len());
}

#[tokio::test(start_paused = true)]
async fn the_cost_that_is_set_last_counts() {
    let layer = RateLayer::per_second(10).cost(|_: &Request| 9).cost(|_: &Request| 2);
    let mut service = layer.layer(Probe::new());
    assert_ready!(task::spawn(future_of(&mut service, 0)).poll()).expect("it passes");
    assert_eq!(service.handle().available(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_cost_that_panics_takes_no_token_and_the_next_call_passes() {
    let layer = RateLayer::per_second(10).cost(|request: &Request| match request.id {
        0 => panic!("what does it cost?"),
        _ => 1,
    });
    let mut service = layer.layer(Probe::new());
    let mut other = service.clone();
    let panicked = tokio::spawn(async move { other.ready().await?.call(Request::ready(0)).await });
    assert!(panicked.await.expect_err("it panicked").is_panic());
    assert_eq!(service.handle().available(), 10);
    service.ready().await.expect("ready").call(Request::ready(1)).await.expect("it passes");
}

#[tokio::test(start_paused = true)]
async fn keeps_the_contract_while_costly_calls_wait() {
    let layer = || RateLayer::per_second(300).burst(3).cost(|_: &Request| 3);
    contract(move |inner: Probe| layer().layer(inner)).run().await.assert();
}

/// The future is what a plain rate limit returns, so that both go into the same places.
#[expect(dead_code, reason = "it compiles")]
fn the_future_does_not_depend_on_the_policy(
    service: &mut Rate<Probe, Costly<Cost>>,
) -> common::Future {
    service.call(Request::ready(0))
}
