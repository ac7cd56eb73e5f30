//! A fleet of flaky services on a live page: open the address that it prints. It goes on until Ctrl-C; with
//! `--seconds 5` it looks at itself and ends.
//!
//! Breakers open and close, a retry runs out of budget, a limit fills, a pool falls behind, because every service has a
//! bad time now and then. With `--token` there are buttons on the page.

use std::{error::Error as StdError, io, net::SocketAddr, time::Duration};

use axum::Router;
use clap::Parser;
use stockade::{
    BreakerLayer, Error, LimitLayer, MeasureLayer, Pool, RateLayer, RetryLayer, TimeoutLayer,
    metrics::Metrics, retry::Backoff,
};
use stockade_metrics::dashboard;
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};
use tower::{Service, ServiceBuilder, ServiceExt};

#[derive(Debug, Parser)]
struct Args {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// End after so many seconds, and not with Ctrl-C.
    #[arg(long)]
    seconds: Option<u64>,
    /// Show buttons to those who know this token, which has at least 16 characters.
    #[arg(long)]
    token: Option<String>,
}

const SERVICES: [&str; 6] = ["search", "basket", "payment", "stock", "mail", "images"];

type Failure = Error<io::Error>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let args = Args::parse();
    let metrics = Metrics::new();
    for (number, name) in SERVICES.into_iter().enumerate() {
        tokio::spawn(load(client(name, number as u32, &metrics)?));
    }
    let orders = orders(&metrics)?;

    // The page.
    let page = dashboard(metrics);
    let page = if let Some(token) = args.token { page.control(token) } else { page };
    let listener = TcpListener::bind(args.listen).await?;
    let address = listener.local_addr()?;
    let app: Router = page.at("/stockade");
    tokio::spawn(async move { axum::serve(listener, app).await });
    println!("http://{address}/stockade");

    match args.seconds {
        Some(seconds) => {
            sleep(Duration::from_secs(seconds)).await;
            look(address).await?;
        }
        None => tokio::signal::ctrl_c().await?,
    }
    let drained = orders.drain(Duration::from_secs(1)).await;
    println!("{} jobs were left", drained.unfinished.len());
    Ok(())
}

/// Reads what a browser would.
async fn look(address: SocketAddr) -> Result<(), Box<dyn StdError>> {
    let page = reqwest::get(format!("http://{address}/stockade")).await?.text().await?;
    assert!(page.contains("<title>Stockade</title>"));
    let mut events = reqwest::get(format!("http://{address}/stockade/events")).await?;
    let mut text = String::new();
    while !text.contains("\"all\":true") {
        let chunk = events.chunk().await?.ok_or("the stream has ended")?;
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    for name in SERVICES {
        assert!(text.contains(&format!("[\"breaker\",\"{name}\"")), "{name} is shown");
    }
    println!("the page shows {} services and their pool", SERVICES.len());
    Ok(())
}

/// The stack around one of the services, each layer with its handle in `metrics`.
fn client(
    name: &'static str,
    number: u32,
    metrics: &Metrics,
) -> Result<
    impl Service<u64, Error = Failure, Future: Send> + Clone + Send + 'static,
    Box<dyn StdError>,
> {
    let (measure, measured) = MeasureLayer::new().with_handle();
    let (retry, retries) = RetryLayer::max_attempts(3)
        .backoff(Backoff::exponential(Duration::from_millis(20), Duration::from_millis(200)))
        .with_handle();
    let (breaker, of_breaker) = BreakerLayer::new().open_for(Duration::from_secs(3)).with_handle();
    let (rate, of_rate) = RateLayer::per_second(60 + 20 * number).with_handle();
    let (limit, of_limit) = LimitLayer::new(4).queue(8).with_handle();
    let (total, of_total) = TimeoutLayer::new(Duration::from_secs(1)).with_handle();
    let (attempt, of_attempt) = TimeoutLayer::new(Duration::from_millis(150)).with_handle();
    let handles = (of_total, measured, retries, of_breaker, of_rate, of_limit, of_attempt);
    metrics.stack(name, handles)?;
    let begun = Instant::now();
    Ok(ServiceBuilder::new()
        .layer(total)
        .layer(measure)
        .layer(retry)
        .layer(breaker)
        .layer(rate)
        .layer(limit)
        .layer(attempt)
        .map_err(Error::Service)
        .service_fn(move |_: u64| serve(begun, number)))
}

/// Well for eight seconds, then slow for three, then broken for three; each service begins elsewhere.
async fn serve(begun: Instant, number: u32) -> io::Result<()> {
    let phase = (begun.elapsed().as_secs() + 3 * u64::from(number)) % 14;
    let slow = if (8..11).contains(&phase) { 120 } else { 10 };
    sleep(Duration::from_millis(fastrand::u64(slow / 2..slow * 3 / 2))).await;
    let fails = if phase >= 11 { 0.7 } else { 0.02 };
    if fastrand::f64() < fails { Err(io::Error::other("broken")) } else { Ok(()) }
}

/// Calls a service for ever, from more tasks now and fewer then.
async fn load(client: impl Service<u64, Error = Failure, Future: Send> + Clone + Send + 'static) {
    for n in 0.. {
        for _ in 0..fastrand::u64(1..4) {
            let call = client.clone().oneshot(n);
            tokio::spawn(async move { drop(call.await) });
        }
        sleep(Duration::from_millis(fastrand::u64(10..60))).await;
    }
}

/// A pool whose jobs have names, and that does not always keep up.
fn orders(metrics: &Metrics) -> Result<Pool<u64, (), Failure>, Box<dyn StdError>> {
    let pool = Pool::builder().workers(2..=6).queue(24).measure();
    let pool = pool.job_name(|order: &u64| format!("order {order}"));
    let pool = pool.build(tower::service_fn(async |_: u64| {
        sleep(Duration::from_millis(fastrand::u64(100..1_500))).await;
        if fastrand::u8(..20) == 0 { Err(Error::Service(io::Error::other("lost"))) } else { Ok(()) }
    }));
    metrics.pool("orders", pool.handle())?;
    let submits = pool.clone();
    tokio::spawn(async move {
        for order in 1.. {
            if let Ok(job) = submits.try_submit(order) {
                job.detach();
            }
            sleep(Duration::from_millis(fastrand::u64(20..250))).await;
        }
    });
    Ok(pool)
}
