//! What the feature `tracing` tells.

#![cfg(feature = "tracing")]

use std::time::Duration;

use stockade_testkit::{Behaviour, Events, Probe, Request};
use stockade_timeout::TimeoutLayer;
use tower::{Layer, ServiceExt};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_too_long_is_one_event_and_one_that_is_answered_is_none() {
    let events = Events::of("stockade");
    let timeout = TimeoutLayer::new(2 * SECOND).name("slow").layer(Probe::new());
    timeout.clone().oneshot(Request::ready(1)).await.unwrap();
    timeout.clone().oneshot(Request::new(2, Behaviour::Sleep(SECOND))).await.unwrap();
    timeout.clone().oneshot(Request::fail(3)).await.unwrap_err();
    drop(timeout.clone().oneshot(Request::wait(4)));
    assert_eq!(events.take(), [""; 0]);
    timeout.oneshot(Request::wait(5)).await.unwrap_err();
    let told = events.take();
    let elapsed =
        r#"DEBUG message=timed out layer="timeout" name="slow" reason="timed_out" limit=2s"#;
    assert!(told.len() == 1 && told[0].starts_with(elapsed), "{told:?}");
}
