//! What a handle does to a limit, and what can be taken by hand.

mod common;

use std::{
    pin::Pin,
    sync::{Arc, Mutex, atomic::Ordering::SeqCst},
    task::{Context, Wake, Waker},
    time::Duration,
};

use common::{Answer, Inner, call, reason, stack};
use stockade_core::{
    LayerError, Reason,
    deadline::{self, Deadline},
};
use stockade_limit::{Config, Limit, LimitLayer};
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service};

const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn a_closed_limit_refuses_new_calls_and_those_that_wait_and_lets_the_others_end() {
    let (inner, mut svc) = stack(&LimitLayer::new(1));
    let handle = svc.handle();
    let mut first = call(&mut svc, 0);
    let mut waiting: Vec<_> = (1..4).map(|n| call(&mut svc, n)).collect();
    waiting.iter_mut().for_each(|call| assert_pending!(call.poll()));
    assert_pending!(first.poll());
    handle.close();
    for call in &mut waiting {
        assert!(call.is_woken());
        assert_eq!(reason(assert_ready_err!(call.poll())), Reason::PoolClosed);
    }
    let refused = assert_ready_err!(call(&mut svc, 4).poll());
    assert_eq!(refused.to_string(), "limit: closed");
    assert_eq!((handle.in_flight(), handle.waiting()), (1, 0));
    assert_eq!(handle.refused(Reason::PoolClosed), 4);
    handle.set_max(10).unwrap();
    handle.set_enabled(false);
    assert_eq!(reason(assert_ready_err!(call(&mut svc, 5).poll())), Reason::PoolClosed);
    inner.open.notify_waiters();
    assert_ready_ok!(first.poll());
    assert!(handle.is_closed() && handle.in_flight() == 0);
}

