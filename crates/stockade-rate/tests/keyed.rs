//! One bucket a key, on the paused clock.

mod common;

use std::time::Duration;

use common::{Call, MS, future_of};
use stockade_core::{LayerError, Reason, Rejected};
use stockade_rate::{Keyed, Rate, RateLayer};
use stockade_testkit::{Probe, Request, contract};
use tokio::time::advance;
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::Layer;

/// The key is the hundreds of the id.
type Key = fn(&Request) -> u64;
const KEY: Key = |request| request.id / 100;

fn service(layer: RateLayer, max_keys: usize) -> (Rate<Probe, Keyed<u64, Key>>, Probe) {
    let probe = Probe::new();
    (layer.keyed(KEY, max_keys).layer(probe.clone()), probe)
}

fn call(service: &mut Rate<Probe, Keyed<u64, Key>>, id: u64) -> Call {
    task::spawn(future_of(service, id))
}

fn waiter(service: &mut Rate<Probe, Keyed<u64, Key>>, id: u64) -> Call {
    let mut call = call(service, id);
    assert_pending!(call.poll());
    call
}

fn refusal(service: &mut Rate<Probe, Keyed<u64, Key>>, id: u64) -> Rejected {
    *assert_ready_err!(call(service, id).poll()).rejected().expect("a refusal, not a fault")
}

#[tokio::test(start_paused = true)]
async fn calls_of_a_key_wait_in_their_order_and_those_of_another_do_not_mind() {
    let (mut service, probe) = service(RateLayer::per_second(10).burst(1).queue(2), 10);
    assert_ready_ok!(call(&mut service, 100).poll());
    let [mut first, mut second] = [101, 102].map(|id| waiter(&mut service, id));
    assert_eq!(refusal(&mut service, 103).reason(), Reason::QueueFull);
    assert_ready_ok!(call(&mut service, 200).poll());
    let mut other = waiter(&mut service, 201);
    assert_eq!((service.handle().waiting(&1), service.handle().waiting(&2)), (2, 1));
    advance(100 * MS).await;
    assert_pending!(second.poll());
    assert_ready_ok!(first.poll());
    assert_ready_ok!(other.poll());
    advance(100 * MS).await;
    assert_ready_ok!(second.poll());
    assert_eq!(probe.started(), [100, 200, 101, 201, 102]);
    assert_eq!((service.handle().waiting(&1), service.handle().waiting(&2)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn clones_share_the_keys_and_applications_of_a_per_service_layer_do_not() {
    let (mut first, _) = service(RateLayer::per_second(1).queue(0), 10);
    let mut clone = first.clone();
    assert_ready_ok!(call(&mut first, 100).poll());
    assert_eq!(refusal(&mut clone, 100).retry_after(), Some(Duration::from_secs(1)));
    let layer = RateLayer::per_second(1).queue(0).keyed(KEY, 10).per_service();
    for _ in 0..2 {
        assert_ready_ok!(call(&mut layer.layer(Probe::new()), 100).poll());
    }
}

#[tokio::test(start_paused = true)]
async fn setters_after_keyed_count_too() {
    let layer = RateLayer::per_second(9).keyed(KEY, 10).burst(2).queue(0).name("users");
    let mut service = layer.layer(Probe::new());
    assert_ready_ok!(call(&mut service, 100).poll());
    assert_ready_ok!(call(&mut service, 101).poll());
    let refused = refusal(&mut service, 102);
    assert_eq!((refused.reason(), refused.name()), (Reason::RateLimited, Some("users")));
}

#[tokio::test(start_paused = true)]
async fn an_idle_key_is_forgotten_when_its_place_is_needed() {
    let (mut service, _) = service(RateLayer::per_second(10).queue(0), 2);
    let handle = service.handle();
    for id in [100, 200, 300, 400] {
        assert_ready_ok!(call(&mut service, id).poll());
    }
    assert_eq!((handle.keys(), handle.overflow().available()), (2, 8));
    assert_eq!((handle.available(&1), handle.available(&3), handle.available(&9)), (9, 8, 8));
    advance(100 * MS).await;
    assert_ready_ok!(call(&mut service, 500).poll());
    assert_eq!((handle.keys(), handle.available(&5)), (1, 9));
}

#[tokio::test(start_paused = true)]
async fn a_penalty_is_one_keys_own() {
    let (mut service, _) = service(RateLayer::per_second(10).queue(0), 10);
    for id in [100, 200] {
        assert_ready_ok!(call(&mut service, id).poll());
    }
    service.handle().penalize(&1, Duration::from_secs(9));
    service.handle().penalize(&7, Duration::from_secs(9));
    assert_eq!(refusal(&mut service, 100).retry_after(), Some(Duration::from_secs(9)));
    assert_ready_ok!(call(&mut service, 200).poll());
    assert_eq!(service.handle().keys(), 2);
}

#[tokio::test(start_paused = true)]
async fn keyed_calls_can_cost_more_than_one_token() {
    let layer = RateLayer::per_second(10).queue(0).keyed(KEY, 10).cost(|_: &Request| 6);
    let mut service = layer.layer(Probe::new());
    for id in [100, 200] {
        assert_ready_ok!(task::spawn(future_of(&mut service, id)).poll());
        let error = assert_ready_err!(task::spawn(future_of(&mut service, id)).poll());
        let after = error.rejected().and_then(Rejected::retry_after);
        assert_eq!(after, Some(200 * MS));
    }
}

#[tokio::test(start_paused = true)]
async fn keeps_the_contract_while_keyed_calls_wait() {
    let layer = || RateLayer::per_second(100).burst(1).keyed(|_: &Request| 7_u8, 10);
    contract(move |inner: Probe| layer().layer(inner)).run().await.assert();
}
