//! A real HTTP client and a real server, and between them all that a network can do.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{StatusCode, header::RETRY_AFTER},
    response::Redirect,
    routing::any,
};
use common::{SECRET, everything_said, logged, nobody};
use http::Response as Answer;
use reqwest::{Client, Method, Request, Url, dns::Resolve};
use stockade_breaker::{BreakerLayer, State as BreakerState, Window};
use stockade_clients::{Failure, grpc::Grpc, http::Http, reqwest as requests};
use stockade_core::{BoxError, Class, Classify, Error, LayerError, Reason};
use stockade_retry::{Backoff, RetryHandle, RetryLayer};
use stockade_test_servers::proxy::{Fault, Proxy};
use stockade_timeout::TimeoutLayer;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::Instant,
};
use tower::{
    Service, ServiceBuilder, ServiceExt, service_fn,
    util::{BoxCloneService, MapErrLayer},
};

type HttpError = Error<Failure<reqwest::Error>>;
type Stack = BoxCloneService<Request, Answer<bytes::Bytes>, HttpError>;

/// Longer than one piece of what a connection carries, so that it can be cut midway.
const BODY: usize = 40_000;

const CONNECT: Duration = Duration::from_millis(200);
/// Longer than a call takes on a machine that is busy.
const ATTEMPT: Duration = Duration::from_secs(1);
/// What such a machine may take beyond a time-out. The system's own ends after minutes.
const SLACK: Duration = Duration::from_secs(5);

/// A server, behind a proxy, that counts the requests that reach it.
struct Site {
    proxy: Proxy,
    hits: Arc<AtomicU32>,
}

// === impl Site ===

impl Site {
    async fn start() -> Self {
        let hits = Arc::<AtomicU32>::default();
        let item = async |State(hits): State<Arc<AtomicU32>>| {
            hits.fetch_add(1, SeqCst);
            "x".repeat(BODY)
        };
        let status = async |Path(status): Path<u16>| {
            (StatusCode::from_u16(status).unwrap(), [(RETRY_AFTER, "7")])
        };
        let app = Router::new()
            .route("/item", any(item))
            .route("/round", any(async || Redirect::temporary("/round")))
            .route("/status/{status}", any(status))
            .with_state(Arc::clone(&hits));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { proxy, hits }
    }

    fn hits(&self) -> u32 {
        self.hits.load(SeqCst)
    }

    /// With a password in it, and another in the query.
    fn url(&self, path: &str) -> Url {
        let addr = self.proxy.addr();
        format!("http://me:{SECRET}@{addr}/{path}?key={SECRET}").parse().unwrap()
    }

    fn request(&self, method: Method, path: &str) -> Request {
        Request::new(method, self.url(path))
    }
}

fn client() -> Client {
    let client = Client::builder().no_proxy().retry(reqwest::retry::never());
    client.connect_timeout(CONNECT).build().unwrap()
}

/// A client with retries and a time-out for each attempt; before another one, `mend` is called.
fn stack(attempts: u32, mend: impl Fn() + Clone + Send + 'static) -> (Stack, RetryHandle) {
    let retry = RetryLayer::max_attempts(attempts)
        .backoff(Backoff::constant(Duration::from_millis(1)))
        .classify(Http::new())
        .idempotent(requests::idempotent)
        .clone_request(requests::clone_request);
    let (retry, handle) = retry.with_handle();
    let stack = ServiceBuilder::new()
        .layer(retry)
        .map_err(move |error: HttpError| {
            mend();
            error
        })
        .layer(TimeoutLayer::new(ATTEMPT))
        .map_err(|error| Error::Service(Failure::of(error)))
        .and_then(requests::read_to_end)
        .map_request(requests::without_credentials)
        .service(client());
    (BoxCloneService::new(stack), handle)
}

/// What comes of one attempt.
async fn once(request: Request) -> Result<Answer<bytes::Bytes>, HttpError> {
    stack(1, || {}).0.oneshot(request).await
}

fn class(error: &HttpError) -> Class {
    Http::new().classify(Err::<&Answer<()>, _>(error))
}

const UNSENT: Class = Class::NoEffect { after: None };
const TRANSIENT: Class = Class::Transient { after: None };

