//! What the rate limit does, on the paused clock.

mod common;

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{Answer, MS, NS, YEAR, call, future, passes, refusal, service, waiter};
use stockade_core::{LayerError, Reason, deadline::Deadline};
use stockade_rate::RateLayer;
use stockade_testkit::{Probe, Readiness, Request};
use tokio::{
    task::yield_now,
    time::{Instant, advance},
};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt};

/// How many of `calls` calls, made at once by as many tasks, passed by when: in order of their ids.
async fn pass_times(layer: RateLayer, calls: u64) -> Vec<(Duration, Answer)> {
    let start = Instant::now();
    let (service, _) = service(layer);
    let tasks: Vec<_> = (0..calls)
        .map(|id| {
            let call = service.clone().oneshot(Request::ready(id));
            tokio::spawn(async move {
                let answer = call.await;
                (start.elapsed(), answer)
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.push(task.await.expect("no call panics"));
    }
    times
}

// === the rate ===

#[tokio::test(start_paused = true)]
async fn the_burst_passes_at_once_and_then_one_call_a_period() {
    let times = pass_times(RateLayer::per_second(10).burst(3), 8).await;
    let passed: Vec<u128> = times.iter().map(|(at, _)| at.as_millis()).collect();
    assert_eq!(passed, [0, 0, 0, 100, 200, 300, 400, 500]);
    assert!(times.iter().all(|(_, answer)| answer.is_ok()));
}

#[tokio::test(start_paused = true)]
async fn in_no_window_of_a_second_more_calls_pass_than_burst_and_rate() {
    for (burst, allowed) in [(10, 20), (1, 11)] {
        let (mut service, _) = service(RateLayer::per_second(10).burst(burst).queue(0));
        let start = Instant::now();
        let mut passed = Vec::new();
        // Pauses, between which as many calls are made as will pass: at the end of one second and
        // at the begin of the next, among others.
        for pause in [950, 40, 20, 500, 990, 5, 5, 5, 1_000, 1, 100, 900, 100, 400, 20, 900, 80] {
            advance(pause * MS).await;
            for _ in 0..60 {
                advance(2 * MS).await;
                while passes(&mut service, 0) {
                    passed.push(start.elapsed());
                }
            }
        }
        let most = passed
            .iter()
            .map(|from| passed.iter().filter(|at| (*from..*from + 1_000 * MS).contains(at)).count())
            .max();
        assert!(most > Some(allowed / 2) && most <= Some(allowed), "{most:?} of {allowed}");
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_calls_reach_rates_whose_period_is_no_whole_millisecond() {
    for (rate, burst) in [(3, 1), (300, 1), (700, 1), (900, 2), (1_500, 3), (5_000, 6)] {
        let calls = 1_000.min(rate * 2);
        let layer = RateLayer::per_second(rate).burst(burst);
        let times = pass_times(layer, calls.into()).await;
        let ideal = Duration::from_secs((calls - burst).into()) / rate;
        let last = times.last().unwrap().0;
        assert!(last >= ideal && last <= ideal + 2 * MS, "{last:?} for {ideal:?} at {rate}/s");
    }
}

// === sharing ===

#[tokio::test(start_paused = true)]
async fn clones_and_applications_of_a_layer_share_one_bucket() {
    let layer = RateLayer::per_second(10).burst(4).queue(0);
    let (mut first, _) = service(layer.clone());
    let (mut second, _) = service(layer.clone());
    let mut third = first.clone();
    assert!(passes(&mut first, 1) && passes(&mut second, 2) && passes(&mut third, 3));
    for handle in [first.handle(), second.handle(), third.handle()] {
        assert_eq!(handle.available(), 1);
    }
    assert!(passes(&mut third, 4));
    assert_eq!(refusal(&mut second, 5).reason(), Reason::RateLimited);
}

#[tokio::test(start_paused = true)]
async fn applications_of_a_per_service_layer_have_buckets_of_their_own() {
    let layer = RateLayer::per_second(10).burst(1).queue(0).per_service();
    let [mut first, mut second] = [(); 2].map(|()| layer.clone().layer(Probe::new()));
    assert!(passes(&mut first, 1) && passes(&mut second, 2));
    let mut clone = first.clone();
    assert_eq!(refusal(&mut clone, 3).reason(), Reason::RateLimited);
    assert_eq!(second.handle().available(), 0);
}

// === refusals ===

#[tokio::test(start_paused = true)]
async fn a_call_that_comes_back_after_retry_after_passes_and_one_just_before_does_not() {
    let (mut service, probe) = service(RateLayer::per_second(3).queue(0).name("search"));
    for id in 0..3 {
        assert!(passes(&mut service, id));
    }
    advance(100 * MS).await;
    let refused = refusal(&mut service, 3);
    assert_eq!(
        (refused.layer(), refused.name(), refused.reason()),
        ("rate", Some("search"), Reason::RateLimited)
    );
    let after = refused.retry_after().unwrap();
    assert_eq!(after, Duration::from_nanos(233_333_334));
    advance(after - NS).await;
    assert_eq!(refusal(&mut service, 4).retry_after(), Some(NS));
    advance(NS).await;
    assert!(passes(&mut service, 5));
    assert_eq!(probe.started(), [0, 1, 2, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_until_its_head_has_left() {
    let (mut service, _) = service(RateLayer::per_second(10).burst(1).queue(2));
    assert!(passes(&mut service, 0));
    let mut waiters = [1, 2].map(|id| waiter(&mut service, id));
    advance(30 * MS).await;
    let refused = refusal(&mut service, 3);
    assert_eq!((refused.reason(), refused.retry_after()), (Reason::QueueFull, Some(70 * MS)));
    advance(70 * MS).await;
    assert_ready_ok!(waiters[0].poll());
    assert_pending!(call(&mut service, 4).poll());
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_would_be_too_long_is_refused_at_once() {
    let (mut service, _) = service(RateLayer::per_second(10).burst(1).max_wait(150 * MS));
    assert!(passes(&mut service, 0));
    let _first = waiter(&mut service, 1);
    let refused = refusal(&mut service, 2);
    assert_eq!((refused.reason(), refused.retry_after()), (Reason::WaitExceeded, Some(50 * MS)));
    advance(50 * MS - NS).await;
    assert_eq!(refusal(&mut service, 3).retry_after(), Some(NS));
    advance(NS).await;
    let _second = waiter(&mut service, 4);
    assert_eq!(service.handle().waiting(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_would_end_at_the_deadline_or_after_it_is_refused_at_once() {
    let (mut service, _) = service(RateLayer::per_second(10).burst(1));
    assert!(passes(&mut service, 0));
    let _first = waiter(&mut service, 1);
    let mut short = Deadline::after(199 * MS);
    let mut late = short.enter(|| call(&mut service, 2));
    let refused = *assert_ready_err!(late.poll()).rejected().unwrap();
    assert_eq!((refused.reason(), refused.retry_after()), (Reason::Expired, Some(MS + NS)));
    let mut just = Deadline::after(200 * MS);
    let mut late = just.enter(|| call(&mut service, 2));
    let refused = *assert_ready_err!(late.poll()).rejected().unwrap();
    assert_eq!((refused.reason(), refused.retry_after()), (Reason::Expired, Some(NS)));
    let mut long = Deadline::after(200 * MS + NS);
    let mut in_time = long.enter(|| call(&mut service, 3));
    assert_pending!(long.enter(|| in_time.poll()));
    assert_eq!(service.handle().waiting(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_passes_asks_for_no_deadline() {
    let (mut service, _) = service(RateLayer::per_second(10));
    let mut deadline = Deadline::after(MS);
    assert_ready_ok!(deadline.enter(|| call(&mut service, 0).poll()));
    assert_eq!(deadline.fixed(), None);
}

// === waiting ===

#[tokio::test(start_paused = true)]
async fn five_hundred_waiters_are_served_in_order_in_ideal_time_with_few_polls() {
    let (service, probe) = service(RateLayer::per_second(500).burst(1));
    let start = Instant::now();
    let polls = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..=500)
        .map(|id| {
            let (polls, most) = (Arc::clone(&polls), Arc::clone(&most));
            let service = service.clone();
            tokio::spawn(async move {
                let mut call = pin!(service.oneshot(Request::ready(id)));
                let mut own = 0;
                poll_fn(|cx| {
                    own += 1;
                    polls.fetch_add(1, Ordering::Relaxed);
                    most.fetch_max(own, Ordering::Relaxed);
                    call.as_mut().poll(cx)
                })
                .await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(probe.started(), Vec::from_iter(0..=500));
    assert!(start.elapsed() <= 1_001 * MS, "{:?}", start.elapsed());
    assert!(polls.load(Ordering::Relaxed) <= 1_501 && most.load(Ordering::Relaxed) <= 3);
}

#[tokio::test(start_paused = true)]
async fn a_call_does_not_overtake_one_that_waits() {
    let (mut service, probe) = service(RateLayer::per_second(10).burst(1));
    assert!(passes(&mut service, 0));
    let mut first = waiter(&mut service, 1);
    advance(100 * MS).await;
    // The token is there, and who waits for it has not come yet.
    assert_eq!(service.handle().available(), 0);
    let mut second = waiter(&mut service, 2);
    assert!(first.is_woken());
    assert_ready_ok!(first.poll());
    assert_pending!(second.poll());
    advance(100 * MS).await;
    assert_ready_ok!(second.poll());
    assert_eq!(probe.started(), [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_head_passes_on_whether_it_waits_or_was_just_served() {
    let (mut service, _) = service(RateLayer::per_second(10).burst(1));
    assert!(passes(&mut service, 0));
    let [waiting, served, mut last] = [1, 2, 3].map(|id| waiter(&mut service, id));
    drop(waiting);
    assert!(!served.is_woken() && !last.is_woken());
    advance(100 * MS).await;
    assert!(served.is_woken() && !last.is_woken());
    assert_eq!(service.handle().waiting(), 1);
    // Its token goes to the next one at once.
    drop(served);
    assert!(last.is_woken());
    assert_ready_ok!(last.poll());
    assert_eq!(service.handle().waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_waiter_in_the_middle_leaves_its_place_to_those_behind() {
    let (mut service, _) = service(RateLayer::per_second(10).burst(1).queue(3));
    assert!(passes(&mut service, 0));
    let [mut head, middle, mut last] = [1, 2, 3].map(|id| waiter(&mut service, id));
    assert_eq!(refusal(&mut service, 4).reason(), Reason::QueueFull);
    drop(middle);
    assert!(!head.is_woken() && !last.is_woken());
    let _new = waiter(&mut service, 5);
    advance(100 * MS).await;
    assert_ready_ok!(head.poll());
    assert_pending!(last.poll());
    advance(100 * MS).await;
    assert_ready_ok!(last.poll());
}

#[tokio::test(start_paused = true)]
async fn every_waiter_has_a_waker_of_its_own_and_its_latest_is_woken() {
    let (mut service, _) = service(RateLayer::per_second(10).burst(1));
    assert!(passes(&mut service, 0));
    let head = waiter(&mut service, 1);
    let mut moved = Box::pin(future(&mut service, 2));
    let (mut before, mut after) = (task::spawn(()), task::spawn(()));
    assert_pending!(before.enter(|cx, _| moved.as_mut().poll(cx)));
    assert_pending!(after.enter(|cx, _| moved.as_mut().poll(cx)));
    let other = waiter(&mut service, 3);
    advance(100 * MS).await;
    assert!(head.is_woken() && !after.is_woken());
    tokio::time::sleep(101 * MS).await;
    assert!(after.is_woken() && !before.is_woken() && !other.is_woken());
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_future_is_not_polled_holds_up_nobody() {
    let (mut service, _) = service(RateLayer::per_second(10).burst(1));
    assert!(passes(&mut service, 0));
    let mut unpolled = call(&mut service, 1);
    let second = future(&mut service, 2);
    second.await.unwrap();
    assert_pending!(unpolled.poll());
    advance(100 * MS).await;
    assert_ready_ok!(unpolled.poll());
}

#[tokio::test(start_paused = true)]
async fn waiting_calls_are_served_although_every_service_is_gone() {
    let (mut service, probe) = service(RateLayer::per_second(10).burst(1));
    assert!(passes(&mut service, 0));
    let mut waiters = [1, 2].map(|id| waiter(&mut service, id));
    drop(service);
    for waiter in &mut waiters {
        advance(100 * MS).await;
        assert_ready_ok!(waiter.poll());
    }
    assert_eq!(probe.started(), [0, 1, 2]);
}

// === the service inside ===

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_or_is_refused_holds_no_inner_readiness() {
    let (mut service, probe) = service(RateLayer::per_second(10).burst(1).queue(1));
    probe.set_slots(1);
    assert!(passes(&mut service, 0));
    let mut waiting = waiter(&mut service, 1);
    assert_eq!(probe.reserved(), 0);
    assert_eq!(refusal(&mut service, 2).reason(), Reason::QueueFull);
    assert_eq!(probe.reserved(), 0);
    advance(100 * MS).await;
    assert_ready_ok!(waiting.poll());
    assert!(probe.violations().is_empty());
}

#[tokio::test(start_paused = true)]
async fn after_its_token_a_call_waits_for_the_service_inside() {
    let (mut service, probe) = service(RateLayer::per_second(10).burst(1));
    assert!(passes(&mut service, 0));
    let mut first = waiter(&mut service, 1);
    let mut second = waiter(&mut service, 2);
    probe.set_ready(Readiness::Pending);
    advance(100 * MS).await;
    assert_pending!(first.poll());
    // It has left the queue, and the next one does not wait for it.
    assert_eq!(service.handle().waiting(), 1);
    assert_pending!(second.poll());
    probe.set_ready(Readiness::Ready);
    assert!(first.is_woken());
    assert_ready_ok!(first.poll());
    probe.set_ready(Readiness::Error);
    advance(100 * MS).await;
    let error = assert_ready_err!(second.poll());
    assert!(error.rejected().is_none(), "the error of the service inside, as it is");
    assert_eq!(probe.started(), [0, 1]);
}

// === time ===

#[test]
#[should_panic = "RateLayer::new, per: 18448560000s is not allowed"]
fn a_period_beyond_584_years_panics_when_it_is_made_and_not_on_first_use() {
    let _ = RateLayer::new(1, 585 * YEAR);
}

#[tokio::test(start_paused = true)]
async fn works_after_ten_years() {
    let (mut service, _) = service(RateLayer::per_second(10).burst(1));
    for _ in 0..2 {
        advance(10 * YEAR).await;
        assert!(passes(&mut service, 0));
        let mut waiting = waiter(&mut service, 1);
        advance(99 * MS).await;
        assert_pending!(waiting.poll());
        advance(MS).await;
        assert_ready_ok!(waiting.poll());
    }
}

#[test]
fn no_wake_is_lost_between_threads() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .expect("a runtime");
    let layer = RateLayer::per_second(200_000).burst(201);
    let (service, probe) = service(layer.clone());
    runtime.block_on(async {
        let callers: Vec<_> = (0..16)
            .map(|caller| {
                let mut service = service.clone();
                tokio::spawn(async move {
                    for id in 0..200 {
                        let mut call = task::spawn(());
                        let mut future =
                            pin!(service.ready().await.unwrap().call(Request::ready(id)));
                        if (id + caller) % 5 == 0 {
                            // Enters the queue and leaves it without having been served.
                            let _ = call.enter(|cx, _| future.as_mut().poll(cx));
                            yield_now().await;
                        } else {
                            future.await.unwrap();
                        }
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
    });
    assert_eq!(service.handle().waiting(), 0);
    assert!(probe.calls() >= 16 * 160);
}

#[tokio::test(start_paused = true)]
async fn a_handle_shows_what_belongs_in_a_log() {
    let (_, handle) = RateLayer::per_second(10).name("search").with_handle();
    let shown =
        r#"RateHandle { name: Some("search"), calls: 10, per: 1s, available: 10, waiting: 0 }"#;
    assert_eq!(format!("{handle:?}"), shown);
}
