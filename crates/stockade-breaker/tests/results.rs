//! What came of a call, and what it counts as.

use std::{panic::AssertUnwindSafe, sync::Arc};

use common::{Ask, Backend, SECOND, Subject, ask, half_open, layer, start, subject};
use stockade_breaker::{BreakerLayer, State};
use stockade_core::{Class, Classify, Error, Reason, deadline::Deadline};
use tokio::time::advance;
use tokio_test::{assert_pending, task::spawn};
use tower::{Layer, Service};

mod common;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counts {
    Success,
    Failure,
    Nothing,
}

fn counted(breaker: &Subject<impl Send + Sync + 'static>) -> Counts {
    let snapshot = breaker.handle().snapshot();
    match (snapshot.calls, snapshot.failures) {
        (1, 0) => Counts::Success,
        (1, 1) => Counts::Failure,
        (0, 0) => Counts::Nothing,
        other => panic!("{other:?}"),
    }
}

// === classes ===

#[tokio::test]
async fn each_class_counts_as_what_the_table_says() {
    let after = None;
    for (class, counts) in [
        (Class::Success, Counts::Success),
        (Class::Permanent, Counts::Success),
        (Class::Transient { after }, Counts::Failure),
        (Class::Overload { after, processed: true }, Counts::Failure),
        (Class::NoEffect { after }, Counts::Failure),
        (Class::Ignored, Counts::Nothing),
    ] {
        for asked in [Ask::Succeed, Ask::Fail] {
            let classify = move |_: Result<&&'static str, &Error<&'static str>>| class;
            let mut breaker = BreakerLayer::new().classify(classify).layer(Backend::new().0);
            let _ = ask(&mut breaker, asked).await;
            assert_eq!(counted(&breaker), counts, "{class:?} of {asked:?}");
        }
    }
}

#[tokio::test]
async fn by_default_every_error_of_the_service_is_a_failure() {
    for (asked, counts) in [(Ask::Succeed, Counts::Success), (Ask::Fail, Counts::Failure)] {
        let (mut breaker, _) = subject();
        let _ = ask(&mut breaker, asked).await;
        assert_eq!(counted(&breaker), counts);
    }
}

#[tokio::test]
async fn refusals_of_layers_inside_count_for_nothing_except_elapsed_and_panicked() {
    for (reason, counts) in [
        (Reason::QueueFull, Counts::Nothing),
        (Reason::WaitExceeded, Counts::Nothing),
        (Reason::RateLimited, Counts::Nothing),
        (Reason::TooCostly, Counts::Nothing),
        (Reason::BreakerOpen, Counts::Nothing),
        (Reason::ForcedOpen, Counts::Nothing),
        (Reason::PoolClosed, Counts::Nothing),
        (Reason::Cancelled, Counts::Nothing),
        (Reason::Expired, Counts::Nothing),
        (Reason::Shed, Counts::Nothing),
        (Reason::Elapsed, Counts::Failure),
        (Reason::Panicked, Counts::Failure),
    ] {
        let (mut breaker, _) = subject();
        ask(&mut breaker, Ask::Refuse(reason)).await.unwrap_err();
        assert_eq!(counted(&breaker), counts, "{reason:?}");
    }
}

#[tokio::test]
async fn a_classifier_may_read_the_state_and_reset_it() {
    let early = BreakerLayer::new();
    let handle = Arc::new(std::sync::OnceLock::<stockade_breaker::BreakerHandle>::new());
    let seen = Arc::clone(&handle);
    let layer =
        early.min_calls(1).classify(move |_: Result<&&'static str, &Error<&'static str>>| {
            let handle = seen.get().unwrap();
            assert_eq!(handle.state(), State::Closed);
            drop(handle.force_open());
            handle.reset();
            Class::Transient { after: None }
        });
    let (layer, of_layer) = layer.with_handle();
    handle.set(of_layer).unwrap();
    let mut breaker = layer.layer(Backend::new().0);
    ask(&mut breaker, Ask::Fail).await.unwrap_err();
    assert_eq!(breaker.handle().state(), State::Closed, "the call is of the time before the reset");
}

// === panics ===

