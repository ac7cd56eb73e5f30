//! A Redis connection for each worker of a pool, made anew when it breaks: the server is killed in the middle, and every
//! number is written.
//!
//! `cargo run --example connection_per_worker` starts a Redis of its own.

use std::{cell::Cell, collections::BTreeSet, time::Duration};

use futures_util::future::try_join_all;
use redis::{AsyncConnectionConfig, Client, RedisError, RedisResult, aio::MultiplexedConnection};
use stockade::{BoxError, Error, Pool, Reason, RetryLayer, TimeoutLayer, retry::Backoff};
use stockade_clients::{connect, redis::Redis};
use stockade_test_servers as servers;
use tokio::time::sleep;
use tower::{ServiceBuilder, ServiceExt, service_fn};

type Answer = Result<(), Error<RedisError>>;

/// What a connection or an answer may take.
const LIMIT: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut server = servers::Redis::new().durable().start().await?;
    let url = server.url();

    let address = url.clone();
    let make = service_fn(move |_worker| {
        let url = address.clone();
        async move {
            let connection = connect(&url, LIMIT, open(&url)).await.map_err(BoxError::from)?;
            let write = service_fn(move |n: u32| write(connection.clone(), n));
            let layers = ServiceBuilder::new().layer(TimeoutLayer::new(LIMIT));
            Ok::<_, BoxError>(layers.map_err(Error::Service).service(write))
        }
    });
    let pool = Pool::builder().workers(4).queue(64).rebuild_on(is_broken).build_make(make);
    // Outside the pool: the worker that has lost its connection has to make another one first.
    let retry = RetryLayer::max_attempts(50)
        .backoff(Backoff::exponential(Duration::from_millis(10), Duration::from_millis(200)))
        .classify(Redis::new());
    let (retry, retries) = retry.with_handle();
    let stack = ServiceBuilder::new().layer(retry).service(pool.clone());

    let stop = Cell::new(false);
    let load = async {
        let mut next = 0;
        while !stop.get() {
            let eight = (next..next + 8).map(|n| stack.clone().oneshot(n));
            try_join_all(eight).await?;
            next += 8;
        }
        Ok::<u32, BoxError>(next)
    };
    let outage = async {
        written(&pool, 100).await;
        server.kill().await;
        sleep(Duration::from_millis(200)).await;
        server.restart().await?;
        written(&pool, 100).await;
        stop.set(true);
        Ok(())
    };
    let (count, ()) = tokio::try_join!(load, outage)?;

    let mut connection = open(&url).await?;
    let found: BTreeSet<u32> =
        redis::cmd("SMEMBERS").arg("numbers").query_async(&mut connection).await?;
    let (rebuilt, retried) = (pool.stats().rebuilt, retries.stats().retried);
    println!(
        "{count} numbers are there, after {rebuilt} attempts to connect anew and {retried} retries"
    );
    assert!(found.into_iter().eq(0..count) && rebuilt > 0 && retried > 0);
    Ok(())
}

/// Whether the connection is of no use any more: it was lost, or an answer did not come in time and may come later.
fn is_broken(result: &Answer) -> bool {
    match result {
        Ok(()) => false,
        Err(Error::Service(error)) => error.is_unrecoverable_error(),
        Err(Error::Rejected(rejected)) => rejected.reason() == Reason::Elapsed,
    }
}

async fn open(url: &str) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new().set_response_timeout(None); // the layer has one
    Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await
}

/// May be repeated: a number is in the set once.
async fn write(mut connection: MultiplexedConnection, n: u32) -> RedisResult<()> {
    redis::cmd("SADD").arg("numbers").arg(n).exec_async(&mut connection).await
}

/// Waits until so many more were written.
async fn written(pool: &Pool<u32, (), Error<RedisError>>, more: u64) {
    let from = pool.stats().succeeded;
    while pool.stats().succeeded < from + more {
        sleep(Duration::from_millis(1)).await;
    }
}
