//! What changes from one attempt to the next, and what cannot be sent twice, as a user of HTTP has it.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::body::{Body, to_bytes};
use http::{Request, Response, StatusCode, header::AUTHORIZATION};
use stockade::{
    BoxError, Class, RetryLayer,
    retry::{Backoff, Budget},
};
use stockade_clients::http::{Http, REPLAY_LIMIT, Replay};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

type Answer = Result<Response<()>, BoxError>;

/// What a server saw of each attempt.
type Log = Arc<Mutex<Vec<Request<()>>>>;

/// Answers each attempt as `answer` says, and keeps its request.
fn server(
    answer: fn(&Request<()>) -> StatusCode,
) -> (impl Service<Request<()>, Response = Response<()>, Error = BoxError, Future: Send> + Clone, Log)
{
    let log = Log::default();
    let seen = Arc::clone(&log);
    let service = service_fn(move |request: Request<()>| {
        let status = answer(&request);
        seen.lock().unwrap().push(request);
        async move { Ok(Response::builder().status(status).body(())?) }
    });
    (service, log)
}

fn retry() -> RetryLayer {
    RetryLayer::max_attempts(3).backoff(Backoff::none()).budget(Budget::unlimited())
}

fn get(uri: &str) -> Request<()> {
    Request::get(uri).body(()).unwrap()
}

fn status(answer: Answer) -> StatusCode {
    answer.unwrap().status()
}

#[tokio::test(start_paused = true)]
async fn an_attempt_after_a_401_has_a_fresh_token() {
    let (service, log) = server(|request| match request.headers().get(AUTHORIZATION) {
        Some(token) if token == "Bearer 2" => StatusCode::OK,
        _ => StatusCode::UNAUTHORIZED,
    });
    let tokens = Arc::new(Mutex::new(1));
    let prepare = move |request: &mut Request<()>, _: u32, last: Option<&Answer>| {
        let mut token = tokens.lock().unwrap();
        if let Some(Ok(last)) = last
            && last.status() == StatusCode::UNAUTHORIZED
        {
            *token += 1;
        }
        request.headers_mut().insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    };
    // A 401 says nothing of the service, and changes with the token.
    let classify = |result: Result<&Response<()>, &BoxError>| match result {
        Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED => {
            Class::NoEffect { after: None }
        }
        _ => Class::Success,
    };
    let svc = retry().classify(classify).prepare(prepare).layer(service);
    assert_eq!(status(svc.clone().oneshot(get("/")).await), StatusCode::OK);
    assert_eq!(status(svc.oneshot(get("/")).await), StatusCode::OK);
    let log = log.lock().unwrap();
    let sent: Vec<_> = log.iter().map(|request| &request.headers()[AUTHORIZATION]).collect();
    assert_eq!(sent, ["Bearer 1", "Bearer 2", "Bearer 2"], "the next call begins with it");
}

