//! Bodies that a network cuts anywhere, and readers that give up: every permit comes back.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream};
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use stockade_breaker::{BreakerLayer, State};
use stockade_clients::http::{BodyTimeoutLayer, Http, RespondLayer, hold_body, hold_body_until};
use stockade_core::Error;
use stockade_limit::{LimitHandle, LimitLayer};
use stockade_test_servers::proxy::{Fault, Proxy};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};
use tower::{Service, ServiceBuilder, ServiceExt};

const BODIES: usize = 1_000;
const PART: usize = 1_024;
const PARTS: usize = 32;

/// Much, because the machine may be busy. A permit that is lost never comes back.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server whose limit holds permits for its bodies, of so many parts and bounded so.
async fn serve(parts: usize, bounds: BodyTimeoutLayer) -> (SocketAddr, LimitHandle) {
    let (limit, handle) = LimitLayer::new(1_000).hold(hold_body).with_handle();
    let layers = ServiceBuilder::new()
        .layer(RespondLayer::new())
        .layer(bounds)
        .layer(limit)
        .map_err(Error::Service);
    let story = async move || {
        let parts = stream::iter(0..parts).then(async |_| {
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(Bytes::from_static(&[b'x'; PART]))
        });
        Body::from_stream(parts)
    };
    let app = Router::new().route("/", get(story)).layer(layers);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, handle)
}

type HttpClient = Client<HttpConnector, Empty<Bytes>>;

fn client(http2: bool) -> HttpClient {
    Client::builder(TokioExecutor::new()).http2_only(http2).build_http()
}

/// What became of the bodies that were asked for.
#[derive(Debug, Default)]
struct Ends {
    whole: usize,
    cut: usize,
    given_up: usize,
}

impl Ends {
    /// Asks for `bodies` of them, one after the other, through a proxy of its own; every other reader by HTTP/2.
    async fn of(bodies: usize, server: SocketAddr, seed: u64) -> Self {
        let proxy = Proxy::start(server).unwrap();
        let (limit, handle) = LimitLayer::new(4).hold(hold_body).with_handle();
        let mut stack = ServiceBuilder::new()
            .layer(limit)
            .map_err(Error::Service)
            .service(client(seed % 2 == 1));
        let url = format!("http://{}/", proxy.addr());
        let (mut random, mut ends) = (fastrand::Rng::with_seed(seed), Self::default());
        for _ in 0..bodies {
            // Some are cut before their headers are there, and some are not cut at all.
            proxy.answers(Fault::cut(random.u64(..(PART * PARTS) as u64 * 5 / 4)));
            let request = Request::get(&url).body(Empty::new()).unwrap();
            match stack.ready().await.unwrap().call(request).await {
                Ok(answer) => {
                    ends.read(answer.into_body(), random.usize(..PARTS * 4), &handle).await;
                }
                Err(_) => ends.cut += 1,
            }
            assert_eq!(handle.in_flight(), 0);
        }
        ends
    }

    /// Reads at most so many parts.
    async fn read<B>(&mut self, mut body: B, parts: usize, limit: &LimitHandle)
    where
        B: http_body::Body + Unpin,
    {
        assert_eq!(limit.in_flight(), 1);
        for _ in 0..parts {
            match body.frame().await {
                Some(Ok(_)) => {
                    assert_eq!(limit.in_flight(), usize::from(!body.is_end_stream()));
                }
                Some(Err(_)) => return self.cut += 1,
                None => return self.whole += 1,
            }
        }
        self.given_up += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_bodies_that_are_cut_anywhere_every_permit_comes_back() {
    let (address, server) = serve(PARTS, BodyTimeoutLayer::new()).await;
    let readers = (0..8).map(|seed| Ends::of(BODIES / 8, address, seed));
    let mut sum = Ends::default();
    for ends in join_all(readers).await {
        sum.whole += ends.whole;
        sum.cut += ends.cut;
        sum.given_up += ends.given_up;
    }
    println!("{sum:?}");
    assert!(sum.whole > 0 && sum.cut > BODIES / 2 && sum.given_up > 0);
    all_come_back(&server).await;
}

async fn all_come_back(server: &LimitHandle) {
    let since = Instant::now();
    while server.in_flight() > 0 {
        assert!(since.elapsed() < PATIENCE, "{} permits of the server", server.in_flight());
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stops_reading_keeps_no_permit_beyond_the_time_of_the_whole_body() {
    let (address, server) =
        serve(usize::MAX, BodyTimeoutLayer::new().whole(Duration::from_millis(300))).await;
    for http2 in [false, true] {
        let mut unread = Vec::new();
        for _ in 0..10 {
            let request = Request::get(format!("http://{address}/")).body(Empty::new()).unwrap();
            unread.push(client(http2).request(request).await.unwrap());
        }
        all_come_back(&server).await;
        for answer in unread {
            assert!(answer.into_body().collect().await.is_err(), "and none of them is whole");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_cuts_bodies_opens_the_breaker_although_all_headers_were_good() {
    let (address, _) = serve(PARTS, BodyTimeoutLayer::new()).await;
    for http2 in [false, true] {
        let proxy = Proxy::start(address).unwrap();
        let (breaker, handle) = BreakerLayer::new().classify(Http::new()).with_handle();
        let counted = handle.clone();
        let limit = LimitLayer::new(4).hold(move |response, permit| {
            let held = (permit, counted.admit().ok());
            hold_body_until(response, held, |(_, counted), end: Result<(), &hyper::Error>| {
                match (counted, end) {
                    (Some(counted), Ok(())) => counted.ignore(),
                    (Some(counted), Err(_)) => counted.failure(),
                    (None, _) => {}
                }
            })
        });
        let stack = ServiceBuilder::new()
            .layer(breaker)
            .layer(limit)
            .map_err(Error::Service)
            .service(client(http2));
        let ask = async || {
            let request = Request::get(format!("http://{}/", proxy.addr())).body(Empty::new());
            let answer = stack.clone().oneshot(request.unwrap()).await.unwrap();
            answer.into_body().collect().await.is_ok()
        };
        // With the defaults, of which one is that half of the calls have to fail.
        let mut cut = 0;
        while handle.state() == State::Closed {
            proxy.answers(Fault::cut((PART * PARTS / 2) as u64));
            assert!(!ask().await, "the headers were there, and the body was cut");
            cut += 1;
            assert!(cut <= 20, "{:?}", handle.snapshot());
        }
        assert_eq!(handle.state(), State::Open);
    }
}
