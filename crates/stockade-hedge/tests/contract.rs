//! The hedge keeps the contract of a tower layer.

use std::time::Duration;

use stockade_hedge::HedgeLayer;
use stockade_testkit::{Probe, contract};
use tower::Layer;

#[tokio::test(start_paused = true)]
async fn a_hedge_that_makes_no_further_attempt_keeps_the_contract() {
    contract(|inner: Probe| HedgeLayer::after(Duration::from_secs(86_400)).layer(inner))
        .run()
        .await
        .assert();
}

#[tokio::test(start_paused = true)]
async fn a_hedge_by_percentile_keeps_the_contract() {
    contract(|inner: Probe| HedgeLayer::percentile(0.95).layer(inner)).run().await.assert();
}