#[tokio::test]
async fn an_answer_that_is_cut_midway_is_asked_for_again() {
    let site = Site::start().await;
    site.proxy.answers(Fault::cut(BODY as u64 / 2).connections(1));
    let (mut stack, retries) = stack(3, || {});
    let answer = stack.ready().await.unwrap().call(site.request(Method::GET, "item")).await;
    assert_eq!(answer.unwrap().body().len(), BODY);
    assert_eq!((site.hits(), retries.stats().retried, site.proxy.stats().cut), (2, 1, 1));
}

#[tokio::test]
async fn a_post_that_is_cut_midway_is_not_repeated_but_with_a_key_it_is() {
    let site = Site::start().await;
    site.proxy.answers(Fault::cut(BODY as u64 / 2).connections(1));
    let (mut stack, retries) = stack(3, || {});
    let error = stack.ready().await.unwrap().call(site.request(Method::POST, "item")).await;
    let error = error.unwrap_err();
    assert_eq!((class(&error), site.hits(), retries.stats().retried), (TRANSIENT, 1, 0));
    let lost = "connection lost; the server may be restarting; the call may have had an effect";
    assert_eq!(error.to_string(), format!("{}: {lost}", site.proxy.addr()));

    site.proxy.answers(Fault::cut(BODY as u64 / 2).connections(1));
    let mut request = site.request(Method::POST, "item");
    request.headers_mut().insert("idempotency-key", "1".parse().unwrap());
    let answer = stack.ready().await.unwrap().call(request).await;
    assert_eq!(answer.unwrap().body().len(), BODY);
    assert_eq!((site.hits(), retries.stats().retried), (3, 1));
}

#[tokio::test]
async fn an_answer_that_stalls_times_out_and_is_asked_for_again() {
    let site = Site::start().await;
    site.proxy.answers(Fault::stall().connections(1));
    let (stack, retries) = stack(2, || {});
    let answer = stack.oneshot(site.request(Method::GET, "item")).await;
    assert_eq!(answer.unwrap().body().len(), BODY);
    assert_eq!((site.hits(), retries.stats().retried), (2, 1));
}

#[tokio::test]
async fn an_answer_that_trickles_times_out_as_a_whole() {
    let site = Site::start().await;
    // It has the headers at once, and would take four seconds for the body.
    site.proxy.answers(Fault::throttle(BODY as u32 / 4).connections(1));
    let (stack, retries) = stack(2, || {});
    let answer = stack.oneshot(site.request(Method::GET, "item")).await;
    assert_eq!(answer.unwrap().body().len(), BODY);
    assert_eq!((site.hits(), retries.stats().retried), (2, 1));
}

#[tokio::test]
async fn an_answer_that_is_late_but_in_time_is_taken() {
    let site = Site::start().await;
    let by = Duration::from_millis(50);
    site.proxy.requests(Fault::delay(by));
    let (stack, retries) = stack(2, || {});
    let start = Instant::now();
    assert!(stack.oneshot(site.request(Method::GET, "item")).await.is_ok());
    assert!(start.elapsed() >= by);
    assert_eq!((site.hits(), retries.stats().retried), (1, 0));
}

#[tokio::test]
async fn a_breaker_opens_for_a_server_that_is_away_and_not_for_one_that_says_no() {
    let site = Site::start().await;
    let breaker = BreakerLayer::new()
        .classify(Http::new())
        .window(Window::calls(10))
        .min_calls(10)
        .open_for(Duration::from_millis(50))
        .probes(1);
    let (breaker, state) = breaker.with_handle();
    let mut stack = ServiceBuilder::new()
        .layer(breaker)
        .map_err(|error| Error::Service(Failure::of(error)))
        .and_then(requests::read_to_end)
        .map_request(requests::without_credentials)
        .service(client());
    let mut call =
        async |path| stack.ready().await.unwrap().call(site.request(Method::GET, path)).await;
    for _ in 0..20 {
        assert_eq!(call("status/418").await.unwrap().status(), StatusCode::IM_A_TEAPOT);
    }
    assert_eq!(state.state(), BreakerState::Closed);
    site.proxy.refuse();
    // The connection that is open goes on being used.
    site.proxy.cut();
    let mut failed = 0;
    while state.state() == BreakerState::Closed {
        assert!(call("item").await.is_err());
        failed += 1;
    }
    assert!(failed <= 10, "within its window, after {failed} failures");
    assert_eq!(call("item").await.unwrap_err().rejected().unwrap().reason(), Reason::BreakerOpen);
    site.proxy.heal();
    let mended = Instant::now();
    while call("item").await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(mended.elapsed() < SLACK);
    }
    assert_eq!(state.state(), BreakerState::Closed);
}

