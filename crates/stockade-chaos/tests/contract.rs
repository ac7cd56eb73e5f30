//! Chaos keeps the contract of a tower layer while it is off.

use stockade_chaos::ChaosLayer;
use stockade_testkit::{Probe, contract};
use tower::Layer;

#[tokio::test(start_paused = true)]
async fn chaos_that_is_off_keeps_the_contract() {
    contract(|inner: Probe| ChaosLayer::new(1).reject(1.0).hang(1.0).layer(inner))
        .run()
        .await
        .assert();
}
