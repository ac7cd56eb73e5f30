//! One worker process. It takes jobs from the queue in PostgreSQL until it is told to stop.

use std::time::Duration;

use apalis_core::{
    error::BoxDynError,
    task::Task,
    worker::{builder::WorkerBuilder, context::WorkerContext},
};
use apalis_postgres::{Config, PostgresStorage};
use sqlx::PgPool;
use stockade::BoxError;
use stockade_fleet::jobs::{JobsLayer, POSTGRES};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use tower::Layer;

use crate::stack::{self, WORK};

pub(crate) fn storage(database: &PgPool, queue: &str) -> PostgresStorage<u32> {
    // A worker that was silent for two seconds counts as dead, and its jobs go to others.
    // Not locking is what `POSTGRES` asks for.
    let config = Config::default().queue(queue).batch_size(8).lock_tasks(false);
    let config = config.heartbeat_interval(Duration::from_millis(250)).missed_heartbeats(8);
    PostgresStorage::new(database).with_config(config)
}

pub(crate) async fn run(url: &str, name: &str, queue: &str) -> Result<(), BoxError> {
    let database = PgPool::connect(url).await?;
    let work = {
        let (database, name, queue) = (database.clone(), name.to_owned(), queue.to_owned());
        move |job: u32| work(database.clone(), name.clone(), queue.clone(), job)
    };
    let pool = stack::pool(work);
    let back = database.clone();
    let layer = JobsLayer::new(move |job, after| requeue(back.clone(), job, after));
    let worker = WorkerContext::new(&format!("{queue}-{name}"));
    let service = layer.layer(pool.clone());
    let running = WorkerBuilder::new(&worker).backend(storage(&database, queue)).build(service);
    let running = tokio::spawn(running.run());

    let mut stop = signal(SignalKind::terminate())?;
    stop.recv().await;
    pool.drain(WORK * 2).await;
    worker.stop()?;
    running.await??;
    Ok(())
}

/// The job. It may run twice with the same effect: the second run finds it done.
async fn work(database: PgPool, name: String, queue: String, job: u32) -> Result<(), BoxError> {
    let job = i64::from(job);
    let run = "INSERT INTO durable_runs (queue, job, worker) VALUES ($1, $2, $3)";
    sqlx::query(run).bind(&queue).bind(job).bind(&name).execute(&database).await?;
    sleep(WORK).await;
    let effect = "INSERT INTO durable_effects (queue, job, worker) VALUES ($1, $2, $3) \
                  ON CONFLICT DO NOTHING";
    sqlx::query(effect).bind(&queue).bind(job).bind(&name).execute(&database).await?;
    Ok(())
}

async fn requeue(database: PgPool, job: Task<u32>, after: Duration) -> Result<(), BoxDynError> {
    let id = job.task_id().ok_or("a job has an id")?.to_string();
    sqlx::query(POSTGRES).bind(id).bind(after.as_secs_f64()).execute(&database).await?;
    Ok(())
}