#[tokio::test]
async fn an_answer_that_is_nonsense_says_where_and_what_to_do() {
    let site = Site::start().await;
    site.proxy.answers(Fault::garble().connections(2));
    let error = once(site.request(Method::GET, "item")).await.unwrap_err();
    assert_eq!(class(&error), TRANSIENT);
    let advice = "check that an HTTP server listens at this port, and the scheme";
    let expected = format!("{}: the answer is no HTTP; {advice}", site.proxy.addr());
    assert_eq!(error.to_string(), expected);

    let (stack, retries) = stack(2, || {});
    assert!(stack.oneshot(site.request(Method::GET, "item")).await.is_ok());
    assert_eq!(retries.stats().retried, 1);
}

#[tokio::test]
async fn a_server_that_is_away_at_the_start_is_named_and_a_post_to_it_is_repeated() {
    let site = Site::start().await;
    site.proxy.refuse();
    let start = Instant::now();
    let error = once(site.request(Method::POST, "item")).await.unwrap_err();
    assert!(start.elapsed() < CONNECT + SLACK);
    assert_eq!(class(&error), UNSENT);
    let advice = "connection refused; check the port, and that the server runs";
    assert_eq!(error.to_string(), format!("{}: {advice}", site.proxy.addr()));

    let proxy = site.proxy.clone();
    let (stack, retries) = stack(3, move || proxy.heal());
    assert!(stack.oneshot(site.request(Method::POST, "item")).await.is_ok());
    assert_eq!((site.hits(), retries.stats().retried), (1, 1));
}

/// Finds no host, or does not come to an end.
#[derive(Clone, Copy)]
enum Names {
    Unknown,
    Stuck,
}

impl Resolve for Names {
    fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
        match self {
            Self::Unknown => Box::pin(async { Err(BoxError::from("no address for this name")) }),
            Self::Stuck => Box::pin(std::future::pending()),
        }
    }
}

#[tokio::test]
async fn a_wrong_host_is_named_within_the_connect_time_out() {
    for (names, advice) in [
        (Names::Unknown, "no such host; check the name"),
        (
            Names::Stuck,
            "no connection in time; check the address, the network, and what is between",
        ),
    ] {
        let client = Client::builder().no_proxy().dns_resolver(Arc::new(names));
        let client = client.connect_timeout(CONNECT).build().unwrap();
        let start = Instant::now();
        let url = format!("http://me:{SECRET}@api.example.org/").parse().unwrap();
        let error = client.execute(Request::new(Method::GET, url)).await.unwrap_err();
        assert!(start.elapsed() < CONNECT + SLACK, "{:?}", start.elapsed());
        let error = Error::Service(Failure::of(error));
        assert_eq!(error.to_string(), format!("api.example.org: {advice}"));
        assert_eq!(class(&error), UNSENT);
        assert!(!everything_said(&error).contains(SECRET));
    }
}

#[tokio::test]
async fn what_cannot_succeed_is_permanent_and_says_so() {
    let site = Site::start().await;
    let round = once(site.request(Method::GET, "round")).await.unwrap_err();
    assert_eq!(class(&round), Class::Permanent);
    assert!(round.to_string().contains("redirected too often; check the URL"), "{round}");

    let scheme = once(Request::new(Method::GET, "gopher://hole/".parse().unwrap())).await;
    let scheme = scheme.unwrap_err();
    assert_eq!(class(&scheme), Class::Permanent);
    assert!(scheme.to_string().contains("check the URL"), "{scheme}");
}

