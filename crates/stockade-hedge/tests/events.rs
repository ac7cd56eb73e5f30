//! What `tracing` is told: each hedge, and nothing of a call that is quick.

use std::time::Duration;

use stockade_core::{Budget, Error};
use stockade_hedge::HedgeLayer;
use stockade_testkit::Events;
use tower::{Layer, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn a_hedge_is_told_and_a_call_that_is_quick_is_not() {
    let events = Events::of("stockade");
    let service = service_fn(async |millis: u32| {
        tokio::time::sleep(MS * millis).await;
        Ok::<_, Error<()>>(())
    });
    // One token.
    let layer = HedgeLayer::after(MS * 10).budget(Budget::new(0.0, 1e-9)).name("search");
    let mut svc = layer.layer(service);
    svc.ready().await.unwrap().call(5).await.unwrap();
    assert_eq!(events.take(), [""; 0]);
    for over_budget in [false, true] {
        svc.ready().await.unwrap().call(20).await.unwrap();
        let told = r#"DEBUG message=slow call layer="hedge" name="search" over_budget="#;
        assert_eq!(events.take(), [format!("{told}{over_budget}")]);
    }
}
