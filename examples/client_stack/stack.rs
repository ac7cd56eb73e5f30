//! The two stacks. This is what a user of the library writes.

use std::{net::SocketAddr, time::Duration};

use hyper_util::{client::legacy, rt::TokioExecutor};
use stockade::{
    BreakerLayer, Error, LimitLayer, Pool, RateLayer, RetryLayer, TimeoutLayer,
    breaker::{BreakerHandle, Window},
    retry::{Backoff, Budget, RetryHandle},
};
use tower::ServiceBuilder;

use crate::{
    Args,
    audit::Audit,
    exchange::{Answer, Attempt, Exchange, Get, HttpError, judge},
    store::{Database, Row, StoreError},
};

pub(crate) type HttpPool = Pool<Get, Answer, HttpError>;
pub(crate) type RowPool = Pool<Row, (), StoreError>;

/// How many jobs may wait for a worker, in each pool.
pub(crate) const QUEUE: usize = 128;

/// How many rows may be on their way into the database at once.
pub(crate) const WRITERS: usize = 2;

/// The HTTP client in a pool and five layers, the outermost first.
pub(crate) fn http(
    args: &Args,
    server: SocketAddr,
    audit: &Audit,
) -> (HttpPool, RetryHandle, BreakerHandle) {
    let client = legacy::Client::builder(TokioExecutor::new())
        .retry_canceled_requests(false) // the retry layer does that, and counts it
        .build_http();

    let retry = RetryLayer::max_attempts(4)
        .backoff(Backoff::exponential(Duration::from_millis(20), Duration::from_secs(1)))
        .budget(Budget::new(0.2, 5.0))
        .classify(judge)
        .seed(args.seed);
    let breaker = BreakerLayer::new()
        .window(Window::calls(50))
        .failure_rate(0.3)
        .open_for(Duration::from_millis(200))
        .probes(1)
        .classify(judge);
    let (retry, retries) = retry.with_handle();
    let (breaker, breakers) = breaker.with_handle();

    let (asked, sent) = (audit.clone(), audit.clone());
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(2)).name("request"))
        .layer(retry)
        .layer(breaker)
        .map_request(move |get: Get| Attempt { get, number: asked.ask(get.id) })
        .layer(RateLayer::per_second(args.rate).burst(args.burst()))
        .layer(LimitLayer::new(args.limit.into()).max_wait(Duration::from_millis(500)))
        .layer(TimeoutLayer::new(Duration::from_millis(250)).name("attempt"))
        .map_err(Error::Service)
        .layer_fn(move |client| Exchange::new(client, server, sent.clone()))
        .service(client);
    let pool =
        Pool::builder().workers(usize::from(args.workers)).queue(QUEUE).name("http").build(stack);
    (pool, retries, breakers)
}

/// The database in a pool and two layers.
pub(crate) fn rows(database: &Database) -> (RowPool, RetryHandle) {
    let retry = RetryLayer::max_attempts(5);
    let (retry, handle) = retry.with_handle();

    let database = database.clone();
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(10)).name("row"))
        .layer(retry)
        .map_err(Error::Service)
        .service_fn(move |row| database.clone().insert(row));
    let builder = Pool::builder().workers(WRITERS).queue(QUEUE).name("rows").measure();
    (builder.build(stack), handle)
}
