//! The concurrency limit keeps the contract of a tower layer.

use stockade_limit::{Aimd, LimitLayer};
use stockade_testkit::{Probe, contract};
use tower::Layer;

#[tokio::test(start_paused = true)]
async fn the_limit_keeps_the_contract() {
    contract(|inner: Probe| LimitLayer::new(2).layer(inner)).limit(2).run().await.assert();
}

#[tokio::test(start_paused = true)]
async fn backpressure_keeps_the_contract() {
    contract(|inner: Probe| LimitLayer::new(2).backpressure().layer(inner))
        .limit(2)
        .run()
        .await
        .assert();
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_limit_keeps_the_contract() {
    contract(|inner: Probe| LimitLayer::adaptive(Aimd::new()).min(2).max(2).layer(inner))
        .limit(2)
        .run()
        .await
        .assert();
}
