//! The layer keeps the contract of a tower layer, whatever is in its stacks.

use std::{task::Poll, time::Duration};

use stockade_core::{LayerError, Reason, deadline};
use stockade_keyed::{KeyedLayer, WhenFull};
use stockade_limit::LimitLayer;
use stockade_testkit::{Probe, Readiness, Request, contract};
use tokio::time::{Instant, advance};
use tower::{Layer, Service, layer::util::Identity, limit::GlobalConcurrencyLimitLayer};

#[tokio::test(start_paused = true)]
async fn an_empty_stack_for_one_key_keeps_the_contract() {
    contract(|inner: Probe| KeyedLayer::new(|_: &Request| 0, 1, |_| Identity::new()).layer(inner))
        .run()
        .await
        .assert();
}

#[tokio::test(start_paused = true)]
async fn stacks_of_their_own_and_shared_ones_keep_the_contract() {
    contract(|inner: Probe| {
        KeyedLayer::new(|request: &Request| request.id, 3, |_| Identity::new()).layer(inner)
    })
    .run()
    .await
    .assert();
}

#[tokio::test(start_paused = true)]
async fn a_limit_for_one_key_keeps_the_contract() {
    contract(|inner: Probe| {
        KeyedLayer::new(|_: &Request| 0, 1, |_| LimitLayer::new(2)).layer(inner)
    })
    .limit(2)
    .run()
    .await
    .assert();
}

#[tokio::test(start_paused = true)]
async fn back_pressure_for_one_key_keeps_the_contract() {
    contract(|inner: Probe| {
        KeyedLayer::new(|_: &Request| 0, 1, |_| LimitLayer::new(2).backpressure()).layer(inner)
    })
    .limit(2)
    .run()
    .await
    .assert();
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_tower_for_one_key_keeps_the_contract() {
    contract(|inner: Probe| {
        KeyedLayer::new(|_: &Request| 0, 1, |_| GlobalConcurrencyLimitLayer::new(2)).layer(inner)
    })
    .limit(2)
    .run()
    .await
    .assert();
}

#[tokio::test(start_paused = true)]
async fn the_deadline_is_looked_at_again_after_a_wait_for_readiness() {
    let probe = Probe::new();
    probe.set_ready(Readiness::Pending);
    let layer = KeyedLayer::new(|_: &Request| 0, 1, |_| Identity::new())
        .when_full(WhenFull::Refuse)
        .name("hosts");
    let (layer, handle) = layer.with_handle();
    let mut stack = layer.layer(probe.clone());
    let at = Instant::now() + Duration::from_secs(1);
    let mut call =
        tokio_test::task::spawn(deadline::scope(Some(at), stack.call(Request::ready(1))));
    assert!(call.poll().is_pending());
    advance(Duration::from_secs(2)).await;
    probe.set_ready(Readiness::Ready);
    let Poll::Ready(Err(error)) = call.poll() else { panic!("it is refused") };
    let rejected = error.rejected().unwrap();
    assert_eq!((rejected.layer(), rejected.name()), ("keyed", Some("hosts")));
    assert_eq!((rejected.reason(), handle.refused(Reason::Expired)), (Reason::Expired, 1));
    assert_eq!(probe.calls(), 0);
}
