//! What the feature `tracing` tells.

#![cfg(feature = "tracing")]

mod common;

use common::{MS, future, passes, service, waiter};
use stockade_rate::RateLayer;
use stockade_testkit::Events;
use tokio::time::advance;
use tokio_test::assert_ready_ok;

#[tokio::test(start_paused = true)]
async fn every_refusal_is_one_event_and_a_call_that_passes_or_waits_for_its_token_is_none() {
    let events = Events::of("stockade");
    let layer = RateLayer::per_second(1).burst(2).queue(1).max_wait(2_000 * MS).name("geo");
    let (mut rate, _probe) = service(layer);
    assert!(passes(&mut rate, 1) && passes(&mut rate, 2));
    let mut waits = waiter(&mut rate, 3);
    assert_eq!(events.take(), [""; 0]);
    future(&mut rate, 4).await.unwrap_err();
    let full = r#"DEBUG message=refused layer="rate" name="geo" reason="queue_full" retry_after="#;
    let told = events.take();
    assert!(told.len() == 1 && told[0].starts_with(full), "{told:?}");
    advance(1_002 * MS).await;
    assert_ready_ok!(waits.poll());
    assert_eq!(events.take(), [""; 0]);

    let (mut rate, _probe) = service(RateLayer::per_second(1).queue(0));
    assert!(passes(&mut rate, 1));
    future(&mut rate, 2).await.unwrap_err();
    let told = events.take();
    assert!(told.len() == 1 && told[0].contains(r#"reason="rate_limited""#), "{told:?}");
}
