//! HTTP and gRPC, with a proxy of TCP between client and server, and proxies of HTTP in its place.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use ::reqwest::{Client as ReqwestClient, Error as ReqwestError};
use ::tonic::{
    Request as Call, Response as Reply, Status,
    codegen::BoxStream,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE, header::RETRY_AFTER},
    routing::post,
};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client as HyperClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use stockade_clients::{Cause, grpc::Grpc, http::Http, reqwest as requests};
use stockade_core::{BoxError, Classify, Error, LayerError};
use stockade_test_servers::proxy::{Fault, Proxy};
use tokio::net::TcpListener;
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_client::HealthClient,
    health_server::{Health, HealthServer},
};
use tower::service_fn;

use crate::{
    rig::{Client, Row, World, Write, boxed, measure},
    strangers::{Back, REDIS, all_closed, hang_up, say, send_back},
};

const SITUATIONS: [(&str, Situation); 14] = [
    ("the server is killed, and started again", Situation::Restart),
    ("the server has no room for another connection", Situation::Full),
    ("the idle connection was closed by the other side", Situation::Idle),
    ("the connection is half open: nothing comes back", Situation::HalfOpen),
    ("the answer is cut", Situation::Truncated),
    ("the answer is of another protocol", Situation::Stranger),
    ("a proxy answers 503, with a page", Situation::Busy),
    ("a proxy answers 429, with a page", Situation::Limited),
    ("a proxy answers 200, with a page", Situation::Page),
    ("HTTP/2: the server goes away, and has not begun the stream", Situation::GoAway),
    ("HTTP/2: the server breaks off, and has not begun the stream", Situation::BreakOff),
    ("HTTP/2: the server breaks off, and has begun the stream", Situation::BreakOffBegun),
    ("HTTP/2: the server refuses the stream", Situation::Refused),
    ("HTTP/2: the server finds that the client asks for too much", Situation::TooMuch),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Situation {
    Restart,
    Full,
    Idle,
    HalfOpen,
    Truncated,
    Stranger,
    Busy,
    Limited,
    Page,
    GoAway,
    BreakOff,
    BreakOffBegun,
    Refused,
    TooMuch,
}

// === impl Situation ===

impl Situation {
    /// How an HTTP/2 server sends the request back, if one does.
    fn back(self) -> Option<Back> {
        match self {
            Self::GoAway => Some(Back::GoAway),
            Self::BreakOff => Some(Back::BreakOff),
            Self::BreakOffBegun => Some(Back::BreakOffBegun),
            Self::Refused => Some(Back::Refused),
            Self::TooMuch => Some(Back::TooMuch),
            _ => None,
        }
    }
}

/// A server behind a proxy, in one situation after the other.
struct Site {
    situation: Mutex<Situation>,
    proxy: Proxy,
    address: Mutex<SocketAddr>,
    others: HashMap<u16, SocketAddr>,
    stranger: SocketAddr,
    /// What hangs up on everybody.
    full: SocketAddr,
    back: HashMap<Back, SocketAddr>,
    books: Arc<Books>,
}

/// How often each number was written, and the keys that the server has seen.
#[derive(Default)]
struct Books {
    written: Mutex<HashMap<i64, i64>>,
    keys: Mutex<HashSet<i64>>,
}

// === impl Books ===

impl Books {
    fn write(&self, id: i64, has_key: bool) {
        if has_key && !self.keys.lock().unwrap().insert(id) {
            return;
        }
        *self.written.lock().unwrap().entry(id).or_default() += 1;
    }
}

// === impl Site ===

impl Site {
    /// In front of the server at `target`, which keeps these books.
    async fn new(target: SocketAddr, books: Arc<Books>) -> Arc<Self> {
        let proxy = Proxy::start(target).unwrap();
        let mut others = HashMap::new();
        for status in [200, 429, 503] {
            others.insert(status, page(status).await);
        }
        let mut back = HashMap::new();
        for how in SITUATIONS.iter().filter_map(|(_, situation)| situation.back()) {
            back.insert(how, send_back(how).await);
        }
        Arc::new(Self {
            situation: Mutex::new(Situation::Restart),
            address: Mutex::new(proxy.addr()),
            proxy,
            others,
            stranger: say(REDIS).await,
            full: hang_up().await,
            back,
            books,
        })
    }

    async fn rows<T, E, C>(
        self: Arc<Self>,
        name: &'static str,
        client: Client<T, E>,
        classify: C,
    ) -> Vec<Row>
    where
        T: Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
        Error<E>: Cause + LayerError,
        C: Classify<T, Error<E>> + Copy + Send + Sync + 'static,
    {
        let mut rows = Vec::new();
        for (told, situation) in SITUATIONS {
            *self.situation.lock().unwrap() = situation;
            rows.push(measure((name, told), client.clone(), classify, &self).await);
        }
        rows
    }

    fn lead_to(&self, address: SocketAddr) {
        *self.address.lock().unwrap() = address;
    }

    fn address(&self) -> SocketAddr {
        *self.address.lock().unwrap()
    }

    /// Closes every connection, and waits until the client has noticed.
    async fn close(&self) {
        self.proxy.close();
        all_closed(&self.proxy).await;
    }

    /// Whether the client has to speak HTTP/2.
    fn is_http2(&self) -> bool {
        self.situation.lock().unwrap().back().is_some()
    }
}

impl World for Site {
    async fn break_it(&self) {
        let situation = *self.situation.lock().unwrap();
        match situation {
            Situation::Restart => {
                self.proxy.refuse();
                self.close().await;
            }
            Situation::Full => self.lead_to(self.full),
            Situation::Idle => self.close().await,
            Situation::HalfOpen => {
                self.proxy.requests(Fault::stall());
                self.proxy.answers(Fault::stall());
            }
            Situation::Truncated => self.proxy.answers(Fault::cut(3)),
            Situation::Stranger => self.lead_to(self.stranger),
            Situation::Busy => self.lead_to(self.others[&503]),
            Situation::Limited => self.lead_to(self.others[&429]),
            Situation::Page => self.lead_to(self.others[&200]),
            _ => self.lead_to(self.back[&situation.back().unwrap()]),
        }
    }

    async fn mend(&self) {
        if *self.situation.lock().unwrap() == Situation::HalfOpen {
            self.proxy.cut();
        }
        self.proxy.heal();
        self.lead_to(self.proxy.addr());
    }

    async fn written(&self, id: i64) -> i64 {
        self.books.written.lock().unwrap().get(&id).copied().unwrap_or_default()
    }
}

/// What answers every request with this status and a page for people.
async fn page(status: u16) -> SocketAddr {
    let status = StatusCode::from_u16(status).unwrap();
    let app = Router::new().fallback(async move || {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "text/html".parse().unwrap());
        if status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(RETRY_AFTER, "1".parse().unwrap());
        }
        (status, headers, "<html>Not now</html>")
    });
    serve(app).await
}

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