#[tokio::test(start_paused = true)]
async fn a_panic_inside_is_a_failure_and_goes_on() {
    for asked in [Ask::PanicInCall, Ask::PanicInFuture] {
        let (mut breaker, _) = subject();
        for state in [State::Closed, State::Closed, State::Closed, State::Open] {
            let mut clone = breaker.clone();
            tokio::spawn(async move { ask(&mut clone, asked).await }).await.unwrap_err();
            assert_eq!(breaker.handle().state(), state);
        }
        advance(5 * SECOND).await;
        ask(&mut breaker, Ask::Succeed).await.unwrap();
        let mut clone = breaker.clone();
        tokio::spawn(async move { ask(&mut clone, asked).await }).await.unwrap_err();
        assert_eq!(breaker.handle().state(), State::Open, "so it is of a probe");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_counts_at_once_although_its_future_is_kept() {
    let (mut breaker, _) = half_open().await;
    let mut task = spawn(());
    assert!(task.enter(|cx, _| breaker.poll_ready(cx)).is_ready());
    let mut call = spawn(breaker.call(Ask::PanicInFuture));
    std::panic::catch_unwind(AssertUnwindSafe(|| call.poll())).unwrap_err();
    assert_eq!(breaker.handle().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_by_the_panic_of_another_is_not_a_failure() {
    let (mut breaker, _) = subject();
    let call = start(&mut breaker, Ask::Hang);
    ask(&mut breaker, Ask::Succeed).await.unwrap();
    std::panic::catch_unwind(AssertUnwindSafe(|| {
        let _dropped = call;
        panic!("of something else");
    }))
    .unwrap_err();
    assert_eq!(counted(&breaker), Counts::Success, "of the other call alone");
}

#[derive(Clone)]
struct PanicsAtErrors;

impl<T, E> Classify<T, E> for PanicsAtErrors {
    fn classify(&self, result: Result<&T, &E>) -> Class {
        assert!(result.is_ok(), "in the classifier");
        Class::Success
    }
}

#[tokio::test(start_paused = true)]
async fn a_classifier_that_panics_costs_one_call_its_answer_and_no_place() {
    let mut breaker = layer().consecutive(1).classify(PanicsAtErrors).layer(Backend::new().0);
    let failing = |breaker: &Subject<PanicsAtErrors>| {
        let mut clone = breaker.clone();
        tokio::spawn(async move { ask(&mut clone, Ask::Fail).await })
    };
    failing(&breaker).await.unwrap_err();
    assert_eq!(counted(&breaker), Counts::Nothing);
    let mut clone = breaker.clone();
    tokio::spawn(async move { ask(&mut clone, Ask::PanicInCall).await }).await.unwrap_err();
    assert_eq!(breaker.handle().state(), State::Open);
    advance(5 * SECOND).await;
    for _ in 0..5 {
        failing(&breaker).await.unwrap_err();
        let snapshot = breaker.handle().snapshot();
        assert_eq!((snapshot.state, snapshot.probes), (State::HalfOpen, 0));
    }
    for _ in 0..3 {
        ask(&mut breaker, Ask::Succeed).await.unwrap();
    }
    assert_eq!(breaker.handle().state(), State::Closed);
}

// === drops ===

#[tokio::test(start_paused = true)]
async fn a_call_dropped_after_its_deadline_is_a_failure() {
    let (mut breaker, _) = subject();
    for state in [State::Closed, State::Closed, State::Closed, State::Open] {
        let mut deadline = Deadline::after(SECOND);
        let call = deadline.enter(|| start(&mut breaker, Ask::Hang));
        advance(SECOND).await;
        drop(call);
        assert_eq!(breaker.handle().state(), state);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_dropped_after_its_deadline_is_a_failure() {
    let (mut breaker, _) = half_open().await;
    let call = Deadline::after(SECOND).enter(|| start(&mut breaker, Ask::Hang));
    advance(SECOND).await;
    drop(call);
    assert_eq!(breaker.handle().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_before_its_deadline_or_without_one_counts_for_nothing_if_others_were_answered()
 {
    let (mut breaker, _) = subject();
    let mut deadline = Deadline::after(SECOND);
    let early = deadline.enter(|| start(&mut breaker, Ask::Hang));
    let without = start(&mut breaker, Ask::Hang);
    advance(SECOND / 2).await;
    ask(&mut breaker, Ask::Succeed).await.unwrap();
    drop(early);
    advance(100 * SECOND).await;
    drop(without);
    assert_eq!(counted(&breaker), Counts::Success, "of the other call alone");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_answered_at_once_fixes_no_deadline() {
    let (mut breaker, _) = subject();
    let mut deadline = Deadline::after(SECOND);
    drop(deadline.enter(|| start(&mut breaker, Ask::Succeed)));
    assert_eq!(deadline.fixed(), None);
    let mut call = deadline.enter(|| start(&mut breaker, Ask::Hang));
    assert!(deadline.fixed().is_some());
    assert_pending!(call.poll());
}
