//! The way back: hints of the server, probes that hang, and many callers at once.

use std::time::Duration;

use common::{Ask, Backend, SECOND, Subject, ask, half_open, layer, opened, start};
use stockade_breaker::{BreakerLayer, Config, Slow, State, Trip};
use stockade_core::{Class, Error, LayerError};
use tokio::time::{Instant, advance, sleep};
use tower::Layer;

mod common;

const MS: Duration = Duration::from_millis(1);

// === hints ===

#[tokio::test(start_paused = true)]
async fn the_hint_of_the_server_is_a_floor_for_the_open_time_of_every_round() {
    let classes: [fn(Option<Duration>) -> Class; 4] = [
        |after| Class::Overload { after, processed: true },
        |after| Class::Overload { after, processed: false },
        |after| Class::Transient { after },
        |after| Class::NoEffect { after },
    ];
    for class in classes {
        let classify =
            move |_: Result<&&'static str, &Error<&'static str>>| class(Some(30 * SECOND));
        let layer = BreakerLayer::new().consecutive(1).open_for(SECOND).classify(classify);
        let (layer, handle) = layer.with_handle();
        let mut breaker = layer.layer(Backend::new().0);
        for _ in 0..4 {
            ask(&mut breaker, Ask::Fail).await.unwrap_err();
            let remaining = handle.snapshot().remaining.unwrap();
            assert!(remaining >= 30 * SECOND && remaining <= 33 * SECOND, "{remaining:?}");
            let refused = ask(&mut breaker, Ask::Fail).await.unwrap_err();
            assert_eq!(refused.rejected().unwrap().retry_after(), Some(remaining));
            advance(remaining).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_of_nothing_of_a_day_or_of_ages_breaks_nothing() {
    let day = 86_400 * SECOND;
    for (hint, least, most) in [
        (Duration::ZERO, 4 * SECOND, 5 * SECOND),
        (day, day, day * 11 / 10),
        (Duration::MAX, day, day * 11 / 10),
    ] {
        let class = Class::Overload { after: Some(hint), processed: false };
        let classify = move |_: Result<&&'static str, &Error<&'static str>>| class;
        let layer = BreakerLayer::new().consecutive(1).classify(classify);
        let mut breaker = layer.layer(Backend::new().0);
        ask(&mut breaker, Ask::Fail).await.unwrap_err();
        let remaining = breaker.handle().snapshot().remaining.unwrap();
        assert!(remaining >= least && remaining <= most, "{remaining:?}");
    }
}

// === probes ===

#[tokio::test(start_paused = true)]
async fn one_of_three_probes_that_hangs_does_not_keep_a_service_away_that_is_well() {
    let (mut breaker, _) = half_open().await;
    let begin = Instant::now();
    let _hangs = start(&mut breaker, Ask::Hang);
    while breaker.handle().state() == State::HalfOpen {
        let _ = ask(&mut breaker, Ask::Take(10 * MS)).await;
        advance(90 * MS).await;
    }
    assert_eq!(breaker.handle().state(), State::Closed);
    assert!(begin.elapsed() <= 6 * SECOND, "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn calls_that_take_longer_than_the_open_time_recover_all_the_same() {
    let layer = BreakerLayer::new().consecutive(1).open_for(SECOND);
    let mut breaker = layer.layer(Backend::new().0);
    ask(&mut breaker, Ask::Fail).await.unwrap_err();
    let begin = Instant::now();
    while breaker.handle().state() != State::Closed {
        let _ = ask(&mut breaker, Ask::Take(3 * SECOND)).await;
        advance(MS).await;
    }
    assert!(begin.elapsed() < 30 * SECOND, "{:?}", begin.elapsed());
}

// === many callers ===

/// Calls until it is answered, and comes back when it is told to, up to a tenth later. Fails when its waits
/// would be more than `most` together. Gives when it was answered.
async fn comes_back(mut breaker: Subject, number: u32, most: Duration) -> Option<Instant> {
    let mut waited = Duration::ZERO;
    loop {
        let refused = match ask(&mut breaker, Ask::Take(200 * MS)).await {
            Ok(_) => return Some(Instant::now()),
            Err(error) => *error.rejected().expect("the service is well"),
        };
        let told = refused.retry_after().expect("it is told when to come back");
        let wait = told + told.mul_f64(f64::from(number) / 500.0);
        waited += wait;
        if waited > most {
            return None;
        }
        sleep(wait).await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_fifty_callers_that_come_back_when_told_none_fails_in_a_slow_recovery() {
    for _ in 0..20 {
        let (breaker, backend) = opened().await;
        let begin = Instant::now();
        let callers =
            (0..50).map(|number| tokio::spawn(comes_back(breaker.clone(), number, 10 * SECOND)));
        let callers: Vec<_> = callers.collect();
        let mut answered = Vec::new();
        for caller in callers {
            answered.push(caller.await.unwrap().expect("it is answered"));
        }
        let last = answered.iter().max().unwrap().duration_since(begin);
        assert!(last <= 7 * SECOND, "{last:?}");
        answered.sort_unstable();
        answered.dedup();
        assert!(answered.len() > 10, "in {} instants only", answered.len());
        assert_eq!(backend.called(), 4 + 50);
    }
}

#[tokio::test(start_paused = true)]
async fn callers_that_the_probes_leave_out_are_told_different_times() {
    let (mut breaker, _) = half_open().await;
    let _out = [(); 3].map(|()| start(&mut breaker, Ask::Take(SECOND)));
    let mut told = Vec::new();
    for _ in 0..50 {
        let refused = ask(&mut breaker, Ask::Succeed).await.unwrap_err();
        told.push(refused.rejected().unwrap().retry_after().unwrap());
    }
    assert!(told.iter().all(|time| *time >= 100 * MS && *time <= 200 * MS), "{told:?}");
    told.sort_unstable();
    told.dedup();
    assert!(told.len() > 40, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn callers_that_the_ramp_leaves_out_are_told_when_to_come_back() {
    let mut breaker = layer().ramp(10 * SECOND).layer(Backend::new().0);
    for _ in 0..4 {
        ask(&mut breaker, Ask::Fail).await.unwrap_err();
    }
    advance(5 * SECOND).await;
    for _ in 0..3 {
        ask(&mut breaker, Ask::Succeed).await.unwrap();
    }
    let refused = ask(&mut breaker, Ask::Succeed).await.unwrap_err();
    let told = refused.rejected().unwrap().retry_after().unwrap();
    assert!(told >= SECOND / 2 && told <= 3 * SECOND / 2, "{told:?}");
}

// === why ===

#[tokio::test(start_paused = true)]
async fn the_state_the_watch_and_the_snapshot_keep_the_cause_with_its_figures_while_open() {
    let mut breaker = layer().min_calls(2).slow(SECOND, 1.0).layer(Backend::new().0);
    let handle = breaker.handle();
    let watch = handle.watch();
    assert_eq!(handle.status().cause, None);
    ask(&mut breaker, Ask::Succeed).await.unwrap();
    ask(&mut breaker, Ask::FailAfter(SECOND)).await.unwrap_err();
    let cause = handle.status().cause.expect("it is open");
    assert_eq!((cause.trip, cause.calls, cause.failures), (Trip::FailureRate, 2, 1));
    assert_eq!((cause.slow, cause.consecutive, cause.ratio), (1, 1, 0.5));
    assert_eq!(cause.to_string(), "failure rate 0.50 of 2 calls");
    assert_eq!(*watch.borrow(), State::Open);
    assert_eq!(watch.borrow().cause, Some(cause));
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.calls, snapshot.cause), (0, Some(cause)));
    advance(5 * SECOND).await;
    assert_eq!(handle.status().cause, Some(cause), "half-open, and not closed yet");
    let forced = handle.force_open();
    assert_eq!(handle.status().cause.unwrap().trip, Trip::Forced);
    drop(forced);
    for _ in 0..3 {
        ask(&mut breaker, Ask::Succeed).await.unwrap();
    }
    assert_eq!((handle.state(), handle.status().cause), (State::Closed, None));
    assert_eq!(watch.borrow().cause, None);
}

// === at run time ===

#[tokio::test(start_paused = true)]
async fn a_breaker_that_runs_takes_another_configuration() {
    let (mut breaker, _) = half_open().await;
    let handle = breaker.handle();
    let mut config = handle.config();
    assert_eq!(config.probes, 3);
    config.probes = 1;
    config.consecutive = Some(2);
    config.slow = Some(Slow { after: SECOND, rate: 1.0 });
    handle.set(config).unwrap();
    assert_eq!((handle.state(), handle.config()), (State::HalfOpen, config));
    ask(&mut breaker, Ask::Succeed).await.unwrap();
    assert_eq!(handle.state(), State::Closed);
    for state in [State::Closed, State::Open] {
        ask(&mut breaker, Ask::Fail).await.unwrap_err();
        assert_eq!(handle.state(), state);
    }
    handle.set(Config::default()).unwrap();
    assert_eq!(handle.state(), State::Open, "the state stays");
}

#[tokio::test(start_paused = true)]
async fn a_breaker_is_switched_off_and_on_at_run_time() {
    let (mut breaker, _) = opened().await;
    let handle = breaker.handle();
    handle.set_enabled(false);
    for _ in 0..20 {
        assert_eq!(ask(&mut breaker, Ask::Fail).await, Err(Error::Service("failed")));
    }
    assert_eq!((handle.state(), handle.snapshot().calls), (State::Closed, 0));
    handle.set_enabled(true);
    for state in [State::Closed, State::Closed, State::Closed, State::Open] {
        ask(&mut breaker, Ask::Fail).await.unwrap_err();
        assert_eq!(handle.state(), state);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_passes_the_breaker_by_reaches_the_service_and_does_not_count() {
    let layer = layer().bypass(|ask: &Ask| matches!(ask, Ask::Take(_)));
    let (layer, handle) = layer.with_handle();
    let mut breaker = layer.layer(Backend::new().0);
    ask(&mut breaker, Ask::Take(SECOND)).await.unwrap();
    assert_eq!(handle.snapshot().calls, 0);
    let _forced = handle.force_open();
    ask(&mut breaker, Ask::Take(SECOND)).await.unwrap();
    ask(&mut breaker, Ask::Succeed).await.unwrap_err();
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.refused, snapshot.refused_forced_open), (1, 1));
}

// === by hand ===

#[tokio::test(start_paused = true)]
async fn what_is_no_service_asks_by_hand_and_says_how_it_ended() {
    let (layer, handle) = layer().with_handle();
    let counts = || {
        let snapshot = handle.snapshot();
        (snapshot.calls, snapshot.failures)
    };
    handle.admit().unwrap().success();
    handle.admit().unwrap().failure();
    handle.admit().unwrap().ignore();
    assert_eq!(counts(), (2, 1));
    let dropped = handle.admit().unwrap();
    handle.admit().unwrap().success();
    drop(dropped);
    assert_eq!(counts(), (3, 1), "another was answered in between");
    drop(handle.admit().unwrap());
    assert_eq!(handle.state(), State::Open, "nobody was answered in between");
    let refused = handle.admit().unwrap_err();
    assert!(refused.retry_after().is_some());
    advance(5 * SECOND).await;
    let hint = Class::Overload { after: Some(60 * SECOND), processed: false };
    handle.admit().unwrap().report(hint);
    assert!(handle.snapshot().remaining >= Some(60 * SECOND));
    drop(layer);
}
