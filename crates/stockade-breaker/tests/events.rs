//! What the feature `tracing` tells.

#![cfg(feature = "tracing")]

use std::{
    fmt::{Debug, Write},
    sync::{Arc, Mutex},
};

use common::{Ask, SECOND, ask, layer};
use stockade_core::lock;
use tokio::time::advance;
use tower::Layer;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

mod common;

/// Keeps every event as a line.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "stockade"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        lock(&self.0).push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn every_transition_and_every_refusal_is_one_event_and_no_successful_call_is() {
    let lines = Lines::default();
    let _scope = tracing::subscriber::set_default(lines.clone());
    let mut breaker = layer().name("search").layer(common::Backend::new().0);
    let told = |expected: &[&str]| {
        let lines = std::mem::take(&mut *lock(&lines.0));
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
    told(&[r#"reason="circuit open""#]);
    advance(5 * SECOND).await;
    for _ in 0..3 {
        ask(&mut breaker, Ask::Succeed).await.unwrap();
    }
    told(&[r#"from="open" to="half-open""#, r#"from="half-open" to="closed""#]);
}
