//! Kubernetes through kube, whose client is made of any service of HTTP requests.
#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod fake;

use std::time::Duration;

use fake::Fake;
use hyper_util::{client::legacy, rt::TokioExecutor};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Config,
    api::PostParams,
    client::{Body, ConfigExt as _},
};
use stockade::{BoxError, BreakerLayer, LayerError, Reason, RetryLayer, retry::RetryHandle};
use stockade_clients::http::{Http, clone_request_with, idempotent};
use tower::ServiceBuilder;

const MAP: &str = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings"}}"#;
const BUSY: &str = r#"{"apiVersion":"v1","kind":"Status","status":"Failure","code":503,"reason":"ServiceUnavailable","message":"busy"}"#;

/// A client whose calls are repeated, and that leaves a server alone that has failed three times in a row.
fn client(url: &str) -> (Client, RetryHandle) {
    let config = Config::new(url.parse().unwrap());
    let retry = RetryLayer::max_attempts(4)
        .classify(Http::new())
        .idempotent(idempotent::<Body>)
        .clone_request(clone_request_with(Body::try_clone));
    let (retry, retries) = retry.with_handle();
    let stack = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(retry)
        .layer(BreakerLayer::new().consecutive(3).classify(Http::new()))
        .map_err(BoxError::from)
        .service(legacy::Client::builder(TokioExecutor::new()).build_http());
    (Client::new(stack, "default"), retries)
}

#[tokio::test]
async fn a_read_that_meets_a_503_is_repeated() {
    let fake = Fake::start(&[(503, None, BUSY), (200, None, MAP)]).await;
    let (client, retries) = client(&fake.url());
    let map = Api::<ConfigMap>::default_namespaced(client).get("settings").await.unwrap();
    assert_eq!(map.metadata.name.as_deref(), Some("settings"));
    assert_eq!((fake.asked().len(), retries.stats().retried), (2, 1));
}

#[tokio::test]
async fn a_write_that_meets_a_429_is_repeated_whole_when_the_server_said() {
    let fake = Fake::start(&[(429, Some("1"), BUSY), (201, None, MAP)]).await;
    let (client, _) = client(&fake.url());
    let map: ConfigMap = serde_json::from_str(MAP).unwrap();
    let maps = Api::<ConfigMap>::default_namespaced(client);
    maps.create(&PostParams::default(), &map).await.unwrap();
    let [first, second] = fake.asked().try_into().unwrap();
    assert!(second.at - first.at >= Duration::from_secs(1));
    assert_eq!(first.body, second.body);
    assert!(!second.body.is_empty());
}

#[tokio::test]
async fn a_write_that_may_have_had_an_effect_is_not_repeated() {
    let fake = Fake::start(&[(503, None, BUSY)]).await;
    let (client, _) = client(&fake.url());
    let map: ConfigMap = serde_json::from_str(MAP).unwrap();
    let maps = Api::<ConfigMap>::default_namespaced(client);
    maps.create(&PostParams::default(), &map).await.unwrap_err();
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn a_server_that_fails_again_and_again_is_left_alone() {
    let fake = Fake::start(&[(503, None, BUSY)]).await;
    let (client, _) = client(&fake.url());
    let maps = Api::<ConfigMap>::default_namespaced(client);
    maps.get("settings").await.unwrap_err();
    assert_eq!(fake.asked().len(), 3, "the fourth attempt found the breaker open");
    let error = BoxError::from(maps.get("settings").await.unwrap_err());
    assert_eq!(error.rejected().unwrap().reason(), Reason::BreakerOpen);
    assert_eq!(fake.asked().len(), 3);
}
