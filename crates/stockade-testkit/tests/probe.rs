//! The probe does what its requests say, and records what is done to it.

use std::{future::poll_fn, time::Duration};

use stockade_core::Error;
use stockade_testkit::{Behaviour, Fault, Probe, Readiness, Request, Response, Violation};
use tokio::time::Instant;
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower_service::Service;

async fn call(probe: &Probe, request: Request) -> Result<Response, Error<Fault>> {
    let mut probe = probe.clone();
    poll_fn(|cx| probe.poll_ready(cx)).await?;
    probe.call(request).await
}

async fn readied(probe: &Probe) -> Probe {
    let mut probe = probe.clone();
    poll_fn(|cx| probe.poll_ready(cx)).await.expect("nobody said otherwise");
    probe
}

#[tokio::test]
async fn a_waiting_call_ends_when_it_is_released_and_not_before() {
    let probe = Probe::new();
    let mut first = task::spawn(readied(&probe).await.call(Request::wait(1)));
    let mut second = task::spawn(readied(&probe).await.call(Request::wait(2)));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    assert_eq!(probe.release(1), 1);
    assert!(first.is_woken());
    assert!(!second.is_woken());
    assert_eq!(assert_ready_ok!(first.poll()).id, 1);
    assert_pending!(second.poll());
    assert_eq!(probe.release_all(), 1);
    assert_ready_ok!(second.poll());
    assert_eq!(probe.started(), [1, 2]);
}

#[tokio::test]
async fn a_call_can_be_released_before_its_first_poll_but_not_before_it_starts() {
    let probe = Probe::new();
    assert_eq!(probe.release(1), 0);
    let mut future = task::spawn(readied(&probe).await.call(Request::wait(1)));
    assert_pending!(future.poll());
    drop(future);
    let mut future = task::spawn(readied(&probe).await.call(Request::wait(1)));
    assert_eq!(probe.release(1), 1);
    assert_ready_ok!(future.poll());
}

#[tokio::test]
async fn the_probe_counts_running_calls_and_kept_futures() {
    let probe = Probe::new();
    let mut ended = task::spawn(readied(&probe).await.call(Request::ready(1)));
    let dropped = readied(&probe).await.call(Request::wait(2));
    assert_eq!((probe.in_flight(), probe.live(), probe.peak()), (2, 2, 2));
    assert_ready_ok!(ended.poll());
    assert_eq!((probe.in_flight(), probe.live()), (1, 2), "an ended call does not run");
    drop(dropped);
    assert_eq!((probe.in_flight(), probe.live(), probe.peak()), (0, 1, 2));
    assert_eq!((probe.calls(), probe.polls(), probe.ready_polls()), (2, 1, 2));
}

#[tokio::test]
async fn a_call_yields_as_often_as_its_request_says() {
    let mut future =
        task::spawn(readied(&Probe::new()).await.call(Request::new(1, Behaviour::Yield(2))));
    assert_pending!(future.poll());
    assert!(future.is_woken());
    assert_pending!(future.poll());
    assert_ready_ok!(future.poll());
}

#[tokio::test(start_paused = true)]
async fn a_call_sleeps_on_tokios_clock() {
    let start = Instant::now();
    let second = Duration::from_secs(1);
    call(&Probe::new(), Request::new(1, Behaviour::Sleep(second))).await.unwrap();
    assert_eq!(start.elapsed(), second);
}

#[tokio::test]
async fn each_failure_is_a_fault_of_its_own() {
    let probe = Probe::new();
    let fails = Request::new(7, Behaviour::FailTimes(2));
    let first = call(&probe, fails.clone()).await.unwrap_err();
    let second = call(&probe, fails.clone()).await.unwrap_err();
    assert_eq!(first, Error::Service(Fault { request: Some(7), number: 1 }));
    assert_eq!(second, Error::Service(Fault { request: Some(7), number: 2 }));
    assert_eq!(call(&probe, fails).await.unwrap().id, 7);
    call(&probe, Request::fail(8)).await.unwrap_err();
    assert_eq!(probe.faults().len(), 3);
}

