//! Jobs of a queue in PostgreSQL.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]
#![cfg(feature = "apalis")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use apalis_core::{
    backend::TaskSink,
    error::BoxDynError,
    task::{Task, builder::TaskBuilder},
    worker::{builder::WorkerBuilder, context::WorkerContext},
};
use apalis_postgres::{Config, PostgresStorage};
use sqlx::{PgPool, Row};
use stockade_core::BoxError;
use stockade_fleet::jobs::{JobsLayer, POSTGRES};
use stockade_pool::Pool;
use stockade_rate::RateLayer;
use stockade_test_servers::{self as servers, Server};
use tokio::time::{sleep, timeout};
use tower::{Layer, ServiceBuilder, service_fn};

const LONG: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

async fn database() -> (Server, PgPool) {
    let server = servers::Postgres::new().start().await.unwrap();
    let pool = PgPool::connect(&server.url()).await.unwrap();
    PostgresStorage::setup(&pool).await.unwrap();
    (server, pool)
}

fn storage(pool: &PgPool) -> PostgresStorage<u32> {
    let config = Config::default().queue("test").batch_size(20).lock_tasks(false);
    PostgresStorage::new(pool).with_config(config.heartbeat_interval(SECOND / 5))
}

/// What the documentation of `POSTGRES` says.
async fn requeue(pool: PgPool, job: Task<u32>, after: Duration) -> Result<(), BoxDynError> {
    let id = job.task_id().ok_or("a job has an id")?.to_string();
    sqlx::query(POSTGRES).bind(id).bind(after.as_secs_f64()).execute(&pool).await?;
    Ok(())
}

/// Id, status, attempts and idempotency key of all jobs, in the order of the ids.
async fn rows(pool: &PgPool) -> Vec<(String, String, i32, Option<String>)> {
    let all = "SELECT id, status, attempts, idempotency_key FROM apalis.jobs ORDER BY id";
    let rows = sqlx::query(all).fetch_all(pool).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect()
}

#[tokio::test]
async fn a_refused_job_waits_as_the_row_that_it_is_with_all_its_attempts() {
    let (_server, pool) = database().await;
    let mut push = storage(&pool);
    for n in 0..4_u32 {
        // A refusal that counted as an attempt would be the end of it.
        let job = TaskBuilder::new(n).max_attempts(1).idempotency_key(n.to_string()).build();
        push.push_task(job).await.unwrap();
    }
    let before = rows(&pool).await;
    let worker = WorkerContext::new("worker");
    let stop = worker.clone();
    let done = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&done);
    let stack = ServiceBuilder::new().layer(RateLayer::per_second(1).queue(0)).service_fn(
        move |job: u32| {
            let mut done = log.lock().unwrap();
            done.push(job);
            if done.len() == 4 {
                stop.stop().unwrap();
            }
            async { Ok::<_, BoxError>(()) }
        },
    );
    let back = pool.clone();
    let layer = JobsLayer::new(move |job, after| requeue(back.clone(), job, after));
    let worker = WorkerBuilder::new(&worker).backend(storage(&pool)).build(layer.layer(stack));
    timeout(LONG, worker.run()).await.expect("all are done").unwrap();

    let mut done = done.lock().unwrap().clone();
    done.sort_unstable();
    assert_eq!(done, [0, 1, 2, 3]);
    let after = rows(&pool).await;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((&before.0, &before.3), (&after.0, &after.3), "it is the same job");
        assert_eq!((after.1.as_str(), after.2), ("Done", 1));
    }
    assert_eq!(before.len(), after.len());
}

#[tokio::test]
async fn a_job_goes_back_although_apalis_reports_late_that_it_has_ended_before() {
    let (_server, pool) = database().await;
    storage(&pool).push(7).await.unwrap();
    let all = rows(&pool).await;
    for (status, then) in [("Running", "Pending"), ("Done", "Pending"), ("Killed", "Killed")] {
        let set = "UPDATE apalis.jobs SET status = $1";
        sqlx::query(set).bind(status).execute(&pool).await.unwrap();
        sqlx::query(POSTGRES).bind(&all[0].0).bind(60.0).execute(&pool).await.unwrap();
        assert_eq!(rows(&pool).await[0].1, then, "{status}");
    }
}

#[tokio::test]
async fn jobs_of_a_drained_pool_go_back_to_the_queue_and_another_worker_does_them() {
    let (_server, pool) = database().await;
    let mut push = storage(&pool);
    for n in 0..12_u32 {
        push.push(n).await.unwrap();
    }
    let work = |time: Duration| {
        let done = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&done);
        let service = service_fn(move |job: u32| {
            let log = Arc::clone(&log);
            async move {
                sleep(time).await;
                log.lock().unwrap().push(job);
                Ok::<_, BoxError>(())
            }
        });
        (service, done)
    };
    let layer = {
        let back = pool.clone();
        JobsLayer::new(move |job, after| requeue(back.clone(), job, after))
    };
    let first = WorkerContext::new("first");
    let (slow, nothing) = work(LONG);
    let queue = Pool::builder().workers(2).queue(4).build(slow);
    let worker = WorkerBuilder::new(&first).backend(storage(&pool));
    let running = tokio::spawn(worker.build(layer.layer(queue.clone())).run());
    let taken = async {
        while queue.stats().queued < 4 {
            sleep(SECOND / 20).await;
        }
    };
    timeout(LONG, taken).await.expect("the pool fills up");

    let drained = queue.drain(Duration::ZERO).await;
    first.stop().unwrap();
    timeout(LONG, running).await.expect("the worker returns").unwrap().unwrap();
    assert_eq!((drained.unfinished.len(), drained.cancelled), (4, 2));
    let left = rows(&pool).await;
    let waiting = left.iter().filter(|row| row.1 == "Pending").count();
    let cancelled = left.iter().filter(|row| row.1 == "Failed" && row.2 == 1).count();
    assert_eq!((waiting, cancelled), (10, 2), "{left:?}");

    let second = WorkerContext::new("second");
    let (quick, done) = work(Duration::ZERO);
    let worker = WorkerBuilder::new(&second).backend(storage(&pool)).build(layer.layer(quick));
    let running = tokio::spawn(worker.run());
    let all = async {
        while rows(&pool).await.iter().any(|row| row.1 != "Done") {
            sleep(SECOND / 20).await;
        }
    };
    timeout(LONG, all).await.expect("the second worker does them");
    second.stop().unwrap();
    timeout(LONG, running).await.expect("the worker returns").unwrap().unwrap();

    assert!(nothing.lock().unwrap().is_empty());
    let mut done = done.lock().unwrap().clone();
    done.sort_unstable();
    assert_eq!(done, (0..12).collect::<Vec<_>>());
}
