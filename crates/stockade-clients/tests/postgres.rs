//! PostgreSQL that is killed, crowded, contended and behind a bad network, through sqlx and tokio-postgres.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod ledger;

use std::{sync::Arc, time::Duration};

use ledger::{ATTEMPT, Rig, within};
use sqlx::{
    Executor as _, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use stockade_clients::sql::{Sqlx, TokioPostgres, statement_timeout};
use stockade_core::{Class, Classify, Error, Reason, deadline};
use stockade_retry::{Backoff, Budget, RetryLayer};
use stockade_test_servers::{
    Postgres, Server,
    proxy::{Fault, Proxy},
};
use stockade_timeout::TimeoutLayer;
use tokio::time::sleep;
use tokio_postgres::{CancelToken, Client, NoTls};
use tower::{ServiceBuilder, ServiceExt, service_fn};

/// Each number once in `numbers`, whose key says so, and once in `written`, which has none.
const TABLES: &str = "CREATE TABLE numbers (id bigint PRIMARY KEY);
    CREATE TABLE written (id bigint NOT NULL);
    CREATE TABLE counter (n bigint NOT NULL);
    INSERT INTO counter VALUES (0)";

async fn pool(url: &str) -> PgPool {
    let options: PgConnectOptions = url.parse().unwrap();
    // What is still on its way when its caller has given up ends too.
    let options = options.options([("statement_timeout", "5s")]);
    PgPoolOptions::new()
        .max_connections(8)
        .acquire_timeout(ATTEMPT / 2)
        .connect_with(options)
        .await
        .unwrap()
}

/// One that starts, with its tables, and a pool of connections to it.
async fn start(postgres: Postgres) -> (Server, PgPool) {
    let server = postgres.start().await.unwrap();
    let pool = pool(&server.url()).await;
    pool.execute(TABLES).await.unwrap();
    (server, pool)
}

/// One transaction: may be repeated, because the key tells that it has been done already.
async fn write(pool: PgPool, id: i64) -> sqlx::Result<()> {
    let mut transaction = pool.begin().await?;
    let new = sqlx::query("INSERT INTO numbers VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(id)
        .execute(&mut *transaction)
        .await?;
    if new.rows_affected() == 1 {
        sqlx::query("INSERT INTO written VALUES ($1)").bind(id).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

fn rig(pool: &PgPool) -> Arc<Rig<sqlx::Error>> {
    let pool = pool.clone();
    Arc::new(Rig::new(service_fn(move |id| write(pool.clone(), id)), Sqlx::new()))
}

/// All numbers below `count` are there, each exactly once.
async fn check(pool: &PgPool, count: i64) {
    let sums = "SELECT count(*), count(DISTINCT id), coalesce(min(id), 0), coalesce(max(id), -1)
        FROM written";
    let seen: (i64, i64, i64, i64) = sqlx::query_as(sums).fetch_one(pool).await.unwrap();
    assert_eq!(seen, (count, count, 0, count - 1), "written, different, lowest, highest");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_under_load_costs_no_row_and_doubles_none() {
    let (mut server, pool) = start(Postgres::new()).await;
    let rig = rig(&pool);
    let load = rig.load();

    for _ in 0..2 {
        load.written(100).await;
        // Both need the server, one after the other.
        let cell = tokio::sync::Mutex::new(&mut server);
        rig.outage(
            async || {
                cell.lock().await.kill().await;
                Ok(())
            },
            async || Ok(cell.lock().await.restart().await?),
        )
        .await;
    }
    load.written(100).await;

    let written = load.stop().await;
    check(&pool, written).await;
    rig.check_amplification();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_does_its_worst_costs_no_row_and_doubles_none() {
    let (server, straight) = start(Postgres::new()).await;
    let proxy = Proxy::start(server.address()).unwrap();
    let pool = pool(&server.url_at(proxy.addr())).await;
    let rig = rig(&pool);
    let load = rig.load();
    load.written(50).await;

    proxy.answers(Fault::delay(Duration::from_millis(5)));
    load.written(50).await;
    proxy.answers(Fault::throttle(20_000));
    load.written(50).await;
    proxy.answers(Fault::garble().connections(2));
    load.written(50).await;
    proxy.heal();
    // What was read wrong so far may have a client wait for more of it.
    proxy.cut();

    rig.outage(
        async || {
            proxy.answers(Fault::stall());
            Ok(())
        },
        async || {
            proxy.heal();
            Ok(())
        },
    )
    .await;
    load.written(50).await;

    // Midway in the answers: what was done by then is not known.
    for after in [1, 40, 80, 120, 160] {
        proxy.answers(Fault::cut(after).connections(4));
        load.written(20).await;
        proxy.heal();
    }
    rig.outage(
        async || {
            proxy.refuse();
            proxy.cut();
            Ok(())
        },
        async || {
            proxy.heal();
            Ok(())
        },
    )
    .await;
    load.written(50).await;

    let written = load.stop().await;
    check(&straight, written).await;
    rig.check_amplification();
    assert!(proxy.stats().cut > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_in_conflict_are_repeated_until_all_are_committed() {
    const COUNTS: i64 = 40;
    let (_server, pool) = start(Postgres::new()).await;
    // Not idempotent at all, and repeated only because each conflict was rolled back.
    let retry = RetryLayer::max_attempts(200)
        .backoff(Backoff::exponential(Duration::from_millis(2), Duration::from_millis(50)))
        .budget(Budget::unlimited())
        .classify(Sqlx::new().gated())
        .idempotent(|(): &()| false);
    let (retry, retries) = retry.with_handle();
    let counting = pool.clone();
    let stack = ServiceBuilder::new().layer(retry).map_err(Error::Service).service_fn(move |()| {
        let pool = counting.clone();
        async move {
            let mut transaction = pool.begin_with("BEGIN ISOLATION LEVEL SERIALIZABLE").await?;
            let n: i64 =
                sqlx::query_scalar("SELECT n FROM counter").fetch_one(&mut *transaction).await?;
            sqlx::query("UPDATE counter SET n = $1").bind(n + 1).execute(&mut *transaction).await?;
            transaction.commit().await
        }
    });

    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..COUNTS {
        calls.spawn(stack.clone().oneshot(()));
        // No more than there are connections, or the pool would be what they wait for.
        if calls.len() == 8 {
            within(calls.join_next()).await.unwrap().unwrap().unwrap();
        }
    }
    while let Some(done) = within(calls.join_next()).await {
        done.unwrap().unwrap();
    }

    let n: i64 = sqlx::query_scalar("SELECT n FROM counter").fetch_one(&pool).await.unwrap();
    assert_eq!(n, COUNTS);
    assert!(retries.stats().retried > 0, "there was no conflict");
}

/// Connects anew for each call.
async fn connect(url: String) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_meets_the_limit_of_connections_is_let_in_once_there_is_room() {
    let limited = Postgres::new()
        .set("max_connections", "2")
        .set("superuser_reserved_connections", "0")
        .set("max_wal_senders", "0");
    let server = limited.start().await.unwrap();
    let held = [connect(server.url()).await.unwrap(), connect(server.url()).await.unwrap()];

    let error = Error::Service(connect(server.url()).await.err().unwrap());
    let class = TokioPostgres::new().classify(Err::<&(), _>(&error));
    assert_eq!(class, Class::NoEffect { after: None }, "{error}");

    let retry = RetryLayer::max_attempts(1_000)
        .backoff(Backoff::constant(Duration::from_millis(5)))
        .budget(Budget::unlimited())
        .classify(TokioPostgres::new())
        .idempotent(|_: &String| false);
    let (retry, retries) = retry.with_handle();
    let stack = ServiceBuilder::new().layer(retry).map_err(Error::Service).service_fn(connect);
    let call = tokio::spawn(stack.oneshot(server.url()));
    within(async {
        while retries.stats().retried < 2 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    drop(held);

    within(call).await.unwrap().unwrap();
}

/// Has the server stop what a client asked for, if nobody waits for it any longer.
struct Cancel(Option<CancelToken>);

impl Drop for Cancel {
    fn drop(&mut self) {
        if let Some(token) = self.0.take() {
            tokio::spawn(async move { token.cancel_query(NoTls).await });
        }
    }
}

async fn hang(client: Arc<Client>) -> Result<(), tokio_postgres::Error> {
    let mut cancel = Cancel(Some(client.cancel_token()));
    let result = client.batch_execute("SELECT pg_sleep(3600)").await;
    cancel.0 = None;
    result
}

const HANGING: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%' AND pid <> pg_backend_pid()";

/// Waits until `count` statements hang on the server.
async fn hanging(pool: &PgPool, count: i64) {
    within(async {
        while sqlx::query_scalar::<_, i64>(HANGING).fetch_one(pool).await.unwrap() != count {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_hangs_is_timed_out_and_stops_on_the_server() {
    let (server, pool) = start(Postgres::new()).await;
    let client = Arc::new(connect(server.url()).await.unwrap());
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(1)))
        .map_err(Error::Service)
        .service_fn(hang);

    let call = tokio::spawn(stack.oneshot(Arc::clone(&client)));
    hanging(&pool, 1).await;
    let Err(Error::Rejected(no)) = call.await.unwrap() else { panic!("it ended by itself") };
    assert_eq!(no.reason(), Reason::Elapsed);
    hanging(&pool, 0).await;

    // The connection is as good as new.
    within(client.batch_execute("SELECT 1")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_hangs_is_ended_by_the_server_where_the_client_cannot() {
    let (_server, pool) = start(Postgres::new()).await;
    let sleeping = pool.clone();
    let stack = ServiceBuilder::new().map_err(Error::Service).service_fn(move |()| {
        let pool = sleeping.clone();
        async move {
            let mut connection = pool.acquire().await?;
            connection.execute("SET statement_timeout = '100ms'").await?;
            connection.execute("SELECT pg_sleep(3600)").await
        }
    });

    let error = within(stack.oneshot(())).await.unwrap_err();

    assert_eq!(Sqlx::new().classify(Err::<&(), _>(&error)), Class::Permanent, "{error}");
    hanging(&pool, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_ends_at_the_server_when_its_call_has_to_end() {
    const MARGIN: Duration = Duration::from_millis(100);
    let (_server, pool) = start(Postgres::new()).await;
    let connections = pool.clone();
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(ATTEMPT))
        .map_err(Error::Service)
        .service_fn(move |()| {
            let pool = connections.clone();
            async move {
                let mut transaction = pool.begin().await?;
                transaction.execute("SET LOCAL statement_timeout = 0").await?;
                if let Some(set) = statement_timeout(MARGIN) {
                    transaction.execute(sqlx::AssertSqlSafe(set)).await?;
                }
                transaction.execute("SELECT pg_sleep(3600)").await?;
                Ok::<_, sqlx::Error>(())
            }
        });

    let error = within(stack.oneshot(())).await.unwrap_err();

    // The server's answer comes within the margin; on a busy machine the timeout may be first.
    match error {
        Error::Service(error) => {
            let code = error.as_database_error().and_then(|error| error.code());
            assert_eq!(code.as_deref(), Some("57014"), "{error}");
        }
        Error::Rejected(rejected) => assert_eq!(rejected.reason(), Reason::Elapsed),
    }
    hanging(&pool, 0).await;
}

/// Several statements in one text are one transaction, which begins and ends by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_the_server_ends_leaves_a_shared_connection_as_good_as_new() {
    let server = Postgres::new().start().await.unwrap();
    let client = connect(server.url()).await.unwrap();
    let until = Some(tokio::time::Instant::now() + Duration::from_millis(300));
    for _ in 0..2 {
        let statement = async {
            let set = statement_timeout(Duration::ZERO).unwrap();
            client.batch_execute(&format!("{set}; SELECT pg_sleep(3600)")).await
        };
        let error = within(deadline::scope(until, statement)).await.unwrap_err();
        assert_eq!(error.code().map(|code| code.code()), Some("57014"), "{error}");
    }
    let limit = within(client.query_one("SHOW statement_timeout", &[])).await.unwrap();
    assert_eq!(limit.get::<_, String>(0), "0", "it was for that transaction only");
}

/// The classes without and with the gate.
fn classes(error: sqlx::Error) -> ([Class; 2], String) {
    let told = error.to_string();
    let error = Error::Service(error);
    let of = |classify: Sqlx| classify.classify(Err::<&(), _>(&error));
    ([of(Sqlx::new()), of(Sqlx::new().gated())], told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_has_ended_or_would_plan_anew_is_judged_by_what_became_of_it() {
    const UNDONE: [Class; 2] = [Class::Transient { after: None }, Class::NoEffect { after: None }];
    let (_server, pool) = start(Postgres::new()).await;

    // A statement that was prepared before its table has another column.
    let mut connection = pool.acquire().await.unwrap();
    let all = "SELECT * FROM counter";
    sqlx::query(all).fetch_all(&mut *connection).await.unwrap();
    pool.execute("ALTER TABLE counter ADD COLUMN note text").await.unwrap();
    let stale = sqlx::query(all).fetch_all(&mut *connection).await.unwrap_err();
    let (class, told) = classes(stale);
    assert_eq!(class, UNDONE, "{told}");

    // A transaction that its program has forgotten.
    connection.execute("SET idle_in_transaction_session_timeout = '20ms'").await.unwrap();
    connection.execute("BEGIN").await.unwrap();
    connection.execute("UPDATE counter SET n = n + 1").await.unwrap();
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'";
    within(async {
        while sqlx::query_scalar::<_, i64>(busy).fetch_one(&pool).await.unwrap() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let (class, told) = classes(connection.execute("COMMIT").await.unwrap_err());
    assert_eq!(class, UNDONE, "{told}");
    let n: i64 = sqlx::query_scalar("SELECT n FROM counter").fetch_one(&pool).await.unwrap();
    assert_eq!(n, 0, "it was rolled back");

    // A connection that somebody has ended: what it was doing may be done.
    let mut connection = pool.acquire().await.unwrap();
    let pid: i32 =
        sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *connection).await.unwrap();
    let end = sqlx::query("SELECT pg_terminate_backend($1)").bind(pid);
    end.execute(&pool).await.unwrap();
    let (class, told) = classes(connection.execute("SELECT 1").await.unwrap_err());
    assert_eq!(class, [Class::Transient { after: None }; 2], "{told}");
}

#[tokio::test]
async fn a_server_that_takes_no_writes_has_done_nothing_for_a_client_that_asked_for_one_that_does()
{
    let server = Postgres::new().set("default_transaction_read_only", "on").start().await.unwrap();
    let url = format!("{}?target_session_attrs=read-write", server.url());
    let error = Error::Service(connect(url).await.err().unwrap());
    let class = TokioPostgres::new().classify(Err::<&(), _>(&error));
    assert_eq!(class, Class::NoEffect { after: None }, "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_transactions_that_wait_for_each_other_one_is_undone() {
    let (_server, pool) = start(Postgres::new()).await;
    pool.execute("INSERT INTO numbers VALUES (1), (2)").await.unwrap();
    let mut transactions = [pool.begin().await.unwrap(), pool.begin().await.unwrap()];
    let lock = |id: i64| sqlx::query("SELECT id FROM numbers WHERE id = $1 FOR UPDATE").bind(id);
    for (transaction, id) in transactions.iter_mut().zip([1, 2]) {
        lock(id).execute(&mut **transaction).await.unwrap();
    }
    let [one, other] = &mut transactions;

    let ends =
        within(async { tokio::join!(lock(2).execute(&mut **one), lock(1).execute(&mut **other)) });
    let (one, other) = ends.await;

    let deadlock = one.err().or(other.err()).unwrap();
    let (class, told) = classes(deadlock);
    let undone = [Class::Transient { after: None }, Class::NoEffect { after: None }];
    assert_eq!(class, undone, "{told}");
}
