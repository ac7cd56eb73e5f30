//! Who serves those who wait, on tokio's clock: whoever comes first when tokens are due, and nobody in particular.

mod common;

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use common::{MS, call, passes, refusal, service, waiter};
use stockade_core::Reason;
use stockade_rate::{Rate, RateLayer};
use stockade_testkit::{Probe, Request};
use tokio::{
    runtime,
    time::{Instant, advance},
};
use tokio_test::{assert_pending, assert_ready_ok};
use tower::{Layer, Service, ServiceExt};

const SECOND: Duration = Duration::from_secs(1);

type Future = Pin<Box<common::Future>>;

fn future(service: &mut Rate<Probe>, id: u64) -> Future {
    Box::pin(common::future(service, id))
}

fn poll<F: std::future::Future>(future: &mut Pin<Box<F>>, waker: &Waker) -> bool {
    future.as_mut().poll(&mut Context::from_waker(waker)).is_ready()
}

// === time is tokio's ===

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_a_second_moves_a_paused_clock_by_a_second() {
    let (mut service, _) = service(RateLayer::per_second(1));
    let start = Instant::now();
    assert!(passes(&mut service, 0));
    future(&mut service, 1).await.unwrap();
    assert_eq!(start.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_bucket_fills_up_while_a_paused_clock_is_advanced() {
    let (mut service, _) = service(RateLayer::per_second(1).queue(0));
    assert!(passes(&mut service, 0));
    assert_eq!(refusal(&mut service, 1).reason(), Reason::RateLimited);
    advance(5 * SECOND).await;
    assert!(passes(&mut service, 2));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_on_the_runtime_when_nobody_waits_any_more() {
    let (mut service, _) = service(RateLayer::new(1, 3_600 * SECOND));
    assert!(passes(&mut service, 0));
    drop(waiter(&mut service, 1));
    let start = Instant::now();
    tokio::time::sleep(50 * MS).await;
    assert_eq!(start.elapsed(), 50 * MS);
}

// === a rate that rises ===

#[tokio::test(start_paused = true)]
async fn a_rate_that_rises_reaches_a_head_whose_first_waker_was_replaced() {
    let (mut service, _) = service(RateLayer::new(1, 5 * SECOND));
    let start = Instant::now();
    assert!(passes(&mut service, 0));
    let mut head = future(&mut service, 1);
    assert!(!poll(&mut head, Waker::noop()));
    let head = tokio::spawn(head);
    let calls: Vec<_> = (2..12).map(|id| tokio::spawn(future(&mut service, id))).collect();
    tokio::task::yield_now().await;
    service.handle().set_rate(1_000, SECOND).unwrap();
    head.await.unwrap().unwrap();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert!(start.elapsed() <= 100 * MS, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_rises_serves_those_behind_a_head_that_is_never_polled_again() {
    let (mut service, _) = service(RateLayer::new(1, 5 * SECOND));
    let start = Instant::now();
    assert!(passes(&mut service, 0));
    let mut head = future(&mut service, 1);
    assert!(!poll(&mut head, Waker::noop()));
    let calls: Vec<_> = (2..12).map(|id| tokio::spawn(future(&mut service, id))).collect();
    tokio::task::yield_now().await;
    service.handle().set_rate(1_000, SECOND).unwrap();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert!(start.elapsed() <= 100 * MS, "{:?}", start.elapsed());
    assert!(poll(&mut head, Waker::noop()), "its token was kept for it");
}

// === nobody depends on another one being polled ===

#[tokio::test(start_paused = true)]
async fn a_head_that_is_not_polled_delays_nobody_and_its_token_goes_back_when_it_is_dropped() {
    let (mut service, probe) = service(RateLayer::per_second(10).burst(1));
    assert!(passes(&mut service, 0));
    let [head, mut second, mut third] = [1, 2, 3].map(|id| waiter(&mut service, id));
    advance(100 * MS).await;
    assert!(head.is_woken() && !second.is_woken());
    tokio::time::sleep(101 * MS).await;
    assert!(second.is_woken() && !third.is_woken());
    assert_ready_ok!(second.poll());
    drop(head);
    assert!(third.is_woken());
    assert_ready_ok!(third.poll());
    assert_eq!(probe.started(), [0, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn one_timer_serves_all_who_are_due() {
    let (mut service, _) = service(RateLayer::per_second(10_000).burst(20));
    while service.handle().available() > 0 {
        assert!(passes(&mut service, 0));
    }
    let mut calls: Vec<_> = (0..10).map(|id| waiter(&mut service, id)).collect();
    tokio::time::sleep(2 * MS).await;
    assert!(calls.iter().all(|call| call.is_woken()));
    for call in &mut calls {
        assert_ready_ok!(call.poll());
    }
}

#[test]
fn a_blocked_runtime_holds_up_only_its_own_calls() {
    let build = || runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (blocked, live) = (build(), build());
    let (mut service, probe) = service(RateLayer::new(1, 20 * MS));
    assert!(passes(&mut service, 0));
    // The head waits on a runtime that nobody drives from now on.
    let mut head = future(&mut service, 1);
    {
        let _inside = blocked.enter();
        assert!(!poll(&mut head, Waker::noop()));
    }
    live.block_on(future(&mut service, 2)).unwrap();
    assert_eq!(probe.started(), [0, 2]);
    drop(head);
    drop(blocked);
    live.block_on(future(&mut service, 3)).unwrap();
}

#[test]
fn a_call_outlives_the_runtime_on_which_it_began_to_wait() {
    let build = || runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let first = build();
    let (mut service, _) = service(RateLayer::new(1, 20 * MS));
    assert!(passes(&mut service, 0));
    let mut call = tokio_test::task::spawn(future(&mut service, 1));
    {
        let _inside = first.enter();
        assert_pending!(call.poll());
    }
    drop(first);
    assert!(call.is_woken());
    build().block_on(call.into_inner()).unwrap();
}

#[tokio::test]
#[should_panic = "needs a tokio runtime with time"]
async fn a_call_that_has_to_wait_outside_a_runtime_panics() {
    let (mut service, _) = service(RateLayer::per_second(1));
    assert!(passes(&mut service, 0));
    let mut call = future(&mut service, 1);
    std::thread::scope(|scope| {
        let polled = scope.spawn(|| poll(&mut call, Waker::noop()));
        std::panic::resume_unwind(polled.join().unwrap_err());
    });
}

// === wakers ===

/// Panics when it is woken.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("not now");
    }
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_loses_nobody_elses_wake() {
    let (mut service, _) = service(RateLayer::new(1, 3_600 * SECOND));
    assert!(passes(&mut service, 0));
    let mut first = future(&mut service, 1);
    assert!(!poll(&mut first, &Waker::from(Arc::new(Panics))));
    let mut others = [2, 3].map(|id| waiter(&mut service, id));
    std::panic::set_hook(Box::new(|_| {}));
    service.handle().settle(-1);
    let _ = std::panic::take_hook();
    service.handle().set_rate(1_000, SECOND).unwrap();
    advance(2 * MS).await;
    for other in &mut others {
        assert!(other.is_woken());
        assert_ready_ok!(other.poll());
    }
}

/// Owns a call of the same rate limit, as the waker of a small executor does.
struct Owner(Mutex<Option<Future>>, Arc<AtomicBool>);

impl Wake for Owner {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Owner {
    fn drop(&mut self) {
        drop(self.0.lock().map(|mut owned| owned.take()));
        self.1.store(true, SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_owns_a_call_of_the_same_rate_limit_is_replaced_outside_the_lock() {
    let (mut service, _) = service(RateLayer::per_second(1));
    assert!(passes(&mut service, 0));
    let mut owned = future(&mut service, 1);
    assert!(!poll(&mut owned, Waker::noop()));
    let dropped = Arc::new(AtomicBool::new(false));
    let owner = Arc::new(Owner(Mutex::new(Some(owned)), Arc::clone(&dropped)));
    let mut other = future(&mut service, 2);
    assert!(!poll(&mut other, &Waker::from(owner)));
    assert!(!dropped.load(SeqCst));
    assert!(!poll(&mut other, Waker::noop()));
    assert!(dropped.load(SeqCst), "and it does not wait for itself");
    assert_eq!(service.handle().waiting(), 1);
}

// === by hand ===

#[tokio::test(start_paused = true)]
async fn tokens_are_taken_by_hand_in_the_same_queue() {
    let (layer, handle) = RateLayer::per_second(10).burst(5).with_handle();
    let mut service = layer.layer(Probe::new());
    handle.try_take(0).unwrap();
    handle.try_take(5).unwrap();
    let refused = handle.try_take(2).unwrap_err();
    assert_eq!((refused.reason(), refused.retry_after()), (Reason::RateLimited, Some(200 * MS)));
    assert_eq!(handle.try_take(6).unwrap_err().reason(), Reason::TooCostly);
    let mut called = waiter(&mut service, 1);
    let start = Instant::now();
    handle.take(3).await.unwrap();
    assert_eq!(start.elapsed(), 400 * MS);
    assert!(called.is_woken());
    assert_ready_ok!(called.poll());
    assert!(!poll(&mut Box::pin(handle.take(3)), Waker::noop()));
    assert_eq!((handle.waiting(), handle.available()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_real_cost_is_settled_and_what_is_missing_is_owed() {
    let (layer, handle) = RateLayer::per_second(10).with_handle();
    let mut service = layer.layer(Probe::new());
    handle.try_take(4).unwrap();
    handle.settle(-3);
    assert_eq!(handle.available(), 9);
    handle.settle(-100);
    assert_eq!(handle.available(), 10, "what does not fit is gone");
    handle.settle(12);
    assert_eq!(handle.available(), 0);
    let mut waits = waiter(&mut service, 1);
    advance(299 * MS).await;
    assert_pending!(waits.poll());
    advance(MS).await;
    assert_ready_ok!(waits.poll());
    let mut waits = waiter(&mut service, 2);
    handle.settle(-1);
    assert!(waits.is_woken());
    assert_ready_ok!(waits.poll());
    handle.settle(i64::MAX);
    handle.settle(i64::MAX);
    handle.settle(i64::MIN);
    assert_eq!(handle.available(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_that_is_switched_off_lets_everybody_pass() {
    let layer = RateLayer::per_second(1).queue(1);
    let (mut service, _) = service(layer);
    let handle = service.handle();
    assert!(passes(&mut service, 0));
    let mut waits = waiter(&mut service, 1);
    assert_eq!(refusal(&mut service, 2).reason(), Reason::QueueFull);
    handle.set_enabled(false);
    assert!(waits.is_woken() && !handle.is_enabled());
    assert_ready_ok!(waits.poll());
    assert!((3..50).all(|id| passes(&mut service, id)));
    handle.set_enabled(true);
    assert_pending!(call(&mut service, 50).poll());
}

#[tokio::test(start_paused = true)]
async fn requests_pass_by_that_are_let_by() {
    let layer = RateLayer::per_second(1).queue(0).bypass(|request: &Request| request.id >= 100);
    let (layer, handle) = layer.burst(2).with_handle();
    let mut service = layer.layer(Probe::new());
    for id in [100, 1, 101, 2, 102] {
        service.ready().await.unwrap().call(Request::ready(id)).await.unwrap();
    }
    service.ready().await.unwrap().call(Request::ready(3)).await.unwrap_err();
    assert_eq!((handle.available(), handle.refused(Reason::RateLimited)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn refusals_are_counted_by_reason_and_the_configuration_is_read_back() {
    let layer = RateLayer::per_second(1).max_wait(1_500 * MS).queue(2);
    let layer = layer.name(String::from("geo") + "coder").cost(|r: &Request| r.id as u32);
    let (layer, handle) = layer.burst(2).with_handle();
    let mut service = layer.layer(Probe::new());
    let mut calls = [2, 3, 1, 1].map(|id| Box::pin(common::future_of(&mut service, id)));
    let done = calls.iter_mut().map(|call| poll(call, Waker::noop())).filter(|done| *done).count();
    assert_eq!((done, handle.waiting()), (3, 1));
    let refused = [Reason::TooCostly, Reason::WaitExceeded, Reason::QueueFull];
    assert_eq!(refused.map(|reason| handle.refused(reason)), [1, 1, 0]);
    let config = handle.config();
    assert_eq!((config.calls, config.per, config.burst), (1, SECOND, Some(2)));
    assert_eq!((config.queue, config.max_wait), (2, Some(1_500 * MS)));
    assert_eq!(config.name, Some("geocoder".into()));
}

#[tokio::test(start_paused = true)]
async fn a_call_with_no_time_to_wait_is_refused_and_does_not_wait() {
    let (mut service, _) = service(RateLayer::per_second(10).burst(1).max_wait(Duration::ZERO));
    assert!(passes(&mut service, 0));
    let refused = refusal(&mut service, 1);
    assert_eq!((refused.reason(), refused.retry_after()), (Reason::WaitExceeded, Some(100 * MS)));
    advance(100 * MS).await;
    assert!(passes(&mut service, 2));
}

/// A service that is not `Clone`.
struct Once(AtomicUsize);

impl Service<u32> for Once {
    type Response = usize;
    type Error = stockade_core::Error<()>;
    type Future = std::future::Ready<Result<usize, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: u32) -> Self::Future {
        std::future::ready(Ok(self.0.fetch_add(1, SeqCst)))
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_in_poll_ready_needs_no_clone() {
    let (layer, handle) = RateLayer::per_second(10).burst(1).with_handle();
    let mut service = layer.backpressure().layer(Once(AtomicUsize::new(0)));
    let start = Instant::now();
    for n in 0..3 {
        assert_eq!(service.ready().await.unwrap().call(0).await.unwrap(), n);
    }
    assert_eq!((start.elapsed(), handle.available()), (200 * MS, 0));
}
