//! GitHub through octocrab, whose client is made of any service of HTTP requests.
#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod fake;

use std::time::Duration;

use fake::Fake;
use http_body::Body as _;
use hyper_util::{client::legacy, rt::TokioExecutor};
use octocrab::{
    AuthState, OctoBody, Octocrab, OctocrabBuilder, service::middleware::base_uri::BaseUriLayer,
};
use serde_json::{Value, json};
use stockade::{BoxError, BreakerLayer, LayerError, Reason, RetryLayer, retry::RetryHandle};
use stockade_clients::http::{Http, clone_request_with, idempotent};
use tower::ServiceBuilder;

const REPOSITORY: &str = r#"{"name":"crab"}"#;
const BUSY: &str = r#"{"message":"busy"}"#;

/// What is in memory, or nothing at all. Its own `Clone` shares one stream: a second attempt would send nothing.
fn clone_body(body: &OctoBody) -> Option<OctoBody> {
    body.try_clone().or_else(|| body.is_end_stream().then(OctoBody::empty))
}

/// A client whose calls are repeated, and that leaves a server alone that has failed three times in a row.
fn client(url: &str) -> (Octocrab, RetryHandle) {
    let retry = RetryLayer::max_attempts(4)
        .classify(Http::new())
        .idempotent(idempotent::<OctoBody>)
        .clone_request(clone_request_with(clone_body));
    let (retry, retries) = retry.with_handle();
    let stack = ServiceBuilder::new()
        .layer(BaseUriLayer::new(url.parse().unwrap()))
        .layer(retry)
        .layer(BreakerLayer::new().consecutive(3).classify(Http::new()))
        .map_err(BoxError::from)
        .service(legacy::Client::builder(TokioExecutor::new()).build_http());
    let client =
        OctocrabBuilder::new_empty().with_service(stack).with_auth(AuthState::None).build();
    (client.unwrap(), retries)
}

async fn read(client: &Octocrab) -> octocrab::Result<Value> {
    client.get("/repos/rust/crab", None::<&()>).await
}

async fn write(client: &Octocrab) -> octocrab::Result<Value> {
    client.post("/user/repos", Some(&json!({ "name": "crab" }))).await
}

#[tokio::test]
async fn a_read_that_meets_a_503_is_repeated() {
    let fake = Fake::start(&[(503, None, BUSY), (200, None, REPOSITORY)]).await;
    let (client, retries) = client(&fake.url());
    assert_eq!(read(&client).await.unwrap()["name"], "crab");
    assert_eq!((fake.asked().len(), retries.stats().retried), (2, 1));
}

#[tokio::test]
async fn a_write_that_meets_a_429_is_repeated_whole_when_the_server_said() {
    let fake = Fake::start(&[(429, Some("1"), BUSY), (201, None, REPOSITORY)]).await;
    let (client, _) = client(&fake.url());
    write(&client).await.unwrap();
    let [first, second] = fake.asked().try_into().unwrap();
    assert!(second.at - first.at >= Duration::from_secs(1));
    assert_eq!((&first.body[..], &second.body[..]), (REPOSITORY.as_bytes(), REPOSITORY.as_bytes()));
}

#[tokio::test]
async fn a_write_that_may_have_had_an_effect_is_not_repeated() {
    let fake = Fake::start(&[(503, None, BUSY)]).await;
    let (client, _) = client(&fake.url());
    write(&client).await.unwrap_err();
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn a_server_that_fails_again_and_again_is_left_alone() {
    let fake = Fake::start(&[(503, None, BUSY)]).await;
    let (client, _) = client(&fake.url());
    read(&client).await.unwrap_err();
    assert_eq!(fake.asked().len(), 3, "the fourth attempt found the breaker open");
    let error = BoxError::from(read(&client).await.unwrap_err());
    assert_eq!(error.rejected().unwrap().reason(), Reason::BreakerOpen);
    assert_eq!(fake.asked().len(), 3);
}
