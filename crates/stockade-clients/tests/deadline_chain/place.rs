//! One process of the chain: a server that may take its time, calls the next one, and counts.

use std::{
    convert::Infallible,
    env,
    io::{self, Read, Write},
    net::SocketAddr,
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use axum::{Router, extract::Path, http::StatusCode, response::IntoResponse, routing::get};
use stockade_clients::{
    grpc,
    http::{ExtractLayer, InjectLayer, RespondLayer},
    sql::statement_timeout,
};
use stockade_core::{Error, carry, deadline, priority};
use tokio::{
    net::TcpListener,
    runtime::Builder,
    time::{Instant, advance, pause, resume, sleep},
};
use tokio_postgres::NoTls;
use tonic::{
    Code, Request, Response, Status,
    codegen::BoxStream,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_client::HealthClient,
    health_server::{Health, HealthServer},
};
use tower::{ServiceBuilder, ServiceExt};

use crate::{AHEAD, Counts, MAX, NEXT, ROLE, Role, SAYS};

/// What is told to the next process, and what the way there may take.
const MARGIN: Duration = Duration::from_millis(5);

const HOUR: Duration = Duration::from_secs(3_600);

/// Runs the place that the environment names, if it names one.
pub(crate) fn serve() {
    let (Ok(role), Ok(next)) = (env::var(ROLE), env::var(NEXT)) else { return };
    let ahead = HOUR * env::var(AHEAD).unwrap().parse().unwrap();
    // A clock can be set in a runtime of one thread only.
    let mut runtime = match ahead {
        Duration::ZERO => Builder::new_multi_thread(),
        _ => Builder::new_current_thread(),
    };
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        if ahead > Duration::ZERO {
            set_clock(ahead).await;
        }
        serve_as(Role::of(&role), next).await;
    });
}

/// Has the clock of this process run on, but `ahead` of all others.
async fn set_clock(ahead: Duration) {
    let before = Instant::now();
    pause();
    advance(ahead).await;
    resume();
    assert!(before.elapsed() >= ahead);
}

async fn serve_as(role: Role, next: String) {
    // It ends with the process that has started it.
    thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        process::exit(0);
    });
    let (service, control) = (listen().await, listen().await);
    let at = |listener: &TcpListener| listener.local_addr().unwrap();
    let place = Arc::new(Place {
        next,
        alive: AtomicU64::new(0),
        begun: AtomicU64::new(0),
        most_left: AtomicU64::new(0),
        highest: AtomicU64::new(0),
        ended: AtomicU64::new(0),
    });
    println!("{SAYS}{} {}", at(&service), at(&control));
    io::stdout().flush().unwrap();
    tokio::spawn(tell_counts(control, Arc::clone(&place)));
    match role {
        Role::Front => serve_http(service, move |plan| place.clone().front(plan)).await,
        Role::Middle => serve_grpc(service, place).await,
        Role::Back => serve_http(service, move |plan| place.clone().back(plan)).await,
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap()
}

struct Place {
    /// The address of the next process, or the URL of the database.
    next: String,
    alive: AtomicU64,
    begun: AtomicU64,
    most_left: AtomicU64,
    highest: AtomicU64,
    ended: AtomicU64,
}

/// Work that is under way.
struct Alive(Arc<Place>);

/// The milliseconds that each place takes.
#[derive(Clone)]
struct Plan(String);

async fn tell_counts(listener: TcpListener, place: Arc<Place>) {
    let tell = async move || {
        let count = |counter: &AtomicU64| counter.load(SeqCst);
        let Place { alive, begun, most_left, highest, ended, .. } = &*place;
        let counts = Counts {
            alive: count(alive),
            begun: count(begun),
            most_left: count(most_left),
            highest: count(highest),
            ended: count(ended),
        };
        counts.to_string()
    };
    axum::serve(listener, Router::new().route("/", get(tell))).await.unwrap();
}