#[tokio::test(start_paused = true)]
async fn each_attempt_tells_its_number_in_a_header() {
    let (service, log) = server(|_| StatusCode::SERVICE_UNAVAILABLE);
    let prepare = |request: &mut Request<()>, attempt: u32, _: Option<&Answer>| {
        request.headers_mut().insert("x-attempt", attempt.into());
    };
    let svc = retry().classify(Http::new()).prepare(prepare).layer(service);
    assert_eq!(status(svc.oneshot(get("/")).await), StatusCode::SERVICE_UNAVAILABLE);
    let log = log.lock().unwrap();
    let sent: Vec<_> = log.iter().map(|request| &request.headers()["x-attempt"]).collect();
    assert_eq!(sent, ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_after_a_failure_goes_to_another_region() {
    const REGIONS: [&str; 3] = ["eu", "us", "ap"];
    let (service, log) = server(|request| match request.uri().host() {
        Some("us.example") => StatusCode::OK,
        _ => StatusCode::BAD_GATEWAY,
    });
    let prepare = |request: &mut Request<()>, attempt: u32, last: Option<&Answer>| {
        if last.is_some() {
            let region = REGIONS[(attempt as usize - 1) % REGIONS.len()];
            let path = request.uri().path_and_query().unwrap().to_string();
            *request.uri_mut() = format!("https://{region}.example{path}").parse().unwrap();
        }
    };
    let svc = retry().classify(Http::new()).prepare(prepare).layer(service);
    assert_eq!(status(svc.oneshot(get("https://eu.example/a?b=1")).await), StatusCode::OK);
    let log = log.lock().unwrap();
    let sent: Vec<_> = log.iter().map(|request| request.uri().to_string()).collect();
    assert_eq!(sent, ["https://eu.example/a?b=1", "https://us.example/a?b=1"]);
}

/// Sends a body of `size` bytes, in chunks whose number the client does not tell, to a server that is busy at first.
/// Returns what was answered, how many bytes each attempt had, and how many calls could not be repeated.
async fn send(size: usize, is_told: bool) -> (StatusCode, Vec<usize>, u64) {
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&sizes);
    let client = service_fn(move |request: Request<Replay<Body>>| {
        let seen = Arc::clone(&seen);
        async move {
            let bytes = to_bytes(Body::new(request.into_body()), usize::MAX).await?;
            assert!(bytes.iter().enumerate().all(|(n, byte)| *byte == n as u8));
            let mut seen = seen.lock().unwrap();
            seen.push(bytes.len());
            let status = if seen.len() == 1 { 503 } else { 200 };
            Ok::<_, BoxError>(Response::builder().status(status).body(())?)
        }
    });
    let (retry, handle) = retry()
        .classify(Http::new())
        .idempotent(Replay::idempotent::<Body>)
        .clone_request(Replay::clone_request::<Body>)
        .with_handle();
    let svc =
        ServiceBuilder::new().map_request(Replay::request::<Body>).layer(retry).service(client);
    let bytes: Vec<u8> = (0..size).map(|n| n as u8).collect();
    let body = if is_told {
        Body::from(bytes)
    } else {
        let chunks: Vec<_> =
            bytes.chunks(1_000).map(|chunk| Ok::<_, BoxError>(chunk.to_vec())).collect();
        Body::from_stream(futures_util::stream::iter(chunks))
    };
    let answer = svc.oneshot(Request::put("/").body(body).unwrap()).await;
    let sizes = sizes.lock().unwrap().clone();
    (status(answer), sizes, handle.stats().not_repeatable)
}

#[tokio::test(start_paused = true)]
async fn a_body_is_sent_again_up_to_64_kib_and_a_larger_one_once_to_its_end() {
    assert_eq!(REPLAY_LIMIT, 64 * 1_024);
    for is_told in [true, false] {
        let (at, above) = (REPLAY_LIMIT, REPLAY_LIMIT + 1);
        assert_eq!(send(at, is_told).await, (StatusCode::OK, vec![at, at], 0), "{is_told}");
        let once = (StatusCode::SERVICE_UNAVAILABLE, vec![above], 1);
        assert_eq!(send(above, is_told).await, once, "{is_told}");
    }
    assert_eq!(send(0, true).await, (StatusCode::OK, vec![0, 0], 0));
}

#[tokio::test(start_paused = true)]
async fn a_first_chunk_is_sent_before_the_second_is_there() {
    let (chunks, receiver) = tokio::sync::mpsc::channel::<Vec<u8>>(1);
    let stream = futures_util::stream::unfold(receiver, async |mut receiver| {
        let chunk = receiver.recv().await?;
        Some((Ok::<_, BoxError>(chunk), receiver))
    });
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let client = service_fn(move |request: Request<Replay<Body>>| {
        let log = Arc::clone(&log);
        async move {
            let mut body = Body::new(request.into_body()).into_data_stream();
            while let Some(chunk) = futures_util::StreamExt::next(&mut body).await {
                log.lock().unwrap().push(chunk?.len());
            }
            Ok::<_, BoxError>(Response::new(()))
        }
    });
    let retry = retry()
        .classify(Http::new())
        .idempotent(Replay::idempotent::<Body>)
        .clone_request(Replay::clone_request::<Body>);
    let svc =
        ServiceBuilder::new().map_request(Replay::request::<Body>).layer(retry).service(client);
    let request = Request::put("/").body(Body::from_stream(stream)).unwrap();
    let call = tokio::spawn(svc.oneshot(request));
    chunks.send(vec![1; 10]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(*seen.lock().unwrap(), [10]);
    drop(chunks);
    assert_eq!(status(call.await.unwrap()), StatusCode::OK);
}
