//! The contract of the testkit, with a Redis that nobody runs: each node is alone.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]
#![cfg(feature = "redis")]

use stockade_fleet::{
    Redis,
    rate::{Outage, RateLayer},
};
use stockade_testkit::{Probe, contract};
use tower::Layer;

fn nobody() -> Redis {
    Redis::new("redis://127.0.0.1:1").unwrap()
}

#[tokio::test(start_paused = true)]
async fn keeps_the_contract_while_all_calls_pass() {
    let layer = || RateLayer::per_second(&nobody(), "contract", 1_000).outage(Outage::Open);
    contract(move |inner: Probe| layer().layer(inner)).run().await.assert();
}
