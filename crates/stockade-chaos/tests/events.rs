//! What `tracing` is told: each fault that is made up, and nothing of the other calls.

use stockade_chaos::ChaosLayer;
use stockade_core::Error;
use stockade_testkit::Events;
use tower::{Layer, Service, ServiceExt, service_fn};

#[tokio::test(start_paused = true)]
async fn each_fault_is_told_and_nothing_while_it_is_off() {
    let events = Events::of("stockade");
    let (layer, handle) = ChaosLayer::new(1).reject(1.0).name("game day").with_handle();
    let mut svc = layer.layer(service_fn(async |()| Ok::<_, Error<()>>(())));
    svc.ready().await.unwrap().call(()).await.unwrap();
    assert_eq!(events.take(), [""; 0]);
    handle.set_enabled(true);
    svc.ready().await.unwrap().call(()).await.unwrap_err();
    let told = events.take();
    assert_eq!(
        told,
        [
            r#"DEBUG message=made up a fault layer="chaos" name="game day" fault=Reject"#,
            r#"DEBUG message=refused layer="chaos" name="game day" reason="shed""#,
        ]
    );
}