async fn serve_http<F>(
    listener: TcpListener,
    handler: impl Fn(Plan) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = StatusCode> + Send + 'static,
{
    let layers = ServiceBuilder::new()
        .layer(RespondLayer::new())
        .layer(ExtractLayer::new(MAX))
        .map_err(Error::Service);
    let handler = async move |Path(plan)| handler(Plan(plan)).await.into_response();
    let app = Router::new().route("/{plan}", get(handler)).layer(layers);
    axum::serve(listener, app).await.unwrap();
}

async fn serve_grpc(listener: TcpListener, place: Arc<Place>) {
    let layers = ServiceBuilder::new()
        .layer(grpc::RespondLayer::new())
        .layer(ExtractLayer::grpc(MAX))
        .map_err(Error::<Infallible>::Service)
        .into_inner();
    let server = Server::builder().layer(layers).add_service(HealthServer::new(Middle(place)));
    server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap();
}

// === impl Place ===

impl Place {
    fn begin(self: &Arc<Self>) -> Alive {
        let left = deadline::current().unwrap().saturating_duration_since(Instant::now());
        self.most_left.fetch_max(left.as_millis() as u64, SeqCst);
        self.highest.fetch_max(priority::current() as u64, SeqCst);
        self.begun.fetch_add(1, SeqCst);
        self.alive.fetch_add(1, SeqCst);
        Alive(Arc::clone(self))
    }

    async fn front(self: Arc<Self>, plan: Plan) -> StatusCode {
        let _alive = self.begin();
        plan.pause(0).await;
        let channel = ServiceBuilder::new()
            .layer(InjectLayer::grpc().margin(MARGIN))
            .map_err(Error::Service)
            .service(self.channel());
        let request = HealthCheckRequest { service: plan.0 };
        match HealthClient::new(channel).check(request).await {
            Ok(_) => StatusCode::OK,
            Err(status) => http_status(status),
        }
    }

    fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.next)).unwrap().connect_lazy()
    }

    async fn middle(self: Arc<Self>, plan: Plan) -> Result<(), Status> {
        let alive = self.begin();
        plan.pause(1).await;
        // In a task of its own, which nobody ends with the handler.
        let call = async move {
            let _alive = alive;
            let stack = ServiceBuilder::new()
                .layer(InjectLayer::new().margin(MARGIN))
                .map_err(Error::Service)
                .service(reqwest::Client::builder().no_proxy().build().unwrap());
            let url = format!("http://{}/{}", self.next, plan.0).parse().unwrap();
            stack.oneshot(reqwest::Request::new(reqwest::Method::GET, url)).await
        };
        match tokio::spawn(carry(call)).await.unwrap() {
            Ok(answer) if answer.status() == StatusCode::OK => Ok(()),
            Ok(answer) if answer.status() == StatusCode::GATEWAY_TIMEOUT => {
                Err(Status::deadline_exceeded("behind"))
            }
            Ok(answer) => Err(Status::internal(answer.status().to_string())),
            Err(error) => Err(grpc::refusal(&error)),
        }
    }

    async fn back(self: Arc<Self>, plan: Plan) -> StatusCode {
        let _alive = self.begin();
        plan.pause(2).await;
        match self.statement(&plan).await {
            Ok(()) => StatusCode::OK,
            // The database has ended the statement.
            Err(error) if error.code().is_some_and(|code| code.code() == "57014") => {
                self.ended.fetch_add(1, SeqCst);
                StatusCode::GATEWAY_TIMEOUT
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    async fn statement(&self, plan: &Plan) -> Result<(), tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.next, NoTls).await?;
        tokio::spawn(connection);
        client.batch_execute("BEGIN").await?;
        let set = statement_timeout(MARGIN).unwrap();
        client.batch_execute(&set).await?;
        let seconds = plan.millis(3) as f64 / 1_000.0;
        client.batch_execute(&format!("SELECT pg_sleep({seconds})")).await?;
        client.batch_execute("COMMIT").await
    }
}

/// What the first place answers where the second one failed.
fn http_status(status: Status) -> StatusCode {
    match grpc::into_status(Error::Service(status)).code() {
        Code::DeadlineExceeded | Code::Cancelled => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    }
}

// === impl Plan ===

impl Plan {
    fn millis(&self, place: usize) -> u64 {
        self.0.split('-').nth(place).unwrap().parse().unwrap()
    }

    async fn pause(&self, place: usize) {
        sleep(Duration::from_millis(self.millis(place))).await;
    }
}

// === impl Alive ===

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, SeqCst);
    }
}

struct Middle(Arc<Place>);

#[tonic::async_trait]
impl Health for Middle {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let plan = Plan(request.into_inner().service);
        Arc::clone(&self.0).middle(plan).await?;
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
