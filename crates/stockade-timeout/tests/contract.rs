//! The timeout keeps the contract of a tower layer.

use std::time::Duration;

use stockade_testkit::{Probe, contract};
use stockade_timeout::TimeoutLayer;
use tower::Layer;

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn the_timeout_keeps_the_contract() {
    contract(|inner: Probe| TimeoutLayer::new(LIMIT).layer(inner))
        .deadline(LIMIT)
        .run()
        .await
        .assert();
}
