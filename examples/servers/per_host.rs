//! A reqwest client of three servers, with a breaker and a limit for each host: one server fails, and the other two do not
//! hear of it.

use std::{
    error::Error as StdError,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use futures_util::future::join_all;
use reqwest::{Client, Method, Request, Url, redirect, retry};
use stockade::{
    BreakerLayer, Error, KeyedLayer, LayerError, LimitLayer, TimeoutLayer, breaker, keyed::KeyOf,
};
use stockade_clients::{
    Failure,
    http::{HostKey, Http},
    reqwest::{self as requests, ByHost},
};
use tokio::{net::TcpListener, time::sleep};
use tower::{ServiceBuilder, ServiceExt, layer::util::Stack};

const CALLS: u32 = 60;
const AT_ONCE: u32 = 4;

/// A server, and what it counted.
#[derive(Default)]
struct Server {
    fails: AtomicBool,
    asked: AtomicU32,
    now: AtomicU32,
    peak: AtomicU32,
}

/// What a client counted for one host.
#[derive(Debug, Default, PartialEq)]
struct Books {
    answered: u32,
    failed: u32,
    refused: u32,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let servers = [(); 3].map(|()| Arc::new(Server::default()));
    servers[0].fails.store(true, SeqCst);
    let mut urls = Vec::new();
    for server in &servers {
        urls.push(serve(Arc::clone(server)).await?);
    }

    let hosts = KeyedLayer::with_handles(ByHost, 1_000, |_host: &HostKey| {
        let breaker = BreakerLayer::new()
            .consecutive(5)
            .open_for(Duration::from_millis(300))
            .classify(Http::new());
        let (breaker, handle) = breaker.with_handle();
        (Stack::new(LimitLayer::new(AT_ONCE as usize), breaker), handle)
    });
    let (hosts, handle) = hosts.with_handle();
    let client = Client::builder()
        .no_proxy()
        .retry(retry::never())
        .redirect(redirect::Policy::none()) // to another host, it would pass by the layers of that host
        .build()?;
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(10)))
        .layer(hosts)
        .map_err(|error| Error::Service(Failure::of(error)))
        .and_then(requests::read_to_end)
        .service(client);
    stockade::check::<Request>(&stack);

    // Ten callers for each host.
    let ask = async |url: &Url| {
        let mut books = Books::default();
        for _ in 0..CALLS / 10 {
            let calls =
                (0..10).map(|_| stack.clone().oneshot(Request::new(Method::GET, url.clone())));
            for result in join_all(calls).await {
                match result {
                    Ok(answer) if answer.status() == StatusCode::OK => books.answered += 1,
                    Ok(_) => books.failed += 1,
                    Err(error) if error.rejected().is_some() => books.refused += 1,
                    Err(_) => books.failed += 1,
                }
            }
        }
        books
    };
    let books = join_all(urls.iter().map(&ask)).await;
    let state = |url: &Url| {
        let request = Request::new(Method::GET, url.clone());
        handle.get(&ByHost.key_of(&request).to_key()).map(|breaker| breaker.state())
    };
    for ((url, books), server) in urls.iter().zip(&books).zip(&servers) {
        let (asked, peak) = (server.asked.load(SeqCst), server.peak.load(SeqCst));
        println!("{url} {:?}: {books:?}; it was asked {asked} times, {peak} at once", state(url));
        let total = books.answered + books.failed + books.refused;
        ensure(total == CALLS, "each call ended once")?;
        ensure(asked == books.answered + books.failed, "what was refused was not sent")?;
        ensure(peak <= AT_ONCE, "each host has a limit of its own")?;
    }
    ensure(handle.len() == 3, "a stack for each host")?;
    ensure(state(&urls[0]) == Some(breaker::State::Open), "the breaker of the first is open")?;
    ensure(books[0].refused > CALLS / 2, "it fails fast")?;
    for (url, books) in urls.iter().zip(&books).skip(1) {
        ensure(books.answered == CALLS, "the others answer all calls")?;
        ensure(state(url) == Some(breaker::State::Closed), "their breakers are closed")?;
    }

    servers[0].fails.store(false, SeqCst);
    for _ in 0..100 {
        if state(&urls[0]) == Some(breaker::State::Closed) {
            break;
        }
        let _ = stack.clone().oneshot(Request::new(Method::GET, urls[0].clone())).await;
        sleep(Duration::from_millis(50)).await;
    }
    ensure(state(&urls[0]) == Some(breaker::State::Closed), "it closes when the server is back")?;
    println!("the first is back: {:?}", state(&urls[0]));
    Ok(())
}

fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("this does not hold: {what}")) }
}

async fn serve(server: Arc<Server>) -> Result<Url, Box<dyn StdError>> {
    let answer = async |State(server): State<Arc<Server>>| {
        server.asked.fetch_add(1, SeqCst);
        server.peak.fetch_max(server.now.fetch_add(1, SeqCst) + 1, SeqCst);
        sleep(Duration::from_millis(5)).await;
        server.now.fetch_sub(1, SeqCst);
        if server.fails.load(SeqCst) { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?).parse()?;
    let app = Router::new().route("/", get(answer)).with_state(server);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(url)
}
