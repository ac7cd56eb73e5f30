//! What the feature `tracing` tells.

#![cfg(feature = "tracing")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use stockade_core::{Class, Error, Reason, Rejected, internal::lock};
use stockade_retry::{Backoff, Budget, RetryLayer};
use stockade_testkit::Events;
use tower::{Layer, ServiceExt, service_fn};

/// The events of one call, of which the first `fails` attempts fail.
async fn events(layer: RetryLayer, fails: u32) -> Vec<String> {
    let recorded = Events::of("stockade");
    let mut attempt = 0;
    let client = move |(): ()| {
        attempt += 1;
        std::future::ready(if attempt <= fails { Err(Error::Service("no")) } else { Ok(()) })
    };
    // One service for all attempts: a clone would count from the start.
    let client = Arc::new(Mutex::new(client));
    let service = service_fn(move |request| lock(&client)(request));
    let _ = layer.name("search").layer(service).oneshot(()).await;
    recorded.take()
}

fn retry(max_attempts: u32) -> RetryLayer {
    let backoff = Backoff::constant(Duration::from_millis(50));
    RetryLayer::max_attempts(max_attempts).backoff(backoff).budget(Budget::unlimited())
}

fn has(line: &str, parts: &[&str]) {
    for part in parts.iter().chain(&[r#"layer="retry""#, r#"name="search""#]) {
        assert!(line.contains(part), "no {part} in {line}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_succeeds_at_once_emits_nothing() {
    assert!(events(retry(3), 0).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_retry_is_one_event_with_its_number_its_wait_and_why() {
    let events = events(retry(3), 2).await;
    assert_eq!(events.len(), 2, "{events:?}");
    has(&events[0], &["message=retrying", "attempt=2", "wait=50ms", "class=Transient"]);
    has(&events[1], &["message=retrying", "attempt=3", "wait=50ms", "class=Transient"]);
}

#[tokio::test(start_paused = true)]
async fn giving_up_is_one_event_that_says_after_how_many_attempts_and_why() {
    let exhausted = events(retry(2), 9).await;
    assert_eq!(exhausted.len(), 2, "{exhausted:?}");
    has(&exhausted[1], &["WARN", "message=gave up", r#"reason="exhausted""#, "attempts=2"]);

    let poor = events(retry(3).budget(Budget::new(0.0, 0.0)), 9).await;
    has(&poor[0], &["WARN", "message=gave up", r#"reason="over_budget""#, "attempts=1"]);

    let late = events(retry(3).max_elapsed(Duration::from_millis(10)), 9).await;
    has(&late[0], &["WARN", "message=gave up", r#"reason="too_late""#, "attempts=1"]);
}

#[tokio::test(start_paused = true)]
async fn what_would_fail_again_or_may_not_be_repeated_says_so() {
    let recorded = Events::of("stockade");
    let fails = service_fn(async |()| Err::<(), _>(Error::Service("no")));
    let permanent = |_: Result<&(), &Error<&str>>| Class::Permanent;
    let named = || retry(3).name("search");
    let _ = named().classify(permanent).layer(fails).oneshot(()).await;
    let _ = named().idempotent(|(): &()| false).layer(fails).oneshot(()).await;
    let events = recorded.take();
    assert_eq!(events.len(), 2, "{events:?}");
    has(
        &events[0],
        &["DEBUG", "message=gave up", r#"reason="permanent""#, "last=Answered(Permanent)"],
    );
    has(
        &events[1],
        &["WARN", "message=gave up", r#"reason="not_repeatable""#, "last=Answered(Transient"],
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_is_passed_on_is_told_by_the_layer_that_refused_and_not_here() {
    let recorded = Events::of("stockade");
    let rejected = Rejected::new(&"limit", Reason::QueueFull);
    let refuses = service_fn(move |()| std::future::ready(Err::<(), Error<&str>>(rejected.into())));
    let layer = retry(3).name("search");
    let _ = layer.clone().layer(refuses).oneshot(()).await;
    assert!(recorded.take().is_empty());
    let _ = layer.retry_refusals(Duration::from_millis(50)).layer(refuses).oneshot(()).await;
    let events = recorded.take();
    assert_eq!(events.len(), 2, "{events:?}");
    has(&events[0], &["DEBUG", "message=waiting", r#"reason="queue_full""#, "wait=50ms"]);
    has(&events[1], &["WARN", "message=gave up", r#"reason="refused""#]);
}
