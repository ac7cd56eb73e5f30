//! The suite proves itself: whoever keeps the contract passes, and each breach fails its own check.

mod support;

use stockade_testkit::{Probe, contract};
use support::{Breach, Gate};
use tower::limit::ConcurrencyLimit;

#[tokio::test(start_paused = true)]
async fn the_probe_itself_passes_what_applies_to_it() {
    let report = contract(|inner: Probe| inner).run().await;
    println!("{report}");
    report.assert();
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_keeps_the_contract_passes() {
    let report = contract(|inner: Probe| Gate::new(inner, 2, Breach::None)).limit(2).run().await;
    println!("{report}");
    report.assert();
}

#[tokio::test(start_paused = true)]
async fn towers_concurrency_limit_keeps_its_permit_in_a_finished_future() {
    let report = contract(|inner: Probe| ConcurrencyLimit::new(inner, 2)).limit(2).run().await;
    println!("{report}");
    assert_eq!(report.failed(), ["release_on_ready"]);
}
