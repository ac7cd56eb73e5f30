//! A gRPC client of a server that is sometimes exhausted, and then says when to come back.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::{error::Error as StdError, time::Duration};

use stockade::{BreakerLayer, Error, LimitLayer, RetryLayer, TimeoutLayer};
use stockade_clients::grpc::{self, Grpc};
use tokio::{net::TcpListener, time::Instant};
use tonic::transport::{Endpoint, Server, server::TcpIncoming};
use tonic::{Request, Response, Status, codegen::BoxStream};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tower::{Service, ServiceBuilder, ServiceExt};

/// How long the server tells clients to wait when it is exhausted.
const PUSHBACK: Duration = Duration::from_millis(120);

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = format!("http://{}", listener.local_addr()?);
    let serve = Server::builder().add_service(HealthServer::new(Shaky));
    tokio::spawn(serve.serve_with_incoming(TcpIncoming::from(listener)));

    // Around the channel: layers that concern the connection.
    let endpoint = Endpoint::from_shared(server)?.connect_timeout(Duration::from_secs(2));
    let channel = ServiceBuilder::new()
        .layer(LimitLayer::new(8))
        .map_err(Error::Service)
        .service(endpoint.connect_lazy());
    // Around the calls: layers that look at a status, or repeat a message.
    let client = HealthClient::new(channel);
    let retry = RetryLayer::max_attempts(3)
        .classify(Grpc::new())
        .idempotent(|_: &Request<HealthCheckRequest>| true)
        .clone_request(grpc::clone_request::<HealthCheckRequest>);
    let (retry, retries) = retry.with_handle();
    let mut stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(5)))
        .layer(retry)
        .layer(BreakerLayer::new().classify(Grpc::new()))
        .map_err(Error::Service)
        .service_fn(move |request| {
            let mut client = client.clone();
            async move { client.check(request).await }
        });
    stockade::check::<Request<HealthCheckRequest>>(&stack);

    let start = Instant::now();
    for n in 0..20 {
        let request = Request::new(HealthCheckRequest { service: format!("service {n}") });
        let answer = stack.ready().await?.call(request).await?;
        assert_eq!(answer.get_ref().status, 1);
    }
    let (calls, retried) = (CALLS.load(Relaxed), retries.stats().retried);
    println!("20 calls answered, {retried} of them the second time, in {:?}", start.elapsed());
    assert_eq!((calls, retried), (25, 5));
    assert!(start.elapsed() >= 5 * PUSHBACK, "nobody came back too early");
    Ok(())
}

static CALLS: AtomicU64 = AtomicU64::new(0);

struct Shaky;

#[tonic::async_trait]
impl Health for Shaky {
    async fn check(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if CALLS.fetch_add(1, Relaxed) % 5 == 3 {
            let mut status = Status::resource_exhausted("five at a time");
            let millis = PUSHBACK.as_millis().to_string();
            let millis = millis.parse().expect("digits are ASCII");
            status.metadata_mut().insert("grpc-retry-pushback-ms", millis);
            return Err(status);
        }
        Ok(Response::new(HealthCheckResponse { status: 1 }))
    }

    type WatchStream = BoxStream<HealthCheckResponse>;

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("nobody watches here"))
    }
}
