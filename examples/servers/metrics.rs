//! A Prometheus endpoint for a stack under load. It scrapes itself, and compares what it reads to what it counted.
//! With `--serve` it keeps running, for your own Prometheus and the dashboard of `stockade-metrics`.

use std::{
    collections::BTreeMap,
    error::Error as StdError,
    io,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use axum::{Router, http::header::CONTENT_TYPE, routing::get};
use clap::Parser;
use prometheus_parse::{Scrape, Value};
use stockade::{
    BreakerLayer, Error, LimitLayer, Pool, RateLayer, RetryLayer,
    metrics::{self, Metrics},
    pool::Status,
    retry::Backoff,
};
use tokio::{net::TcpListener, time::sleep};
use tower::ServiceBuilder;

#[derive(Debug, Parser)]
struct Args {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Keep running until interrupted.
    #[arg(long)]
    serve: bool,
}

const JOBS: u64 = 300;

/// How often the client was called.
static CALLS: AtomicU64 = AtomicU64::new(0);

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let args = Args::parse();

    let retry = RetryLayer::max_attempts(3).backoff(Backoff::constant(Duration::from_millis(5)));
    let (breaker, of_breaker) = BreakerLayer::new().with_handle();
    let (rate, rate_handle) = RateLayer::per_second(2_000).burst(100).with_handle();
    let (limit, limit_handle) = LimitLayer::new(8).with_handle();
    let metrics = Metrics::new();
    let (retry, retries) = retry.with_handle();
    metrics.retry("shop", retries)?;
    metrics.breaker("shop", of_breaker)?;
    metrics.rate("shop", rate_handle)?;
    metrics.limit("shop", limit_handle)?;
    let stack = ServiceBuilder::new()
        .layer(retry)
        .layer(breaker)
        .layer(rate)
        .layer(limit)
        .map_err(Error::Service)
        .service_fn(order);
    let pool = Pool::builder().workers(2..=16).queue(32).measure().build(stack);
    metrics.pool("orders", pool.handle())?;

    let address = start(args.listen, metrics).await?;
    println!("http://{address}/metrics");

    let (mut succeeded, mut failed) = (0, 0);
    let mut outcomes = pool.run(1..=JOBS);
    while let Some(outcome) = outcomes.next().await {
        match outcome.status {
            Status::Success => succeeded += 1,
            _ => failed += 1,
        }
    }

    let response = reqwest::get(format!("http://{address}/metrics")).await?;
    assert_eq!(response.headers()[CONTENT_TYPE], metrics::CONTENT_TYPE);
    let page = read(&response.text().await?)?;
    for (series, value) in &page {
        println!("{series:<66} {value}");
    }

    // What was scraped is what was counted here.
    let told = |series: &str| page.get(series).copied().unwrap_or(f64::NAN) as u64;
    let ended = |status| told(&format!("stockade_pool_jobs_total{{name=orders,status={status}}}"));
    assert_eq!(told("stockade_pool_accepted_total{name=orders}"), JOBS);
    assert_eq!((ended("success"), ended("failed")), (succeeded, failed));
    let gave_up =
        page.iter().filter(|(series, _)| series.starts_with("stockade_retry_gave_up_total"));
    assert_eq!(gave_up.map(|(_, calls)| *calls as u64).sum::<u64>(), failed);
    let attempts = JOBS + told("stockade_retry_retries_total{name=shop}");
    let refused = told("stockade_breaker_refused_total{name=shop,reason=circuit_open}");
    assert_eq!(attempts - refused, CALLS.load(Relaxed));
    assert_eq!(told("stockade_limit_max{name=shop}"), 8);
    assert_eq!(told("stockade_limit_in_flight{name=shop}"), 0);
    println!(
        "books balance: {JOBS} jobs, {succeeded} succeeded and {failed} failed after {attempts} attempts, \
         in {} series",
        page.len()
    );

    if args.serve {
        println!("until Ctrl-C there is some load");
        tokio::select! {
            signal = tokio::signal::ctrl_c() => signal?,
            () = load(&pool) => {}
        }
    }
    Ok(())
}

/// The endpoint.
async fn start(listen: SocketAddr, metrics: Metrics) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let scrape = async move || ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.render());
    let app = Router::new().route("/metrics", get(scrape));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            eprintln!("the server has stopped: {error}");
        }
    });
    Ok(address)
}

/// Submits bursts of jobs, for ever.
async fn load(pool: &Pool<u64, u64, Error<io::Error>>) {
    loop {
        let mut outcomes = pool.run(0..fastrand::u64(1..200));
        while outcomes.next().await.is_some() {}
        sleep(Duration::from_millis(fastrand::u64(0..2_000))).await;
    }
}

/// The client: one call in ten fails, and one order in fifty always does.
async fn order(n: u64) -> io::Result<u64> {
    CALLS.fetch_add(1, Relaxed);
    sleep(Duration::from_millis(2)).await;
    if n.is_multiple_of(50) || fastrand::u8(..10) == 0 {
        return Err(io::Error::other("sold out"));
    }
    Ok(n)
}

/// The series of a page and their values.
fn read(page: &str) -> io::Result<BTreeMap<String, f64>> {
    let scrape = Scrape::parse(page.lines().map(|line| Ok(line.to_owned())))?;
    let series = scrape.samples.into_iter().map(|sample| {
        let labels = sample.labels.iter().map(|(key, value)| format!("{key}={value}"));
        let mut labels: Vec<_> = labels.collect();
        labels.sort();
        let value = match sample.value {
            Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => value,
            Value::Histogram(_) | Value::Summary(_) => f64::NAN,
        };
        (format!("{}{{{}}}", sample.metric, labels.join(",")), value)
    });
    Ok(series.collect())
}
