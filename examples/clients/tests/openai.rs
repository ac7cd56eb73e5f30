//! OpenAI through async-openai, whose requests are made anew for each attempt.
#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod fake;

use std::time::Duration;

use async_openai::{
    Client,
    config::OpenAIConfig,
    error::OpenAIError,
    middleware::ReqwestService,
    types::chat::{CreateChatCompletionRequest, CreateChatCompletionResponse},
};
use fake::Fake;
use stockade::{BoxError, BreakerLayer, LayerError, Reason, RetryLayer, retry::RetryHandle};
use stockade_clients::http::Http;
use tower::ServiceBuilder;

const SAID: &str = r#"{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[]}"#;
const BUSY: &str = r#"{"error":{"message":"busy","type":"requests","param":null,"code":null}}"#;

/// A client whose calls are repeated, and that leaves a server alone that has failed three times in a row.
fn client(url: &str) -> (Client<OpenAIConfig>, RetryHandle) {
    // A completion changes nothing at the server, but each attempt that it has begun may have to be paid for.
    let (retry, retries) = RetryLayer::max_attempts(4).classify(Http::new()).with_handle();
    let stack = ServiceBuilder::new()
        .layer(retry)
        .layer(BreakerLayer::new().consecutive(3).classify(Http::new()))
        .map_err(BoxError::from)
        .service(ReqwestService::new(reqwest::Client::new()));
    let config = OpenAIConfig::new().with_api_base(url).with_api_key("key");
    (Client::with_config(config).with_http_service(stack), retries)
}

async fn ask(client: &Client<OpenAIConfig>) -> Result<CreateChatCompletionResponse, OpenAIError> {
    let request = CreateChatCompletionRequest { model: "m".to_owned(), ..Default::default() };
    client.chat().create(request).await
}

#[tokio::test]
async fn a_question_that_meets_a_503_is_asked_again() {
    let fake = Fake::start(&[(503, None, BUSY), (200, None, SAID)]).await;
    let (client, retries) = client(&fake.url());
    assert_eq!(ask(&client).await.unwrap().id, "1");
    assert_eq!((fake.asked().len(), retries.stats().retried), (2, 1));
}

#[tokio::test]
async fn a_question_that_meets_a_429_is_asked_again_whole_when_the_server_said() {
    let fake = Fake::start(&[(429, Some("1"), BUSY), (200, None, SAID)]).await;
    let (client, _) = client(&fake.url());
    ask(&client).await.unwrap();
    let [first, second] = fake.asked().try_into().unwrap();
    assert!(second.at - first.at >= Duration::from_secs(1));
    assert_eq!(first.body, second.body);
    assert!(!second.body.is_empty());
}

#[tokio::test]
async fn a_server_that_fails_again_and_again_is_left_alone() {
    let fake = Fake::start(&[(503, None, BUSY)]).await;
    let (client, _) = client(&fake.url());
    ask(&client).await.unwrap_err();
    assert_eq!(fake.asked().len(), 3, "the fourth attempt found the breaker open");
    let error = BoxError::from(ask(&client).await.unwrap_err());
    assert_eq!(error.rejected().unwrap().reason(), Reason::BreakerOpen);
    assert_eq!(fake.asked().len(), 3);
}
