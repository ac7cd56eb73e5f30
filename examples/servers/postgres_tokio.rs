//! tokio-postgres with one connection per worker: a statement that takes too long is stopped on the server too, and a
//! worker that loses its connection opens another one.
//!
//! `cargo run --example postgres_tokio [URL]`; without a URL it starts a PostgreSQL of its own.

use std::{
    env,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use stockade::{BoxError, LayerError, Pool, Reason, RetryLayer, TimeoutLayer};
use stockade_clients::{ConnectError, Failure, connect, sql::TokioPostgres};
use stockade_test_servers::Postgres;
use tokio_postgres::{CancelToken, Client, NoTls};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let own = if env::args().len() > 1 { None } else { Some(Postgres::new().start().await?) };
    let url = own.as_ref().map_or_else(|| env::args().nth(1).unwrap_or_default(), |own| own.url());
    let watcher = open(&url).await.map_err(|no| no.to_string())?;

    let layers = ServiceBuilder::new().layer(TimeoutLayer::new(Duration::from_millis(300)));
    let make = service_fn(move |_worker| {
        let (url, layers) = (url.clone(), layers.clone());
        async move { Ok::<_, BoxError>(layers.service(Connection(Arc::new(open(&url).await?)))) }
    });
    let pool = Pool::builder().workers(4).queue(64).build_make(make);
    // Outside the pool, so that another worker can take the retry: one that lost its connection has to open a new one.
    let stack = ServiceBuilder::new()
        .layer(RetryLayer::max_attempts(5).classify(TokioPostgres::new()))
        .service(pool.clone());
    let ask = |sql: &'static str| stack.clone().oneshot(sql);

    for _ in 0..20 {
        assert_eq!(ask("SELECT 6 * 7").await?, 42);
    }

    // Not through the retries, because it would take too long again.
    let late = pool.clone().oneshot("SELECT 1 FROM pg_sleep(3600)").await;
    let error = late.expect_err("an hour is too long");
    assert_eq!(error.rejected().map(|no| no.reason()), Some(Reason::Elapsed));
    let hanging = "SELECT count(*)::int FROM pg_stat_activity
        WHERE state = 'active' AND query LIKE '%pg_sleep(3600)' AND pid <> pg_backend_pid()";
    while watcher.query_one_scalar::<i32, _>(hanging, &[]).await? > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await; // until the cancellation has arrived
    }
    println!("a statement timed out, and does not run on");

    // The server ends all connections of the workers.
    let end = "SELECT count(pg_terminate_backend(pid))::int FROM pg_stat_activity
        WHERE application_name = 'stockade' AND pid <> pg_backend_pid()";
    let ended: i32 = watcher.query_one_scalar(end, &[]).await?;
    for _ in 0..20 {
        assert_eq!(ask("SELECT 6 * 7").await?, 42);
    }
    let stats = pool.stats();
    println!("{ended} connections were ended and made anew; {} jobs succeeded", stats.succeeded);
    assert_eq!((stats.succeeded, stats.timed_out, ended), (40, 1, 4));
    Ok(())
}

async fn open(url: &str) -> Result<Client, Failure<ConnectError<tokio_postgres::Error>>> {
    let limit = Duration::from_secs(2);
    let connecting = async {
        let mut config: tokio_postgres::Config = url.parse()?;
        config.application_name("stockade").connect(NoTls).await
    };
    let (client, connection) = connect(url, limit, connecting).await?;
    tokio::spawn(connection); // ends with the client
    Ok(client)
}

/// A worker's own connection. Once lost, it is not ready, so the worker opens another one before its next job.
struct Connection(Arc<Client>);

impl Service<&'static str> for Connection {
    type Response = i32;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<i32, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let lost = self.0.is_closed();
        Poll::Ready(if lost { Err("the connection is lost".into()) } else { Ok(()) })
    }

    fn call(&mut self, sql: &'static str) -> Self::Future {
        let client = Arc::clone(&self.0);
        Box::pin(async move {
            let mut cancel = CancelOnDrop(Some(client.cancel_token()));
            let answer = client.query_one_scalar(sql, &[]).await;
            cancel.0 = None; // it ended by itself
            Ok(answer?)
        })
    }
}

/// Tells the server, over a connection of its own, to stop a statement that nothing waits for.
struct CancelOnDrop(Option<CancelToken>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(token) = self.0.take() {
            tokio::spawn(async move { token.cancel_query(NoTls).await });
        }
    }
}
