//! A real gRPC client and a real server, and between them what a network can do.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use std::{
    convert::Infallible,
    future::{Ready, ready},
    io,
    task::{Context, Poll},
    time::Duration,
};

use common::{SECRET, everything_said, logged, nobody};
use hyper_util::rt::TokioIo;
use stockade_clients::{
    Failure,
    grpc::{self, Grpc},
    http::{self as http_requests, BodyTimeoutLayer, ExtractLayer, InjectLayer},
};
use stockade_core::{Class, Classify, Error, Reason, Rejected, deadline};
use stockade_limit::{LimitHandle, LimitLayer};
use stockade_retry::RetryLayer;
use stockade_test_servers::proxy::{Fault, Proxy};
use stockade_timeout::TimeoutLayer;
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};
use tonic_types::StatusExt as _;
use tower::{Layer as _, Service, ServiceBuilder, ServiceExt, service_fn};

async fn start() -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).unwrap();
    let (_, health) = tonic_health::server::health_reporter();
    let incoming = TcpIncoming::from(listener);
    tokio::spawn(Server::builder().add_service(health).serve_with_incoming(incoming));
    proxy
}

fn channel(address: impl std::fmt::Display) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect_timeout(Duration::from_secs(5)).connect_lazy()
}

async fn check(channel: Channel) -> Result<Response<HealthCheckResponse>, Status> {
    HealthClient::new(channel).check(HealthCheckRequest::default()).await
}

fn class(status: Status) -> Class {
    Grpc::new().classify(Err::<&Response<()>, _>(&Error::Service(status)))
}

#[tokio::test]
async fn a_server_that_is_away_leaves_a_call_unsent_and_is_named() {
    let (_place, addr) = nobody();
    let status = check(channel(addr)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let failure = Failure::at(&format!("http://{addr}"), status.clone());
    let advice = "connection refused; check the port, and that the server runs";
    assert_eq!(failure.to_string(), format!("{addr}: {advice}"));
    assert_eq!(class(status), Class::NoEffect { after: None });
}

/// What comes of a call whose connector is `connector`.
async fn connected_by<C, E>(connector: C) -> Class
where
    C: Service<http::Uri, Response = TokioIo<TcpStream>, Error = E, Future: Send> + Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    let endpoint = Endpoint::from_static("http://api.example.org");
    class(check(endpoint.connect_with_connector_lazy(connector)).await.unwrap_err())
}

