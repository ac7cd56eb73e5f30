//! What the concurrency limit does, on the paused clock.

mod common;

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use common::{Refusal, call, reason, stack};
use stockade_core::{
    Reason,
    deadline::{self, Deadline},
};
use stockade_limit::LimitLayer;
use tokio::time::Instant;
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt};

#[tokio::test(start_paused = true)]
async fn waiters_are_served_in_the_order_of_their_calls() {
    let layer = LimitLayer::new(1);
    let (inner, mut svc) = stack(&layer);
    let mut calls: Vec<_> = (0..5).map(|n| call(&mut svc, n)).collect();
    for waiting in calls.iter_mut().rev() {
        assert_pending!(waiting.poll());
    }
    for n in 0..5 {
        assert_eq!(inner.calls.load(SeqCst), n + 1);
        inner.open.notify_waiters();
        assert_eq!(assert_ready_ok!(calls[n].poll()), n as u32);
        if let Some(next) = calls.get_mut(n + 1) {
            assert!(next.is_woken());
            assert_pending!(next.poll());
        }
    }
    assert_eq!((svc.handle().in_flight(), svc.handle().waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_a_hard_bound_and_beyond_it_the_refusal_comes_at_once() {
    let layer = LimitLayer::new(1).queue(2).name("db");
    let (_, mut svc) = stack(&layer);
    let mut held: Vec<_> = (0..3).map(|n| call(&mut svc, n)).collect();
    let error = assert_ready_err!(call(&mut svc, 3).poll());
    assert_eq!(error.to_string(), "limit `db`: queue full");
    assert_eq!((svc.handle().in_flight(), svc.handle().waiting()), (1, 2));
    held.pop();
    let mut next = call(&mut svc, 4);
    assert_pending!(next.poll());
}

#[tokio::test(start_paused = true)]
async fn reject_when_full_takes_no_time_and_does_not_report_a_timeout() {
    let (inner, mut svc) = stack(&LimitLayer::new(1).queue(0));
    let _held = call(&mut svc, 0);
    let start = Instant::now();
    assert_eq!(reason(assert_ready_err!(call(&mut svc, 1).poll())), Reason::QueueFull);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(inner.calls.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn the_default_mode_does_not_take_10_000_calls_into_its_queue() {
    let layer = LimitLayer::new(1);
    let (_, mut svc) = stack(&layer);
    let mut calls: Vec<_> = (0..10_000).map(|n| call(&mut svc, n)).collect();
    assert_eq!((svc.handle().in_flight(), svc.handle().waiting()), (1, 1_024));
    for refused in &mut calls[1_025..] {
        assert_eq!(reason(assert_ready_err!(refused.poll())), Reason::QueueFull);
    }
}

#[tokio::test(start_paused = true)]
async fn time_spent_waiting_for_a_permit_is_covered_by_a_timeout_outside() {
    let layer = LimitLayer::new(1);
    let (inner, mut svc) = stack(&layer);
    let _held = call(&mut svc, 0);
    let mut other = svc.clone();
    let outside = async {
        other.ready().await?;
        other.call(1).await
    };
    tokio::time::timeout(Duration::from_millis(10), outside).await.unwrap_err();
    assert_eq!((svc.handle().waiting(), inner.calls.load(SeqCst)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_waiting_clone_keeps_no_place_and_starves_nobody() {
    let layer = LimitLayer::new(1);
    let (inner, mut svc) = stack(&layer);
    let mut first = call(&mut svc, 0);
    assert_pending!(first.poll());
    let mut abandoned = svc.clone();
    let mut waiting = call(&mut abandoned, 1);
    assert_pending!(waiting.poll());
    drop((waiting, abandoned));
    inner.open.notify_waiters();
    assert_ready_ok!(first.poll());
    let mut next = call(&mut svc, 2);
    assert_pending!(next.poll());
    assert_eq!(inner.calls.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn an_idle_ready_clone_holds_no_place() {
    let layer = LimitLayer::new(1);
    let (inner, mut svc) = stack(&layer);
    let mut idle = svc.clone();
    assert_ready_ok!(task::spawn(()).enter(|cx, _| idle.poll_ready(cx)));
    assert_pending!(call(&mut svc, 0).poll());
    assert_eq!(inner.calls.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn the_permit_is_free_while_a_finished_future_is_kept() {
    let layer = LimitLayer::new(1);
    let (inner, mut svc) = stack(&layer);
    let mut kept = call(&mut svc, 0);
    assert_pending!(kept.poll());
    inner.open.notify_waiters();
    assert_ready_ok!(kept.poll());
    assert_eq!(svc.handle().in_flight(), 0);
    assert_pending!(call(&mut svc, 1).poll());
    drop(kept);
    assert_eq!(inner.calls.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_woken_waiter_passes_its_turn_on() {
    let layer = LimitLayer::new(1);
    let (inner, mut svc) = stack(&layer);
    let mut calls: Vec<_> = (0..3).map(|n| call(&mut svc, n)).collect();
    calls.iter_mut().for_each(|call| assert_pending!(call.poll()));
    inner.open.notify_waiters();
    assert_ready_ok!(calls[0].poll());
    assert!(calls[1].is_woken() && !calls[2].is_woken());
    drop(calls.remove(1));
    assert!(calls[1].is_woken());
    assert_pending!(calls[1].poll());
    assert_eq!(inner.calls.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn inner_readiness_is_not_held_while_waiting_for_ones_own_permit() {
    let (inner, mut svc) = stack(&LimitLayer::new(1));
    let mut first = call(&mut svc, 0);
    let mut second = call(&mut svc, 1);
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    assert_eq!(inner.slots.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn max_wait_refuses_on_time_and_gives_the_place_in_the_queue_back() {
    let layer = LimitLayer::new(1).max_wait(Duration::from_millis(50));
    let (_, mut svc) = stack(&layer);
    let _held = call(&mut svc, 0);
    let start = Instant::now();
    let error = svc.clone().oneshot(1).await.unwrap_err();
    assert_eq!(reason(error), Reason::WaitExceeded);
    let waited = start.elapsed();
    assert!((50..=52).contains(&waited.as_millis()), "{waited:?}");
    assert_eq!(svc.handle().waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_deadline_has_passed_does_not_wait() {
    let (_, mut svc) = stack(&LimitLayer::new(1));
    let _held = call(&mut svc, 0);
    let mut late = Deadline::At(Instant::now());
    assert!(late.enter(deadline::has_passed));
    let mut refused = late.enter(|| call(&mut svc, 1));
    assert_eq!(reason(assert_ready_err!(refused.poll())), Reason::Expired);
}

#[tokio::test(start_paused = true)]
async fn a_lowered_maximum_loses_no_holder_and_a_raised_one_lets_waiters_in() {
    let layer = LimitLayer::new(2);
    let (inner, mut svc) = stack(&layer);
    let handle = svc.handle();
    let mut calls: Vec<_> = (0..4).map(|n| call(&mut svc, n)).collect();
    calls.iter_mut().for_each(|call| assert_pending!(call.poll()));
    handle.set_max(1).unwrap();
    assert_eq!((handle.in_flight(), handle.waiting(), handle.max()), (2, 2, 1));
    handle.set_max(4).unwrap();
    assert_eq!((handle.in_flight(), handle.waiting()), (4, 0));
    calls.iter_mut().for_each(|call| assert_pending!(call.poll()));
    assert_eq!(inner.calls.load(SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn clones_and_applications_share_one_limit_unless_it_is_per_service() {
    let layer = LimitLayer::new(1);
    let (_, mut one) = stack(&layer);
    let (_, mut other) = stack(&layer.clone());
    let _held = call(&mut one, 0);
    let _waiting = call(&mut other, 1);
    assert_eq!(one.handle().waiting(), 1);

    let layer = LimitLayer::new(1).per_service();
    let ((_, mut one), (_, mut other)) = (stack(&layer), stack(&layer));
    let _held = (call(&mut one, 0), call(&mut other, 1));
    assert_eq!((one.handle().in_flight(), other.handle().in_flight()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_panic_inside_gives_the_place_back() {
    let layer = LimitLayer::new(1);
    let mut svc = layer.layer(tower::service_fn(async |fail: bool| {
        assert!(!fail, "as asked");
        Ok::<_, Refusal>(())
    }));
    for _ in 0..3 {
        let call = tokio::spawn(svc.call(true)).await;
        assert!(call.unwrap_err().is_panic());
    }
    assert_ready!(task::spawn(svc.call(false)).poll()).unwrap();
    assert_eq!(svc.handle().in_flight(), 0);
}

#[test]
fn zero_is_refused_where_it_is_written() {
    let caught = std::panic::catch_unwind(|| LimitLayer::new(0)).unwrap_err();
    let message = caught.downcast_ref::<String>().unwrap();
    assert_eq!(message, "LimitLayer::new: 0 is not allowed, it has to be from 1 to 2147483647");
    let wait = |wait| std::panic::catch_unwind(move || LimitLayer::new(1).max_wait(wait)).is_err();
    assert!(wait(Duration::MAX));
    assert!(!wait(Duration::from_nanos(1)) && !wait(Duration::ZERO));
}

#[test]
fn the_future_of_a_call_that_does_not_wait_is_hardly_larger_than_the_one_inside() {
    type Large =
        tower::util::ServiceFn<fn([u8; 1_000]) -> std::future::Ready<Result<[u8; 512], Refusal>>>;
    let inside = size_of::<std::future::Ready<Result<[u8; 512], Refusal>>>();
    let outside = size_of::<
        stockade_limit::ResponseFuture<<Large as Service<[u8; 1_000]>>::Future, Large, [u8; 1_000]>,
    >();
    assert!(outside <= inside + 48, "{outside} around {inside}");
}
