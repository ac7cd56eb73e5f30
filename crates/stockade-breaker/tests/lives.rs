//! Calls that outlive their breaker, while its memory serves another one.

use std::{thread, time::Duration};

use common::{Ask, Backend, SECOND, ask, half_open, layer, start, subject};
use stockade_breaker::{BreakerLayer, State};
use tokio::time::advance;
use tokio_test::{assert_ready_err, assert_ready_ok};
use tower::Layer;

mod common;

#[tokio::test(start_paused = true)]
async fn a_call_goes_on_when_everything_else_of_its_breaker_is_dropped() {
    let (layer, handle) = layer().with_handle();
    let mut breaker = layer.layer(Backend::new().0);
    let mut succeeds = start(&mut breaker, Ask::Take(SECOND));
    let mut fails = start(&mut breaker, Ask::FailAfter(SECOND));
    let hangs = start(&mut breaker, Ask::Hang);
    drop((layer, handle, breaker));
    advance(SECOND).await;
    assert_ready_ok!(succeeds.poll());
    assert_ready_err!(fails.poll());
    drop(hangs);
}

#[tokio::test(start_paused = true)]
async fn late_calls_of_a_former_breaker_change_nothing_in_the_next() {
    for _ in 0..200 {
        let mut former = BreakerLayer::new().consecutive(1).layer(Backend::new().0);
        let mut fails = start(&mut former, Ask::FailAfter(SECOND));
        let mut succeeds = start(&mut former, Ask::Take(SECOND));
        let hangs = start(&mut former, Ask::Hang);
        drop(former);
        let next = BreakerLayer::new().consecutive(1).layer(Backend::new().0);
        advance(SECOND).await;
        assert_ready_err!(fails.poll());
        assert_ready_ok!(succeeds.poll());
        drop(hangs);
        let snapshot = next.handle().snapshot();
        assert_eq!((snapshot.state, snapshot.calls, snapshot.opened), (State::Closed, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn late_probes_of_a_former_breaker_free_no_place_in_the_next() {
    for late in [Ask::Hang, Ask::Take(5 * SECOND), Ask::FailAfter(5 * SECOND)] {
        let (mut former, _) = half_open().await;
        let mut probe = start(&mut former, late);
        drop(former);
        let (mut next, _) = half_open().await;
        let _out = start(&mut next, Ask::Hang);
        let _ = probe.poll();
        drop(probe);
        let snapshot = next.handle().snapshot();
        assert_eq!((snapshot.state, snapshot.probes), (State::HalfOpen, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn the_watchers_of_a_former_breaker_see_its_end_and_nothing_of_the_next() {
    let (former, _) = half_open().await;
    let mut watch = former.handle().watch();
    drop(former);
    let (mut next, _) = subject();
    for _ in 0..4 {
        ask(&mut next, Ask::Fail).await.unwrap_err();
    }
    assert_eq!(*watch.borrow(), State::HalfOpen);
    watch.changed().await.unwrap_err();
    assert_eq!(*next.handle().watch().borrow(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_handle_or_a_guard_alone_keeps_a_breaker() {
    let (breaker, _) = half_open().await;
    let forced = breaker.handle().force_open();
    let watch = breaker.handle().watch();
    drop(breaker);
    let others = [(); 8].map(|()| subject().0);
    assert_eq!(*watch.borrow(), State::ForcedOpen);
    assert!(others.iter().all(|other| other.handle().state() == State::Closed));
    drop(forced);
    assert!(watch.has_changed().is_err());
}

#[test]
fn breakers_that_come_and_go_on_many_threads_count_their_own_calls_only() {
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut late = Vec::new();
                for _ in 0..500 {
                    let layer = BreakerLayer::new().open_for(Duration::from_nanos(1));
                    let (layer, handle) = layer.with_handle();
                    let mut breaker = layer.layer(Backend::new().0);
                    late.push(start(&mut breaker, Ask::Hang));
                    drop(start(&mut breaker, Ask::Fail));
                    drop(start(&mut breaker, Ask::Succeed));
                    if late.len() > 5 {
                        late.clear();
                    }
                    let snapshot = handle.snapshot();
                    assert_eq!((snapshot.calls, snapshot.failures), (2, 1));
                }
            });
        }
    });
}
