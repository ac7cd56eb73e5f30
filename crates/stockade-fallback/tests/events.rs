//! What `tracing` is told: each call that the fallback answers, and nothing of the others.

use stockade_core::Error;
use stockade_fallback::FallbackLayer;
use stockade_testkit::Events;
use tower::{Layer, Service, ServiceExt, service_fn};

#[tokio::test]
async fn each_answer_is_told_and_a_call_that_succeeds_or_is_left_alone_is_not() {
    let events = Events::of("stockade");
    let layer = FallbackLayer::new(async |_| Ok(0)).name("search");
    let layer = layer.on(|error: &Error<u32>| *error != Error::Service(2));
    let service = service_fn(async |n: u32| if n == 0 { Ok(n) } else { Err(Error::Service(n)) });
    let mut svc = layer.layer(service);
    svc.ready().await.unwrap().call(0).await.unwrap();
    svc.ready().await.unwrap().call(2).await.unwrap_err();
    assert_eq!(events.take(), [""; 0]);
    svc.ready().await.unwrap().call(1).await.unwrap();
    assert_eq!(
        events.take(),
        [r#"DEBUG message=answered in place of a failed call layer="fallback" name="search""#]
    );
}
