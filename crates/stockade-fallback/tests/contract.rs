//! The fallback keeps the contract of a tower layer.

use stockade_fallback::FallbackLayer;
use stockade_testkit::{Probe, contract};
use tower::Layer;

#[tokio::test(start_paused = true)]
async fn the_fallback_keeps_the_contract() {
    contract(|inner: Probe| FallbackLayer::new(async |error| Err(error)).layer(inner))
        .run()
        .await
        .assert();
}
