//! Waiting in `poll_ready` while calls are refused.

use std::{
    future::{Ready, ready},
    task::{Context, Poll},
    time::Duration,
};

use common::{Ask, Backend, SECOND, ask, layer, refusal, start};
use stockade_breaker::{BreakerHandle, BreakerLayer, State};
use stockade_core::{Error, Reason};
use tokio::time::{Instant, advance, timeout};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task::spawn};
use tower::{Layer, Service, ServiceExt};

mod common;

/// Opens it by hand.
fn open(handle: &BreakerHandle) {
    while handle.state() == State::Closed {
        handle.admit().expect("it is closed").failure();
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_is_not_ready_until_its_time_is_over_and_then_calls_as_usual() {
    let (layer, handle) = layer().with_handle();
    let mut breaker = layer.backpressure().layer(Backend::new().0);
    ask(&mut breaker, Ask::Succeed).await.unwrap();
    open(&handle);
    let (begin, remaining) = (Instant::now(), handle.snapshot().remaining.unwrap());
    breaker.ready().await.unwrap();
    let waited = begin.elapsed();
    assert!(waited >= remaining && waited <= remaining + SECOND / 100, "{waited:?}");
    assert_eq!(handle.snapshot().refused, 0);
    assert_eq!(handle.snapshot().probes, 0, "being ready reserves no probe");
    for state in [State::HalfOpen, State::HalfOpen, State::Closed] {
        ask(&mut breaker, Ask::Succeed).await.unwrap();
        assert_eq!(handle.state(), state);
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_was_ready_when_it_opened_is_not_when_it_is_polled_again() {
    let (layer, handle) = layer().with_handle();
    let mut breaker = layer.backpressure().layer(Backend::new().0);
    breaker.ready().await.unwrap();
    open(&handle);
    let mut task = spawn(());
    assert_pending!(task.enter(|cx, _| breaker.poll_ready(cx)));
    handle.reset();
    assert!(task.is_woken());
    assert_ready_ok!(task.enter(|cx, _| breaker.poll_ready(cx)));
    open(&handle);
    let refused = breaker.call(Ask::Succeed).await;
    assert_eq!(refusal(&refused), Some(Reason::BreakerOpen), "it opened after it was ready");
}

#[tokio::test(start_paused = true)]
async fn while_all_probes_are_out_it_is_not_ready_and_the_end_of_one_wakes_it() {
    let (layer, handle) = layer().probes(1).with_handle();
    let mut breaker = layer.clone().backpressure().layer(Backend::new().0);
    open(&handle);
    advance(5 * SECOND).await;
    let mut direct = layer.layer(Backend::new().0);
    let mut probe = start(&mut direct, Ask::Take(SECOND));
    let mut task = spawn(());
    assert_pending!(task.enter(|cx, _| breaker.poll_ready(cx)));
    advance(SECOND).await;
    assert!(!task.is_woken());
    assert_ready_ok!(probe.poll());
    assert!(task.is_woken());
    assert_ready_ok!(task.enter(|cx, _| breaker.poll_ready(cx)));
    assert_eq!(handle.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_instances_that_wait_are_woken_once_by_a_transition_and_poll_nothing_meanwhile() {
    let (layer, handle) = layer().with_handle();
    let layer = layer.backpressure();
    let forced = handle.force_open();
    let mut waiting: Vec<_> = (0..100)
        .map(|_| {
            let mut breaker = layer.layer(Backend::new().0);
            spawn(async move { breaker.ready().await.map(|_| ()) })
        })
        .collect();
    for waits in &mut waiting {
        assert_pending!(waits.poll());
    }
    advance(3_600 * SECOND).await;
    assert!(waiting.iter().all(|waits| !waits.is_woken()));
    drop(waiting.split_off(50));
    drop(forced);
    for waits in &mut waiting {
        assert!(waits.is_woken());
        assert_ready_ok!(waits.poll());
    }
}

#[tokio::test(start_paused = true)]
async fn on_the_ramp_an_instance_waits_for_its_turn_and_its_call_is_not_refused() {
    let (layer, handle) = layer().ramp(10 * SECOND).with_handle();
    let mut breaker = layer.backpressure().layer(Backend::new().0);
    open(&handle);
    advance(5 * SECOND).await;
    let begin = Instant::now();
    let mut calls = 0;
    while handle.state() != State::Closed {
        ask(&mut breaker, Ask::Succeed).await.unwrap();
        calls += 1;
    }
    assert!(calls > 5, "{calls}");
    assert!(begin.elapsed() <= 11 * SECOND, "{:?}", begin.elapsed());
    assert_eq!(handle.snapshot().refused, 0);
}

/// A service that is not `Clone`.
struct Once;

impl Service<()> for Once {
    type Response = ();
    type Error = Error<&'static str>;
    type Future = Ready<Result<(), Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Err(Error::Service("down")))
    }
}

#[tokio::test(start_paused = true)]
async fn the_service_inside_need_not_be_clone_and_a_timeout_around_bounds_the_wait() {
    let mut breaker = BreakerLayer::new().consecutive(1).backpressure().layer(Once);
    assert_eq!(breaker.ready().await.unwrap().call(()).await, Err(Error::Service("down")));
    let handle = breaker.get_ref().handle();
    assert_eq!(handle.state(), State::Open);
    let waits = timeout(Duration::from_millis(100), breaker.ready()).await;
    assert!(waits.is_err());
    let mut call = spawn(breaker.call(()));
    assert!(assert_ready!(call.poll()).is_err_and(|no| matches!(no, Error::Rejected(_))));
}
