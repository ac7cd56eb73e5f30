//! When the fallback answers, and with what.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use stockade_core::{Class, Classify, Error, Reason, Rejected, deadline};
use stockade_fallback::{FallbackLayer, is_refusal};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

type AppError = Error<&'static str>;

const REFUSED: AppError = Error::Rejected(Rejected::new(&"breaker", Reason::BreakerOpen));

/// Answers even numbers, fails for odd ones, and is refused for zero.
async fn client(n: u32) -> Result<u32, AppError> {
    match n {
        0 => Err(REFUSED),
        n if n % 2 == 1 => Err(Error::Service("odd")),
        n => Ok(n),
    }
}

#[tokio::test]
async fn a_call_that_succeeds_is_left_alone() {
    let asked = Arc::<AtomicU32>::default();
    let count = Arc::clone(&asked);
    let layer = FallbackLayer::new(move |_: AppError| {
        count.fetch_add(1, SeqCst);
        async { Ok(100) }
    });
    let mut svc = ServiceBuilder::new().layer(layer).service(service_fn(client));
    assert_eq!(svc.ready().await.unwrap().call(2).await, Ok(2));
    assert_eq!(asked.load(SeqCst), 0);
    assert_eq!(svc.ready().await.unwrap().call(3).await, Ok(100));
    assert_eq!(asked.load(SeqCst), 1);
}

#[tokio::test]
async fn only_chosen_errors_are_answered() {
    let layer = FallbackLayer::new(async |_| Ok(100)).on(is_refusal);
    let mut svc = ServiceBuilder::new().layer(layer).service(service_fn(client));
    assert_eq!(svc.ready().await.unwrap().call(0).await, Ok(100));
    assert_eq!(svc.ready().await.unwrap().call(1).await, Err(Error::Service("odd")));
}

#[tokio::test]
async fn only_errors_of_chosen_classes_are_answered() {
    let classify = |result: Result<&u32, &AppError>| match result {
        Err(Error::Service("busy")) => Class::OVERLOAD,
        Err(Error::Service("gone")) => Class::Permanent,
        Err(_) => Class::TRANSIENT,
        Ok(_) => Class::Success,
    };
    let layer = FallbackLayer::new(async |_| Ok(100)).on(move |error: &AppError| {
        matches!(classify.classify(Err(error)), Class::Overload { .. })
    });
    let fails = service_fn(async |text: &'static str| Err(Error::Service(text)));
    let svc = ServiceBuilder::new().layer(layer).service(fails);
    assert_eq!(svc.clone().oneshot("busy").await, Ok(100));
    for text in ["gone", "broken"] {
        assert_eq!(svc.clone().oneshot(text).await, Err(Error::Service(text)));
    }
}

#[tokio::test]
async fn a_fallback_that_is_switched_off_answers_nothing_and_keeps_no_request() {
    let keeps = Arc::<AtomicU32>::default();
    let count = Arc::clone(&keeps);
    let key = move |n: &u32| {
        count.fetch_add(1, SeqCst);
        *n
    };
    let layer = FallbackLayer::with_key(key, async |n: u32, _| Ok(n * 10)).name("search");
    let (layer, handle) = layer.with_handle();
    let mut svc = layer.layer(service_fn(client));
    assert_eq!(svc.ready().await.unwrap().call(1).await, Ok(10));
    handle.set_enabled(false);
    assert_eq!(svc.ready().await.unwrap().call(1).await, Err(Error::Service("odd")));
    assert_eq!(keeps.load(SeqCst), 1);
    let shown = r#"FallbackHandle(Shared { name: Some("search"), enabled: false })"#;
    assert_eq!(format!("{handle:?}"), shown);
    svc.handle().set_enabled(true);
    assert_eq!(svc.ready().await.unwrap().call(1).await, Ok(10));
}

#[tokio::test]
async fn a_timeout_is_no_refusal() {
    let elapsed: AppError = Rejected::new(&"timeout", Reason::Elapsed).into();
    assert!(!is_refusal(&elapsed));
    assert!(is_refusal(&REFUSED));
}

#[tokio::test]
async fn the_fallback_sees_the_request_where_it_is_asked_for() {
    let layer = FallbackLayer::with_request(async |n: u32, error| match error {
        Error::Service(_) => Ok(n * 10),
        refused => Err(refused),
    });
    let mut svc = ServiceBuilder::new().layer(layer).service(service_fn(client));
    assert_eq!(svc.ready().await.unwrap().call(7).await, Ok(70));
    assert_eq!(svc.ready().await.unwrap().call(0).await, Err(REFUSED), "its own error");
}

#[tokio::test(start_paused = true)]
async fn the_failed_call_is_dropped_before_the_fallback_begins() {
    struct Held(Arc<AtomicU32>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.fetch_sub(1, SeqCst);
        }
    }
    let held = Arc::<AtomicU32>::default();
    let (inside, seen) = (Arc::clone(&held), Arc::clone(&held));
    let layer = FallbackLayer::new(move |_: AppError| {
        let held = seen.load(SeqCst);
        async move { Ok(held) }
    });
    let svc = ServiceBuilder::new().layer(layer).service_fn(move |(): ()| {
        inside.fetch_add(1, SeqCst);
        let held = Held(Arc::clone(&inside));
        async move {
            sleep(Duration::from_millis(1)).await;
            let _held = &held;
            Err::<u32, _>(Error::Service("no"))
        }
    });
    assert_eq!(svc.oneshot(()).await, Ok(0));
    assert_eq!(held.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn the_fallback_runs_under_the_deadline_outside() {
    let seen = Arc::new(std::sync::Mutex::new(None));
    let told = Arc::clone(&seen);
    let layer = FallbackLayer::new(move |_: AppError| {
        let told = Arc::clone(&told);
        async move {
            *told.lock().unwrap() = deadline::current();
            Ok(1)
        }
    });
    let svc = ServiceBuilder::new().layer(layer).service(service_fn(client));
    let until = Instant::now() + Duration::from_secs(1);
    deadline::scope(Some(until), svc.oneshot(1)).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), Some(until));
}