#[tokio::test]
async fn a_status_that_was_made_an_error_keeps_its_class_and_says_what_to_do() {
    let site = Site::start().await;
    for (status, expected, advice) in [
        (403, Class::Permanent, "refused by the server; check the credentials"),
        (404, Class::Permanent, "refused by the server; check the URL, and what is sent"),
        (500, TRANSIENT, "the server failed; see what it has logged"),
        // Without the hint, which is in the headers.
        (503, Class::OVERLOAD, "the server has too much to do; ask less often, or later"),
    ] {
        let request = site.request(Method::GET, &format!("status/{status}"));
        let answer = client().execute(request).await.unwrap();
        let error = Error::Service(Failure::of(answer.error_for_status().unwrap_err()));
        assert_eq!(class(&error), expected, "{status}");
        assert_eq!(error.to_string(), format!("{}: {advice}", site.proxy.addr()));
    }
}

#[tokio::test]
async fn no_failure_shows_a_password_in_a_message_or_a_log() {
    let log = logged();
    let site = Site::start().await;
    let mut said = String::new();
    let all: &[&str] = &["item", "round", "status/418"];
    for (fault, paths) in [
        (Fault::cut(10), all),
        (Fault::cut(BODY as u64 / 2), all),
        (Fault::garble(), all),
        (Fault::stall(), &["item"]),
    ] {
        site.proxy.answers(fault);
        for path in paths {
            if let Err(error) = once(site.request(Method::GET, path)).await {
                said += &everything_said(&error);
            }
            let built = client().get(site.url(path)).timeout(ATTEMPT).send().await;
            if let Err(error) = built {
                said += &everything_said(&Error::Service(Failure::of(error)));
            }
        }
    }
    site.proxy.refuse();
    let refused = once(site.request(Method::GET, "item")).await.unwrap_err();
    said += &everything_said(&refused);
    let nonsense = format!("http://me:{SECRET}@host:port/");
    let error = client().get(nonsense).send().await.unwrap_err();
    said += &everything_said(&Error::Service(Failure::of(error)));

    assert!(said.contains(&site.proxy.addr().to_string()) && said.contains("refused"), "{said}");
    assert!(!said.contains(SECRET), "{said}");
    let log = log();
    assert!(log.contains("127.0.0.1"), "the client logs something: {log}");
    assert!(!log.contains(SECRET), "{log}");
}

#[tokio::test]
async fn a_stream_is_not_copied_and_so_not_repeated() {
    let site = Site::start().await;
    site.proxy.answers(Fault::cut(10).connections(1));
    let mut request = site.request(Method::PUT, "item");
    let parts = futures_util::stream::iter([Ok::<_, io::Error>("a"), Ok("b")]);
    *request.body_mut() = Some(reqwest::Body::wrap_stream(parts));
    let (stack, retries) = stack(3, || {});
    assert!(stack.oneshot(request).await.is_err());
    assert_eq!((site.hits(), retries.stats().retried), (1, 0));
}

mod hyper {
    //! The same client without reqwest around it.

    use http_body_util::{BodyExt, Full};
    use hyper_util::{
        client::legacy::{Client, Error as ClientError, connect::HttpConnector},
        rt::{TokioExecutor, TokioIo},
    };
    use tokio::net::TcpStream;
    use tower::Layer as _;

    use super::*;

    async fn get(site: &Site) -> Result<usize, Error<ClientError>> {
        let client: Client<HttpConnector, Full<bytes::Bytes>> =
            Client::builder(TokioExecutor::new()).build_http();
        let uri = format!("http://{}/item", site.proxy.addr()).parse().unwrap();
        let answer = client.get(uri).await.map_err(Error::Service)?;
        Ok(answer.into_body().collect().await.unwrap().to_bytes().len())
    }

    fn class<E: stockade_clients::Cause>(error: &E) -> Class {
        Http::new().classify(Err::<&Answer<()>, _>(error))
    }

