//! Serializable transfers between accounts through sqlx: those that conflict are repeated, and none is made twice.
//!
//! `cargo run --example postgres_sqlx [URL]`; without a URL it starts a PostgreSQL of its own.

use std::{env, time::Duration};

use futures_util::{StreamExt as _, stream};
use sqlx::{Executor as _, PgPool, postgres::PgPoolOptions};
use stockade::{BoxError, BreakerLayer, Error, LimitLayer, RetryLayer, TimeoutLayer};
use stockade_clients::{connect, sql::Sqlx};
use stockade_test_servers::Postgres;
use tower::{ServiceBuilder, ServiceExt};

const TABLES: &str = "DROP TABLE IF EXISTS stockade_accounts, stockade_transfers;
    CREATE TABLE stockade_accounts (id int PRIMARY KEY, balance bigint NOT NULL);
    CREATE TABLE stockade_transfers (id int PRIMARY KEY);
    INSERT INTO stockade_accounts SELECT id, 100 FROM generate_series(0, 9) AS id";

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let own = if env::args().len() > 1 { None } else { Some(Postgres::new().start().await?) };
    let url = own.as_ref().map_or_else(|| env::args().nth(1).unwrap_or_default(), |own| own.url());
    let limit = Duration::from_secs(2);
    let pool = PgPoolOptions::new().max_connections(8).acquire_timeout(limit);
    let pool = connect(&url, limit, pool.connect(&url)).await.map_err(|no| no.to_string())?;
    pool.execute(TABLES).await?;

    // A transfer has a number, so it may be repeated even if it is unknown whether it was made.
    let retry = RetryLayer::max_attempts(50).classify(Sqlx::new().gated());
    let (retry, retries) = retry.with_handle();
    let bank = pool.clone();
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(20))) // the whole call, with all its attempts
        .layer(retry)
        .layer(BreakerLayer::new().failure_rate(0.9).classify(Sqlx::new())) // conflicts count as failures
        .layer(LimitLayer::new(8)) // as many as connections, so that no call waits for one
        .layer(TimeoutLayer::new(Duration::from_secs(2))) // each attempt
        .map_err(Error::Service)
        .service_fn(move |number| transfer(bank.clone(), number));
    stockade::check::<i32>(&stack);

    let calls = stream::iter(0..100).map(|number| stack.clone().oneshot(number));
    let made = calls.buffer_unordered(4).filter(|made| std::future::ready(made.is_ok()));
    let made = made.count().await as i64;

    let books = "SELECT (SELECT count(*) FROM stockade_transfers), sum(balance)::bigint
        FROM stockade_accounts";
    let (stored, money): (i64, i64) = sqlx::query_as(books).fetch_one(&pool).await?;
    let retried = retries.stats().retried;
    println!(
        "{made} of 100 transfers made, {retried} times repeated; {money} is still in the bank"
    );
    assert_eq!((made, stored, money), (100, 100, 1_000));
    pool.execute("DROP TABLE stockade_accounts, stockade_transfers").await?;
    Ok(())
}

/// One transaction: reads two accounts and writes both, unless it was done before.
async fn transfer(pool: PgPool, number: i32) -> sqlx::Result<()> {
    let (from, to) = (number % 10, (number * 7 + 3) % 10);
    let mut transaction = pool.begin_with("BEGIN ISOLATION LEVEL SERIALIZABLE").await?;
    let new = sqlx::query("INSERT INTO stockade_transfers VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(number)
        .execute(&mut *transaction)
        .await?;
    if new.rows_affected() == 1 {
        for (account, amount) in [(from, -1_i64), (to, 1)] {
            sqlx::query("UPDATE stockade_accounts SET balance = balance + $2 WHERE id = $1")
                .bind(account)
                .bind(amount)
                .execute(&mut *transaction)
                .await?;
        }
    }
    transaction.commit().await
}
