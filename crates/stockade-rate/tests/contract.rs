//! The contract of the testkit.

use stockade_rate::RateLayer;
use stockade_testkit::{Probe, contract};
use tower::Layer;

#[tokio::test(start_paused = true)]
async fn keeps_the_contract_while_calls_pass() {
    contract(|inner: Probe| RateLayer::per_second(1_000_000).layer(inner)).run().await.assert();
}

#[tokio::test(start_paused = true)]
async fn keeps_the_contract_while_calls_wait() {
    contract(|inner: Probe| RateLayer::per_second(100).burst(1).layer(inner)).run().await.assert();
}

#[tokio::test(start_paused = true)]
async fn keeps_the_contract_while_poll_ready_waits() {
    let layer = || RateLayer::per_second(100).burst(1).backpressure();
    contract(move |inner: Probe| layer().layer(inner)).run().await.assert();
}
