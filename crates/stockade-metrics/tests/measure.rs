//! What the layer measures, and what it leaves alone.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

#[expect(dead_code, reason = "a part of it is for other tests")]
mod common;

use std::{
    convert::Infallible,
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::Duration,
};

use common::scrape;
use stockade_core::{Class, Error, Reason, Rejected, attempts::Counter};
use stockade_limit::LimitLayer;
use stockade_metrics::{Calls, MeasureHandle, MeasureLayer, Metrics};
use stockade_retry::{Backoff, RetryLayer};
use stockade_testkit::{Probe, contract};
use tokio::time::{advance, sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

type Failure = Error<&'static str>;

const MS: Duration = Duration::from_millis(1);

/// A service that answers with the request.
fn echo()
-> impl Service<Result<u32, Failure>, Response = u32, Error = Failure, Future: Send> + Clone {
    service_fn(async |answer: Result<u32, Failure>| answer)
}

fn refusal(reason: Reason) -> Failure {
    Rejected::new(&"test", reason).into()
}

/// Each ending by its name, where there is any.
fn endings(calls: &Calls) -> Vec<(&'static str, u64)> {
    let all = [
        ("succeeded", calls.succeeded),
        ("permanent", calls.permanent),
        ("transient", calls.transient),
        ("overload", calls.overload),
        ("no_effect", calls.no_effect),
        ("ignored", calls.ignored),
        ("refused", calls.refused),
        ("dropped", calls.dropped),
    ];
    assert_eq!(all.iter().map(|(_, calls)| calls).sum::<u64>(), calls.ended());
    all.into_iter().filter(|(_, calls)| *calls > 0).collect()
}

#[tokio::test(start_paused = true)]
async fn the_layer_keeps_the_contract() {
    contract(|inner: Probe| MeasureLayer::new().layer(inner)).run().await.assert();
}

#[tokio::test(start_paused = true)]
async fn a_call_counts_by_the_class_of_its_result() {
    let class = |result: Result<&u32, &Failure>| match result {
        Ok(200) => Class::Success,
        Ok(404) => Class::Permanent,
        Ok(429) => Class::OVERLOAD,
        Ok(499) => Class::Ignored,
        Ok(_) => Class::TRANSIENT,
        Err(_) => Class::NoEffect { after: None },
    };
    let (layer, handle) = MeasureLayer::new().classify(class).with_handle();
    let service = layer.layer(echo());
    for answer in [Ok(200), Ok(200), Ok(404), Ok(429), Ok(499), Ok(500), Err(Error::Service("no"))]
    {
        let _ = service.clone().oneshot(answer).await;
    }
    let expected = [
        ("succeeded", 2),
        ("permanent", 1),
        ("transient", 1),
        ("overload", 1),
        ("no_effect", 1),
        ("ignored", 1),
    ];
    assert_eq!(endings(&handle.calls()), expected);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_counts_as_refused_and_by_its_reason_whatever_the_classifier_says() {
    let success = |_: Result<&u32, &Failure>| Class::Success;
    let (layer, handle) = MeasureLayer::new().classify(success).with_handle();
    let service = layer.layer(echo());
    for reason in Reason::ALL {
        let _ = service.clone().oneshot(Err(refusal(reason))).await;
    }
    let calls = handle.calls();
    // Two that the service did are judged by the classifier, and a cancelled call is transient.
    assert_eq!(endings(&calls), [("succeeded", 2), ("transient", 1), ("refused", 10)]);
    assert!(Reason::ALL.iter().all(|reason| calls.refused_for(*reason) == 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_or_panics_counts_as_dropped_and_is_not_timed() {
    let (layer, handle) = MeasureLayer::new().with_handle();
    let hangs = layer.layer(service_fn(|_: u32| pending::<Result<u32, Failure>>()));
    let calls: Vec<_> = (0..3).map(|n| tokio::spawn(hangs.clone().oneshot(n))).collect();
    tokio::task::yield_now().await;
    assert_eq!((handle.in_flight(), handle.calls().in_flight), (3, 3));
    for call in calls {
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
    }
    let panics = layer.layer(service_fn(async |_: u32| -> Result<u32, Failure> { panic!("no") }));
    tokio::spawn(panics.oneshot(1)).await.unwrap_err();
    let mut at_once =
        layer.layer(service_fn(|_: u32| -> std::future::Ready<Result<u32, Failure>> {
            panic!("in `call`")
        }));
    catch_unwind(AssertUnwindSafe(|| drop(at_once.call(1)))).unwrap_err();
    let calls = handle.calls();
    assert_eq!((endings(&calls), calls.in_flight), (vec![("dropped", 5)], 0));
    assert_eq!(calls.latency.count, 0);
}

#[tokio::test(start_paused = true)]
async fn a_classifier_that_panics_costs_one_call_its_answer_and_nothing_stays_in_flight() {
    let judge = |_: Result<&u32, &Failure>| -> Class { panic!("undecided") };
    let (layer, handle) = MeasureLayer::new().classify(judge).with_handle();
    let service = layer.layer(echo());
    tokio::spawn(service.clone().oneshot(Ok(1))).await.unwrap_err();
    let calls = handle.calls();
    assert_eq!((endings(&calls), calls.in_flight), (vec![("dropped", 1)], 0));
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_call_is_from_call_to_answer() {
    let (layer, handle) = MeasureLayer::new().with_handle();
    let sleeps = layer.layer(service_fn(async |millis: u64| {
        sleep(Duration::from_millis(millis)).await;
        Ok::<_, Failure>(())
    }));
    for millis in [10, 20, 30, 4_000] {
        sleeps.clone().oneshot(millis).await.unwrap();
    }
    let latency = handle.calls().latency;
    let near = |is: Duration, millis: u64| {
        let should = Duration::from_millis(millis);
        is >= should && is <= should + should / 16
    };
    assert!(near(latency.p50, 20) && near(latency.p90, 4_000), "{latency:?}");
    assert_eq!((latency.count, latency.max), (4, 4_000 * MS));
    let metrics = Metrics::new();
    metrics.measure("it", handle.clone()).unwrap();
    let seen = scrape(&metrics);
    let bucket =
        |le: &str| seen[&format!("stockade_calls_duration_seconds_bucket{{le={le},name=it}}")];
    assert_eq!([bucket("0.005"), bucket("0.01"), bucket("0.025")], [0.0, 1.0, 2.0]);
    assert_eq!([bucket("2.5"), bucket("5"), bucket("+Inf")], [3.0, 4.0, 4.0]);
    assert_eq!(seen["stockade_calls_duration_seconds_sum{name=it}"], 4.06);
    assert_eq!(seen["stockade_calls_duration_seconds_count{name=it}"], 4.0);
    advance(180 * 1_000 * MS).await;
    assert_eq!(handle.calls().latency.count, 0, "what is recent is forgotten");
    assert_eq!(scrape(&metrics)["stockade_calls_duration_seconds_count{name=it}"], 4.0);
}

#[tokio::test(start_paused = true)]
async fn attempts_of_a_retry_inside_are_counted_and_a_counter_outside_hears_of_them() {
    let (layer, handle) = MeasureLayer::new().with_handle();
    let retry = RetryLayer::max_attempts(3).backoff(Backoff::constant(MS));
    let mut service = ServiceBuilder::new().layer(layer).layer(retry).service(echo());
    let mut outside = Counter::default();
    let call = service.ready().await.unwrap().call(Err(Error::Service("no")));
    let mut call = std::pin::pin!(call);
    std::future::poll_fn(|cx| outside.enter(|| call.as_mut().poll(cx))).await.unwrap_err();
    assert_eq!((handle.calls().attempts, outside.attempts()), (3, 3));
    service.ready().await.unwrap().call(Ok(1)).await.unwrap();
    assert_eq!((handle.calls().attempts, handle.calls().ended()), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn a_stack_shows_why_its_layers_refused() {
    let (layer, handle) = MeasureLayer::new().with_handle();
    let service = ServiceBuilder::new()
        .layer(layer)
        .layer(LimitLayer::new(1).queue(0))
        .service(service_fn(|_: u32| pending::<Result<u32, Failure>>()));
    let call = tokio::spawn(service.clone().oneshot(1));
    tokio::task::yield_now().await;
    service.oneshot(2).await.unwrap_err();
    let calls = handle.calls();
    assert_eq!((calls.refused, calls.refused_for(Reason::QueueFull), calls.in_flight), (1, 1, 1));
    call.abort();
}

#[tokio::test(start_paused = true)]
async fn what_passes_by_or_is_made_while_it_is_off_is_not_measured() {
    let checks = |answer: &Result<u32, Failure>| matches!(answer, Ok(0));
    let (layer, handle) = MeasureLayer::new().bypass(checks).with_handle();
    let service = layer.layer(echo());
    service.clone().oneshot(Ok(0)).await.unwrap();
    service.clone().oneshot(Ok(1)).await.unwrap();
    handle.set_enabled(false);
    service.clone().oneshot(Ok(1)).await.unwrap();
    assert_eq!((handle.calls().ended(), handle.is_enabled()), (1, false));
    handle.set_enabled(true);
    service.oneshot(Ok(1)).await.unwrap();
    assert_eq!(handle.calls().ended(), 2);
}

#[tokio::test(start_paused = true)]
async fn clones_count_together_and_services_of_per_service_apart() {
    let once =
        async |service: &mut (dyn FnMut() -> MeasureHandle + Send)| service().calls().ended();
    let (layer, handle) = MeasureLayer::new().with_handle();
    let (a, b) = (layer.layer(echo()), layer.clone().layer(echo()));
    for service in [&a, &b] {
        service.clone().oneshot(Ok(1)).await.unwrap();
    }
    assert_eq!(once(&mut || handle.clone()).await, 2);
    let layer = MeasureLayer::new().per_service();
    let (a, b) = (layer.layer(echo()), layer.layer(echo()));
    for service in [&a, &a, &b] {
        service.clone().oneshot(Ok(1)).await.unwrap();
    }
    assert_eq!(once(&mut || a.handle()).await, 2);
    assert_eq!(once(&mut || b.handle()).await, 1);
}

#[test]
fn no_call_of_any_thread_is_lost() {
    const THREADS: u64 = 9;
    const CALLS: u64 = 1_000;
    let (layer, handle) = MeasureLayer::new().with_handle();
    let service = layer.layer(service_fn(async |n: u32| Ok::<_, Error<Infallible>>(n)));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let mut service = service.clone();
            scope.spawn(move || {
                for _ in 0..CALLS {
                    let mut call = std::pin::pin!(service.call(1));
                    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                    assert!(call.as_mut().poll(&mut context).is_ready());
                }
            });
        }
    });
    let calls = handle.calls();
    assert_eq!((calls.succeeded, calls.attempts), (THREADS * CALLS, THREADS * CALLS));
    assert_eq!((calls.latency.count, calls.in_flight), (THREADS * CALLS, 0));
}
