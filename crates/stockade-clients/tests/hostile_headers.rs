//! Servers of axum and of tonic, and clients that put anything into the headers that travel: every claim is cut to what
//! the server allows.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, routing::get};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use stockade_clients::{
    grpc,
    http::{ExtractLayer, RespondLayer, TimeHeader},
};
use stockade_core::{
    Error, deadline,
    priority::{self, Priority},
};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};
use tonic::{
    Response, Status,
    codegen::BoxStream,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_server::{Health, HealthServer},
};
use tower::ServiceBuilder;

/// The most that the servers allow, and about how much of it may have gone when a handler looks.
const MAX: Duration = Duration::from_secs(1_000);
const ABOUT: Duration = Duration::from_secs(500);

/// What a handler saw: the time that it has, and its priority.
type Seen = (Duration, Priority);

/// What the handlers of a server do, and what they saw.
#[derive(Clone, Default)]
struct Handler {
    seen: Arc<Mutex<Vec<Seen>>>,
    hangs: bool,
}

/// One of the two frameworks, with a server that reads `time`.
struct Site {
    address: SocketAddr,
    handler: Handler,
    time: TimeHeader,
    /// Whether it is tonic's.
    grpc: bool,
}

/// What came back: 200 or the status of HTTP, and that of gRPC.
type Answer = (u16, Option<u16>);

// === impl Handler ===

impl Handler {
    async fn run(&self) {
        let left = deadline::current().unwrap().saturating_duration_since(Instant::now());
        self.seen.lock().unwrap().push((left, priority::current()));
        if self.hangs {
            sleep(MAX).await;
        }
    }
}

#[tonic::async_trait]
impl Health for Handler {
    async fn check(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.run().await;
        Ok(Response::new(HealthCheckResponse { status: 1 }))
    }

    type WatchStream = BoxStream<HealthCheckResponse>;

    async fn watch(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("nobody watches here"))
    }
}

// === impl Site ===

impl Site {
    /// Both frameworks, each with each of the headers.
    async fn all(hangs: bool) -> Vec<Self> {
        let mut sites = Vec::new();
        for time in [TimeHeader::request_timeout(), TimeHeader::envoy(), TimeHeader::grpc()] {
            for grpc in [false, true] {
                sites.push(Self::start(time.clone(), grpc, hangs).await);
            }
        }
        sites
    }

    async fn start(time: TimeHeader, grpc: bool, hangs: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let handler = Handler { hangs, ..Handler::default() };
        let extract = ExtractLayer::new(MAX).time_header(time.clone());
        if grpc {
            let layers = ServiceBuilder::new()
                .layer(grpc::RespondLayer::new())
                .layer(extract)
                .map_err(Error::<Infallible>::Service)
                .into_inner();
            let service = HealthServer::new(handler.clone());
            let server = Server::builder().layer(layers).add_service(service);
            tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        } else {
            let layers = ServiceBuilder::new()
                .layer(RespondLayer::new())
                .layer(extract)
                .map_err(Error::Service);
            let run = handler.clone();
            let app = Router::new().route("/", get(async move || run.run().await)).layer(layers);
            tokio::spawn(async move { axum::serve(listener, app).await });
        }
        Self { address, handler, time, grpc }
    }

