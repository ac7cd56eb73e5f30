//! A server with tenants: the plan of an API key says how many requests a minute it has, and how many at once. What the
//! server does at once is shared out among the tenants that wait, by turns.

use std::{collections::BTreeMap, error::Error as StdError, time::Duration};

use axum::{Router, extract::Request, routing::get};
use futures_util::future::join_all;
use http::header::RETRY_AFTER;
use stockade::{Error, KeyedLayer, LimitLayer, RateLayer, keyed::KeyedHandle, rate::RateHandle};
use stockade_clients::http::RespondLayer;
use tokio::net::TcpListener;
use tower::{ServiceBuilder, layer::util::Stack};

const MINUTE: Duration = Duration::from_secs(60);

/// What a tenant pays for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Plan {
    Free,
    Team,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Tenant {
    key: String,
    plan: Plan,
}

impl Tenant {
    /// A database knows the plan of a key; here its first letters do. All without a key are one tenant.
    fn of(request: &Request) -> Self {
        let key = request.headers().get("x-api-key").and_then(|key| key.to_str().ok());
        let plan = key.filter(|key| key.starts_with("team-")).map_or(Plan::Free, |_| Plan::Team);
        Self { key: key.unwrap_or_default().to_owned(), plan }
    }
}

fn app() -> (Router, KeyedHandle<Tenant, RateHandle>) {
    let tenants = KeyedLayer::with_handles(Tenant::of, 10_000, |tenant: &Tenant| {
        let (a_minute, at_once) = match tenant.plan {
            Plan::Free => (5, 1),
            Plan::Team => (20, 4),
        };
        let rate = RateLayer::new(a_minute, MINUTE).queue(0); // refuse at once, and say when to come back
        let (rate, handle) = rate.with_handle();
        (Stack::new(LimitLayer::new(at_once), rate), handle)
    });
    let (tenants, handle) = tenants.name("tenants").with_handle();
    let layers = ServiceBuilder::new()
        .layer(RespondLayer::new()) // every refusal is an answer
        .layer(tenants) // what each may do
        .layer(LimitLayer::new(4).fair_by(|request: &Request| Tenant::of(request).key)) // what all may do at once
        .map_err(Error::Service);
    // Both routes together: the layers of a tenant are shared by all services of the keyed layer.
    let app = Router::new()
        .route("/report", get(async || "a report"))
        .route("/search", get(async || "found"))
        .layer(layers);
    (app, handle)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = format!("http://{}", listener.local_addr()?);
    let (app, tenants) = app();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let http = reqwest::Client::builder().no_proxy().build()?;
    let ask = async |key: &str, n: u32| {
        let page = if n.is_multiple_of(2) { "report" } else { "search" };
        let request = http.get(format!("{server}/{page}")).header("x-api-key", key);
        let answer = request.send().await?;
        let after = answer.headers().contains_key(RETRY_AFTER);
        Ok::<_, reqwest::Error>((answer.status().as_u16(), after))
    };

    for (key, allowed) in [("anna", 5), ("team-b", 20), ("carl", 5)] {
        let mut counts = BTreeMap::new();
        for answer in join_all((0..30).map(|n| ask(key, n))).await {
            *counts.entry(answer?).or_insert(0) += 1;
        }
        println!("{key} asks 30 times: {counts:?}");
        let expected = BTreeMap::from([((200, false), allowed), ((429, true), 30 - allowed)]);
        ensure(counts == expected, "each has what its plan says, over both pages together")?;
    }

    // Anna pays for more. Her handle changes what she has now, and nobody else's.
    let anna = Tenant { key: "anna".to_owned(), plan: Plan::Free };
    let rate = tenants.get(&anna).ok_or("anna was there")?;
    rate.set_rate(6_000, MINUTE)?;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let answers = [ask("anna", 0).await?, ask("carl", 0).await?];
    println!("anna pays, and asks again, as carl does: {answers:?}");
    ensure(answers == [(200, false), (429, true)], "only anna has more")?;

    let top = tenants.top(2, |stats| stats.refused);
    println!("refused most: {top:?}");
    let refused: Vec<_> = top.iter().map(|(_, stats)| stats.refused).collect();
    ensure(tenants.len() == 3 && refused == [26, 25], "the books say who was refused")?;
    Ok(())
}

fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("this does not hold: {what}")) }
}
