//! A hyper client whose server starts later: a request that could not be sent is repeated, even a POST.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, extract::Path, routing::post};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use stockade::{BoxError, LimitLayer, TimeoutLayer, retry::Backoff};
use stockade_clients::http::{remove_hop_by_hop, retry};
use tokio::net::{TcpListener, TcpSocket};
use tower::{ServiceBuilder, ServiceExt};

/// The number of each order, and how often it arrived.
type Orders = Arc<Mutex<BTreeMap<u32, u32>>>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let place = TcpSocket::new_v4()?;
    place.bind(([127, 0, 0, 1], 0).into())?;
    let addr = place.local_addr()?;

    let retry = retry(50).backoff(Backoff::constant(Duration::from_millis(100)));
    let (retry, retries) = retry.with_handle();
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(10)))
        .layer(retry)
        .layer(LimitLayer::new(4))
        .and_then(read_to_end) // inside the layers, so that they see a body that breaks off
        .map_err(BoxError::from)
        .service(Client::builder(TokioExecutor::new()).build_http());
    stockade::check::<Request<Full<bytes::Bytes>>>(&stack);

    let orders = Orders::default();
    let server = tokio::spawn(serve_later(place, Arc::clone(&orders)));
    for n in 0..10 {
        let order = Request::post(format!("http://{addr}/orders/{n}")).body(Full::default())?;
        let answer = stack.clone().oneshot(order).await?;
        assert_eq!(answer.body(), format!("order {n}").as_bytes());
    }
    server.abort();

    let orders = orders.lock().unwrap_or_else(PoisonError::into_inner);
    let retried = retries.stats().retried;
    println!("10 POSTs arrived once each, after {retried} that found nobody there");
    assert!(retried > 0, "the server was away at first");
    assert!((0..10).eq(orders.keys().copied()) && orders.values().all(|&times| times == 1));
    Ok(())
}

async fn read_to_end<B>(answer: Response<B>) -> Result<Response<bytes::Bytes>, BoxError>
where
    B: BodyExt<Error: Into<BoxError>>,
{
    let (mut parts, body) = answer.into_parts();
    let whole = body.collect().await.map_err(Into::into)?.to_bytes();
    remove_hop_by_hop(&mut parts.headers); // so that it can be handed on as it is
    Ok(Response::from_parts(parts, whole))
}

/// Accepts orders, but only after a while. Until then the system refuses connections to the port.
async fn serve_later(place: TcpSocket, orders: Orders) -> std::io::Result<()> {
    tokio::time::sleep(Duration::from_millis(300)).await;
    let order = async move |Path(n): Path<u32>| {
        *orders.lock().unwrap_or_else(PoisonError::into_inner).entry(n).or_default() += 1;
        format!("order {n}")
    };
    let listener: TcpListener = place.listen(64)?;
    axum::serve(listener, Router::new().route("/orders/{n}", post(order))).await
}