    #[tokio::test]
    async fn errors_of_the_legacy_client_are_judged() {
        let site = Site::start().await;
        assert_eq!(get(&site).await.unwrap(), BODY);

        site.proxy.answers(Fault::cut(10));
        assert_eq!(class(&get(&site).await.unwrap_err()), TRANSIENT);

        site.proxy.refuse();
        let refused = get(&site).await.unwrap_err();
        assert_eq!(class(&refused), UNSENT);
        assert_eq!(class(&BoxError::from(refused)), UNSENT);
    }

    #[tokio::test]
    async fn an_address_to_which_nothing_leads_has_no_effect_without_being_refused() {
        let client: Client<HttpConnector, Full<bytes::Bytes>> =
            Client::builder(TokioExecutor::new()).build_http();
        // The connector takes no such scheme, so it never gets to a socket.
        let error = client.get("gopher://127.0.0.1/".parse().unwrap()).await.unwrap_err();
        assert_eq!(class(&Error::Service(error)), UNSENT);
    }

    #[tokio::test]
    async fn a_timeout_around_the_connector_has_no_effect() {
        let connector = TimeoutLayer::new(CONNECT).layer(stuck());
        let client =
            Client::builder(TokioExecutor::new()).build::<_, Full<bytes::Bytes>>(connector);
        let error = client.get("http://api.example.org/".parse().unwrap()).await.unwrap_err();
        let boxed = BoxError::from(Error::Service(error));
        let elapsed = boxed.rejected().map(|rejected| rejected.reason());
        assert_eq!(elapsed, Some(Reason::Elapsed), "{boxed:?}");
        assert_eq!(class(&boxed), UNSENT);
    }

    /// A connector that never comes to an end.
    fn stuck()
    -> impl Service<http::Uri, Response = TokioIo<TcpStream>, Error = BoxError, Future: Send + Unpin>
    + Clone
    + Send
    + Sync
    + 'static {
        service_fn(|_| Box::pin(std::future::pending()))
    }

    #[tokio::test]
    async fn a_certificate_that_is_not_trusted_is_permanent() {
        let connector = service_fn(|_: http::Uri| {
            std::future::ready(Err::<TokioIo<TcpStream>, _>(untrusted()))
        });
        let client =
            Client::builder(TokioExecutor::new()).build::<_, Full<bytes::Bytes>>(connector);
        let error = client.get("http://api.example.org/".parse().unwrap()).await.unwrap_err();
        assert_eq!(class(&BoxError::from(error)), Class::Permanent);
    }

    #[tokio::test]
    async fn a_request_that_never_left_because_its_connection_was_closed_has_no_effect() {
        let site = Site::start().await;
        let stream = TcpStream::connect(site.proxy.addr()).await.unwrap();
        let (mut sender, connection) =
            ::hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        drop(connection);
        let request = http::Request::post("/item").body(Full::<bytes::Bytes>::default()).unwrap();

        let error = sender.send_request(request).await.unwrap_err();

        assert!(error.is_canceled(), "{error:?}");
        assert_eq!(class(&Error::Service(error)), UNSENT);

        let request = http::Request::post("/item").body(Full::<bytes::Bytes>::default()).unwrap();
        let error = sender.send_request(request).await.unwrap_err();
        let status = tonic::Status::from_error(Box::new(error));
        let error = Error::Service(status);
        assert_eq!(Grpc::new().classify(Err::<&tonic::Response<()>, _>(&error)), UNSENT);
        assert_eq!(site.hits(), 0);
    }

    #[tokio::test]
    async fn a_failure_takes_the_address_from_the_caller() {
        let (place, addr) = nobody();
        let client: Client<HttpConnector, Full<bytes::Bytes>> =
            Client::builder(TokioExecutor::new()).build_http();
        let uri: http::Uri = format!("http://{addr}/").parse().unwrap();
        let error = client.get(uri.clone()).await.unwrap_err();
        let failure = Failure::at(&uri.to_string(), error);
        let advice = "connection refused; check the port, and that the server runs";
        assert_eq!(failure.to_string(), format!("{addr}: {advice}"));
        assert_eq!(class(&Error::Service(failure)), UNSENT);
        drop(place);
    }
}

