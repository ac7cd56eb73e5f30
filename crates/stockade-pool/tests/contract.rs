//! The pool keeps the contract of a tower layer.

use stockade_pool::Pool;
use stockade_testkit::{Probe, contract};

#[tokio::test(start_paused = true)]
async fn the_pool_keeps_the_contract() {
    contract(|inner: Probe| Pool::builder().workers(2).queue(16).build(inner))
        .limit(2)
        .close(|pool| pool.close())
        .run()
        .await
        .assert();
}
