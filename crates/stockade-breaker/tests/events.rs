//! What the feature `tracing` tells.

#![cfg(feature = "tracing")]

use common::{Ask, SECOND, ask, layer};
use stockade_testkit::Events;
use tokio::time::advance;
use tower::Layer;

mod common;

#[tokio::test(start_paused = true)]
async fn every_transition_and_every_refusal_is_one_event_and_no_successful_call_is() {
    let events = Events::of("stockade");
    let mut breaker = layer().name("search").layer(common::Backend::new().0);
    let told = |expected: &[&str]| {
        let lines = events.take();
        assert_eq!(lines.len(), expected.len(), "{lines:?}");
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.contains(expected) && line.contains("search"), "{line}");
        }
    };
    for _ in 0..9 {
        ask(&mut breaker, Ask::Succeed).await.unwrap();
    }
    told(&[]);
    for _ in 0..2 {
        ask(&mut breaker, Ask::Fail).await.unwrap_err();
    }
    told(&[r#"from="closed" to="open""#]);
    ask(&mut breaker, Ask::Succeed).await.unwrap_err();
    told(&[r#"reason="circuit_open""#]);
    advance(5 * SECOND).await;
    for _ in 0..3 {
        ask(&mut breaker, Ask::Succeed).await.unwrap();
    }
    told(&[r#"from="open" to="half_open""#, r#"from="half_open" to="closed""#]);
}
