//! One deadline for three servers in a row, axum, tonic and axum, and the statement in the PostgreSQL behind them.
//!
//! The client has 200 ms. Each server is told what is left, and holds its handler to that; the database is told, too. The
//! statement would take a minute, and when the 200 ms are over nothing runs any more anywhere.
//!
//! `cargo run --example deadline_chain [URL]`; without a URL it starts a PostgreSQL of its own.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Router, extract::State, response::Response, routing::get};
use http::StatusCode;
use stockade::{BoxError, Error, TimeoutLayer, deadline};
use stockade_clients::{
    grpc,
    http::{self as web, ExtractLayer, InjectLayer, RespondLayer},
    sql::statement_timeout,
};
use stockade_test_servers::Postgres;
use tokio::{net::TcpListener, time::Instant};
use tokio_postgres::{Client, NoTls};
use tonic::transport::{Endpoint, Server, server::TcpIncoming};
use tonic::{Status, codegen::BoxStream};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tower::{ServiceBuilder, ServiceExt};

/// How long a handler may take if the caller does not say so.
const MAX: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let own = if env::args().len() > 1 { None } else { Some(Postgres::new().start().await?) };
    let url = own.as_ref().map_or_else(|| env::args().nth(1).unwrap_or_default(), |own| own.url());
    let database = Arc::new(connect(&url).await?);
    let watcher = connect(&url).await?;

    // The last one first, because each has to know where the next one is.
    let back = serve(Router::new().route("/", get(back)).with_state(database)).await?;
    let middle = serve_grpc(format!("http://{back}/")).await?;
    let front = serve(Router::new().route("/", get(front)).with_state(middle)).await?;

    let client = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_millis(200)))
        .layer(InjectLayer::new()) // right above the client
        .map_err(Error::Service)
        .service(http_client()?);
    let request = reqwest::Request::new(reqwest::Method::GET, format!("http://{front}/").parse()?);
    match client.oneshot(request).await {
        Ok(answer) => assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT),
        // On a busy machine the answer may come too late.
        Err(error) => println!("the client gave up by itself: {error}"),
    }

    // What hangs would hang for a minute.
    let bound = Instant::now() + Duration::from_secs(10);
    while ALIVE.load(SeqCst) > 0 || statements(&watcher).await? > 0 {
        assert!(Instant::now() < bound, "something runs on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("no handler is alive, and no statement runs");
    Ok(())
}

/// The first server asks the second one.
async fn front(State(middle): State<String>) -> Response {
    let _alive = Alive::begin("front");
    let channel = ServiceBuilder::new().layer(InjectLayer::grpc()).map_err(Error::Service).service(
        match Endpoint::from_shared(middle) {
            Ok(endpoint) => endpoint.connect_lazy(),
            Err(error) => return web::refusal(&stockade::boxed(error)),
        },
    );
    match HealthClient::new(channel).check(HealthCheckRequest::default()).await {
        Ok(_) => Response::default(),
        Err(status) => {
            let status = grpc::into_status(Error::Service(status));
            let mut answer = Response::new(status.message().to_owned().into());
            *answer.status_mut() = match status.code() {
                tonic::Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
                _ => StatusCode::BAD_GATEWAY,
            };
            answer
        }
    }
}

/// The second server asks the third one, by HTTP.
struct Middle {
    back: String,
    http: reqwest::Client,
}

#[tonic::async_trait]
impl Health for Middle {
    async fn check(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        let _alive = Alive::begin("middle");
        let stack = ServiceBuilder::new()
            .layer(InjectLayer::new())
            .map_err(Error::Service)
            .service(self.http.clone());
        let url = self.back.parse().map_err(|_| Status::internal("no address"))?;
        let request = reqwest::Request::new(reqwest::Method::GET, url);
        let answer = stack.oneshot(request).await.map_err(|error| grpc::refusal(&error))?;
        match answer.status() {
            StatusCode::OK => Ok(tonic::Response::new(HealthCheckResponse { status: 1 })),
            StatusCode::GATEWAY_TIMEOUT => Err(Status::deadline_exceeded("behind")),
            other => Err(Status::unavailable(other.to_string())),
        }
    }

    type WatchStream = BoxStream<HealthCheckResponse>;

    async fn watch(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("nobody watches here"))
    }
}

/// The third server asks the database, which would take a minute.
async fn back(State(database): State<Arc<Client>>) -> StatusCode {
    let _alive = Alive::begin("back");
    let set = statement_timeout(Duration::from_millis(5)).unwrap_or_default();
    println!("PostgreSQL: {set}");
    // Several statements in one text are one transaction. An error would leave one with a `BEGIN` open.
    match database.batch_execute(&format!("{set}; SELECT pg_sleep(60)")).await {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::GATEWAY_TIMEOUT,
    }
}

async fn serve(router: Router) -> Result<String, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let layers = ServiceBuilder::new()
        .layer(RespondLayer::new())
        .layer(ExtractLayer::new(MAX))
        .map_err(Error::Service);
    tokio::spawn(async move { axum::serve(listener, router.layer(layers)).await });
    Ok(address.to_string())
}

async fn serve_grpc(back: String) -> Result<String, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let layers = ServiceBuilder::new()
        .layer(grpc::RespondLayer::new())
        .layer(ExtractLayer::grpc(MAX))
        .map_err(Error::Service)
        .into_inner();
    let middle = Middle { back, http: http_client()? };
    let server = Server::builder().layer(layers).add_service(HealthServer::new(middle));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    Ok(format!("http://{address}"))
}

/// A client that repeats nothing by itself.
fn http_client() -> reqwest::Result<reqwest::Client> {
    let client = reqwest::Client::builder().no_proxy().retry(reqwest::retry::never());
    client.redirect(reqwest::redirect::Policy::none()).build()
}

async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn statements(watcher: &Client) -> Result<i64, tokio_postgres::Error> {
    let running = "SELECT count(*) FROM pg_stat_activity
        WHERE state = 'active' AND query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()";
    watcher.query_one_scalar(running, &[]).await
}

static ALIVE: AtomicUsize = AtomicUsize::new(0);

/// A handler that runs.
struct Alive;

impl Alive {
    fn begin(place: &str) -> Self {
        ALIVE.fetch_add(1, SeqCst);
        let left = deadline::current().map(|end| end.saturating_duration_since(Instant::now()));
        println!("{place}: {left:?} left");
        Self
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, SeqCst);
    }
}
