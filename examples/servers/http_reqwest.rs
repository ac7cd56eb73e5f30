//! A reqwest client of an unreliable server: a request that failed for a moment is repeated, if it may be.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::{error::Error as StdError, time::Duration};

use axum::{Router, extract::Path, http::StatusCode, http::header::RETRY_AFTER, routing::any};
use reqwest::{Client, Method, Request, Url, redirect, retry};
use stockade::{BreakerLayer, Error, LimitLayer, TimeoutLayer};
use stockade_clients::{Failure, http::Http, reqwest as requests};
use tokio::net::TcpListener;
use tower::{Service, ServiceBuilder, ServiceExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let server: Url = format!("http://{}/", serve().await?).parse()?;

    let client = Client::builder()
        .retry(retry::never()) // the retry layer does that
        .redirect(redirect::Policy::none()) // a redirected POST could be sent twice
        .connect_timeout(Duration::from_secs(2))
        .no_proxy() // the server is on this machine
        .build()?;
    let (retry, retries) = requests::retry(4).with_handle();
    let mut stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(10))) // all attempts together
        .layer(retry)
        .layer(BreakerLayer::new().classify(Http::new()))
        .layer(LimitLayer::new(8))
        .layer(TimeoutLayer::new(Duration::from_millis(500))) // each attempt, its body included
        .map_err(|error| Error::Service(Failure::of(error)))
        .and_then(requests::read_to_end)
        .map_request(requests::without_credentials)
        .service(client);
    stockade::check::<Request>(&stack);

    for n in 0..50 {
        let request = Request::new(Method::GET, server.join(&format!("double/{n}"))?);
        let answer = stack.ready().await?.call(request).await?;
        assert_eq!(answer.body(), (2 * n).to_string().as_bytes());
    }
    let (asked, retried) = (ASKED.load(Relaxed), retries.stats().retried);
    println!("50 GETs answered; the server was asked {asked} times, {retried} of them again");
    assert_eq!((u64::from(asked), retried), (50 + retried, 10), "each fault costs one retry");

    // A POST may have had an effect, and this one fails.
    let request = Request::new(Method::POST, server.join("double/4")?);
    let answer = stack.ready().await?.call(request).await?;
    assert_eq!((answer.status(), retries.stats().retried), (StatusCode::BAD_GATEWAY, 10));
    println!("the POST came back as {}, and was not repeated", answer.status());

    let nobody = Request::new(Method::GET, "http://me:secret@127.0.0.1:1/".parse()?);
    let error = stack.ready().await?.call(nobody).await.expect_err("nobody listens there");
    println!("elsewhere: {error}");
    assert!(!format!("{error:?}").contains("secret"));
    Ok(())
}

static ASKED: AtomicU32 = AtomicU32::new(0);

/// Every fifth number meets a fault first: the server is busy, broken or too slow, in turn.
async fn serve() -> std::io::Result<std::net::SocketAddr> {
    static FAULTS: AtomicU32 = AtomicU32::new(0);
    let double = async |Path(n): Path<u32>| {
        ASKED.fetch_add(1, Relaxed);
        let fault = FAULTS.load(Relaxed);
        if n == 4 + 5 * (fault % 10) {
            FAULTS.fetch_add(1, Relaxed);
            match fault % 3 {
                0 => return Err((StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "0")])),
                1 => return Err((StatusCode::BAD_GATEWAY, [(RETRY_AFTER, "")])),
                _ => tokio::time::sleep(Duration::from_secs(5)).await,
            }
        }
        Ok((2 * n).to_string())
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let app = Router::new().route("/double/{n}", any(double));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(addr)
}
