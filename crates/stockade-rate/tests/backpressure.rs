//! What a rate limit does that waits in `poll_ready`, on the paused clock.

mod common;

use std::time::Duration;

use common::{MS, waiter};
use stockade_core::{Backpressure, LayerError, Reason};
use stockade_rate::{Rate, RateHandle, RateLayer};
use stockade_testkit::{Probe, Readiness, Request};
use tokio::time::{Instant, advance};
use tokio_test::{
    assert_pending, assert_ready_err, assert_ready_ok,
    task::{self, Spawn},
};
use tower::{Layer, Service, ServiceExt};

type Svc = Spawn<Backpressure<Rate<Probe>>>;

fn service(layer: RateLayer) -> (Svc, Probe) {
    let probe = Probe::new();
    (task::spawn(layer.backpressure().layer(probe.clone())), probe)
}

fn clone(svc: &Svc) -> Svc {
    task::spawn((**svc).clone())
}

/// A service that is a task of its own.
trait Instance {
    fn is_ready(&mut self) -> bool;

    fn handle(&self) -> RateHandle;
}

impl Instance for Svc {
    fn is_ready(&mut self) -> bool {
        self.enter(|cx, mut svc| svc.poll_ready(cx)).is_ready()
    }

    fn handle(&self) -> RateHandle {
        self.get_ref().handle()
    }
}

#[tokio::test(start_paused = true)]
async fn pollers_become_ready_in_the_order_of_their_coming_one_a_period() {
    let (mut first, _) = service(RateLayer::per_second(10).burst(1).queue(0));
    let [mut second, mut third] = [(); 2].map(|()| clone(&first));
    assert!(first.is_ready() && first.is_ready(), "it stays ready, for one token");
    assert!(!second.is_ready() && !third.is_ready());
    assert_eq!((first.handle().available(), first.handle().waiting()), (0, 2));
    tokio::time::sleep(101 * MS).await;
    assert!(second.is_woken() && !third.is_woken());
    assert!(!third.is_ready() && second.is_ready());
    assert!(!third.is_woken() && !third.is_ready());
    tokio::time::sleep(100 * MS).await;
    assert!(third.is_woken() && third.is_ready());
    assert_eq!(first.handle().waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_loop_over_ready_reaches_the_rate() {
    let (svc, _) = service(RateLayer::per_second(100).burst(2));
    let (start, mut svc) = (Instant::now(), svc.into_inner());
    for id in 0..52 {
        svc.ready().await.expect("ready").call(Request::ready(id)).await.expect("it passes");
    }
    let elapsed = start.elapsed();
    assert!(elapsed >= 500 * MS && elapsed <= 502 * MS, "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_ready_instance_that_is_dropped_gives_its_token_back_to_the_head() {
    let (mut first, _) = service(RateLayer::new(1, Duration::from_secs(3600)));
    let mut second = clone(&first);
    assert!(first.is_ready() && !second.is_ready());
    drop(first);
    assert!(second.is_woken() && second.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_given_back_does_not_end_a_penalty() {
    let (mut first, _) = service(RateLayer::per_second(10));
    let mut second = clone(&first);
    assert!(first.is_ready());
    first.handle().penalize(Duration::from_secs(9));
    drop(first);
    assert!(!second.is_ready());
    tokio::time::sleep(8_999 * MS).await;
    assert!(!second.is_ready());
    tokio::time::sleep(2 * MS).await;
    assert!(second.is_woken() && second.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_clone_of_a_ready_instance_has_no_token() {
    let (mut first, _) = service(RateLayer::per_second(10).burst(1));
    assert!(first.is_ready());
    let mut second = clone(&first);
    assert!(!second.is_ready());
    drop(second);
    assert_eq!(first.handle().waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_dropped_passes_its_turn_on() {
    let (mut first, _) = service(RateLayer::per_second(10).burst(1));
    let [mut second, mut third] = [(); 2].map(|()| clone(&first));
    assert!(first.is_ready() && !second.is_ready() && !third.is_ready());
    drop(second);
    assert!(!third.is_woken());
    tokio::time::sleep(101 * MS).await;
    assert!(third.is_woken() && third.is_ready());
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_token_holds_no_readiness_inside() {
    let (mut first, probe) = service(RateLayer::per_second(10).burst(1));
    probe.set_slots(1);
    let mut second = clone(&first);
    assert!(first.is_ready() && !second.is_ready());
    assert_eq!(probe.reserved(), 1);
    drop(first.call(Request::ready(0)));
    assert_eq!(probe.reserved(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_service_inside_gives_the_token_back_and_no_refusal_comes_from_poll_ready()
{
    let (mut svc, probe) = service(RateLayer::per_second(10).burst(1).queue(0));
    probe.set_ready(Readiness::Error);
    for _ in 0..3 {
        let error = assert_ready_err!(svc.enter(|cx, mut svc| svc.poll_ready(cx)));
        assert!(error.rejected().is_none());
        assert_eq!(svc.handle().available(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_was_not_polled_ready_is_refused_with_the_time_and_does_not_panic() {
    let (mut svc, _) = service(RateLayer::per_second(10).burst(1));
    assert_ready_ok!(task::spawn(svc.call(Request::ready(0))).poll());
    let error = assert_ready_err!(task::spawn(svc.call(Request::ready(1))).poll());
    let refused = error.rejected().expect("a refusal");
    assert_eq!((refused.reason(), refused.retry_after()), (Reason::RateLimited, Some(100 * MS)));
}

#[tokio::test(start_paused = true)]
async fn callers_and_pollers_of_one_layer_stand_in_one_queue() {
    let layer = RateLayer::per_second(10).burst(1);
    let mut caller = layer.clone().layer(Probe::new());
    let mut poller = task::spawn(layer.backpressure().layer(Probe::new()));
    assert!(common::passes(&mut caller, 0));
    assert!(!poller.is_ready());
    let mut called = waiter(&mut caller, 1);
    advance(100 * MS).await;
    assert_pending!(called.poll());
    assert!(poller.is_woken() && poller.is_ready() && !called.is_woken());
    tokio::time::sleep(101 * MS).await;
    assert!(called.is_woken());
    assert_ready_ok!(called.poll());
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_rises_reaches_a_head_that_sleeps() {
    let (mut first, _) = service(RateLayer::new(1, Duration::from_secs(3600)));
    let mut second = clone(&first);
    assert!(first.is_ready() && !second.is_ready());
    first.handle().set_rate(100, Duration::from_secs(1)).unwrap();
    assert!(!second.is_woken());
    tokio::time::sleep(11 * MS).await;
    assert!(second.is_woken() && second.is_ready());
}