#[tokio::test]
async fn a_connection_that_takes_too_long_leaves_a_call_unsent() {
    let limit = Duration::from_millis(50);
    let stuck = || {
        service_fn(|_: http::Uri| {
            std::future::pending::<Result<TokioIo<TcpStream>, Error<io::Error>>>()
        })
    };
    let unsent = Class::NoEffect { after: None };
    assert_eq!(connected_by(TimeoutLayer::new(limit).layer(stuck())).await, unsent);
    let endpoint = Endpoint::from_static("http://api.example.org").connect_timeout(limit);
    let channel = endpoint.connect_with_connector_lazy(stuck());
    let status = check(channel).await.unwrap_err();
    assert_eq!(class(status.clone()), unsent, "{status:?}");
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_permanent() {
    let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
    let fails = service_fn(move |_: http::Uri| {
        ready(Err::<_, io::Error>(io::Error::other(unknown.clone())))
    });
    assert_eq!(connected_by(fails).await, Class::Permanent);
}

#[test]
fn what_a_server_repeats_of_a_proxy_or_a_certificate_is_judged_by_its_own_code() {
    for told in [
        "no message: while receiving response with status: 429 Too Many Requests",
        "mapped from HTTP status code 429",
        "invalid peer certificate: UnknownIssuer",
    ] {
        // As it comes over the wire.
        let answer = Status::unavailable(told).into_http::<()>();
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(class(status), Class::Transient { after: None }, "{told}");
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_may_have_been_sent() {
    let proxy = start().await;
    let channel = channel(proxy.addr());
    check(channel.clone()).await.unwrap();
    proxy.answers(Fault::cut(0));
    let status = check(channel).await.unwrap_err();
    assert_eq!(class(status.clone()), Class::Transient { after: None }, "{status:?}");
}

#[tokio::test]
async fn an_answer_that_is_nonsense_may_have_been_sent_and_is_named() {
    let proxy = start().await;
    proxy.answers(Fault::garble());
    let status = check(channel(proxy.addr())).await.unwrap_err();
    assert_eq!(class(status.clone()), Class::Transient { after: None }, "{status:?}");
    let failure = Failure::at(&proxy.addr().to_string(), status);
    let (message, advice) = (failure.to_string(), "check that a gRPC server listens at this port");
    assert!(message.starts_with(&proxy.addr().to_string()), "{message}");
    assert!(message.contains(advice), "{message}");
}

#[tokio::test]
async fn no_failure_shows_a_password_in_a_message_or_a_log() {
    let log = logged();
    let (proxy, (_place, away)) = (start().await, nobody());
    proxy.answers(Fault::garble());
    for (addr, what) in [(proxy.addr(), "gRPC server"), (away, "connection refused")] {
        let url = format!("http://me:{SECRET}@{addr}");
        let endpoint = Endpoint::from_shared(url.clone()).unwrap();
        let failure = Failure::at(&url, check(endpoint.connect_lazy()).await.unwrap_err());
        let said = everything_said(&failure);
        assert!(said.contains(&addr.to_string()) && said.contains(what), "{said}");
        assert!(!said.contains(SECRET), "{said}");
    }
    let log = log();
    assert!(log.contains("127.0.0.1"), "the client logs something: {log}");
    assert!(!log.contains(SECRET), "{log}");
}

#[tokio::test]
async fn a_server_that_does_not_let_one_in_says_what_to_check() {
    let rows = [
        (Code::Unauthenticated, "host:1: refused by the server; check the credentials"),
        (Code::PermissionDenied, "host:1: refused by the server; check the credentials"),
        (
            Code::Unimplemented,
            "host:1: unknown to the server; check the address, and the versions of both sides",
        ),
    ];
    for (code, message) in rows {
        assert_eq!(Failure::at("host:1", Status::new(code, "no")).to_string(), message);
    }
}

#[tokio::test]
async fn a_call_is_repeated_once_the_server_is_back() {
    let proxy = start().await;
    proxy.refuse();
    let (healer, lazy) = (proxy.clone(), channel(proxy.addr()));
    let retry = RetryLayer::max_attempts(5)
        .classify(Grpc::new())
        .idempotent(|_: &Request<HealthCheckRequest>| false)
        .clone_request(grpc::clone_request::<HealthCheckRequest>);
    let (retry, retries) = retry.with_handle();
    let client = ServiceBuilder::new()
        .layer(retry)
        .map_err(move |status: Status| {
            healer.heal();
            Error::Service(status)
        })
        .service(service_fn(move |request: Request<HealthCheckRequest>| {
            let mut client = HealthClient::new(lazy.clone());
            async move { client.check(request).await }
        }));
    client.oneshot(Request::new(HealthCheckRequest::default())).await.unwrap();
    assert_eq!(retries.stats().retried, 1);
}

#[tokio::test]
async fn a_refusal_by_a_layer_around_the_channel_comes_out_as_one() {
    let proxy = start().await;
    let (limit, handle) = LimitLayer::new(1).queue(0).with_handle();
    let stack =
        ServiceBuilder::new().layer(limit).map_err(Error::Service).service(channel(proxy.addr()));
    proxy.answers(Fault::stall());
    let mut first = HealthClient::new(stack.clone());
    let held = tokio::spawn(async move { first.check(HealthCheckRequest::default()).await });
    while handle.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    let mut second = HealthClient::new(stack);
    let refused = second.check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(class(refused), Class::NoEffect { after: None });
    held.abort();
}

#[tokio::test]
async fn a_call_that_the_channel_itself_ends_is_passed_on_as_one_whose_time_was_up() {
    let proxy = start().await;
    proxy.answers(Fault::stall());
    let stack = ServiceBuilder::new()
        .layer(InjectLayer::grpc())
        .map_err(Error::Service)
        .service(channel(proxy.addr()));
    let until = Instant::now() + Duration::from_millis(200);
    let mut client = HealthClient::new(stack);
    let call = client.check(HealthCheckRequest::default());
    let status = deadline::scope(Some(until), call).await.unwrap_err();
    assert_eq!(status.code(), Code::Cancelled, "tonic reads what was written for the server");
    assert_eq!(grpc::into_status(Error::Service(status)).code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_retry_around_the_channel_counts_what_it_cannot_repeat() {
    let (_place, addr) = nobody();
    let retry = RetryLayer::max_attempts(3)
        .classify(Grpc::new())
        .clone_request(http_requests::clone_request::<tonic::body::Body>);
    let (retry, retries) = retry.with_handle();
    let stack = ServiceBuilder::new().layer(retry).map_err(Error::Service).service(channel(addr));

    let status = HealthClient::new(stack).check(HealthCheckRequest::default()).await.unwrap_err();

    assert_eq!(class(status), Class::NoEffect { after: None });
    assert_eq!((retries.stats().retried, retries.stats().not_repeatable), (0, 1));
}

#[tokio::test]
async fn a_status_of_the_server_is_judged_by_its_code() {
    let proxy = start().await;
    let mut client = HealthClient::new(channel(proxy.addr()));
    let unknown = HealthCheckRequest { service: "no such service".to_owned() };
    let status = client.check(unknown).await.unwrap_err();
    assert_eq!((status.code(), class(status)), (Code::NotFound, Class::Permanent));
}

#[tokio::test]
async fn a_proxy_that_answers_for_the_server_is_judged_by_its_http_status() {
    let app = axum::Router::new().fallback(async || http::StatusCode::SERVICE_UNAVAILABLE);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let mut channel = channel(address);

    // As a status that the generated client makes of it.
    let status = check(channel.clone()).await.unwrap_err();
    assert_eq!(class(status.clone()), Class::OVERLOAD, "{status:?}");

    // With what the proxy says of when to come back, and its page.
    let page = async || {
        let headers = [("retry-after", "7"), ("content-type", "text/html")];
        (http::StatusCode::TOO_MANY_REQUESTS, headers, "<html>Not now</html>")
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let limited = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(page)).await });
    let status = check(self::channel(limited)).await.unwrap_err();
    let after = Some(Duration::from_secs(7));
    assert_eq!(class(status), Class::Overload { after, processed: false });

    // As the answer of the channel.
    let request = http::Request::new(tonic::body::Body::empty());
    let reply = channel.ready().await.unwrap().call(request).await.unwrap();
    let class = Grpc::new().classify(Ok::<_, &Error<tonic::transport::Error>>(&reply));
    assert_eq!(class, Class::OVERLOAD, "{reply:?}");
}

/// The same around a client, for a server that does not keep to it.
#[tokio::test]
async fn a_stream_that_says_nothing_for_too_long_ends_in_the_client_with_a_status() {
    let proxy = start().await;
    let stack = ServiceBuilder::new()
        .layer(BodyTimeoutLayer::new().between_frames(Duration::from_millis(200)))
        .service(channel(proxy.addr()));
    let mut client = HealthClient::new(stack);
    let mut stream = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().status, 1);
    assert_eq!(stream.message().await.unwrap_err().code(), Code::DeadlineExceeded);
    assert!(stream.message().await.unwrap().is_none(), "and that was all");
}

/// A server whose limit holds permits for its streams, which end at the deadline of their calls.
async fn serve_streams() -> (Channel, LimitHandle) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (limit, handle) = LimitLayer::new(8).hold(http_requests::hold_body).with_handle();
    let layers = ServiceBuilder::new()
        .layer(grpc::RespondLayer::new())
        .layer(ExtractLayer::grpc(Duration::from_secs(60)))
        .layer(BodyTimeoutLayer::new().by_deadline())
        .layer(limit)
        .map_err(Error::<Infallible>::Service)
        .into_inner();
    let (_, health) = tonic_health::server::health_reporter();
    let server = Server::builder().layer(layers).add_service(health);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    (channel(address), handle)
}

#[tokio::test]
async fn a_stream_keeps_its_permit_until_its_client_leaves_or_its_deadline_passes() {
    let (channel, handle) = serve_streams().await;
    let watch = async |timeout: Option<Duration>| {
        let mut request = Request::new(HealthCheckRequest::default());
        timeout.into_iter().for_each(|timeout| request.set_timeout(timeout));
        let mut stream =
            HealthClient::new(channel.clone()).watch(request).await.unwrap().into_inner();
        assert_eq!(stream.message().await.unwrap().unwrap().status, 1);
        assert_eq!(handle.in_flight(), 1);
        stream
    };
    let all_come_back = async || {
        while handle.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
    };
    drop(watch(None).await);
    all_come_back().await;
    // It would never end.
    let mut stream = watch(Some(Duration::from_millis(500))).await;
    all_come_back().await;
    let status = stream.message().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::DeadlineExceeded, "timed out"));
}

