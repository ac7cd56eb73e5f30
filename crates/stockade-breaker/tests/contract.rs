//! The contract that every layer keeps.

use stockade_breaker::BreakerLayer;
use stockade_testkit::{Probe, contract};
use tower::Layer;

#[tokio::test(start_paused = true)]
async fn a_breaker_keeps_the_contract() {
    contract(|inner: Probe| BreakerLayer::new().layer(inner)).run().await.assert();
}
