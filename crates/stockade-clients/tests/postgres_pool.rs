//! A pool with one connection to PostgreSQL a worker, whose server is killed under load.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use stockade_clients::{connect, sql::TokioPostgres};
use stockade_core::BoxError;
use stockade_pool::Pool;
use stockade_retry::{Backoff, Budget, RetryLayer};
use stockade_test_servers::Postgres;
use stockade_timeout::TimeoutLayer;
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tokio_postgres::{Client, NoTls};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};

const LIMIT: Duration = Duration::from_millis(500);
/// To prove who one is takes much computing, and so long on a busy machine.
const CONNECTING: Duration = Duration::from_secs(10);
const CALLERS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(30);

const TABLES: &str = "CREATE TABLE numbers (id bigint PRIMARY KEY);
    CREATE TABLE written (id bigint NOT NULL)";
/// One statement, and so one transaction, that may be repeated.
const WRITE: &str =
    "WITH new AS (INSERT INTO numbers VALUES ($1) ON CONFLICT DO NOTHING RETURNING id)
    INSERT INTO written SELECT id FROM new";

async fn open(url: &str) -> Result<Client, BoxError> {
    let (client, connection) =
        connect(url, CONNECTING, tokio_postgres::connect(url, NoTls)).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// When it is lost it is not ready, so that its worker makes another.
struct Connection(Arc<Client>);

impl Service<i64> for Connection {
    type Response = ();
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let lost = self.0.is_closed();
        Poll::Ready(if lost { Err("the connection is lost".into()) } else { Ok(()) })
    }

    fn call(&mut self, id: i64) -> Self::Future {
        let client = Arc::clone(&self.0);
        Box::pin(async move {
            client.execute(WRITE, &[&id]).await?;
            Ok(())
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_whose_connections_were_killed_make_new_ones_and_lose_no_job() {
    const COUNT: i64 = 600;
    let mut server = Postgres::new().start().await.unwrap();
    let url: Arc<str> = server.url().into();
    open(&url).await.unwrap().batch_execute(TABLES).await.unwrap();

    let layers = ServiceBuilder::new().layer(TimeoutLayer::new(LIMIT));
    let address = Arc::clone(&url);
    let make = service_fn(move |_worker| {
        let (url, layers) = (Arc::clone(&address), layers.clone());
        async move { Ok::<_, BoxError>(layers.service(Connection(Arc::new(open(&url).await?)))) }
    });
    let pool = Pool::builder().workers(4).queue(64).build_make(make);
    let retry = RetryLayer::max_attempts(20)
        .backoff(Backoff::exponential(Duration::from_millis(5), Duration::from_millis(100)))
        .budget(Budget::unlimited())
        .classify(TokioPostgres::new());
    let (retry, retries) = retry.with_handle();
    let stack = ServiceBuilder::new().layer(retry).service(pool.clone());
    let stack = BoxCloneSyncService::new(stack);

    let (next, told) = (Arc::new(AtomicI64::new(0)), watch::Sender::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (stack, next, told) = (stack.clone(), Arc::clone(&next), told.clone());
        callers.spawn(async move {
            loop {
                let id = next.fetch_add(1, SeqCst);
                if id >= COUNT {
                    return;
                }
                stack.clone().oneshot(id).await.unwrap();
                told.send_modify(|told| *told += 1);
            }
        });
    }
    let mut seen = told.subscribe();
    timeout(PATIENCE, seen.wait_for(|told| *told >= 100)).await.unwrap().unwrap();
    server.kill().await;
    server.restart().await.unwrap();
    timeout(PATIENCE, callers.join_all()).await.unwrap();

    let client = open(&url).await.unwrap();
    let sums = "SELECT count(*), count(DISTINCT id), min(id), max(id) FROM written";
    let row = client.query_one(sums, &[]).await.unwrap();
    let seen: [i64; 4] = [row.get(0), row.get(1), row.get(2), row.get(3)];
    assert_eq!(seen, [COUNT, COUNT, 0, COUNT - 1], "written, different, lowest, highest");

    let stats = pool.stats();
    let asked = COUNT.cast_unsigned() + retries.stats().retried;
    assert_eq!((stats.accepted, stats.succeeded), (asked, COUNT.cast_unsigned()));
    assert_eq!(stats.failed + stats.timed_out, retries.stats().retried);
    assert!(retries.stats().retried > 0, "nobody was hit");
}