/// Refuses each call for the reason that its metadata has the number of.
#[derive(Clone)]
struct Refuser<S>(S);

impl<S: Service<http::Request<B>>, B> Service<http::Request<B>> for Refuser<S> {
    type Response = S::Response;
    type Error = Error<Infallible>;
    type Future = Ready<Result<S::Response, Error<Infallible>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error<Infallible>>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let reason: usize = request.headers()["x-reason"].to_str().unwrap().parse().unwrap();
        ready(Err(Rejected::new(&"layer", Reason::ALL[reason]).into()))
    }
}

#[tokio::test]
async fn a_client_gets_each_refusal_with_the_code_and_the_hint_that_the_table_has_for_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let channel = channel(listener.local_addr().unwrap());
    let layers = ServiceBuilder::new()
        .layer(grpc::RespondLayer::new())
        .layer(tower::layer::layer_fn(Refuser))
        .into_inner();
    let (_, health) = tonic_health::server::health_reporter();
    let server = Server::builder().layer(layers).add_service(health);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    for (n, reason) in Reason::ALL.into_iter().enumerate() {
        let mut request = Request::new(HealthCheckRequest::default());
        request.metadata_mut().insert("x-reason", n.to_string().parse().unwrap());
        let status = HealthClient::new(channel.clone()).check(request).await.unwrap_err();
        let expected = grpc::refusal(&Error::<Infallible>::from(Rejected::new(&"layer", reason)));
        assert_eq!((status.code(), status.message()), (expected.code(), expected.message()));
        let pushback = |status: &Status| status.metadata().get("grpc-retry-pushback-ms").cloned();
        assert_eq!(pushback(&status), pushback(&expected), "{reason:?}");
        let delay = |status: &Status| status.get_details_retry_info().map(|info| info.retry_delay);
        assert_eq!(delay(&status), delay(&expected), "{reason:?}");
    }
}
