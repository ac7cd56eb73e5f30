//! When a breaker lets calls pass, on the paused clock.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, atomic::Ordering::SeqCst},
    task::{Context, Wake, Waker},
    thread,
    time::Duration,
};

use common::{
    Ask, Backend, Readiness, SECOND, ask, half_open, layer, opened, refusal, start, subject,
};
use stockade_breaker::{BreakerHandle, BreakerLayer, State, Window};
use stockade_core::{Error, LayerError, Reason};
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task::spawn};
use tower::{Layer, Service};

mod common;

// === windows ===

#[tokio::test(start_paused = true)]
async fn fifty_failures_in_a_window_of_a_hundred_open_it_after_a_hundred_thousand_successes() {
    let (backend, _) = Backend::new();
    let mut breaker = BreakerLayer::new().layer(backend);
    for _ in 0..100_000 {
        ask(&mut breaker, Ask::Succeed).await.unwrap();
    }
    for _ in 0..50 {
        assert_eq!(breaker.handle().state(), State::Closed);
        ask(&mut breaker, Ask::Fail).await.unwrap_err();
    }
    assert_eq!(breaker.handle().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn successes_that_nobody_counted_leave_the_window_exact() {
    let (mut breaker, _) = subject();
    // The window is full and clean after four, so the other successes take the short way.
    for _ in 0..9 {
        ask(&mut breaker, Ask::Succeed).await.unwrap();
    }
    for asked in [Ask::Fail, Ask::Succeed, Ask::Succeed, Ask::Succeed, Ask::Fail] {
        let _ = ask(&mut breaker, asked).await;
        let snapshot = breaker.handle().snapshot();
        assert_eq!((snapshot.calls, snapshot.failures), (4, 1));
    }
    assert_eq!(breaker.handle().state(), State::Closed, "the first failure has left the window");
    ask(&mut breaker, Ask::Fail).await.unwrap_err();
    assert_eq!(breaker.handle().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_rate_counts_as_soon_as_min_calls_are_in_the_window() {
    let (backend, _) = Backend::new();
    let mut breaker = BreakerLayer::new().min_calls(3).layer(backend);
    for state in [State::Closed, State::Closed, State::Open] {
        ask(&mut breaker, Ask::Fail).await.unwrap_err();
        assert_eq!(breaker.handle().state(), state);
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_of_time_counts_what_happened_within_it() {
    let (backend, _) = Backend::new();
    let window = Window::time(10 * SECOND);
    let mut breaker = BreakerLayer::new().window(window).min_calls(2).layer(backend);
    for _ in 0..5 {
        ask(&mut breaker, Ask::Fail).await.unwrap_err();
        assert_eq!(breaker.handle().state(), State::Closed);
        advance(11 * SECOND).await;
        assert_eq!(breaker.handle().snapshot().failures, 0);
    }
    ask(&mut breaker, Ask::Fail).await.unwrap_err();
    advance(5 * SECOND).await;
    ask(&mut breaker, Ask::Fail).await.unwrap_err();
    assert_eq!(breaker.handle().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn slow_calls_open_it_although_they_succeed() {
    let (backend, _) = Backend::new();
    let mut breaker = layer().slow(SECOND, 0.75).layer(backend);
    for asked in [Ask::Succeed, Ask::Take(SECOND), Ask::Take(SECOND)] {
        ask(&mut breaker, asked).await.unwrap();
        assert_eq!(breaker.handle().state(), State::Closed);
    }
    ask(&mut breaker, Ask::Take(SECOND - Duration::from_millis(1))).await.unwrap();
    assert_eq!(breaker.handle().snapshot().slow, 2);
    ask(&mut breaker, Ask::Take(2 * SECOND)).await.unwrap();
    assert_eq!(breaker.handle().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_window_that_is_clean_notices_a_slow_success() {
    let (backend, _) = Backend::new();
    let mut breaker = layer().slow(SECOND, 0.5).layer(backend);
    for _ in 0..9 {
        ask(&mut breaker, Ask::Succeed).await.unwrap();
    }
    for state in [State::Closed, State::Open] {
        ask(&mut breaker, Ask::Take(SECOND)).await.unwrap();
        assert_eq!(breaker.handle().state(), state);
    }
}

// === open ===

#[tokio::test(start_paused = true)]
async fn an_open_breaker_never_calls_inner_and_tells_the_true_remaining_time() {
    let (mut breaker, backend) = opened().await;
    let remaining = breaker.handle().snapshot().remaining.unwrap();
    assert!(remaining >= 4 * SECOND && remaining <= 5 * SECOND, "{remaining:?}");
    for passed in 0..4 {
        let error = ask(&mut breaker, Ask::Succeed).await.unwrap_err();
        let refused = error.rejected().unwrap();
        assert_eq!(refused.reason(), Reason::BreakerOpen);
        assert_eq!(refused.layer(), "breaker");
        assert_eq!(refused.retry_after(), Some(remaining - passed * SECOND));
        advance(SECOND).await;
    }
    assert_eq!(backend.called(), 4);
    assert_eq!(breaker.handle().snapshot().refused, 4);
    advance(remaining - 4 * SECOND).await;
    ask(&mut breaker, Ask::Succeed).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_is_ready_although_inner_is_not_and_polls_it_all_the_same() {
    let (mut breaker, backend) = opened().await;
    backend.set(Readiness::Pending);
    let polled = backend.polled.load(SeqCst);
    let mut task = spawn(());
    assert_ready_ok!(task.enter(|cx, _| breaker.poll_ready(cx)));
    assert_eq!(backend.polled.load(SeqCst), polled + 1);
    assert_eq!(refusal(&breaker.call(Ask::Succeed).await), Some(Reason::BreakerOpen));
    backend.set(Readiness::Ready);
    assert!(task.is_woken(), "inner knows whom to wake");
}

#[tokio::test(start_paused = true)]
async fn a_closed_breaker_is_as_ready_as_inner() {
    let (mut breaker, backend) = subject();
    backend.set(Readiness::Pending);
    let mut task = spawn(());
    assert_pending!(task.enter(|cx, _| breaker.poll_ready(cx)));
    backend.set(Readiness::Ready);
    assert_ready_ok!(task.enter(|cx, _| breaker.poll_ready(cx)));
}

#[tokio::test(start_paused = true)]
async fn a_readiness_error_of_inner_passes_through_an_open_breaker() {
    let (mut breaker, backend) = opened().await;
    backend.set(Readiness::Broken);
    let mut task = spawn(());
    let error = assert_ready_err!(task.enter(|cx, _| breaker.poll_ready(cx)));
    assert_eq!(error, Error::Service("broken"));
}

#[tokio::test(start_paused = true)]
async fn a_call_admitted_on_an_instance_that_is_not_ready_waits_in_its_future() {
    let (mut breaker, backend) = opened().await;
    backend.set(Readiness::Pending);
    let mut task = spawn(());
    assert_ready_ok!(task.enter(|cx, _| breaker.poll_ready(cx)));
    advance(5 * SECOND).await;
    let mut call = spawn(breaker.call(Ask::Succeed));
    assert_pending!(call.poll());
    assert_eq!(breaker.handle().snapshot().probes, 1);
    assert_eq!(backend.called(), 4);
    backend.set(Readiness::Ready);
    assert!(call.is_woken());
    assert_eq!(assert_ready!(call.poll()), Ok("fine"));
    assert_eq!(breaker.handle().snapshot().probes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_readiness_error_of_an_admitted_call_that_waits_is_its_failure() {
    let (mut breaker, backend) = half_open().await;
    backend.set(Readiness::Pending);
    let mut call = start(&mut breaker, Ask::Succeed);
    backend.set(Readiness::Broken);
    assert_eq!(assert_ready!(call.poll()), Err(Error::Service("broken")));
    assert_eq!(breaker.handle().state(), State::Open);
}

// === half-open ===

#[tokio::test(start_paused = true)]
async fn half_open_admits_the_probes_only_and_closes_when_all_have_succeeded() {
    let (mut breaker, backend) = half_open().await;
    let mut probes = [(); 3].map(|()| start(&mut breaker, Ask::Take(SECOND)));
    let refused = ask(&mut breaker, Ask::Succeed).await;
    assert_eq!(refusal(&refused), Some(Reason::BreakerOpen));
    let after = refused.unwrap_err().rejected().unwrap().retry_after().unwrap();
    assert!(after >= SECOND / 10 && after <= SECOND / 5, "{after:?}");
    assert_eq!(backend.called(), 4 + 3);
    advance(SECOND).await;
    for (probe, state) in probes.iter_mut().zip([State::HalfOpen, State::HalfOpen, State::Closed]) {
        assert_ready_ok!(probe.poll());
        assert_eq!(breaker.handle().state(), state);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_succeeded_makes_no_place_for_another() {
    let (mut breaker, _) = half_open().await;
    let _out = [(); 2].map(|()| start(&mut breaker, Ask::Hang));
    ask(&mut breaker, Ask::Succeed).await.unwrap();
    assert_eq!(refusal(&ask(&mut breaker, Ask::Succeed).await), Some(Reason::BreakerOpen));
}

#[tokio::test(start_paused = true)]
async fn a_failed_probe_reopens_for_twice_as_long() {
    let (mut breaker, _) = half_open().await;
    for seconds in [10, 20, 40, 60, 60] {
        ask(&mut breaker, Ask::Succeed).await.unwrap();
        ask(&mut breaker, Ask::Fail).await.unwrap_err();
        let remaining = breaker.handle().snapshot().remaining.unwrap();
        let full = seconds * SECOND;
        assert!(remaining >= full * 4 / 5 && remaining <= full, "{remaining:?}");
        advance(remaining).await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_breakers_do_not_open_for_the_same_time() {
    let mut times = Vec::new();
    for _ in 0..8 {
        times.push(opened().await.0.handle().snapshot().remaining.unwrap());
    }
    times.dedup();
    assert!(times.len() > 1, "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_admitted_while_closed_neither_closes_nor_reopens_a_half_open_breaker() {
    let (mut breaker, _) = subject();
    let mut late = [(); 6].map(|()| start(&mut breaker, Ask::Take(6 * SECOND)));
    let mut late_failure = start(&mut breaker, Ask::FailAfter(6 * SECOND));
    for _ in 0..4 {
        ask(&mut breaker, Ask::Fail).await.unwrap_err();
    }
    advance(6 * SECOND).await;
    assert_eq!(breaker.handle().state(), State::HalfOpen);
    for call in &mut late {
        assert_ready_ok!(call.poll());
        assert_eq!(breaker.handle().state(), State::HalfOpen);
    }
    assert_ready_err!(late_failure.poll());
    assert_eq!(breaker.handle().state(), State::HalfOpen);
    ask(&mut breaker, Ask::Fail).await.unwrap_err();
    assert_eq!(breaker.handle().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_probe_of_an_earlier_probation_says_nothing_about_this_one() {
    let (mut breaker, _) = half_open().await;
    let mut late = start(&mut breaker, Ask::Take(11 * SECOND));
    let mut late_failure = start(&mut breaker, Ask::FailAfter(11 * SECOND));
    ask(&mut breaker, Ask::Fail).await.unwrap_err();
    advance(11 * SECOND).await;
    let _this = start(&mut breaker, Ask::Hang);
    assert_ready_ok!(late.poll());
    assert_ready_err!(late_failure.poll());
    let snapshot = breaker.handle().snapshot();
    assert_eq!((snapshot.state, snapshot.probes), (State::HalfOpen, 1));
}

#[tokio::test(start_paused = true)]
async fn a_probe_dropped_before_it_reached_the_service_returns_its_place_and_counts_for_nothing() {
    let (mut breaker, backend) = half_open().await;
    for _ in 0..10 {
        drop(start(&mut breaker, Ask::QueueThenTake(SECOND, SECOND)));
        let mut task = spawn(());
        assert_ready_ok!(task.enter(|cx, _| breaker.poll_ready(cx)));
        drop(breaker.call(Ask::Hang));
        let snapshot = breaker.handle().snapshot();
        assert_eq!((snapshot.state, snapshot.probes), (State::HalfOpen, 0));
    }
    backend.set(Readiness::Pending);
    drop(start(&mut breaker, Ask::Hang));
    assert_eq!(breaker.handle().snapshot().probes, 0, "one that waits is dropped too");
    backend.set(Readiness::Ready);
    for state in [State::HalfOpen, State::HalfOpen, State::Closed] {
        ask(&mut breaker, Ask::Succeed).await.unwrap();
        assert_eq!(breaker.handle().state(), state);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_does_not_count_returns_its_place() {
    let (mut breaker, _) = half_open().await;
    for _ in 0..10 {
        let answer = ask(&mut breaker, Ask::Refuse(Reason::RateLimited)).await;
        assert_eq!(refusal(&answer), Some(Reason::RateLimited));
        let snapshot = breaker.handle().snapshot();
        assert_eq!((snapshot.state, snapshot.probes), (State::HalfOpen, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_reopens_when_the_next_call_comes() {
    let (mut breaker, backend) = half_open().await;
    let _hangs = start(&mut breaker, Ask::Hang);
    advance(5 * SECOND - Duration::from_millis(1)).await;
    let _second = start(&mut breaker, Ask::Hang);
    assert_eq!(backend.called(), 6);
    advance(Duration::from_millis(1)).await;
    let error = ask(&mut breaker, Ask::Succeed).await.unwrap_err();
    let after = error.rejected().unwrap().retry_after().unwrap();
    assert!(after >= 8 * SECOND && after <= 10 * SECOND, "{after:?}");
    assert_eq!(backend.called(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_reopens_when_the_state_is_read() {
    let (mut breaker, _) = half_open().await;
    let _hangs = start(&mut breaker, Ask::Hang);
    advance(5 * SECOND).await;
    assert_eq!(breaker.handle().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_finished_probe_that_is_kept_holds_no_place() {
    let (mut breaker, _) = half_open().await;
    let mut kept = Vec::new();
    for _ in 0..5 {
        kept.push(start(&mut breaker, Ask::Refuse(Reason::QueueFull)));
        assert_eq!(breaker.handle().snapshot().probes, 0);
    }
}

#[test]
fn no_more_than_the_probes_pass_whatever_the_number_of_threads() {
    for _ in 0..50 {
        let layer = BreakerLayer::new().consecutive(1).open_for(Duration::from_nanos(1)).probes(2);
        let (layer, handle) = layer.with_handle();
        let (backend, inside) = Backend::new();
        let mut first = layer.layer(backend);
        drop(start(&mut first, Ask::Fail));
        let kept: Vec<_> = thread::scope(|scope| {
            let threads = [(); 4].map(|()| {
                let mut breaker = first.clone();
                scope.spawn(move || [(); 8].map(|()| start(&mut breaker, Ask::Hang)))
            });
            threads.map(|thread| thread.join().unwrap()).into_iter().flatten().collect()
        });
        assert_eq!(inside.called(), 1 + 2);
        assert_eq!(handle.snapshot().probes, 2);
        drop(kept);
        assert_eq!(handle.snapshot().probes, 0);
    }
}

// === by hand ===

#[tokio::test(start_paused = true)]
async fn a_forced_open_breaker_refuses_until_the_last_guard_is_dropped() {
    let (mut breaker, backend) = subject();
    let handle = breaker.handle();
    let (first, second) = (handle.force_open(), handle.clone().force_open());
    backend.set(Readiness::Pending);
    for guard in [first, second] {
        let error = ask(&mut breaker, Ask::Succeed).await.unwrap_err();
        let refused = error.rejected().unwrap();
        assert_eq!((refused.reason(), refused.retry_after()), (Reason::ForcedOpen, None));
        assert_eq!(handle.state(), State::ForcedOpen);
        drop(guard);
    }
    backend.set(Readiness::Ready);
    assert_eq!(handle.state(), State::Closed);
    ask(&mut breaker, Ask::Succeed).await.unwrap();
    assert_eq!(backend.called(), 1);
}

#[tokio::test(start_paused = true)]
async fn forcing_open_does_not_shorten_the_open_time() {
    let (breaker, _) = opened().await;
    let handle = breaker.handle();
    let remaining = handle.snapshot().remaining.unwrap();
    drop(handle.force_open());
    assert_eq!(handle.snapshot().remaining, Some(remaining));
    let forced = handle.force_open();
    advance(5 * SECOND).await;
    assert_eq!(handle.state(), State::ForcedOpen);
    drop(forced);
    assert_eq!(handle.state(), State::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn calls_that_ran_while_it_was_forced_open_do_not_count() {
    let (mut breaker, _) = subject();
    let mut calls = [(); 4].map(|()| start(&mut breaker, Ask::FailAfter(SECOND)));
    drop(breaker.handle().force_open());
    advance(SECOND).await;
    for call in &mut calls {
        assert_ready_err!(call.poll());
    }
    assert_eq!(breaker.handle().state(), State::Closed);
    assert_eq!(breaker.handle().snapshot().calls, 0);
}

#[tokio::test(start_paused = true)]
async fn reset_closes_it_with_an_empty_window_and_the_first_open_time() {
    let (mut breaker, _) = half_open().await;
    ask(&mut breaker, Ask::Fail).await.unwrap_err();
    breaker.handle().reset();
    assert_eq!(breaker.handle().state(), State::Closed);
    for _ in 0..4 {
        assert_eq!(breaker.handle().state(), State::Closed);
        ask(&mut breaker, Ask::Fail).await.unwrap_err();
    }
    assert!(breaker.handle().snapshot().remaining.unwrap() <= 5 * SECOND);
    assert_eq!(breaker.handle().snapshot().opened, 3);
}

#[tokio::test(start_paused = true)]
async fn reset_of_a_forced_open_breaker_leaves_it_so_and_closed_after_that() {
    let (breaker, _) = opened().await;
    let forced = breaker.handle().force_open();
    breaker.handle().reset();
    assert_eq!(breaker.handle().state(), State::ForcedOpen);
    drop(forced);
    assert_eq!(breaker.handle().state(), State::Closed);
}

// === watching ===

#[tokio::test(start_paused = true)]
async fn a_watcher_sees_the_state_after_every_transition() {
    let (mut breaker, _) = subject();
    let handle = breaker.handle();
    let mut watch = handle.watch();
    assert_eq!(*watch.borrow(), State::Closed);
    for _ in 0..4 {
        assert!(!watch.has_changed().unwrap());
        ask(&mut breaker, Ask::Fail).await.unwrap_err();
    }
    watch.changed().await.unwrap();
    assert_eq!(*watch.borrow_and_update(), State::Open);
    advance(5 * SECOND).await;
    for _ in 0..3 {
        ask(&mut breaker, Ask::Succeed).await.unwrap();
    }
    watch.changed().await.unwrap();
    assert_eq!(*watch.borrow_and_update(), State::Closed, "the latest, although two have passed");
    let forced = handle.force_open();
    assert_eq!(*watch.borrow_and_update(), State::ForcedOpen);
    drop(forced);
    assert_eq!(*watch.borrow_and_update(), State::Closed);
    drop((breaker, handle));
    watch.changed().await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_waker_of_a_watcher_may_read_the_state_and_reset_it() {
    struct Resets(BreakerHandle, Mutex<Vec<State>>);

    impl Wake for Resets {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0.state());
            self.0.reset();
        }
    }

    let (mut breaker, _) = subject();
    let waker = Arc::new(Resets(breaker.handle(), Mutex::default()));
    let mut watch = breaker.handle().watch();
    let mut changed = pin!(watch.changed());
    let task = Waker::from(Arc::clone(&waker));
    assert!(changed.as_mut().poll(&mut Context::from_waker(&task)).is_pending());
    for _ in 0..4 {
        ask(&mut breaker, Ask::Fail).await.unwrap_err();
    }
    assert_eq!(*waker.1.lock().unwrap(), [State::Open]);
    assert_eq!(breaker.handle().state(), State::Closed);
}

#[test]
fn a_watcher_ends_up_with_the_newest_state_whoever_is_last_to_tell() {
    let (_layer, handle) = BreakerLayer::new().with_handle();
    let watch = handle.watch();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..500).for_each(|_| drop(handle.force_open())));
        }
    });
    assert_eq!(*watch.borrow(), State::Closed);
}

// === sharing ===

#[tokio::test(start_paused = true)]
async fn clones_and_applications_of_a_layer_share_one_state() {
    let (layer, handle) = layer().with_handle();
    let (backend, _) = Backend::new();
    let mut services = [layer.layer(backend.clone()), layer.clone().layer(backend)];
    services[1] = services[1].clone();
    for asked in [0, 1, 0, 1] {
        ask(&mut services[asked], Ask::Fail).await.unwrap_err();
    }
    assert_eq!(handle.state(), State::Open);
    assert_eq!(
        refusal(&ask(&mut services[0].clone(), Ask::Succeed).await),
        Some(Reason::BreakerOpen)
    );
}

#[tokio::test(start_paused = true)]
async fn each_application_of_a_per_service_layer_has_its_own_state() {
    let layer = layer().per_service();
    let (backend, _) = Backend::new();
    let (mut first, second) = (layer.layer(backend.clone()), layer.layer(backend));
    for _ in 0..4 {
        ask(&mut first, Ask::Fail).await.unwrap_err();
    }
    assert_eq!(first.clone().handle().state(), State::Open);
    assert_eq!(second.handle().state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_clone_is_not_ready_because_the_original_is() {
    let (mut breaker, backend) = half_open().await;
    let mut task = spawn(());
    assert_ready_ok!(task.enter(|cx, _| breaker.poll_ready(cx)));
    // It would call the backend unready, which panics; instead it makes it ready first.
    assert_eq!(breaker.clone().call(Ask::Succeed).await, Ok("fine"));
    assert_eq!(backend.called(), 5);
}

#[tokio::test]
async fn a_refusal_says_the_name() {
    let (backend, _) = Backend::new();
    let (layer, handle) = BreakerLayer::new().name("search").with_handle();
    let _forced = handle.force_open();
    let begin = Instant::now();
    let error = ask(&mut layer.layer(backend), Ask::Succeed).await.unwrap_err();
    assert_eq!(error.to_string(), "breaker `search`: circuit forced open");
    assert!(begin.elapsed() < SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_handle_shows_what_belongs_in_a_log() {
    let (_, handle) = BreakerLayer::new().name("search").with_handle();
    let shown = r#"BreakerHandle { name: Some("search"), state: Closed, cause: None, calls: 0, failures: 0, opened: 0, refused: 0, .. }"#;
    assert_eq!(format!("{handle:?}"), shown);
}