    /// Asks with these headers.
    async fn ask(&self, headers: HeaderMap) -> Answer {
        let client = Client::builder(TokioExecutor::new()).http2_only(self.grpc).build_http();
        let (path, body) = match self.grpc {
            // A message of no bytes.
            true => ("grpc.health.v1.Health/Check", Bytes::from_static(&[0; 5])),
            false => ("", Bytes::new()),
        };
        let mut request = Request::new(Full::new(body));
        *request.uri_mut() = format!("http://{}/{path}", self.address).parse().unwrap();
        *request.headers_mut() = headers;
        if self.grpc {
            *request.method_mut() = http::Method::POST;
            *request.version_mut() = Version::HTTP_2;
            let headers = request.headers_mut();
            headers.insert("content-type", HeaderValue::from_static("application/grpc"));
            headers.insert("te", HeaderValue::from_static("trailers"));
        }
        let answer = client.request(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or_default();
        let status = parts.headers.get("grpc-status").or(trailers.get("grpc-status"));
        let status = status.map(|status| status.to_str().unwrap().parse().unwrap());
        (parts.status.as_u16(), status)
    }

    /// Asks with these times and priorities, and returns what the handler saw, if it was called.
    async fn seen(&self, times: &[&[u8]], priorities: &[&[u8]]) -> (Answer, Option<Seen>) {
        let mut headers = HeaderMap::new();
        let priority = HeaderName::from_static("x-request-priority");
        for (name, values) in [(self.time.name(), times), (&priority, priorities)] {
            for value in values {
                headers.append(name, HeaderValue::from_bytes(value).unwrap());
            }
        }
        let answer = self.ask(headers).await;
        (answer, self.handler.seen.lock().unwrap().pop())
    }

    const fn fine(&self) -> Answer {
        (200, if self.grpc { Some(0) } else { None })
    }

    const fn too_late(&self) -> Answer {
        if self.grpc { (200, Some(4)) } else { (504, None) }
    }

    /// So many milliseconds as the header says them.
    fn spelled(&self, millis: u32) -> String {
        if self.time == TimeHeader::grpc() { format!("{millis}m") } else { millis.to_string() }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_client_claims_it_has_no_more_than_the_server_allows() {
    let number = format!("1{}", "0".repeat(30));
    let times: &[&[u8]] = &[
        b"",
        b"-1",
        b"-1m",
        b"+1",
        b"1e30",
        number.as_bytes(),
        b"18446744073709551615",
        b"18446744073709551616",
        b"18446744073709551615H",
        b"99999999H",
        b"99999999999H",
        b"9.9",
        b"0x10",
        b"5ms",
        b"5 s",
        b"m",
        b"soon",
        b"200, 300",
        b"\xff\xfe",
        "\u{ff15}\u{ff10}".as_bytes(),
        "5\u{b5}".as_bytes(),
    ];
    let priorities: &[&[u8]] =
        &[b"critical", b" CRITICAL ", b"", b"urgent", b"3", b"critical, critical", b"\xff"];
    for site in Site::all(false).await {
        for (n, time) in times.iter().enumerate() {
            let claimed = priorities[n % priorities.len()];
            let (answer, seen) = site.seen(&[time], &[claimed]).await;
            let (left, priority) = seen.unwrap();
            assert_eq!(answer, site.fine());
            assert!((ABOUT..=MAX).contains(&left), "{:?} {time:?}: {left:?}", site.time);
            assert_eq!(priority, Priority::Default, "{claimed:?}");
        }
        let (_, seen) = site.seen(&[], &[b"critical", b"critical"]).await;
        assert_eq!(seen.unwrap().1, Priority::Default);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_may_claim_it_gets_and_of_two_claims_the_lower() {
    for site in Site::all(false).await {
        let [long, short] = [800_000, 400_000].map(|millis| site.spelled(millis));
        let [long, short] = [long.as_bytes(), short.as_bytes()];
        for times in [&[short][..], &[long, short], &[short, long], &[short, b"soon"]] {
            let (_, seen) = site.seen(times, &[b"default", b"Background"]).await;
            let (left, priority) = seen.unwrap();
            assert!((ABOUT / 2..=MAX * 2 / 5).contains(&left), "{:?}: {left:?}", site.time);
            assert_eq!(priority, Priority::Background);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_has_expired_reaches_no_handler_of_either_framework() {
    for site in Site::all(false).await {
        let zero = site.spelled(0);
        for times in [&[zero.as_bytes()][..], &[b"900", zero.as_bytes()]] {
            assert_eq!(site.seen(times, &[]).await, (site.too_late(), None), "{:?}", site.time);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_hangs_is_ended_at_the_time_that_its_client_allows() {
    for site in Site::all(true).await {
        let time = site.spelled(50);
        for _ in 0..4 {
            let time = [time.as_bytes()];
            let calls = join_all((0..100).map(|_| site.seen(&time, &[])));
            for (answer, _) in calls.await {
                assert_eq!(
                    answer,
                    site.too_late(),
                    "{:?}: it is this layer that answers",
                    site.time
                );
            }
        }
    }
}
