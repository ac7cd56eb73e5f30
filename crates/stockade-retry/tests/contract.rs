//! The contract that every layer keeps.

use stockade_retry::RetryLayer;
use stockade_testkit::{Probe, contract};
use tower::Layer;

#[tokio::test(start_paused = true)]
async fn a_retry_keeps_the_contract() {
    contract(|inner: Probe| RetryLayer::max_attempts(3).layer(inner)).run().await.assert();
}