#[tokio::test(start_paused = true)]
async fn drained_ends_once_the_limit_is_closed_and_nothing_is_in_flight() {
    let (_layer, handle) = LimitLayer::new(2).with_handle();
    let permits = [handle.try_acquire().unwrap(), handle.try_acquire().unwrap()];
    let mut drained: Vec<_> = (0..4).map(|_| task::spawn(handle.drained())).collect();
    drained.iter_mut().for_each(|drained| assert_pending!(drained.poll()));
    let [first, second] = permits;
    drop(first);
    handle.close();
    drained.iter_mut().for_each(|drained| assert_pending!(drained.poll()));
    drop(drained.remove(1));
    drop(second);
    for drained in &mut drained {
        assert!(drained.is_woken());
        assert_ready!(drained.poll());
    }
    assert_ready!(task::spawn(handle.drained()).poll());
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_idle_is_drained_when_it_is_closed() {
    let (_layer, handle) = LimitLayer::new(2).with_handle();
    let mut drained = task::spawn(handle.drained());
    assert_pending!(drained.poll());
    handle.close();
    assert!(drained.is_woken());
    assert_ready!(drained.poll());
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_turn_had_come_when_the_limit_was_closed_runs() {
    let (inner, mut svc) = stack(&LimitLayer::new(1));
    let (mut first, mut second) = (call(&mut svc, 0), call(&mut svc, 1));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    drop(first);
    let handle = svc.handle();
    handle.close();
    let mut drained = task::spawn(handle.drained());
    assert_pending!(drained.poll());
    assert_pending!(second.poll());
    inner.open.notify_waiters();
    assert_ready_ok!(second.poll());
    assert_ready!(drained.poll());
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_polled_ready_is_never_refused_and_its_call_on_a_closed_limit_is() {
    let (layer, handle) = LimitLayer::new(1).with_handle();
    let inner = Inner::default();
    let svc = layer.backpressure().layer(inner.clone());
    let (mut waits, mut comes) = (svc.clone(), svc);
    let permit = handle.try_acquire().unwrap();
    let mut task = task::spawn(());
    assert_pending!(task.enter(|cx, _| waits.poll_ready(cx)));
    handle.close();
    for svc in [&mut waits, &mut comes] {
        assert_ready_ok!(task.enter(|cx, _| svc.poll_ready(cx)));
        let mut call = task::spawn(svc.call(1));
        assert_eq!(reason(assert_ready_err!(call.poll())), Reason::PoolClosed);
    }
    assert_eq!((handle.in_flight(), handle.refused(Reason::PoolClosed)), (1, 2));
    drop(permit);
    assert_ready!(task::spawn(handle.drained()).poll());
}

#[tokio::test(start_paused = true)]
async fn switched_off_every_call_passes_and_is_counted() {
    let (_, mut svc) = stack(&LimitLayer::new(1).queue(2));
    let handle = svc.handle();
    let mut calls: Vec<_> = (0..3).map(|n| call(&mut svc, n)).collect();
    calls.iter_mut().for_each(|call| assert_pending!(call.poll()));
    assert_eq!((handle.in_flight(), handle.waiting()), (1, 2));
    handle.set_enabled(false);
    assert!(calls[1].is_woken() && calls[2].is_woken() && !handle.is_enabled());
    calls.extend((3..9).map(|n| call(&mut svc, n)));
    calls.iter_mut().for_each(|call| assert_pending!(call.poll()));
    assert_eq!((handle.in_flight(), handle.waiting(), handle.max()), (9, 0, 1));
    handle.set_max(8).unwrap();
    handle.set_enabled(true);
    calls.push(call(&mut svc, 9));
    assert_eq!((handle.in_flight(), handle.waiting(), handle.max()), (9, 1, 8));
    drop(calls.split_off(7));
    assert_eq!((handle.in_flight(), handle.waiting()), (7, 0));
}

#[tokio::test(start_paused = true)]
async fn permits_by_hand_stand_in_one_queue_with_calls_and_keep_its_bounds() {
    let (_, mut svc) = stack(&LimitLayer::new(1).queue(2).max_wait(50 * MS).name("db"));
    let handle = svc.handle();
    let permit = handle.acquire().await.unwrap();
    assert!(handle.try_acquire().is_none());
    let mut by_hand = task::spawn(handle.acquire());
    assert_pending!(by_hand.poll());
    let mut called = call(&mut svc, 1);
    assert_pending!(called.poll());
    let full = handle.acquire().await.unwrap_err();
    assert_eq!(full.to_string(), "limit `db`: queue full");
    drop(permit);
    let permit = assert_ready_ok!(by_hand.poll());
    assert_pending!(called.poll());
    let start = Instant::now();
    assert_eq!(called.await.unwrap_err().rejected().unwrap().reason(), Reason::WaitExceeded);
    assert!((50..=52).contains(&start.elapsed().as_millis()));
    drop(by_hand);
    drop(permit);
    assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
    let refused = [Reason::QueueFull, Reason::WaitExceeded, Reason::Expired];
    assert_eq!(refused.map(|reason| handle.refused(reason)), [1, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_is_looked_at_again_after_the_wait_and_what_is_due_at_it_is_late() {
    let (inner, mut svc) = stack(&LimitLayer::new(1));
    let handle = svc.handle();
    let permit = handle.try_acquire().unwrap();
    let mut until = Deadline::At(Instant::now() + 10 * MS);
    let mut called = until.enter(|| call(&mut svc, 1));
    let mut acquired = task::spawn(handle.acquire());
    assert_pending!(until.enter(|| called.poll()));
    assert_pending!(until.enter(|| acquired.poll()));
    advance(10 * MS).await;
    drop(permit);
    assert_eq!(reason(assert_ready_err!(until.enter(|| called.poll()))), Reason::Expired);
    let expired = assert_ready_err!(until.enter(|| acquired.poll()));
    assert_eq!(expired.reason(), Reason::Expired);
    assert_eq!((handle.in_flight(), handle.refused(Reason::Expired)), (0, 2));
    assert_eq!(inner.calls.load(SeqCst), 0);
    assert_eq!(deadline::current(), None);
}

#[test]
fn a_handle_reads_back_what_is_configured_and_its_setters_return_errors() {
    let name = String::from("data") + "base";
    let layer = LimitLayer::new(5).max_wait(MS).name(name).queue(7);
    let (_layer, handle) = layer.with_handle();
    assert_eq!((handle.max(), handle.queue(), handle.max_wait()), (5, 7, Some(MS)));
    assert_eq!(
        (handle.name(), handle.is_enabled(), handle.is_closed()),
        (Some("database"), true, false)
    );
    let error = handle.set_max(0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "LimitHandle::set_max: 0 is not allowed, it has to be from 1 to 2147483647"
    );
    assert!(handle.set_max(usize::MAX).is_err());
    assert_eq!(handle.max(), 5);
}

#[test]
fn a_configuration_is_checked_without_a_panic() {
    let mut config = Config::new(3);
    config.max_wait = Some(Duration::ZERO);
    config.name = Some("x".repeat(200).into());
    let error = config.clone().try_build().unwrap_err();
    assert_eq!(error.setting(), "Config::name");
    config.name = Some("db".into());
    config.max_wait = Some(Duration::MAX);
    assert_eq!(config.clone().try_build().unwrap_err().setting(), "Config::max_wait");
    config.max_wait = None;
    assert_eq!(config.try_build().unwrap().with_handle().1.name(), Some("db"));
}

#[tokio::test(start_paused = true)]
async fn a_wait_of_zero_is_no_wait() {
    let (_, mut svc) = stack(&LimitLayer::new(1).max_wait(Duration::ZERO));
    let _held = call(&mut svc, 0);
    let refused = assert_ready_err!(call(&mut svc, 1).poll());
    assert_eq!(reason(refused), Reason::WaitExceeded);
    assert_eq!(svc.handle().waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn calls_that_pass_by_take_no_place_and_responses_can_keep_theirs() {
    let layer = LimitLayer::new(1).queue(0).bypass(|n: &u32| *n == 0);
    let layer = layer.hold(|n: u32, permit| (n, permit));
    let (layer, handle) = layer.with_handle();
    let mut svc = layer.layer(tower::service_fn(async |n: u32| Ok::<_, common::Refusal>(n)));
    let held = svc.call(1).await.unwrap();
    assert_eq!((held.0, handle.in_flight()), (1, 1));
    assert_eq!(reason(svc.call(2).await.unwrap_err()), Reason::QueueFull);
    let passed = svc.call(0).await.unwrap();
    assert_eq!((passed.0, handle.in_flight()), (0, 1));
    drop(passed);
    assert_eq!(handle.in_flight(), 1);
    drop(held);
    assert_eq!(handle.in_flight(), 0);

    // An instance that has reserved a place gives it back for a call that needs none.
    let mut svc =
        layer.backpressure().layer(tower::service_fn(async |n| Ok::<_, common::Refusal>(n)));
    assert_ready_ok!(task::spawn(()).enter(|cx, _| svc.poll_ready(cx)));
    let _passed = svc.call(0).await.unwrap();
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_where_a_response_is_given_its_permit_costs_one_answer_and_no_place() {
    let layer = LimitLayer::new(1).hold(|n: u32, permit| {
        assert!(n < 9, "too large");
        (n, permit)
    });
    let (layer, handle) = layer.with_handle();
    let mut svc = layer.layer(tower::service_fn(async |n: u32| Ok::<_, common::Refusal>(n)));
    let call = svc.call(9);
    assert!(tokio::spawn(call).await.unwrap_err().is_panic());
    assert_eq!(handle.in_flight(), 0);
    assert_eq!(svc.call(1).await.unwrap().0, 1);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_keeps_its_place_holds_back_what_waits_until_it_is_dropped() {
    let (layer, handle) = LimitLayer::new(1).hold(|n: u32, permit| (n, permit)).with_handle();
    let svc = layer.layer(tower::service_fn(async |n: u32| Ok::<_, common::Refusal>(n)));
    let held = svc.clone().call(1).await.unwrap();
    let mut waits = task::spawn(svc.clone().call(2));
    assert_pending!(waits.poll());
    assert_eq!((handle.in_flight(), handle.waiting()), (1, 1));
    drop(held);
    assert!(waits.is_woken());
    let held = assert_ready_ok!(waits.poll());
    assert_eq!((held.0, handle.in_flight()), (2, 1));
    handle.close();
    let mut drained = task::spawn(handle.drained());
    assert_pending!(drained.poll(), "what is still kept counts");
    drop(held);
    assert_ready!(drained.poll());
}

#[cfg(feature = "load")]
#[tokio::test(start_paused = true)]
async fn the_load_is_what_is_in_flight_and_what_waits() {
    let (_, mut svc) = stack(&LimitLayer::new(1));
    let _calls = [call(&mut svc, 1), call(&mut svc, 2), call(&mut svc, 3)];
    assert_eq!(tower::load::Load::load(&svc), 3);
}

/// Panics when it is woken.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker that panics");
    }
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_keeps_no_other_from_being_woken() {
    let panics = Arc::new(Panics).into();
    let cx = &mut Context::from_waker(&panics);
    let (_, mut svc) = stack(&LimitLayer::new(1));
    let handle = svc.handle();
    let held = call(&mut svc, 0);
    let mut first = Box::pin(call(&mut svc, 1).into_inner());
    assert_pending!(first.as_mut().poll(cx));
    let mut others: Vec<_> = (2..4).map(|n| call(&mut svc, n)).collect();
    others.iter_mut().for_each(|call| assert_pending!(call.poll()));
    handle.set_max(4).unwrap();
    assert!(others.iter().all(task::Spawn::is_woken));
    assert_eq!((handle.in_flight(), handle.waiting()), (4, 0));

    let mut drained = Box::pin(handle.drained());
    assert_pending!(drained.as_mut().poll(cx));
    let mut drained_too = task::spawn(handle.drained());
    assert_pending!(drained_too.poll());
    let mut waits = Box::pin(call(&mut svc, 5).into_inner());
    assert_pending!(waits.as_mut().poll(cx));
    let mut waits_too = call(&mut svc, 6);
    assert_pending!(waits_too.poll());
    handle.close();
    assert!(waits_too.is_woken() && !drained_too.is_woken());
    drop((held, first, others));
    assert!(drained_too.is_woken());
}

/// Owns a call, as the wakers of small executors own their tasks.
struct Owns(#[expect(dead_code, reason = "it is dropped")] Mutex<Answer>);

impl Wake for Owns {
    fn wake(self: Arc<Self>) {}
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_owns_a_call_of_the_same_limit_may_be_dropped_anywhere() {
    let (_, mut svc) = stack(&LimitLayer::new(1));
    let handle = svc.handle();
    let held = call(&mut svc, 0);
    let owner = |svc: &mut Limit<Inner>| {
        let owns = Mutex::new(call(svc, 1).into_inner());
        Waker::from(Arc::new(Owns(owns)))
    };
    let poll = |call: &mut Pin<Box<Answer>>, waker: &Waker| {
        call.as_mut().poll(&mut Context::from_waker(waker)).is_pending()
    };
    let mut calls: Vec<_> = (2..5).map(|n| Box::pin(call(&mut svc, n).into_inner())).collect();
    for call in &mut calls {
        // One waker takes the place of another.
        assert!(poll(call, &owner(&mut svc)) && poll(call, &owner(&mut svc)));
    }
    assert_eq!(handle.waiting(), 6, "three, and one in the waker of each");
    // With the call, with a turn, and with the limit.
    drop(calls.remove(1));
    assert_eq!(handle.waiting(), 4);
    drop(held);
    handle.close();
    drop(calls);
    assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_bounds_of_the_queue_change_while_calls_wait() {
    let (_layer, handle) = LimitLayer::new(1).queue(1).with_handle();
    let _permit = handle.try_acquire().unwrap();
    let mut first = task::spawn(handle.acquire());
    assert_pending!(first.poll());
    assert_eq!(handle.acquire().await.unwrap_err().reason(), Reason::QueueFull);

    handle.set_queue(2).unwrap();
    handle.set_max_wait(Some(Duration::from_secs(1))).unwrap();
    assert_eq!((handle.queue(), handle.max_wait()), (2, Some(Duration::from_secs(1))));
    assert_eq!(handle.acquire().await.unwrap_err().reason(), Reason::WaitExceeded);
    handle.set_queue(0).unwrap();
    handle.set_max_wait(None).unwrap();
    assert_eq!(handle.acquire().await.unwrap_err().reason(), Reason::QueueFull);
    assert_pending!(first.poll(), "it waits since before");
    assert_eq!((handle.waiting(), handle.max_wait()), (1, None));

    let wrong = handle.set_max_wait(Some(Duration::MAX)).unwrap_err();
    assert_eq!(wrong.setting(), "LimitHandle::set_max_wait");
    assert!(handle.set_queue(usize::MAX).is_err());
    assert_eq!((handle.queue(), handle.max_wait()), (0, None));
}
