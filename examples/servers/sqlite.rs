//! SQLite through sqlx: a file takes one writer at a time, and a writer that finds it busy tries again.

use std::{future::ready, time::Duration};

use futures_util::{StreamExt as _, stream};
use sqlx::{
    Executor as _, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};
use stockade::{
    BoxError, Error, RetryLayer, TimeoutLayer,
    retry::{Backoff, Budget},
};
use stockade_clients::sql::Sqlx;
use tower::{ServiceBuilder, ServiceExt};

const WRITES: i64 = 200;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let options = SqliteConnectOptions::new()
        .filename(folder.path().join("counter.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(Duration::ZERO); // otherwise SQLite waits on a thread, where no layer sees it
    let pool = SqlitePoolOptions::new().max_connections(8).connect_with(options).await?;
    pool.execute("CREATE TABLE counter (n INTEGER NOT NULL); INSERT INTO counter VALUES (0)")
        .await?;

    // Counting is not idempotent. It is repeated only because a writer that found the file busy has changed nothing.
    let retry = RetryLayer::max_attempts(100)
        .backoff(Backoff::exponential(Duration::from_millis(1), Duration::from_millis(50)))
        .budget(Budget::unlimited()) // a file is never overloaded, only busy
        .classify(Sqlx::new().gated())
        .idempotent(|_: &i64| false);
    let (retry, retries) = retry.with_handle();
    let counter = pool.clone();
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(20)))
        .layer(retry)
        .map_err(Error::Service)
        .service_fn(move |by| add(counter.clone(), by));
    stockade::check::<i64>(&stack);

    let calls = stream::iter(0..WRITES).map(|_| stack.clone().oneshot(1));
    let done = calls.buffer_unordered(8).filter(|done| ready(done.is_ok())).count().await;

    let n: i64 = sqlx::query_scalar("SELECT n FROM counter").fetch_one(&pool).await?;
    println!(
        "{done} writes by 8 connections, {} times repeated; counted {n}",
        retries.stats().retried
    );
    assert_eq!((done as i64, n), (WRITES, WRITES));
    assert!(retries.stats().retried > 0, "nobody was ever in another's way");
    pool.close().await;
    Ok(())
}

/// One transaction, which locks the file from its beginning.
async fn add(pool: SqlitePool, by: i64) -> sqlx::Result<()> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let n: i64 = sqlx::query_scalar("SELECT n FROM counter").fetch_one(&mut *transaction).await?;
    sqlx::query("UPDATE counter SET n = ?").bind(n + by).execute(&mut *transaction).await?;
    transaction.commit().await
}
