//! The layers for what travels with a request keep the contract of a tower layer.

use std::time::Duration;

use http::Request as Http;
use stockade_clients::http::{ExtractLayer, InjectLayer};
use stockade_testkit::{Probe, Request, contract};
use tower::ServiceBuilder;

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn the_layer_that_reads_deadlines_keeps_the_contract() {
    let stack = |inner: Probe| {
        ServiceBuilder::new()
            .map_request(Http::<Request>::new)
            .layer(ExtractLayer::new(LIMIT))
            .map_request(Http::<Request>::into_body)
            .service(inner)
    };
    contract(stack).deadline(LIMIT).run().await.assert();
}

#[tokio::test(start_paused = true)]
async fn the_layer_that_writes_deadlines_keeps_the_contract() {
    let stack = |inner: Probe| {
        ServiceBuilder::new()
            .map_request(Http::<Request>::new)
            .layer(InjectLayer::new())
            .map_request(Http::<Request>::into_body)
            .service(inner)
    };
    contract(stack).run().await.assert();
}

#[cfg(feature = "rate")]
#[tokio::test(start_paused = true)]
async fn the_layer_that_reads_quotas_keeps_the_contract() {
    use stockade_clients::http::{QuotaHeaders, QuotaLayer};

    let (_, rate) = stockade_rate::RateLayer::per_second(1).with_handle();
    let stack = |inner: Probe| {
        ServiceBuilder::new()
            .map_response(http::Response::into_body)
            .layer(QuotaLayer::new().learn(QuotaHeaders::standard(), rate.clone()))
            .map_response(http::Response::new)
            .service(inner)
    };
    contract(stack).run().await.assert();
}
