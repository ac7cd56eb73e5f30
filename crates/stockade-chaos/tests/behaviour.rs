//! What chaos does to calls, and to which.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use stockade_chaos::{ChaosFault, ChaosHandle, ChaosLayer, Config, Latency};
use stockade_core::{Error, LayerError, Reason};
use tokio::time::{Instant, timeout};
use tower::{Layer, Service, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

type AppError = Error<&'static str>;

async fn echo(n: u32) -> Result<u32, AppError> {
    Ok(n)
}

#[tokio::test(start_paused = true)]
async fn nothing_befalls_a_call_until_the_handle_turns_it_on() {
    let (layer, handle) =
        ChaosLayer::new(1).error(1.0, || AppError::Service("made up")).with_handle();
    let mut svc = layer.layer(service_fn(echo));
    assert!(!handle.is_enabled());
    assert_eq!(svc.ready().await.unwrap().call(1).await, Ok(1));
    handle.set_enabled(true);
    assert_eq!(svc.ready().await.unwrap().call(2).await, Err(Error::Service("made up")));
    handle.set_enabled(false);
    assert_eq!(svc.ready().await.unwrap().call(3).await, Ok(3));
    assert_eq!(handle.counts().errors, 1);
}

fn on(
    layer: ChaosLayer,
) -> (impl Service<u32, Response = u32, Error = AppError, Future: Send> + Clone, ChaosHandle) {
    let (layer, handle) = layer.with_handle();
    handle.set_enabled(true);
    (layer.layer(service_fn(echo)), handle)
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_held_back_for_as_long_as_was_asked_for() {
    let (svc, handle) = on(ChaosLayer::new(1).latency(1.0, SECOND));
    let begin = Instant::now();
    assert_eq!(svc.oneshot(7).await, Ok(7));
    assert_eq!(begin.elapsed(), SECOND);
    assert_eq!(handle.counts().slow, 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_known_as_one() {
    let (svc, handle) = on(ChaosLayer::new(1).reject(1.0).name("game day".to_owned()));
    let error = svc.oneshot(7).await.unwrap_err();
    let refused = error.rejected().unwrap();
    assert_eq!((refused.layer(), refused.reason()), ("chaos", Reason::Shed));
    assert_eq!(refused.name(), Some("game day"));
    assert_eq!(handle.counts().rejected, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_ends_only_when_it_is_dropped() {
    let (svc, handle) = on(ChaosLayer::new(1).hang(1.0));
    assert!(timeout(SECOND * 3_600, svc.oneshot(7)).await.is_err());
    assert_eq!(handle.counts().hung, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_does_so_in_its_future() {
    let (svc, handle) = on(ChaosLayer::new(1).panic(1.0));
    let call = tokio::spawn(svc.oneshot(7));
    assert!(call.await.unwrap_err().is_panic());
    assert_eq!(handle.counts().panicked, 1);
}

#[tokio::test(start_paused = true)]
async fn only_chosen_requests_are_befallen() {
    let layer = ChaosLayer::new(1).only(|n: &u32| n % 2 == 1).reject(1.0);
    let (layer, handle) = layer.with_handle();
    handle.set_enabled(true);
    let mut svc = layer.layer(service_fn(echo));
    for n in 0..10 {
        assert_eq!(svc.ready().await.unwrap().call(n).await.is_err(), n % 2 == 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_seed_repeats_its_faults() {
    let run = async |seed| {
        let layer = ChaosLayer::new(seed).reject(0.3).latency(0.5, Latency::exponential(SECOND));
        let (mut svc, _) = on(layer);
        let mut seen = Vec::new();
        for n in 0..200 {
            let begin = Instant::now();
            let failed = svc.ready().await.unwrap().call(n).await.is_err();
            seen.push((failed, begin.elapsed()));
        }
        seen
    };
    let (one, same, other) = (run(1).await, run(1).await, run(2).await);
    assert_eq!(one, same);
    assert_ne!(one, other);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_call_of_a_service_draws_its_faults_by_hand() {
    let layer = || ChaosLayer::new(7).reject(0.3).latency(0.5, SECOND);
    let (_, by_hand) = layer().with_handle();
    assert_eq!(by_hand.draw(), None, "it is off");
    by_hand.set_enabled(true);
    let (mut svc, handle) = on(layer());
    for n in 0..200 {
        let begin = Instant::now();
        let seen = match svc.ready().await.unwrap().call(n).await {
            Err(_) => Some(ChaosFault::Reject),
            Ok(_) if begin.elapsed() == SECOND => Some(ChaosFault::Slow(SECOND)),
            Ok(_) => None,
        };
        assert_eq!(by_hand.draw(), seen, "call {n}");
    }
    assert_eq!(by_hand.counts(), handle.counts());
}

#[tokio::test(start_paused = true)]
async fn a_handle_changes_how_often_faults_come_while_the_layer_works() {
    let layer = ChaosLayer::new(1).error(0.2, || AppError::Service("made up")).name("game day");
    let (layer, handle) = layer.with_handle();
    handle.set_enabled(true);
    let mut svc = layer.layer(service_fn(echo));
    let mut config = Config::default();
    config.reject = 2.0;
    assert!(handle.set(config).is_err());
    for n in 0..100 {
        let _ = svc.ready().await.unwrap().call(n).await;
    }
    assert_eq!(handle.counts().rejected, 0, "nothing has changed");
    config.reject = 0.5;
    handle.set(config).unwrap();
    for n in 0..1_000 {
        let _ = svc.ready().await.unwrap().call(n).await;
    }
    let counts = handle.counts();
    assert!((400..600).contains(&counts.rejected) && counts.errors > 80, "{counts:?}");
    assert_eq!((handle.config().reject, handle.config().name), (0.5, Some("game day")));
    // The function that makes errors does not come along.
    let (other, handle) = handle.config().try_build(1).unwrap().with_handle();
    handle.set_enabled(true);
    let mut svc = other.layer(service_fn(echo));
    for n in 0..100 {
        let _ = svc.ready().await.unwrap().call(n).await;
    }
    assert_eq!(handle.counts().errors, 0);
}

#[tokio::test(start_paused = true)]
async fn requests_that_pass_by_meet_no_fault() {
    let (layer, handle) = ChaosLayer::new(1).bypass(|n: &u32| n % 2 == 1).reject(1.0).with_handle();
    handle.set_enabled(true);
    let mut svc = layer.layer(service_fn(echo));
    for n in 0..10 {
        assert_eq!(svc.ready().await.unwrap().call(n).await.is_err(), n % 2 == 0);
    }
    assert_eq!(handle.counts().rejected, 5);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_answer_is_held_back_holds_nothing_else() {
    struct Held(Arc<AtomicU32>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.fetch_sub(1, SeqCst);
        }
    }
    let held = Arc::<AtomicU32>::default();
    let inside = Arc::clone(&held);
    let (layer, handle) = ChaosLayer::new(1).latency(1.0, SECOND).with_handle();
    handle.set_enabled(true);
    let svc = layer.layer(service_fn(move |n: u32| {
        inside.fetch_add(1, SeqCst);
        let held = Held(Arc::clone(&inside));
        async move {
            tokio::task::yield_now().await;
            let _held = &held;
            echo(n).await
        }
    }));
    let call = tokio::spawn(svc.oneshot(7));
    tokio::time::sleep(SECOND / 2).await;
    assert_eq!((held.load(SeqCst), call.is_finished()), (0, false));
    assert_eq!(call.await.unwrap(), Ok(7));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_made_does_not_reach_the_service() {
    let calls = Arc::<AtomicU32>::default();
    let counter = Arc::clone(&calls);
    let (layer, handle) = ChaosLayer::new(1).reject(0.5).with_handle();
    handle.set_enabled(true);
    let mut svc = layer.layer(service_fn(move |n: u32| {
        counter.fetch_add(1, SeqCst);
        echo(n)
    }));
    for n in 0..1_000 {
        let _ = svc.ready().await.unwrap().call(n).await;
    }
    let rejected = u32::try_from(handle.counts().rejected).unwrap();
    assert_eq!(calls.load(SeqCst) + rejected, 1_000);
    assert!((400..600).contains(&rejected), "{rejected}");
}

#[test]
#[should_panic(expected = "ChaosLayer::hang: 1.5 is not allowed, it has to be from 0.0 to 1.0")]
fn a_probability_above_one_is_wrong() {
    let _ = ChaosLayer::new(1).hang(1.5);
}

#[test]
#[should_panic(expected = "ChaosLayer::latency: ")]
fn an_empty_range_is_wrong() {
    let _ = ChaosLayer::new(1).latency(0.5, SECOND..=SECOND / 2);
}

#[tokio::test(start_paused = true)]
async fn a_handle_shows_what_belongs_in_a_log() {
    let (_, handle) = ChaosLayer::new(1).name("search").with_handle();
    let shown = r#"ChaosHandle { name: Some("search"), enabled: false, counts: Counts { slow: 0, errors: 0, rejected: 0, hung: 0, panicked: 0 } }"#;
    assert_eq!(format!("{handle:?}"), shown);
}
