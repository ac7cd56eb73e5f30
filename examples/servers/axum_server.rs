//! The layers in a server: a rate limit for each client, a limit on the work, and a timeout for every request, which a
//! client may shorten.

use std::{collections::BTreeMap, error::Error as StdError, time::Duration};

use axum::{
    Router,
    extract::{Path, Request},
    routing::get,
};
use futures_util::future::join_all;
use http::{HeaderValue, header::RETRY_AFTER};
use stockade::{Error, LimitLayer, RateLayer};
use stockade_clients::http::{ExtractLayer, RespondLayer};
use tokio::{net::TcpListener, time::sleep};
use tower::ServiceBuilder;

fn app() -> Router {
    let minute = Duration::from_secs(60);
    let rate = RateLayer::new(4, minute)
        .queue(0) // refuse at once, and say when to come back
        .keyed(client, 10_000);
    let layers = ServiceBuilder::new()
        .layer(RespondLayer::new().quota(4, minute)) // every refusal is an answer
        .layer(ExtractLayer::new(Duration::from_secs(1))) // less if the client says so
        .layer(rate)
        .layer(LimitLayer::new(2).queue(1)) // refuse what does not fit
        .map_err(Error::Service);
    Router::new()
        .route(
            "/work/{millis}",
            get(async |Path(millis)| sleep(Duration::from_millis(millis)).await),
        )
        .layer(layers)
}

/// Whose rate limit applies.
fn client(request: &Request) -> Option<HeaderValue> {
    request.headers().get("x-api-key").cloned()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, app()).await });
    let http = reqwest::Client::builder().no_proxy().build()?;
    let ask_within = async |key: &str, millis: u32, patience: &str| {
        let request = http.get(format!("{server}/work/{millis}")).header("x-api-key", key);
        let answer = request.header("x-request-timeout-ms", patience).send().await?;
        let after = answer.headers().get(RETRY_AFTER).cloned();
        Ok::<_, reqwest::Error>((answer.status().as_u16(), after))
    };
    let ask = async |key, millis| ask_within(key, millis, "60000").await;

    println!("anna asks six times in a row, and has four requests a minute:");
    for n in 0..6 {
        let (status, after) = ask("anna", 0).await?;
        println!("  {status}, Retry-After: {after:?}");
        assert_eq!((status, after.is_some()), if n < 4 { (200, false) } else { (429, true) });
    }
    println!("bert has a separate rate, but asks for more time than there is:");
    let (status, _) = ask("bert", 5_000).await?;
    println!("  {status}");
    assert_eq!(status, 504);

    println!("carla has no time left when she asks, and nothing is begun for her:");
    let (status, _) = ask_within("carla", 0, "0").await?;
    println!("  {status}");
    assert_eq!(status, 504);

    println!("five others come at once, and there is room for two and one who waits:");
    let others = ["c", "d", "e", "f", "g"];
    let answers = join_all(others.map(|key| ask(key, 300))).await;
    let mut counts = BTreeMap::new();
    for answer in answers {
        let (status, after) = answer?;
        assert_eq!(after.is_some(), status == 503, "who is shed is told when to come back");
        *counts.entry(status).or_insert(0) += 1;
    }
    println!("  {counts:?}");
    assert_eq!(counts, BTreeMap::from([(200, 3), (503, 2)]));
    Ok(())
}
