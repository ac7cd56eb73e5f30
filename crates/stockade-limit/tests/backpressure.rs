//! What a limit does that waits in `poll_ready`.

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use common::{Inner, Refusal, reason};
use stockade_core::{Backpressure, Reason};
use stockade_limit::{Limit, LimitHandle, LimitLayer};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service};

type Svc = Backpressure<Limit<Inner>>;

fn stack(max: usize) -> (Inner, Svc, LimitHandle) {
    let inner = Inner::default();
    let (layer, handle) = LimitLayer::new(max).queue(0).with_handle();
    (inner.clone(), layer.backpressure().layer(inner), handle)
}

/// A task that polls an instance ready.
fn ready(mut svc: Svc) -> task::Spawn<impl Future<Output = Result<Svc, Refusal>>> {
    task::spawn(async move {
        std::future::poll_fn(|cx| svc.poll_ready(cx)).await?;
        Ok(svc)
    })
}

#[tokio::test(start_paused = true)]
async fn pollers_become_ready_in_the_order_of_their_coming_whatever_the_queue_bound() {
    let (inner, svc, handle) = stack(1);
    let mut first = assert_ready_ok!(ready(svc.clone()).poll());
    let mut second = ready(svc.clone());
    let mut third = ready(svc);
    assert_pending!(second.poll());
    assert_pending!(third.poll());
    assert_eq!((handle.in_flight(), handle.waiting()), (1, 2));

    let mut call = task::spawn(first.call(1));
    assert_pending!(call.poll());
    inner.open.notify_waiters();
    assert_ready_ok!(call.poll());
    assert!(second.is_woken() && !third.is_woken());
    assert_pending!(third.poll());
    let second = assert_ready_ok!(second.poll());
    drop(second);
    assert!(third.is_woken());
    assert_ready_ok!(third.poll());
}

#[tokio::test(start_paused = true)]
async fn a_ready_instance_that_is_dropped_gives_its_place_back() {
    let (_, svc, handle) = stack(1);
    let ready_one = assert_ready_ok!(ready(svc).poll());
    assert_eq!(handle.in_flight(), 1);
    drop(ready_one);
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_clone_never_clones_a_reservation() {
    let (_, svc, handle) = stack(1);
    let first = assert_ready_ok!(ready(svc).poll());
    let mut second = ready(first.clone());
    assert_pending!(second.poll());
    assert_eq!(handle.in_flight(), 1);
    drop(second);
    assert_eq!(handle.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_instance_that_is_dropped_after_its_turn_came_passes_it_on() {
    let (_, svc, _) = stack(1);
    let first = assert_ready_ok!(ready(svc.clone()).poll());
    let (mut second, mut third) = (ready(svc.clone()), ready(svc));
    assert_pending!(second.poll());
    assert_pending!(third.poll());
    drop(first);
    assert!(second.is_woken());
    drop(second);
    assert!(third.is_woken());
    assert_ready_ok!(third.poll());
}

#[tokio::test(start_paused = true)]
async fn a_poller_that_waits_holds_no_readiness_inside() {
    let (inner, svc, _) = stack(1);
    let mut first = assert_ready_ok!(ready(svc.clone()).poll());
    let mut second = ready(svc);
    assert_pending!(second.poll());
    assert_eq!(inner.slots.load(SeqCst), 1);
    let call = first.call(1);
    assert_eq!(inner.slots.load(SeqCst), 0);
    drop(call);
    let _second = assert_ready_ok!(second.poll());
    assert_eq!(inner.slots.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_was_not_polled_ready_is_refused_and_does_not_panic() {
    let (_, mut svc, _) = stack(1);
    let _ready = assert_ready_ok!(ready(svc.clone()).poll());
    let mut call = task::spawn(svc.call(1));
    assert_eq!(reason(assert_ready_err!(call.poll())), Reason::QueueFull);
}

#[tokio::test(start_paused = true)]
async fn callers_and_pollers_of_one_limit_stand_in_one_queue() {
    let layer = LimitLayer::new(1);
    let inner = Inner::default();
    let poller: Svc = layer.clone().backpressure().layer(inner.clone());
    let mut caller: Limit<Inner> = layer.layer(inner.clone());
    let held = assert_ready_ok!(ready(poller.clone()).poll());
    assert_ready_ok!(task::spawn(()).enter(|cx, _| caller.poll_ready(cx)));
    let mut called = task::spawn(caller.call(1));
    let mut polled = ready(poller);
    assert_pending!(called.poll());
    assert_pending!(polled.poll());
    drop(held);
    assert_pending!(polled.poll());
    assert_pending!(called.poll());
    assert_eq!(inner.calls.load(SeqCst), 1);
    drop(called);
    assert_ready_ok!(polled.poll());
}

/// Never ready, or ready with an error.
#[derive(Clone, Default)]
struct Unready {
    fails: Arc<AtomicBool>,
}

impl Service<u32> for Unready {
    type Response = u32;
    type Error = Refusal;
    type Future = std::future::Pending<Result<u32, Refusal>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        let error = stockade_core::Rejected::new(&"test", Reason::PoolClosed);
        if self.fails.load(SeqCst) { Poll::Ready(Err(error.into())) } else { Poll::Pending }
    }

    fn call(&mut self, _: u32) -> Self::Future {
        std::future::pending()
    }
}

#[tokio::test(start_paused = true)]
async fn the_place_is_held_while_the_service_inside_is_not_ready_and_given_back_when_it_fails() {
    let (layer, handle) = LimitLayer::new(1).with_handle();
    let inner = Unready::default();
    let mut svc = layer.backpressure().layer(inner.clone());
    let mut task = task::spawn(());
    assert_pending!(task.enter(|cx, _| svc.poll_ready(cx)));
    assert_eq!(handle.in_flight(), 1);
    inner.fails.store(true, SeqCst);
    for _ in 0..2 {
        let error = assert_ready_err!(task.enter(|cx, _| svc.poll_ready(cx)));
        assert_eq!(reason(error), Reason::PoolClosed);
        assert_eq!(handle.in_flight(), 0);
    }
}
