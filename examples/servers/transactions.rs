//! Transactions that are repeated as a whole when others are in their way: no transfer is lost, none is made twice, and
//! the money adds up.
//!
//! `cargo run --example transactions` starts a PostgreSQL of its own.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sqlx::{Executor as _, PgPool};
use stockade::{
    BoxError, Error, RetryLayer, TimeoutLayer,
    retry::{Backoff, Budget},
};
use stockade_clients::sql::Sqlx;
use stockade_test_servers::Postgres;
use tower::{ServiceBuilder, ServiceExt, service_fn};

const ACCOUNTS: i64 = 5;
const TRANSFERS: usize = 100;
/// How many are made at once.
const CALLERS: usize = 8;

const TABLES: &str = "
    CREATE TABLE accounts (id bigint PRIMARY KEY, money bigint NOT NULL);
    CREATE TABLE transfers (source bigint, target bigint, money bigint);
    INSERT INTO accounts SELECT id, 1000 FROM generate_series(0, 4) AS id";
/// Accounts that do not have what was there at first and what the transfers have changed.
const WRONG: &str = "SELECT count(*) FROM accounts WHERE money <> 1000
    + (SELECT coalesce(sum(money), 0) FROM transfers WHERE target = id)
    - (SELECT coalesce(sum(money), 0) FROM transfers WHERE source = id)";

#[derive(Clone, Copy, Debug)]
struct Transfer {
    source: i64,
    target: i64,
    money: i64,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let server = Postgres::new().start().await?;
    let database = PgPool::connect(&server.url()).await?;
    database.execute(TABLES).await?;

    // A transfer may not be repeated as such. One that the database has rolled back for the sake of another one had no
    // effect, and `gated` says so.
    let retry = RetryLayer::max_attempts(100)
        .backoff(Backoff::exponential(Duration::from_millis(2), Duration::from_millis(50)))
        .budget(Budget::unlimited())
        .classify(Sqlx::new().gated())
        .idempotent(|_: &Transfer| false);
    let (retry, retries) = retry.with_handle();
    let accounts = database.clone();
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(60)))
        .layer(retry)
        .map_err(Error::Service)
        .service(service_fn(move |transfer| make(accounts.clone(), transfer)));

    let transfers = stream::repeat_with(|| {
        let source = fastrand::i64(0..ACCOUNTS);
        let target = (source + fastrand::i64(1..ACCOUNTS)) % ACCOUNTS;
        Transfer { source, target, money: fastrand::i64(1..100) }
    });
    let calls = transfers.take(TRANSFERS).map(|transfer| stack.clone().oneshot(transfer));
    calls.buffer_unordered(CALLERS).try_collect::<()>().await?;

    let made: i64 =
        sqlx::query_scalar("SELECT count(*) FROM transfers").fetch_one(&database).await?;
    let sum = "SELECT sum(money)::bigint FROM accounts";
    let sum: i64 = sqlx::query_scalar(sum).fetch_one(&database).await?;
    let wrong: i64 = sqlx::query_scalar(WRONG).fetch_one(&database).await?;
    let retried = retries.stats().retried;
    println!("{made} transfers, {retried} repetitions, and {sum} on all accounts together");
    assert_eq!((made, sum, wrong), (TRANSFERS as i64, 1_000 * ACCOUNTS, 0));
    assert!(retried > 0, "nobody was in anybody's way");
    Ok(())
}

/// All of it happens, or nothing: a repeat begins at the first line.
async fn make(database: PgPool, Transfer { source, target, money }: Transfer) -> sqlx::Result<()> {
    let mut transaction = database.begin_with("BEGIN ISOLATION LEVEL SERIALIZABLE").await?;
    for (account, change) in [(source, -money), (target, money)] {
        let old: i64 = sqlx::query_scalar("SELECT money FROM accounts WHERE id = $1")
            .bind(account)
            .fetch_one(&mut *transaction)
            .await?;
        let new = sqlx::query("UPDATE accounts SET money = $2 WHERE id = $1");
        new.bind(account).bind(old + change).execute(&mut *transaction).await?;
    }
    let note = sqlx::query("INSERT INTO transfers VALUES ($1, $2, $3)");
    note.bind(source).bind(target).bind(money).execute(&mut *transaction).await?;
    transaction.commit().await
}
