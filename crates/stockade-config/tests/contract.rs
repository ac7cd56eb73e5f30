//! A stack from a file keeps the contract of a tower layer, and costs what its layers do.

use stockade_config::{StackConfig, toml};
use stockade_testkit::{Probe, contract};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

const LIMITED: &str =
    "[timeout]\nlimit = \"60s\"\n[breaker]\n[limit]\nmax = 2\n[attempt_timeout]\nlimit = \"60s\"";

fn config(text: &str) -> StackConfig {
    toml(text).expect("it is right")
}

#[tokio::test(start_paused = true)]
async fn a_stack_keeps_the_contract() {
    let (layer, _handle) = config(LIMITED).try_build().unwrap().with_handle();
    contract(move |inner: Probe| layer.layer(inner))
        .limit(2)
        .deadline(std::time::Duration::from_secs(60))
        .run()
        .await
        .assert();
}

#[tokio::test(start_paused = true)]
async fn a_stack_without_layers_keeps_the_contract() {
    let (layer, _handle) = StackConfig::default().try_build().unwrap().with_handle();
    contract(move |inner: Probe| layer.layer(inner)).run().await.assert();
}

#[test]
fn a_call_that_passes_allocates_nothing() {
    let whole = format!("{LIMITED}\n[retry]\nmax_attempts = 3\n[rate]\ncalls = 1000\nper = \"1s\"");
    let (layer, _handle) = config(&whole).try_build().unwrap().with_handle();
    let client = ServiceBuilder::new().layer(layer).map_err(stockade_core::Error::Service);
    let mut client = client.service_fn(async |n: u64| Ok::<_, std::io::Error>(n));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        for n in 0..10 {
            client.ready().await.unwrap().call(n).await.unwrap();
        }
        let mut call = tokio_test::task::spawn(async move {
            for n in 0..100 {
                client.ready().await.unwrap().call(n).await.unwrap();
            }
        });
        let allocated = allocation_counter::measure(|| assert!(call.poll().is_ready()));
        assert_eq!(allocated.count_total, 0);
    });
}
