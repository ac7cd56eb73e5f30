//! When another attempt is made, which one wins, and what it costs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use stockade_core::{Budget, Class, Error, Reason, Rejected, deadline};
use stockade_hedge::HedgeLayer;
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

type AppError = Error<&'static str>;

/// How one attempt goes: how long it takes, and what comes of it.
type Script = &'static [(u64, Result<u32, AppError>)];

const REFUSED: AppError = Error::Rejected(Rejected::new(&"limit", Reason::QueueFull));

/// A service whose n-th attempt goes as the n-th line of the script; counts attempts begun and dropped.
#[derive(Clone, Default)]
struct Counts {
    begun: Arc<AtomicU32>,
    running: Arc<AtomicU32>,
}

struct Running(Arc<AtomicU32>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

fn scripted(
    script: Script,
) -> (impl Service<u32, Response = u32, Error = AppError, Future: Send> + Clone, Counts) {
    let counts = Counts::default();
    let inside = counts.clone();
    let service = service_fn(move |_: u32| {
        let attempt = inside.begun.fetch_add(1, SeqCst) as usize;
        inside.running.fetch_add(1, SeqCst);
        let running = Running(Arc::clone(&inside.running));
        async move {
            let (millis, result) = script[attempt];
            sleep(MS * millis as u32).await;
            drop(running);
            result
        }
    });
    (service, counts)
}

/// Runs one call under a hedge after 10 ms; gives its answer, how long it took, and what was counted.
async fn run(layer: HedgeLayer, script: Script) -> (Result<u32, AppError>, u128, u32, u64) {
    let (service, counts) = scripted(script);
    let (layer, handle) = layer.with_handle();
    let begin = Instant::now();
    let answer = layer.layer(service).oneshot(7).await;
    assert_eq!(counts.running.load(SeqCst), 0, "losers are dropped at once");
    (answer, begin.elapsed().as_millis(), counts.begun.load(SeqCst), handle.stats().won)
}

fn hedge() -> HedgeLayer {
    HedgeLayer::after(MS * 10).budget(Budget::unlimited())
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_quick_is_made_once() {
    assert_eq!(run(hedge(), &[(9, Ok(1))]).await, (Ok(1), 9, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_first_good_answer_wins_and_the_other_attempt_is_dropped() {
    let second = run(hedge(), &[(1_000, Ok(1)), (5, Ok(2))]).await;
    assert_eq!(second, (Ok(2), 15, 2, 1));
    let first = run(hedge(), &[(20, Ok(1)), (1_000, Ok(2))]).await;
    assert_eq!(first, (Ok(1), 20, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failure_does_not_win_while_another_attempt_is_on_its_way() {
    let failed_first = run(hedge(), &[(12, Err(Error::Service("no"))), (40, Ok(2))]).await;
    assert_eq!(failed_first, (Ok(2), 50, 2, 1));
    let failed_later = run(hedge(), &[(60, Ok(1)), (5, Err(Error::Service("no")))]).await;
    assert_eq!(failed_later, (Ok(1), 60, 2, 0));
    let both =
        run(hedge(), &[(12, Err(Error::Service("a"))), (20, Err(Error::Service("b")))]).await;
    assert_eq!(both, (Err(Error::Service("b")), 30, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_before_its_delay_is_not_hedged() {
    let failed = run(hedge(), &[(5, Err(Error::Service("no")))]).await;
    assert_eq!(failed, (Err(Error::Service("no")), 5, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn further_attempts_follow_at_the_same_distance() {
    let slow = &[(1_000, Ok(1)), (1_000, Ok(2)), (1_000, Ok(3)), (5, Ok(4))];
    assert_eq!(run(hedge().max(3), slow).await, (Ok(4), 35, 4, 1));
    assert_eq!(run(hedge().max(2), slow).await, (Ok(1), 1_000, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_a_layer_inside_refuses_does_not_end_the_call_and_costs_no_token() {
    let (service, counts) = scripted(&[(30, Ok(1)), (0, Err(REFUSED)), (30, Ok(2)), (0, Ok(3))]);
    // One token in all.
    let budget = Budget::new(0.0, 1e-9);
    let (layer, handle) = HedgeLayer::after(MS * 10).budget(budget).with_handle();
    let mut svc = layer.layer(service);
    assert_eq!(svc.ready().await.unwrap().call(1).await, Ok(1));
    assert_eq!((handle.stats().hedged, handle.stats().refused), (1, 1));
    assert_eq!(svc.ready().await.unwrap().call(2).await, Ok(3), "the token is there again");
    assert_eq!((handle.stats().won, counts.begun.load(SeqCst)), (1, 4));
}

#[tokio::test(start_paused = true)]
async fn the_budget_bounds_the_share_of_calls_that_are_hedged() {
    let service = service_fn(|n: u32| async move {
        sleep(MS * 20).await;
        Ok::<_, AppError>(n)
    });
    let layer = HedgeLayer::after(MS * 10).budget(Budget::new(0.05, 0.0));
    let (layer, handle) = layer.with_handle();
    let mut svc = layer.layer(service);
    for n in 0..400 {
        svc.ready().await.unwrap().call(n).await.unwrap();
    }
    let stats = handle.stats();
    assert!((10..=20).contains(&stats.hedged), "{stats:?}");
    assert_eq!(stats.hedged + stats.over_budget, 400);
}

#[tokio::test(start_paused = true)]
async fn one_budget_bounds_two_layers_together() {
    let budget = Budget::new(0.0, 1e-9);
    let service = service_fn(|n: u32| async move {
        sleep(MS * 20).await;
        Ok::<_, AppError>(n)
    });
    let (one, first) = HedgeLayer::after(MS * 10).budget(budget.clone()).with_handle();
    let (other, second) = HedgeLayer::after(MS * 10).budget(budget).with_handle();
    one.layer(service).oneshot(1).await.unwrap();
    other.layer(service).oneshot(2).await.unwrap();
    assert_eq!((first.stats().hedged, second.stats().hedged), (1, 0));
    assert_eq!(second.stats().over_budget, 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_begun_at_the_deadline_or_after_it() {
    let (service, counts) = scripted(&[(30, Ok(1)), (0, Ok(2))]);
    let svc = hedge().layer(service);
    let until = Instant::now() + MS * 10;
    deadline::scope(Some(until), svc.oneshot(7)).await.unwrap();
    assert_eq!(counts.begun.load(SeqCst), 1);
}

/// Ready at once when it is made, and each clone of it after 20 ms.
struct ReadyLater {
    calls: Arc<AtomicU32>,
    ready: std::pin::Pin<Box<tokio::time::Sleep>>,
}

impl Clone for ReadyLater {
    fn clone(&self) -> Self {
        Self { calls: Arc::clone(&self.calls), ready: Box::pin(sleep(MS * 20)) }
    }
}

impl Service<u32> for ReadyLater {
    type Response = u32;
    type Error = AppError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<u32, AppError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), AppError>> {
        self.ready.as_mut().poll(cx).map(Ok)
    }

    fn call(&mut self, n: u32) -> Self::Future {
        self.calls.fetch_add(1, SeqCst);
        Box::pin(async move {
            sleep(MS * 60).await;
            Ok(n)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_ready_only_at_the_deadline_is_not_called_and_costs_no_token() {
    for (limit, calls) in [(30, 1), (31, 2)] {
        let service = ReadyLater { calls: Arc::default(), ready: Box::pin(sleep(Duration::ZERO)) };
        let count = Arc::clone(&service.calls);
        let budget = Budget::new(0.0, 1e-9);
        let (layer, handle) = HedgeLayer::after(MS * 10).budget(budget.clone()).with_handle();
        let mut svc = layer.layer(service);
        let call = svc.ready().await.unwrap();
        let until = Instant::now() + MS * limit;
        assert_eq!(deadline::scope(Some(until), async { call.call(7).await }).await, Ok(7));
        assert_eq!(count.load(SeqCst), calls, "ready at 30 ms, with {limit}");
        assert_eq!(handle.stats().refused, u64::from(2 - calls));
        assert_eq!(budget.withdraw(Instant::now()), calls == 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_the_answer_only_where_nothing_else_is() {
    // The hedge is refused after the first attempt has failed: the failure is the answer.
    let failed: Script = &[(12, Err(Error::Service("no"))), (5, Err(REFUSED))];
    assert_eq!(run(hedge(), failed).await, (Err(Error::Service("no")), 15, 2, 0));
    // The first attempt itself is refused, while a second one is under way.
    let later: Script = &[(12, Err(REFUSED)), (20, Ok(2))];
    assert_eq!(run(hedge().max(3), later).await, (Ok(2), 30, 2, 1));
    assert_eq!(run(hedge(), &[(5, Err(REFUSED))]).await, (Err(REFUSED), 5, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_too_much_to_do_is_not_asked_again() {
    let layer = hedge().max(3).classify(|result: Result<&u32, &AppError>| match result {
        Err(Error::Service("busy")) => Class::OVERLOAD,
        Err(_) => Class::TRANSIENT,
        Ok(_) => Class::Success,
    });
    let (service, counts) = scripted(&[(60, Ok(1)), (2, Err(Error::Service("busy"))), (0, Ok(3))]);
    assert_eq!(layer.layer(service).oneshot(7).await, Ok(1));
    assert_eq!(counts.begun.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn while_a_server_has_too_much_to_do_no_call_is_hedged() {
    for (after, quiet) in [(None, 1_000), (Some(MS * 3_000), 3_000)] {
        let layer = hedge().classify(move |result: Result<&u32, &AppError>| match result {
            Err(Error::Service("busy")) => Class::Overload { after, processed: false },
            Err(_) => Class::TRANSIENT,
            Ok(_) => Class::Success,
        });
        let slow = (60, Ok(1));
        static BUSY: Result<u32, AppError> = Err(Error::Service("busy"));
        let (service, counts) = scripted(Box::leak(Box::new([(1, BUSY), slow, slow, slow])));
        let (layer, handle) = layer.with_handle();
        let svc = layer.layer(service);
        assert_eq!(svc.clone().oneshot(7).await, BUSY);
        // This call would be hedged when it has taken 10 ms.
        sleep(MS * (quiet - 11)).await;
        assert_eq!(svc.clone().oneshot(7).await, Ok(1));
        assert_eq!((handle.stats().hedged, handle.stats().held_back), (0, 1), "{after:?}");
        assert_eq!(svc.oneshot(7).await, Ok(1));
        assert_eq!((handle.stats().hedged, counts.begun.load(SeqCst)), (1, 4), "{after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_request_that_may_be_sent_twice_is() {
    let script: Script = &[(30, Ok(1)), (0, Ok(2))];
    let (service, counts) = scripted(script);
    let svc = hedge().idempotent(|n: &u32| *n == 0).layer(service);
    assert_eq!(svc.oneshot(7).await, Ok(1));
    assert_eq!(counts.begun.load(SeqCst), 1);
    let (service, counts) = scripted(script);
    let svc = hedge().clone_request(|n: &u32| Some(*n)).layer(service);
    assert_eq!(svc.oneshot(7).await, Ok(2));
    assert_eq!(counts.begun.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_is_switched_off_makes_one_attempt() {
    let (service, counts) = scripted(&[(30, Ok(1)), (30, Ok(2)), (0, Ok(3))]);
    let (layer, handle) = hedge().with_handle();
    handle.set_enabled(false);
    let mut svc = layer.layer(service);
    assert_eq!(svc.ready().await.unwrap().call(1).await, Ok(1));
    handle.set_enabled(true);
    assert_eq!(svc.ready().await.unwrap().call(1).await, Ok(3));
    assert_eq!(counts.begun.load(SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn calls_that_pass_by_are_made_once_and_count_nowhere() {
    let busy = |result: Result<&u32, &AppError>| match result {
        Err(_) => Class::OVERLOAD,
        Ok(_) => Class::Success,
    };
    let (service, counts) =
        scripted(&[(30, Ok(1)), (1, Err(Error::Service("busy"))), (30, Ok(2)), (0, Ok(3))]);
    let layer = hedge().bypass(|n: &u32| *n == 0).classify(busy);
    let (layer, handle) = layer.with_handle();
    let mut svc = layer.layer(service);
    assert_eq!(svc.ready().await.unwrap().call(0).await, Ok(1));
    assert_eq!(svc.ready().await.unwrap().call(0).await, Err(Error::Service("busy")));
    assert_eq!(handle.stats(), Default::default());
    assert_eq!(svc.ready().await.unwrap().call(1).await, Ok(3), "nothing was held back");
    assert_eq!((handle.stats().won, counts.begun.load(SeqCst)), (1, 4));
}

#[tokio::test(start_paused = true)]
async fn a_percentile_is_not_taken_over_calls_that_pass_by() {
    let service = service_fn(async |n: u32| Ok::<_, AppError>(n));
    let layer = HedgeLayer::percentile(0.5).bypass(|n: &u32| n.is_multiple_of(2));
    let (layer, handle) = layer.with_handle();
    let mut svc = layer.layer(service);
    for n in 0..199 {
        svc.ready().await.unwrap().call(n).await.unwrap();
    }
    assert_eq!(handle.delay(), None, "99 calls were seen");
    svc.ready().await.unwrap().call(199).await.unwrap();
    assert!(handle.delay().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_percentile_is_not_taken_over_calls_that_fail_or_are_refused() {
    let service = service_fn(async |n: u32| match n {
        0 => Err(Error::Service("down")),
        1 => Err(REFUSED),
        n => {
            sleep(MS * n).await;
            Ok(n)
        }
    });
    let (layer, handle) = HedgeLayer::percentile(0.5).with_handle();
    let mut svc = layer.layer(service);
    for _ in 0..100 {
        svc.ready().await.unwrap().call(10).await.unwrap();
    }
    let delay = handle.delay();
    assert!(delay.is_some_and(|delay| delay >= MS * 10), "{delay:?}");
    for n in 0..1_000 {
        svc.ready().await.unwrap().call(n % 2).await.unwrap_err();
    }
    svc.ready().await.unwrap().call(10).await.unwrap();
    assert_eq!((handle.delay(), handle.stats().hedged), (delay, 0));
}

/// Of a hundred calls one takes a second, the others 10 ms.
#[tokio::test(start_paused = true)]
async fn a_percentile_cuts_the_tail_and_adds_little_load() {
    let begun = Arc::<AtomicU32>::default();
    let counter = Arc::clone(&begun);
    let service = service_fn(move |n: u32| {
        let attempt = counter.fetch_add(1, SeqCst);
        async move {
            sleep(if attempt % 100 == 99 { MS * 1_000 } else { MS * 10 }).await;
            Ok::<_, AppError>(n)
        }
    });
    let layer = HedgeLayer::percentile(0.95).budget(Budget::new(0.05, 0.0));
    let (layer, handle) = layer.with_handle();
    let mut svc = layer.layer(service);
    let mut latencies = Vec::new();
    for n in 0..5_000 {
        let begin = Instant::now();
        svc.ready().await.unwrap().call(n).await.unwrap();
        latencies.push(begin.elapsed());
    }
    latencies.drain(..500);
    latencies.sort_unstable();
    let p999 = latencies[latencies.len() * 999 / 1_000];
    assert!(p999 <= MS * 500, "{p999:?} where it was a second");
    assert!(begun.load(SeqCst) <= 5_000 * 105 / 100, "{begun:?}");
    assert!(handle.stats().won > 20, "{:?}", handle.stats());
}

#[tokio::test(start_paused = true)]
async fn each_service_of_a_per_service_layer_has_a_budget_of_its_own() {
    let service = service_fn(|n: u32| async move {
        sleep(MS * 20).await;
        Ok::<_, AppError>(n)
    });
    let layer = HedgeLayer::after(MS * 10).budget(Budget::new(0.0, 1e-9)).per_service();
    for _ in 0..2 {
        let svc = layer.layer(service);
        let handle = svc.handle();
        svc.oneshot(1).await.unwrap();
        assert_eq!(handle.stats().hedged, 1);
    }
}

#[test]
#[should_panic(expected = "HedgeLayer::percentile: NaN is not allowed, it has to be from 0.5 to")]
fn a_percentile_that_is_no_number_is_wrong() {
    let _ = HedgeLayer::percentile(f64::NAN);
}

#[tokio::test(start_paused = true)]
async fn a_handle_shows_what_belongs_in_a_log() {
    let (_, handle) = HedgeLayer::percentile(0.95).name("search").with_handle();
    assert_eq!(handle.config().max, 1);
    let shown = r#"HedgeHandle { name: Some("search"), delay: None, hedged: 0, won: 0, .. }"#;
    assert_eq!(format!("{handle:?}"), shown);
}
