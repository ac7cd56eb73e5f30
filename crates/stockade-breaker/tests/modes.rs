//! Ways to work that are off by default: a ramp, observing only, and not at all.

use common::{Ask, Backend, SECOND, Subject, ask, layer, refusal, start};
use stockade_breaker::{BreakerLayer, State};
use stockade_core::{Error, Reason};
use tokio::time::advance;
use tokio_test::assert_ready_err;
use tower::Layer;

mod common;

// === ramp ===

/// On its ramp of ten seconds, for no time yet.
async fn ramping() -> Subject {
    let mut breaker = layer().ramp(10 * SECOND).layer(Backend::new().0);
    for _ in 0..4 {
        ask(&mut breaker, Ask::Fail).await.expect_err("it is asked to fail");
    }
    advance(5 * SECOND).await;
    for _ in 0..3 {
        assert_eq!(breaker.handle().state(), State::HalfOpen);
        ask(&mut breaker, Ask::Succeed).await.expect("it is a probe");
    }
    assert_eq!(breaker.handle().state(), State::HalfOpen);
    breaker
}

#[tokio::test(start_paused = true)]
async fn after_the_probes_a_ramp_lets_a_growing_share_of_the_calls_pass_and_then_closes() {
    let mut breaker = ramping().await;
    let mut passed = Vec::new();
    for _ in 0..10 {
        let mut count = 0;
        for _ in 0..100 {
            match ask(&mut breaker, Ask::Succeed).await {
                Ok(_) => count += 1,
                refused => assert_eq!(refusal(&refused), Some(Reason::BreakerOpen)),
            }
        }
        passed.push(count);
        advance(SECOND).await;
    }
    for (count, share) in passed.iter().zip([10, 10, 20, 30, 40, 50, 60, 70, 80, 90]) {
        assert!((share - 1..=share + 1).contains(count), "{passed:?}");
    }
    assert_eq!(breaker.handle().state(), State::Closed);
    assert_eq!(breaker.handle().snapshot().calls, 4, "what it saw on the ramp is not forgotten");
    for _ in 0..100 {
        ask(&mut breaker, Ask::Succeed).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn failures_on_the_ramp_open_it_for_twice_as_long() {
    let mut breaker = ramping().await;
    advance(9 * SECOND).await;
    let mut failures = 0;
    while breaker.handle().state() == State::HalfOpen {
        let failed = refusal(&ask(&mut breaker, Ask::Fail).await).is_none();
        failures += u32::from(failed);
    }
    assert_eq!(failures, 4, "as many as when it is closed");
    let remaining = breaker.handle().snapshot().remaining.unwrap();
    assert!(remaining >= 8 * SECOND && remaining <= 10 * SECOND, "{remaining:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_admitted_on_the_ramp_counts_when_it_is_closed() {
    let mut breaker = ramping().await;
    advance(9 * SECOND).await;
    ask(&mut breaker, Ask::Succeed).await.expect_err("nine tenths of a call do not pass");
    let mut late = [(); 4].map(|()| start(&mut breaker, Ask::FailAfter(SECOND)));
    advance(SECOND).await;
    assert_eq!(breaker.handle().state(), State::Closed);
    for call in &mut late {
        assert_eq!(assert_ready_err!(call.poll()), Error::Service("failed"));
    }
    assert_eq!(breaker.handle().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_probe_says_nothing_about_the_ramp() {
    let mut breaker = layer().ramp(10 * SECOND).layer(Backend::new().0);
    for _ in 0..4 {
        ask(&mut breaker, Ask::Fail).await.unwrap_err();
    }
    advance(5 * SECOND).await;
    drop(start(&mut breaker, Ask::QueueThenTake(SECOND, SECOND)));
    for _ in 0..3 {
        ask(&mut breaker, Ask::Succeed).await.unwrap();
    }
    let snapshot = breaker.handle().snapshot();
    assert_eq!((snapshot.state, snapshot.calls, snapshot.probes), (State::HalfOpen, 0, 0));
    breaker.handle().reset();
    assert_eq!(breaker.handle().state(), State::Closed, "a reset ends a ramp");
}

// === observing, and not at all ===

#[tokio::test(start_paused = true)]
async fn one_that_observes_only_counts_and_never_opens() {
    let (layer, handle) = layer().consecutive(1).slow(SECOND, 0.1).observe_only().with_handle();
    let mut breaker = layer.layer(Backend::new().0);
    for _ in 0..20 {
        ask(&mut breaker, Ask::FailAfter(SECOND)).await.unwrap_err();
    }
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.state, snapshot.opened, snapshot.refused), (State::Closed, 0, 0));
    assert_eq!((snapshot.calls, snapshot.failures, snapshot.slow), (4, 4, 4));
    assert_eq!(snapshot.consecutive, 20);
}

#[tokio::test(start_paused = true)]
async fn a_disabled_one_counts_nothing_and_never_opens() {
    let (layer, handle) =
        BreakerLayer::new().consecutive(1).slow(SECOND, 0.1).disabled().with_handle();
    let mut breaker = layer.layer(Backend::new().0);
    for asked in [Ask::Fail, Ask::Take(SECOND), Ask::Succeed, Ask::Fail] {
        let _ = ask(&mut breaker, asked).await;
    }
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.state, snapshot.opened, snapshot.refused), (State::Closed, 0, 0));
    assert_eq!((snapshot.calls, snapshot.consecutive), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn forcing_open_by_hand_works_in_all_modes() {
    for layer in [layer().observe_only(), layer().disabled(), layer().ramp(SECOND)] {
        let mut breaker = layer.layer(Backend::new().0);
        let forced = breaker.handle().force_open();
        let refused = ask(&mut breaker, Ask::Succeed).await;
        assert_eq!(refusal(&refused), Some(Reason::ForcedOpen));
        drop(forced);
        ask(&mut breaker, Ask::Succeed).await.unwrap();
    }
}
