//! What is sent twice by the retry layers that know their client.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use http::{Method, Response, StatusCode, header::HeaderName};
use stockade_clients::{grpc, http as requests, reqwest as of_reqwest};
use stockade_core::Error;
use tonic::{Code, Status};
use tower::{ServiceBuilder, ServiceExt};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Counts an attempt, which the server answers with this status.
fn answer(attempts: &AtomicU32, status: StatusCode) -> Response<()> {
    attempts.fetch_add(1, SeqCst);
    let mut answer = Response::new(());
    *answer.status_mut() = status;
    answer
}

async fn attempts_of_reqwest(request: reqwest::Request, status: StatusCode) -> u32 {
    let attempts = AtomicU32::new(0);
    let client = ServiceBuilder::new()
        .layer(of_reqwest::retry(3))
        .map_err(Error::Service)
        .service_fn(async |_| Ok::<_, reqwest::Error>(answer(&attempts, status)));
    client.oneshot(request).await.unwrap();
    attempts.load(SeqCst)
}

async fn attempts_of_http(request: http::Request<String>, status: StatusCode) -> u32 {
    let attempts = AtomicU32::new(0);
    let client = ServiceBuilder::new()
        .layer(requests::retry(3))
        .map_err(Error::Service)
        .service_fn(async |_| Ok::<_, std::io::Error>(answer(&attempts, status)));
    client.oneshot(request).await.unwrap();
    attempts.load(SeqCst)
}

#[tokio::test(start_paused = true)]
async fn a_post_is_sent_once_and_a_get_again_when_the_answer_is_a_502() {
    let reqwest = |method| reqwest::Request::new(method, "http://a.example".parse().unwrap());
    let http = |method| http::Request::builder().method(method).body(String::new()).unwrap();
    for (method, sent) in [(Method::GET, 3), (Method::POST, 1)] {
        let of_reqwest = attempts_of_reqwest(reqwest(method.clone()), StatusCode::BAD_GATEWAY);
        assert_eq!(of_reqwest.await, sent, "{method} of reqwest");
        let of_http = attempts_of_http(http(method.clone()), StatusCode::BAD_GATEWAY);
        assert_eq!(of_http.await, sent, "{method} of http");
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_is_sent_again_with_a_key_or_when_it_was_not_begun() {
    let keyed = || {
        let mut request = reqwest::Request::new(Method::POST, "http://a.example".parse().unwrap());
        request.headers_mut().insert(KEY, "7".parse().unwrap());
        request
    };
    assert_eq!(attempts_of_reqwest(keyed(), StatusCode::BAD_GATEWAY).await, 3);

    let post = || http::Request::post("/").body(String::new()).unwrap();
    let mut keyed = post();
    keyed.headers_mut().insert(KEY, "7".parse().unwrap());
    assert_eq!(attempts_of_http(keyed, StatusCode::BAD_GATEWAY).await, 3);
    assert_eq!(attempts_of_http(post(), StatusCode::TOO_MANY_REQUESTS).await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_grpc_call_is_sent_again_only_where_its_method_is_said_to_be_idempotent() {
    let attempts = AtomicU32::new(0);
    let down = async |_| {
        attempts.fetch_add(1, SeqCst);
        Err::<tonic::Response<()>, _>(Status::new(Code::Unavailable, "going away"))
    };
    let client =
        ServiceBuilder::new().layer(grpc::retry(3)).map_err(Error::Service).service_fn(down);
    client.oneshot(tonic::Request::new(1)).await.unwrap_err();
    assert_eq!(attempts.swap(0, SeqCst), 1);

    let client = ServiceBuilder::new()
        .layer(grpc::retry(3).idempotent(|_: &tonic::Request<u32>| true))
        .map_err(Error::Service)
        .service_fn(down);
    client.oneshot(tonic::Request::new(1)).await.unwrap_err();
    assert_eq!(attempts.load(SeqCst), 3);
}