async fn site() -> Arc<Site> {
    let books = Arc::<Books>::default();
    let write = async |Path(id): Path<i64>, State(books): State<Arc<Books>>, headers: HeaderMap| {
        books.write(id, headers.contains_key("idempotency-key"));
        "written"
    };
    let app = Router::new().route("/write/{id}", post(write)).with_state(Arc::clone(&books));
    Site::new(serve(app).await, books).await
}

/// The request, whose key tells the server that it was there before.
fn request<B>(address: SocketAddr, write: Write, body: B) -> Request<B> {
    let request = Request::post(format!("http://{address}/write/{}", write.id));
    let request =
        if write.repeatable { request.header("idempotency-key", write.id) } else { request };
    request.body(body).unwrap()
}

pub(crate) async fn reqwest() -> Vec<Row> {
    let site = site().await;
    let client = || ReqwestClient::builder().no_proxy().retry(::reqwest::retry::never());
    let clients =
        [client(), client().http2_prior_knowledge()].map(|client| client.build().unwrap());
    let place = Arc::clone(&site);
    let client = boxed(service_fn(move |write: Write| {
        let client = clients[usize::from(place.is_http2())].clone();
        let request = request(place.address(), write, "").try_into();
        async move {
            let answer = client.execute(request?).await?;
            requests::read_to_end(answer).await
        }
    }));
    let client: Client<Response<bytes::Bytes>, ReqwestError> = client;
    site.rows("reqwest", client, Http::new()).await
}

/// An error of the client, or of the body of an answer.
#[derive(Debug)]
struct HyperError(BoxError);

impl std::fmt::Display for HyperError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the call failed")
    }
}

impl std::error::Error for HyperError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}

pub(crate) async fn hyper() -> Vec<Row> {
    type Hyper = HyperClient<HttpConnector, Full<bytes::Bytes>>;
    let site = site().await;
    let clients: [Hyper; 2] = [false, true]
        .map(|http2| HyperClient::builder(TokioExecutor::new()).http2_only(http2).build_http());
    let place = Arc::clone(&site);
    let client = boxed(service_fn(move |write: Write| {
        let client = clients[usize::from(place.is_http2())].clone();
        let request = request(place.address(), write, Full::default());
        async move {
            let answer = client.request(request).await.map_err(|error| HyperError(error.into()))?;
            let (parts, body) = answer.into_parts();
            let body = body.collect().await.map_err(|error| HyperError(error.into()))?;
            Ok::<_, HyperError>(Response::from_parts(parts, body.to_bytes()))
        }
    }));
    site.rows("hyper-util's client", client, Http::new()).await
}

/// A gRPC server that writes down what it is asked for.
struct Recorder(Arc<Books>);

#[::tonic::async_trait]
impl Health for Recorder {
    async fn check(
        &self,
        call: Call<HealthCheckRequest>,
    ) -> Result<Reply<HealthCheckResponse>, Status> {
        let has_key = call.metadata().contains_key("idempotency-key");
        let id = call.into_inner().service.parse();
        self.0.write(id.map_err(|_| Status::invalid_argument("no number"))?, has_key);
        Ok(Reply::new(HealthCheckResponse { status: 1 }))
    }

    type WatchStream = BoxStream<HealthCheckResponse>;

    async fn watch(&self, _: Call<HealthCheckRequest>) -> Result<Reply<Self::WatchStream>, Status> {
        Err(Status::unimplemented("nobody watches here"))
    }
}

pub(crate) async fn tonic() -> Vec<Row> {
    let books = Arc::<Books>::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().add_service(HealthServer::new(Recorder(Arc::clone(&books))));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let site = Site::new(address, books).await;
    let place = Arc::clone(&site);
    let channels = Arc::<Mutex<HashMap<SocketAddr, Channel>>>::default();
    let client = boxed(service_fn(move |write: Write| {
        let address = place.address();
        let make = || Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        let channel = channels.lock().unwrap().entry(address).or_insert_with(make).clone();
        let mut client = HealthClient::new(channel);
        let mut call = Call::new(HealthCheckRequest { service: write.id.to_string() });
        if write.repeatable {
            call.metadata_mut().insert("idempotency-key", "1".parse().unwrap());
        }
        async move { client.check(call).await }
    }));
    site.rows("tonic", client, Grpc::new()).await
}