#[tokio::test]
async fn a_call_that_succeeds_clones_no_request_unless_it_is_asked_for() {
    thread_local!(static CLONES: Cell<u32> = const { Cell::new(0) });
    #[derive(Debug)]
    struct Request;
    impl Clone for Request {
        fn clone(&self) -> Self {
            CLONES.set(CLONES.get() + 1);
            Self
        }
    }
    let fine = |_: Request| async { Ok::<_, AppError>(1) };
    let without = ServiceBuilder::new().layer(FallbackLayer::new(async |_| Ok(2))).service_fn(fine);
    without.oneshot(Request).await.unwrap();
    assert_eq!(CLONES.get(), 0);
    let layer = FallbackLayer::with_request(async |_: Request, _| Ok(2));
    ServiceBuilder::new().layer(layer).service_fn(fine).oneshot(Request).await.unwrap();
    assert_eq!(CLONES.get(), 1);
}

#[tokio::test]
async fn a_name_that_is_too_long_is_an_error_that_says_so() {
    let layer = FallbackLayer::new(async |error: AppError| Err::<u32, _>(error));
    let error = layer.try_name("x".repeat(1_000_000)).unwrap_err();
    assert!(error.to_string().starts_with("FallbackLayer::name: "), "{error}");
}

#[tokio::test]
async fn calls_that_pass_by_keep_their_errors() {
    let layer = FallbackLayer::with_request(async |n: u32, _| Ok(n * 10)).bypass(|n: &u32| *n > 5);
    let mut svc = ServiceBuilder::new().layer(layer).service(service_fn(client));
    assert_eq!(svc.ready().await.unwrap().call(5).await, Ok(50));
    assert_eq!(svc.ready().await.unwrap().call(7).await, Err(Error::Service("odd")));
    assert_eq!(svc.ready().await.unwrap().call(8).await, Ok(8));
}
