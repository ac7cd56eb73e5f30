//! What the timeout does, on the paused clock.

use std::{
    convert::Infallible,
    future::{pending, poll_fn},
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use stockade_core::{
    Error, LayerError, Reason,
    deadline::{self, Deadline},
};
use stockade_timeout::{Timeout, TimeoutLayer};
use tokio::{
    runtime::Handle,
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task as polled};
use tower::{Layer, Service, ServiceExt, service_fn};

type Refusal = Error<Infallible>;

const MS: Duration = Duration::from_millis(1);

fn layer(millis: u32) -> TimeoutLayer {
    TimeoutLayer::new(MS * millis)
}

/// Answers with the deadline it saw, after the wait it is asked for.
async fn see(wait: Duration) -> Result<Option<Instant>, Refusal> {
    let deadline = deadline::current();
    sleep(wait).await;
    Ok(deadline)
}

fn fires_about(start: Instant, millis: u128) {
    let took = start.elapsed().as_millis();
    assert!((millis..=millis + 2).contains(&took), "took {took} ms instead of {millis}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_too_long_is_dropped_and_the_error_carries_the_limit() {
    let (alive, gone) = tokio::sync::oneshot::channel::<()>();
    let mut alive = Some(alive);
    let mut svc = layer(20).name("slow").layer(service_fn(move |()| {
        let alive = alive.take();
        async move {
            let _alive = alive;
            pending::<Result<(), Refusal>>().await
        }
    }));
    let start = Instant::now();
    let mut call = pin!(svc.call(()));
    let error = call.as_mut().await.unwrap_err();
    fires_about(start, 20);
    assert_eq!(error.rejected().unwrap().limit(), Some(20 * MS));
    assert_eq!(error.to_string(), "timeout `slow`: timed out after 20ms");
    assert!(gone.await.is_err(), "the call inside is dropped although the future is kept");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_answered_at_once_reads_no_clock_and_starts_no_timer() {
    let svc = layer(20).layer(service_fn(async |n: u32| Ok::<_, Refusal>(n)));
    let mut call = polled::spawn(svc.oneshot(7));
    assert_eq!(assert_ready_ok!(call.poll()), 7);
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

#[test]
fn a_call_that_is_answered_at_once_needs_no_runtime() {
    let svc = layer(20).layer(service_fn(async |n: u32| Ok::<_, Refusal>(n)));
    assert_eq!(assert_ready_ok!(polled::spawn(svc.oneshot(7)).poll()), 7);
}

#[test]
#[should_panic(expected = "no tokio runtime here")]
fn a_call_that_waits_outside_a_runtime_says_so() {
    let svc = layer(20).layer(service_fn(|()| pending::<Result<(), Refusal>>()));
    assert_pending!(polled::spawn(svc.oneshot(())).poll());
}

#[tokio::test(start_paused = true)]
async fn time_spent_before_the_first_poll_does_not_count() {
    let mut svc = layer(20).layer(service_fn(see));
    let call = svc.call(15 * MS);
    sleep(100 * MS).await;
    call.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_there_when_the_timer_fires_is_not_lost() {
    let mut svc = layer(20).layer(service_fn(see));
    let mut call = polled::spawn(svc.call(10 * MS));
    assert_pending!(call.poll());
    sleep(100 * MS).await;
    assert_ready_ok!(call.poll());
}

#[tokio::test(start_paused = true)]
async fn the_layers_inside_see_the_earliest_deadline() {
    let start = Instant::now();
    for (outer, inner) in [(30, 50), (50, 30)] {
        let svc = layer(outer).layer(layer(inner).layer(service_fn(see)));
        assert_eq!(svc.oneshot(Duration::ZERO).await.unwrap(), Some(start + 30 * MS));
    }
}

#[tokio::test(start_paused = true)]
async fn nested_timeouts_fire_at_the_earliest_and_say_which() {
    for (outer, inner, limit) in [(30, 50, 30), (50, 30, 30)] {
        let start = Instant::now();
        let svc =
            layer(outer).name("outer").layer(layer(inner).name("inner").layer(service_fn(see)));
        let error = svc.oneshot(1_000 * MS).await.unwrap_err();
        let rejected = error.rejected().unwrap();
        fires_about(start, 30);
        assert_eq!(rejected.limit(), Some(limit * MS));
        assert_eq!(rejected.name(), Some(if outer < inner { "outer" } else { "inner" }));
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_set_by_someone_else_is_seen_inside() {
    let soon = Instant::now() + 5 * MS;
    let mut svc = layer(50).layer(service_fn(async |()| Ok::<_, Refusal>(deadline::current())));
    let mut call = Deadline::At(soon).enter(|| polled::spawn(svc.call(())));
    let seen = Deadline::At(soon).enter(|| assert_ready_ok!(call.poll()));
    assert_eq!(seen, Some(soon));
    assert_eq!(deadline::current(), None);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_nobody_else_keeps_is_kept_and_the_error_says_what_the_call_was_left() {
    let svc = layer(500).layer(service_fn(see));
    let start = Instant::now();
    let mut outside = Deadline::At(start + 20 * MS);
    let mut call = pin!(svc.oneshot(1_000 * MS));
    let error = poll_fn(|cx| outside.enter(|| call.as_mut().poll(cx))).await.unwrap_err();
    fires_about(start, 22);
    assert_eq!(error.rejected().unwrap().limit(), Some(22 * MS));
}

#[tokio::test(start_paused = true)]
async fn of_the_limits_of_the_layer_and_of_the_request_the_shorter_one_holds() {
    let limits = [Some(10), Some(80), Some(u64::MAX), None];
    for (own, expected) in limits.into_iter().zip([10, 50, 50, 50]) {
        let own = own.map(Duration::from_millis);
        let svc = layer(50).per_request(move |_: &Duration| own).layer(service_fn(see));
        let start = Instant::now();
        let seen = svc.clone().oneshot(Duration::ZERO).await.unwrap();
        assert_eq!(seen, Some(start + MS * expected));
        let start = Instant::now();
        let error = svc.oneshot(1_000 * MS).await.unwrap_err();
        fires_about(start, u128::from(expected));
        assert_eq!(error.rejected().unwrap().limit(), Some(MS * expected));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_with_no_time_has_to_be_answered_at_the_first_poll() {
    let none = layer(50).per_request(|_: &u32| Some(Duration::ZERO));
    let at_once = none.layer(service_fn(async |n: u32| Ok::<_, Refusal>(n)));
    assert_eq!(at_once.oneshot(7).await.unwrap(), 7);
    let start = Instant::now();
    let never = none.layer(service_fn(|_: u32| pending::<Result<(), Refusal>>()));
    let error = never.oneshot(7).await.unwrap_err();
    fires_about(start, 0);
    assert_eq!(error.rejected().unwrap().reason(), Reason::Elapsed);
}

#[tokio::test(start_paused = true)]
async fn limits_that_differ_from_call_to_call_are_each_kept() {
    let svc = layer(60_000)
        .per_request(|own: &Duration| Some(*own))
        .layer(service_fn(|_: Duration| pending::<Result<(), Refusal>>()));
    let mut calls = JoinSet::new();
    for n in 0..5_000_u32 {
        let (svc, own) = (svc.clone(), MS * (n.wrapping_mul(2_654_435_761) % 30_000));
        calls.spawn(async move {
            let start = Instant::now();
            assert!(svc.oneshot(own).await.is_err());
            fires_about(start, own.as_millis());
        });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
    tokio::task::yield_now().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_where_the_limit_of_a_request_is_told_leaves_nothing() {
    let svc = layer(20).per_request(|_: &Duration| panic!("no limit")).layer(service_fn(see));
    assert!(tokio::spawn(svc.oneshot(MS)).await.unwrap_err().is_panic());
    assert!(!deadline::is_set());
}

#[test]
fn a_fixed_limit_makes_the_service_no_larger() {
    // What it shares, and whether readiness counts.
    assert_eq!(size_of::<Timeout<()>>(), 2 * size_of::<usize>());
}

#[tokio::test(start_paused = true)]
async fn each_timeout_says_its_own_name() {
    for name in ["one", "two", "one"] {
        // An owned name may be given too.
        let svc = layer(20)
            .name(name.to_owned())
            .layer(service_fn(|()| pending::<Result<(), Error<()>>>()));
        let Error::Rejected(rejected) = svc.oneshot(()).await.unwrap_err() else { panic!() };
        assert_eq!(rejected.name(), Some(name));
    }
}

#[tokio::test(start_paused = true)]
async fn it_fires_although_the_call_eats_the_cooperative_budget() {
    let svc = layer(20).layer(service_fn(|()| {
        poll_fn(|cx| {
            exhaust(cx);
            Poll::<Result<(), Refusal>>::Pending
        })
    }));
    // A busy call keeps a paused clock from moving by itself.
    let advance = tokio::spawn(async {
        for _ in 0..40 {
            tokio::time::advance(MS).await;
        }
    });
    let error = tokio::spawn(svc.oneshot(())).await.unwrap().unwrap_err();
    assert_eq!(error.rejected().unwrap().reason(), Reason::Elapsed);
    advance.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_panic_inside_is_a_panic_and_not_a_timeout() {
    let svc = layer(20).layer(service_fn(async |()| -> Result<(), Refusal> { panic!("inside") }));
    let panic = tokio::spawn(svc.clone().oneshot(())).await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"inside"));
    assert!(!deadline::is_set());
}

#[tokio::test(start_paused = true)]
async fn thousands_of_calls_start_no_task_and_leave_nothing() {
    let svc: Timeout<_> = layer(20).layer(service_fn(see));
    let start = Instant::now();
    let mut calls = JoinSet::new();
    for n in 0..5_000 {
        calls.spawn(svc.clone().oneshot(MS * (5 + n % 2 * 1_000)));
    }
    tokio::task::yield_now().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 5_000);
    let results = calls.join_all().await;
    fires_about(start, 20);
    assert_eq!(results.into_iter().filter(Result::is_ok).count(), 2_500);
    tokio::task::yield_now().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_budget_does_not_pass_for_a_late_answer() {
    let mut svc = layer(20).layer(service_fn(see));
    let mut call = polled::spawn(svc.call(10 * MS));
    assert_pending!(call.poll());
    sleep(100 * MS).await;
    poll_fn(|cx| {
        exhaust(cx);
        assert_pending!(call.poll());
        Poll::Ready(())
    })
    .await;
    assert!(call.is_woken());
    tokio::task::yield_now().await;
    assert_ready_ok!(call.poll());
}

/// Is ready after the wait that it is made with, counted from the first `poll_ready`, and answers each call after
/// the wait that it is asked for.
#[derive(Clone, Debug)]
struct SlowlyReady {
    after: Duration,
    since: Option<Instant>,
}

fn slowly_ready(after: Duration) -> SlowlyReady {
    SlowlyReady { after, since: None }
}

impl Service<Duration> for SlowlyReady {
    type Response = Option<Instant>;
    type Error = Refusal;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Option<Instant>, Refusal>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.after {
            return Poll::Ready(Ok(()));
        }
        let (waker, until) = (cx.waker().clone(), since + self.after);
        tokio::spawn(async move {
            tokio::time::sleep_until(until).await;
            waker.wake();
        });
        Poll::Pending
    }

    fn call(&mut self, wait: Duration) -> Self::Future {
        self.since = None;
        Box::pin(see(wait))
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_readiness_hangs_is_timed_out_and_may_be_asked_again() {
    let mut svc = layer(20).readiness().name("db").layer(slowly_ready(50 * MS));
    let start = Instant::now();
    let error = svc.ready().await.err().unwrap();
    fires_about(start, 20);
    assert_eq!(error.to_string(), "timeout `db`: timed out after 20ms");
    let error = svc.ready().await.err().unwrap();
    fires_about(start, 40);
    assert_eq!(error.rejected().unwrap().reason(), Reason::Elapsed);
    assert!(svc.ready().await.is_ok());
    fires_about(start, 50);
}

#[tokio::test(start_paused = true)]
async fn readiness_does_not_count_unless_it_was_asked_for() {
    let start = Instant::now();
    layer(20).layer(slowly_ready(50 * MS)).oneshot(10 * MS).await.unwrap();
    fires_about(start, 60);
}

#[tokio::test(start_paused = true)]
async fn readiness_and_the_call_share_one_limit_and_the_time_between_does_not_count() {
    let mut svc = layer(50).readiness().layer(slowly_ready(20 * MS));
    svc.ready().await.unwrap();
    sleep(1_000 * MS).await;
    svc.ready().await.unwrap();
    let start = Instant::now();
    let error = svc.call(1_000 * MS).await.unwrap_err();
    fires_about(start, 30);
    assert_eq!(error.rejected().unwrap().limit(), Some(50 * MS), "what both may take");
    // Only the call after that readiness has less time.
    let start = Instant::now();
    assert!(svc.call(1_000 * MS).await.is_err());
    fires_about(start, 50);
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_readiness_at_once_or_from_a_clone_has_the_whole_limit() {
    let mut svc = layer(50).readiness().layer(slowly_ready(40 * MS));
    let start = Instant::now();
    assert_pending!(polled::spawn(svc.ready()).poll());
    sleep(30 * MS).await;
    let mut clone = svc.clone();
    clone.ready().await.unwrap();
    fires_about(start, 40);
    let start = Instant::now();
    assert_eq!(clone.call(Duration::ZERO).await.unwrap(), Some(start + 40 * MS));
    let mut svc = layer(50).readiness().layer(service_fn(see));
    svc.ready().await.unwrap();
    assert_eq!(svc.call(Duration::ZERO).await.unwrap(), Some(Instant::now() + 50 * MS));
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_readiness_that_was_given_up_takes_nothing_from_a_call_much_later() {
    let mut svc = layer(50).readiness().layer(slowly_ready(20 * MS));
    assert_pending!(polled::spawn(svc.ready()).poll());
    sleep(3_600_000 * MS).await;
    svc.ready().await.unwrap();
    let start = Instant::now();
    assert_eq!(svc.call(40 * MS).await.unwrap(), Some(start + 50 * MS));
    // Within the limit it is the wait of the next call.
    let mut svc = layer(50).readiness().layer(slowly_ready(20 * MS));
    assert_pending!(polled::spawn(svc.ready()).poll());
    sleep(30 * MS).await;
    svc.ready().await.unwrap();
    let start = Instant::now();
    assert!(svc.call(1_000 * MS).await.is_err());
    fires_about(start, 20);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_seen_inside_while_the_service_gets_ready() {
    struct Sees(Option<Instant>);

    impl Service<()> for Sees {
        type Response = ();
        type Error = Refusal;
        type Future = std::future::Pending<Result<(), Refusal>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
            self.0 = deadline::current();
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, (): ()) -> Self::Future {
            pending()
        }
    }

    let mut svc = layer(20).readiness().layer(Sees(None));
    svc.ready().await.unwrap();
    assert_eq!(svc.get_ref().0, Some(Instant::now() + 20 * MS));
}

#[tokio::test(start_paused = true)]
async fn time_spent_waiting_for_a_permit_in_poll_ready_is_covered() {
    let limited = tower::limit::ConcurrencyLimit::new(service_fn(see), 1);
    let svc = layer(20).readiness().layer(limited);
    let mut holder = svc.clone();
    holder.ready().await.unwrap();
    let start = Instant::now();
    let mut waits = svc;
    let error = waits.ready().await.err().unwrap();
    fires_about(start, 20);
    assert_eq!(error.rejected().unwrap().reason(), Reason::Elapsed);
}

#[tokio::test(start_paused = true)]
async fn a_handle_changes_the_limit_of_the_calls_that_begin_after_that() {
    let (layer, handle) = layer(20).name("db").with_handle();
    let mut svc = layer.layer(service_fn(see));
    let other = layer.clone().layer(service_fn(see));
    let start = Instant::now();
    let before = svc.call(1_000 * MS);
    handle.set(60 * MS).unwrap();
    assert!(before.await.is_err());
    fires_about(start, 20);
    let start = Instant::now();
    assert!(other.oneshot(1_000 * MS).await.is_err());
    fires_about(start, 60);
    assert_eq!((svc.handle().limit(), svc.handle().name()), (60 * MS, Some("db")));
}

#[test]
fn a_handle_takes_no_impossible_limit_and_does_not_panic() {
    let (_layer, handle) = layer(20).with_handle();
    let error = handle.set(Duration::ZERO).unwrap_err();
    assert_eq!((error.setting(), error.value()), ("TimeoutHandle::set", "0ns"));
    assert!(handle.set(Duration::MAX).is_err());
    assert_eq!(handle.limit(), 20 * MS);
}

#[tokio::test(start_paused = true)]
async fn the_handle_counts_the_calls_that_were_ended_and_none_of_a_layer_before() {
    let (former, handle) = layer(20).with_handle();
    let mut outlives = polled::spawn(former.layer(service_fn(see)).oneshot(1_000 * MS));
    assert_pending!(outlives.poll());
    drop((former, handle));
    let (layer, handle) = layer(20).with_handle();
    let svc = layer.layer(service_fn(see));
    assert!(svc.clone().oneshot(1_000 * MS).await.is_err());
    assert!(svc.oneshot(Duration::ZERO).await.is_ok());
    assert!(assert_ready!(outlives.poll()).is_err());
    assert_eq!(handle.refused(Reason::Elapsed), 1);
    assert_eq!(handle.refused(Reason::Expired), 0);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_that_is_off_sets_no_deadline_and_ends_nothing() {
    let (layer, handle) = layer(20).readiness().with_handle();
    let mut svc = layer.layer(slowly_ready(30 * MS));
    handle.set_enabled(false);
    assert!(!handle.is_enabled());
    assert_eq!(svc.ready().await.unwrap().call(100 * MS).await.unwrap(), None);
    handle.set_enabled(true);
    assert!(svc.ready().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_passes_by_has_no_timeout_and_no_deadline() {
    let long = |wait: &Duration| *wait >= 1_000 * MS;
    let by_request = |_: &Duration| Some(5 * MS);
    let both = [
        layer(20).bypass(long).per_request(by_request).layer(service_fn(see)).oneshot(1_000 * MS),
        layer(20).per_request(by_request).bypass(long).layer(service_fn(see)).oneshot(1_000 * MS),
    ];
    for call in both {
        assert_eq!(call.await.unwrap(), None);
    }
    let start = Instant::now();
    assert!(layer(20).bypass(long).layer(service_fn(see)).oneshot(999 * MS).await.is_err());
    fires_about(start, 20);
}

#[tokio::test(start_paused = true)]
async fn services_of_a_layer_share_a_limit_unless_it_is_per_service() {
    let shared = layer(20);
    let (one, two) = (shared.layer(service_fn(see)), shared.clone().layer(service_fn(see)));
    one.handle().set(30 * MS).unwrap();
    assert_eq!(two.handle().limit(), 30 * MS);
    // A setter starts a new one.
    assert_eq!(shared.name("other").layer(service_fn(see)).handle().limit(), 20 * MS);
    let own = layer(20).per_service();
    let (one, two) = (own.layer(service_fn(see)), own.layer(service_fn(see)));
    one.handle().set(30 * MS).unwrap();
    assert_eq!((one.clone().handle().limit(), two.handle().limit()), (30 * MS, 20 * MS));
}

#[tokio::test(start_paused = true)]
async fn a_call_of_30_seconds_that_has_ended_does_not_move_a_paused_clock() {
    let start = Instant::now();
    layer(30_000).layer(service_fn(see)).oneshot(MS).await.unwrap();
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    let (done, is_done) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        std::thread::sleep(50 * MS);
        done.send(()).unwrap();
    });
    is_done.await.unwrap();
    fires_about(start, 1);
}

/// Uses up what is left of the task's cooperative budget.
fn exhaust(cx: &mut Context<'_>) {
    while let Poll::Ready(budget) = tokio::task::coop::poll_proceed(cx) {
        budget.made_progress();
    }
}

#[test]
fn an_impossible_limit_is_refused_where_it_is_written() {
    let message = |limit| {
        let panic = std::panic::catch_unwind(|| TimeoutLayer::new(limit)).unwrap_err();
        panic.downcast_ref::<String>().unwrap().clone()
    };
    let zero = message(Duration::ZERO);
    assert_eq!(zero, "TimeoutLayer::new: 0ns is not allowed, it has to be from 1ns to 315360000s");
    assert!(
        message(Duration::MAX).starts_with("TimeoutLayer::new: 18446744073709551615.999999999s")
    );
}

#[tokio::test(start_paused = true)]
async fn a_handle_shows_what_belongs_in_a_log() {
    let (_, handle) = TimeoutLayer::new(MS).name("search").with_handle();
    let shown = r#"TimeoutHandle { name: Some("search"), limit: 1ms, elapsed: 0 }"#;
    assert_eq!(format!("{handle:?}"), shown);
}