#[tokio::test]
async fn a_call_that_panicked_no_longer_runs() {
    let probe = Probe::new();
    for behaviour in [Behaviour::PanicInCall, Behaviour::PanicInFuture] {
        let probe = probe.clone();
        let call = tokio::spawn(async move { call(&probe, Request::new(1, behaviour)).await });
        assert!(call.await.unwrap_err().is_panic());
    }
    assert_eq!((probe.calls(), probe.in_flight(), probe.live()), (2, 0, 0));
}

#[tokio::test]
async fn a_busy_call_uses_up_the_budget_until_it_is_released() {
    let probe = Probe::new();
    let mut inner = readied(&probe).await;
    let busy = tokio::spawn(async move {
        let mut future = std::pin::pin!(inner.call(Request::new(1, Behaviour::Busy)));
        let polled = poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
        assert!(!tokio::task::coop::has_budget_remaining());
        future.await
    });
    tokio::task::yield_now().await;
    assert_eq!(probe.release(1), 1);
    busy.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_request_that_is_named_behaves_as_it_is_called() {
    let probe = Probe::new();
    let twice = Request::fail_times(1, 2);
    for answered in [false, false, true, true] {
        assert_eq!(call(&probe, twice.clone()).await.is_ok(), answered);
    }
    let (since, hour) = (Instant::now(), Duration::from_secs(3_600));
    call(&probe, Request::sleep(2, hour)).await.unwrap();
    assert!(since.elapsed() >= hour);
    let panics = tokio::spawn(async move { call(&probe, Request::panic(3)).await });
    assert!(panics.await.unwrap_err().is_panic());
}

#[tokio::test]
async fn readiness_is_what_the_handle_sets() {
    let probe = Probe::new();
    let mut instance = probe.clone();
    let mut ready = task::spawn(poll_fn(|cx| instance.poll_ready(cx)));
    probe.set_ready(Readiness::Pending);
    assert_pending!(ready.poll());
    probe.set_ready(Readiness::Error);
    assert!(ready.is_woken());
    let error = assert_ready_err!(ready.poll());
    assert_eq!(error, Error::Service(Fault { request: None, number: 1 }));
    probe.set_ready(Readiness::Ready);
    assert_ready!(ready.poll()).unwrap();
}

#[tokio::test]
async fn a_slot_is_held_from_readiness_to_the_end_of_the_call() {
    let probe = Probe::new();
    probe.set_slots(1);
    let mut holder = readied(&probe).await;
    let mut other = probe.clone();
    let mut ready = task::spawn(poll_fn(|cx| other.poll_ready(cx)));
    assert_pending!(ready.poll());
    let mut future = task::spawn(holder.call(Request::ready(1)));
    assert_pending!(ready.poll(), "the call has taken the slot over");
    assert_ready_ok!(future.poll());
    assert!(ready.is_woken(), "the future is kept, the slot is not");
    assert_ready_ok!(ready.poll());
    assert_eq!(probe.reserved(), 1);
    drop(ready);
    drop(other);
    assert_eq!(probe.reserved(), 0);
}

#[tokio::test]
async fn mistakes_of_the_stack_are_recorded() {
    let probe = Probe::new();
    let mut original = readied(&probe).await;
    let mut future = task::spawn(original.clone().call(Request::ready(1)));
    assert_ready_ok!(future.poll());
    assert_pending!(future.poll());
    drop(original.call(Request::ready(2)));
    drop(original.call(Request::ready(3)));
    let expected = [
        Violation::CalledUnready { request: 1 },
        Violation::PolledAfterEnd { request: 1 },
        Violation::CalledUnready { request: 3 },
    ];
    assert_eq!(probe.violations(), expected);
}
