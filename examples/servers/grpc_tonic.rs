//! gRPC on both sides: a server that allows so many calls a second and says when to come back, and a client that does.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::{error::Error as StdError, time::Duration};

use stockade::retry::Budget;
use stockade::{BreakerLayer, Error, LimitLayer, RateLayer, Reason, TimeoutLayer};
use stockade_clients::grpc::{self, Grpc};
use stockade_clients::http::{ExtractLayer, InjectLayer};
use tokio::{net::TcpListener, time::Instant};
use tonic::transport::{Endpoint, Server, server::TcpIncoming};
use tonic::{Request, Response, Status, codegen::BoxStream};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tower::{Service, ServiceBuilder, ServiceExt};

/// The time from one call to the next that the server allows, after the first five.
const PERIOD: Duration = Duration::from_millis(40);

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = format!("http://{}", listener.local_addr()?);
    let (rate, server_rate) = RateLayer::new(1, PERIOD).burst(5).queue(0).with_handle();
    let layers = ServiceBuilder::new()
        .layer(grpc::RespondLayer::new()) // every refusal is a status, with a pushback
        .layer(ExtractLayer::grpc(Duration::from_secs(30))) // the client's deadline, and at most this
        .layer(rate)
        .map_err(Error::Service)
        .into_inner();
    let serve = Server::builder().layer(layers).add_service(HealthServer::new(Fine));
    tokio::spawn(serve.serve_with_incoming(TcpIncoming::from(listener)));

    // Around the channel: layers that concern the connection, and what travels with each request.
    let endpoint = Endpoint::from_shared(server)?.connect_timeout(Duration::from_secs(2));
    let channel = ServiceBuilder::new()
        .layer(LimitLayer::new(8))
        .layer(InjectLayer::grpc())
        .map_err(Error::Service)
        .service(endpoint.connect_lazy());
    // Around the calls: layers that look at a status, or repeat a message.
    let client = HealthClient::new(channel);
    let retry = grpc::retry(5)
        .budget(Budget::unlimited())
        .idempotent(|_: &Request<HealthCheckRequest>| true);
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
    let refused = server_rate.refused(Reason::RateLimited);
    println!("20 calls answered, {retried} of them later, in {:?}", start.elapsed());
    assert_eq!((calls, retried), (20, refused), "what was refused came again, and ran once");
    assert!(start.elapsed() >= 14 * PERIOD, "nobody came back too early");
    Ok(())
}

static CALLS: AtomicU64 = AtomicU64::new(0);

struct Fine;

#[tonic::async_trait]
impl Health for Fine {
    async fn check(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        CALLS.fetch_add(1, Relaxed);
        let left =
            stockade::deadline::current().map(|end| end.saturating_duration_since(Instant::now()));
        assert!(
            left.is_some_and(|left| left <= Duration::from_secs(5)),
            "the server knows what the client has left"
        );
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