/// What a connector says of a certificate by an authority that nobody knows.
fn untrusted() -> io::Error {
    let unknown = rustls::CertificateError::UnknownIssuer;
    io::Error::new(io::ErrorKind::InvalidData, rustls::Error::InvalidCertificate(unknown))
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_permanent_and_named_with_what_to_check() {
    let (_place, addr) = nobody();
    // The connector fails in any case: here with what TLS would say.
    let client = Client::builder()
        .no_proxy()
        .connector_layer(MapErrLayer::new(|_| BoxError::from(untrusted())));
    let request = client.build().unwrap().get(format!("http://{addr}/"));
    let error = Error::Service(Failure::of(request.send().await.unwrap_err()));
    assert_eq!(class(&error), Class::Permanent, "it would be the same again");
    let what = "check the host in the URL, and which authorities the client trusts";
    let said = format!("{addr}: invalid peer certificate: UnknownIssuer; {what}");
    assert_eq!(error.to_string(), said);
}

#[tokio::test]
async fn a_body_that_is_cut_or_cannot_be_decoded_may_have_had_an_effect() {
    let site = Site::start().await;
    let read = async |request| {
        let answer = client().execute(request).await.unwrap();
        Error::Service(Failure::of(answer.json::<u8>().await.unwrap_err()))
    };
    let text = read(site.request(Method::GET, "item")).await;
    assert!(text.to_string().contains("expected value"), "{text}");
    assert_eq!(class(&text), TRANSIENT);
    site.proxy.answers(Fault::cut(BODY as u64 / 2));
    assert_eq!(class(&read(site.request(Method::GET, "item")).await), TRANSIENT);
}

#[tokio::test]
async fn odd_hints_are_cut_rounded_up_or_left_out_in_answers_of_reqwest_as_well() {
    let after = |hints: &[&str], date: Option<&str>| {
        let mut answer = Answer::builder().status(503);
        for hint in hints {
            answer = answer.header(RETRY_AFTER, *hint);
        }
        if let Some(date) = date {
            answer = answer.header("date", date);
        }
        let answer = reqwest::Response::from(answer.body("").unwrap());
        Http::new().classify(Ok::<_, &Error<io::Error>>(&answer)).after()
    };
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(after(&["0"], None), seconds(0));
    assert_eq!(after(&["0.2"], None), seconds(1));
    assert_eq!(after(&["1000000000000000000000000000000"], None), seconds(300));
    assert_eq!(after(&["5", "9"], None), seconds(9));
    assert_eq!(after(&["tomorrow", "9"], None), seconds(9));
    for nonsense in ["-1", "tomorrow", "1e30", ""] {
        assert_eq!(after(&[nonsense], None), None, "{nonsense:?}");
    }
    let (told, until) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:47 GMT");
    assert_eq!(after(&[until], Some(told)), seconds(10));
}

#[tokio::test]
async fn a_timeout_around_the_connector_has_no_effect() {
    let connector = TimeoutLayer::new(CONNECT);
    let client = Client::builder().no_proxy().dns_resolver(Arc::new(Names::Stuck));
    let client = client.connector_layer(connector).build().unwrap();
    let url = "http://api.example.org/".parse().unwrap();
    let error = client.execute(Request::new(Method::POST, url)).await.unwrap_err();
    let boxed = BoxError::from(Error::Service(error));
    let elapsed = boxed.rejected().map(|rejected| rejected.reason());
    assert_eq!(elapsed, Some(Reason::Elapsed), "{boxed:?}");

    let class = Http::new().classify(Err::<&Answer<()>, _>(&boxed));

    assert_eq!(class, Class::NoEffect { after: None });
}

/// An HTTP/2 server that refuses every stream, and counts them.
async fn refuse_streams(listener: TcpListener, streams: Arc<AtomicU32>) {
    const PREFACE: usize = 24;
    const HEADERS: u8 = 1;
    const REFUSED_STREAM: u8 = 7;

    while let Ok((mut connection, _)) = listener.accept().await {
        let streams = Arc::clone(&streams);
        tokio::spawn(async move {
            connection.read_exact(&mut [0; PREFACE]).await?;
            // Settings, and that those of the client are known.
            connection.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?;
            connection.write_all(&[0, 0, 0, 4, 1, 0, 0, 0, 0]).await?;
            loop {
                let mut frame = [0; 9];
                connection.read_exact(&mut frame).await?;
                let [a, b, c, kind, _, stream @ ..] = frame;
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                connection.read_exact(&mut vec![0; length]).await?;
                if kind == HEADERS {
                    streams.fetch_add(1, SeqCst);
                    let reset = [&[0, 0, 4, 3, 0], &stream[..], &[0, 0, 0, REFUSED_STREAM]];
                    connection.write_all(&reset.concat()).await?;
                }
            }
            #[expect(unreachable_code, reason = "it tells the type of the errors")]
            io::Result::Ok(())
        });
    }
}

#[tokio::test]
async fn a_refused_stream_is_repeated_whatever_the_request() {
    let streams = Arc::<AtomicU32>::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(refuse_streams(listener, Arc::clone(&streams)));
    let client = Client::builder().no_proxy().retry(reqwest::retry::never());
    let client = client.http2_prior_knowledge().build().unwrap();
    let retry = RetryLayer::max_attempts(3)
        .backoff(Backoff::constant(Duration::from_millis(1)))
        .classify(Http::new())
        .idempotent(requests::idempotent)
        .clone_request(requests::clone_request);
    let stack = ServiceBuilder::new().layer(retry).map_err(Error::Service).service(client);

    let error = stack.oneshot(Request::new(Method::POST, url)).await.unwrap_err();

    let class = Http::new().classify(Err::<&Answer<()>, _>(&error));
    assert_eq!(class, Class::NoEffect { after: None }, "{error:?}");
    assert_eq!(streams.load(SeqCst), 3);
}

#[tokio::test]
async fn a_post_that_was_answered_with_too_many_requests_is_repeated() {
    let site = Site::start().await;
    let (stack, retries) = stack(3, || {});
    let call = tokio::spawn(stack.oneshot(site.request(Method::POST, "status/429")));

    // The server asks for seven seconds, so the call waits. If it were not repeated it would end.
    let repeated = async {
        while retries.stats().retried == 0 && !call.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(SLACK * 6, repeated).await.unwrap();

    assert_eq!(retries.stats().retried, 1);
    call.abort();
}

/// Serves `app` at this URL.
async fn serve(app: Router) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

#[tokio::test]
async fn an_answer_that_streamed_can_be_handed_on_once_it_is_whole() {
    let parts = || futures_util::stream::iter(["one ", "two"].map(Ok::<_, io::Error>));
    let stream =
        async move || ([("connection", "x-hop"), ("x-hop", "1")], Body::from_stream(parts()));
    let backend = serve(Router::new().route("/", any(stream))).await;
    let hand_on = async |State((client, backend)): State<(Client, Url)>| {
        let answer = client.get(backend).send().await.unwrap();
        requests::read_to_end(answer).await.unwrap().map(Body::from)
    };
    let front = Router::new().route("/", any(hand_on)).with_state((client(), backend.clone()));
    let front = serve(front).await;

    let streamed = client().get(backend).send().await.unwrap();
    assert_eq!(streamed.headers()["transfer-encoding"], "chunked");
    assert_eq!(streamed.headers()["x-hop"], "1");
    let answer = client().get(front).send().await.unwrap();
    assert_eq!(answer.headers()["content-length"], "7");
    assert!(!answer.headers().contains_key("x-hop"));
    assert_eq!(answer.bytes().await.unwrap(), "one two");
}

#[tokio::test]
async fn a_length_that_is_not_that_of_the_body_goes_and_that_of_an_answer_to_head_stays() {
    let read = async |body: &'static str, length: &str| {
        let answer = Answer::builder().header("content-length", length).body(body).unwrap();
        let whole = requests::read_to_end(answer.into()).await.unwrap();
        whole.headers().get("content-length").map(|length| length.to_str().unwrap().to_owned())
    };
    assert_eq!(read("text", "4").await.as_deref(), Some("4"));
    assert_eq!(read("text", "9").await, None);
    assert_eq!(read("", "9").await.as_deref(), Some("9"));
    assert_eq!(
        requests::read_to_end(Answer::new(bytes::Bytes::new()).into())
            .await
            .unwrap()
            .headers()
            .len(),
        0
    );
}
