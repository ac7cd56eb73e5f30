//! What the feature `tracing` tells.
#![cfg(all(feature = "redis", feature = "tracing"))]
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use std::{
    fmt::{Debug, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use common::passes;
use stockade_breaker::BreakerLayer;
use stockade_fleet::{
    Redis,
    breaker::Quorum,
    rate::{Outage, RateLayer},
};
use stockade_test_servers as servers;
use tokio::time::{sleep, timeout};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

const PASSWORD: &str = "s3cret";

/// Keeps every warning as a line.
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
        metadata.target() == "stockade" && *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn each_change_of_who_decides_is_one_event_and_no_call_is() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let mut server = servers::Redis::new().password(PASSWORD).start().await.unwrap();
    let redis = Redis::new(&server.url()).unwrap().patience(Duration::from_secs(2));
    let layer = RateLayer::per_second(&redis, "told", 1_000).outage(Outage::Open).name("geocoder");
    let member = Quorum::majority(&redis, "told")
        .interval(Duration::from_millis(50))
        .join(BreakerLayer::new().with_handle().1);
    for _ in 0..20 {
        assert!(passes(&layer).await);
    }
    sleep(Duration::from_millis(200)).await;
    assert!(lines.0.lock().unwrap().is_empty());

    server.kill().await;
    let away = async {
        while !(common::handle(&layer).is_alone() && member.is_alone()) {
            assert!(passes(&layer).await);
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), away).await.unwrap();
    for _ in 0..20 {
        assert!(passes(&layer).await);
    }
    server.restart().await.unwrap();
    let back = async {
        while common::handle(&layer).is_alone() || member.is_alone() {
            assert!(passes(&layer).await);
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), back).await.unwrap();

    let lines = lines.0.lock().unwrap();
    let place = redis.place();
    for layer in ["rate", "breaker"] {
        let of_layer = format!("layer=\"{layer}\"");
        let told: Vec<_> = lines.iter().filter(|line| line.contains(&of_layer)).collect();
        assert_eq!(told.len(), 2, "{lines:#?}");
        assert!(told.iter().all(|line| line.contains(place) && !line.contains(PASSWORD)));
        assert!(told[0].contains("mode=Alone") && told[0].contains("error=redis at"), "{told:?}");
        assert!(told[1].contains("mode=Shared") && !told[1].contains("error="), "{told:?}");
    }
}
