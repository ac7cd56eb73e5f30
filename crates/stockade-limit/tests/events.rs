//! What the feature `tracing` tells.

#![cfg(feature = "tracing")]

use std::time::Duration;

use stockade_limit::LimitLayer;
use stockade_testkit::{Events, Probe, Request};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service, ServiceExt};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn every_refusal_is_one_event_and_a_call_that_passes_or_waits_for_its_turn_is_none() {
    let events = Events::of("stockade");
    let probe = Probe::new();
    let mut limit = LimitLayer::new(1).queue(1).max_wait(SECOND).name("db").layer(probe.clone());
    let mut first = task::spawn(limit.ready().await.unwrap().call(Request::wait(1)));
    assert_pending!(first.poll());
    let mut second = task::spawn(limit.ready().await.unwrap().call(Request::ready(2)));
    assert_pending!(second.poll());
    assert_eq!(events.take(), [""; 0]);

    let refused = limit.ready().await.unwrap().call(Request::ready(3));
    assert_eq!(events.take(), [""; 0], "nobody has asked for the answer yet");
    refused.await.unwrap_err();
    let full = r#"DEBUG message=refused layer="limit" name="db" reason="queue_full""#;
    let told = events.take();
    assert!(told.len() == 1 && told[0].starts_with(full), "{told:?}");

    probe.release_all();
    assert_ready!(first.poll()).unwrap();
    second.await.unwrap();
    assert_eq!(events.take(), [""; 0]);

    let mut third = task::spawn(limit.ready().await.unwrap().call(Request::wait(4)));
    assert_pending!(third.poll());
    limit.ready().await.unwrap().call(Request::ready(5)).await.unwrap_err();
    let told = events.take();
    assert!(told.len() == 1 && told[0].contains(r#"reason="wait_exceeded""#), "{told:?}");
}
