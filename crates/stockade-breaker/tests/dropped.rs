//! Calls that their callers give up, and calls that wait in queues of the stack.

use std::time::Duration;

use common::{Ask, Backend, SECOND, Subject, ask, half_open, layer, refusal, start, subject};
use stockade_breaker::{BreakerLayer, State, Trip};
use stockade_core::{Error, Reason};
use stockade_rate::RateLayer;
use tokio::{
    task::JoinSet,
    time::{advance, sleep, timeout},
};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

mod common;

const MS: Duration = Duration::from_millis(1);

/// A caller with a foreign timeout around a service that hangs. True if the call reached the service.
async fn give_up(breaker: &mut Subject) -> bool {
    let answer = timeout(100 * MS, ask(breaker, Ask::Hang)).await;
    answer.is_err()
}

#[tokio::test(start_paused = true)]
async fn foreign_timeouts_around_a_service_that_hangs_open_it() {
    let layers = [
        (BreakerLayer::new(), 20, Trip::FailureRate),
        (BreakerLayer::new().consecutive(5), 5, Trip::Consecutive),
        (BreakerLayer::new().slow(50 * MS, 0.5), 20, Trip::FailureRate),
    ];
    for (layer, expected, trip) in layers {
        let mut breaker = layer.layer(Backend::new().0);
        let mut reached = 0;
        for _ in 0..500 {
            if breaker.handle().state() == State::Open {
                break;
            }
            reached += u32::from(give_up(&mut breaker).await);
        }
        assert_eq!((reached, breaker.handle().state()), (expected, State::Open));
        assert_eq!(breaker.handle().status().cause.unwrap().trip, trip);
    }
}

#[tokio::test(start_paused = true)]
async fn five_hundred_callers_at_once_that_give_up_on_a_service_that_hangs_open_it() {
    let mut breaker = BreakerLayer::new().layer(Backend::new().0);
    let calls = [(); 500].map(|()| start(&mut breaker, Ask::Hang));
    advance(100 * MS).await;
    drop(calls);
    assert_eq!(breaker.handle().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_hangs_after_it_was_well_opens_it_as_soon() {
    let mut breaker = BreakerLayer::new().consecutive(5).layer(Backend::new().0);
    for _ in 0..200 {
        ask(&mut breaker, Ask::Succeed).await.unwrap();
    }
    for _ in 0..5 {
        assert_eq!(breaker.handle().state(), State::Closed);
        assert!(give_up(&mut breaker).await);
    }
    assert_eq!(breaker.handle().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn callers_that_give_up_on_a_service_that_answers_others_do_no_harm() {
    let mut breaker = BreakerLayer::new().consecutive(1).layer(Backend::new().0);
    for _ in 0..500 {
        let gives_up = start(&mut breaker, Ask::Hang);
        ask(&mut breaker, Ask::Succeed).await.unwrap();
        drop(gives_up);
    }
    let snapshot = breaker.handle().snapshot();
    assert_eq!((snapshot.state, snapshot.failures), (State::Closed, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_after_the_slow_time_is_a_slow_failure_whoever_else_is_answered() {
    let mut breaker = layer().slow(50 * MS, 1.0).layer(Backend::new().0);
    for out in [49 * MS, 50 * MS] {
        let gives_up = start(&mut breaker, Ask::Hang);
        ask(&mut breaker, Ask::Succeed).await.unwrap();
        advance(out).await;
        drop(gives_up);
    }
    let snapshot = breaker.handle().snapshot();
    assert_eq!((snapshot.calls, snapshot.failures, snapshot.slow), (3, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_probe_that_hung_reopens_and_does_not_make_room_for_ninety_more() {
    let (mut breaker, backend) = half_open().await;
    for _ in 0..90 {
        give_up(&mut breaker).await;
        advance(MS).await;
    }
    assert_eq!(breaker.handle().state(), State::Open);
    assert_eq!(backend.called(), 4 + 1, "the one probe");
    assert_eq!(breaker.handle().status().cause.unwrap().trip, Trip::Probe);
}

#[tokio::test(start_paused = true)]
async fn a_probe_dropped_while_another_is_answered_gives_its_place_to_the_next() {
    let (mut breaker, _) = half_open().await;
    for _ in 0..2 {
        let gives_up = start(&mut breaker, Ask::Hang);
        ask(&mut breaker, Ask::Succeed).await.unwrap();
        drop(gives_up);
        let snapshot = breaker.handle().snapshot();
        assert_eq!((snapshot.state, snapshot.probes), (State::HalfOpen, 0));
    }
    ask(&mut breaker, Ask::Succeed).await.unwrap();
    assert_eq!(breaker.handle().state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn waiting_in_a_queue_of_the_stack_is_not_being_out() {
    let mut breaker = layer().slow(50 * MS, 0.5).layer(Backend::new().0);
    for _ in 0..20 {
        let queued = start(&mut breaker, Ask::QueueThenTake(SECOND, SECOND));
        advance(100 * MS).await;
        drop(queued);
    }
    let snapshot = breaker.handle().snapshot();
    assert_eq!((snapshot.state, snapshot.calls), (State::Closed, 0));
    let (mut breaker, _) = subject();
    for _ in 0..20 {
        let queued = start(&mut breaker, Ask::QueueThenTake(SECOND, SECOND));
        advance(100 * MS).await;
        drop(queued);
    }
    assert_eq!(breaker.handle().snapshot().calls, 0, "the same where no call is timed");
}

#[tokio::test(start_paused = true)]
async fn only_the_time_of_the_service_is_slow() {
    let mut breaker = layer().slow(50 * MS, 0.5).layer(Backend::new().0);
    for _ in 0..20 {
        ask(&mut breaker, Ask::QueueThenTake(SECOND, 10 * MS)).await.unwrap();
    }
    assert_eq!(breaker.handle().snapshot().slow, 0);
    for _ in 0..2 {
        ask(&mut breaker, Ask::QueueThenTake(SECOND, 50 * MS)).await.unwrap();
    }
    assert_eq!(breaker.handle().status().cause.unwrap().trip, Trip::SlowRate);
    assert_eq!(refusal(&ask(&mut breaker, Ask::Succeed).await), Some(Reason::BreakerOpen));
}

#[tokio::test(start_paused = true)]
async fn the_queue_of_a_rate_limit_inside_is_not_the_service() {
    let layers = [BreakerLayer::new(), BreakerLayer::new().slow(50 * MS, 0.5)];
    for (layer, patience) in
        layers.into_iter().flat_map(|layer| [SECOND * 60, 100 * MS].map(|p| (layer.clone(), p)))
    {
        let (layer, handle) = layer.name("search").with_handle();
        let stack = ServiceBuilder::new()
            .layer(layer)
            .layer(RateLayer::per_second(20).queue(200))
            .service(service_fn(async |()| {
                sleep(10 * MS).await;
                Ok::<_, Error<&'static str>>(())
            }));
        let calls = (0..200).map(|_| timeout(patience, stack.clone().oneshot(())));
        let answers = calls.collect::<JoinSet<_>>().join_all().await;
        let answered = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(answered == 200, patience > SECOND);
        let snapshot = handle.snapshot();
        assert_eq!((snapshot.state, snapshot.slow, snapshot.failures), (State::Closed, 0, 0));
    }
}
