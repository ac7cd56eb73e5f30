//! How a job goes back to the queue.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use apalis_core::{
    backend::TaskSink,
    error::BoxDynError,
    task::{Task, builder::TaskBuilder},
};

/// Puts a job of `apalis-postgres` back: `$1` is its id, `$2` how many seconds it is to wait, a `float8`.
///
/// It is the row itself that waits, with its id, its attempts and its idempotency key. Nobody holds it any more, so what
/// the worker that had it reports about it afterwards changes nothing.
///
/// Give the storage `Config::lock_tasks(false)`. Apalis reports that a job has begun, and that it has ended, a little
/// later; on a busy machine that can be when the job has gone back already. A late report of its beginning would take it
/// out of the queue again, and with that setting there is none. A late report of its end can only hit a job that this
/// worker has once more, so a row that is done is put back as well. If another worker has done the job in the meantime, it
/// runs twice, as each job of such a queue may.
///
/// ```
/// # use std::time::Duration;
/// # use apalis_core::{error::BoxDynError, task::Task};
/// # use sqlx::PgPool;
/// use stockade_fleet::jobs::POSTGRES;
///
/// async fn requeue(pool: PgPool, job: Task<u32>, after: Duration) -> Result<(), BoxDynError> {
///     let id = job.task_id().ok_or("a job has an id")?.to_string();
///     sqlx::query(POSTGRES).bind(id).bind(after.as_secs_f64()).execute(&pool).await?;
///     Ok(())
/// }
/// ```
pub const POSTGRES: &str = "UPDATE apalis.jobs \
    SET status = 'Pending', lock_by = NULL, lock_at = NULL, run_at = now() + make_interval(secs => $2) \
    WHERE id = $1 AND status IN ('Queued', 'Running', 'Done')";

/// The way of a job back to the queue, which ends when it is there.
pub type Requeued = Pin<Box<dyn Future<Output = Result<(), BoxDynError>> + Send>>;

/// Pushes a job again, for a backend that keeps `run_at`, such as `apalis-redis`.
///
/// It is another job for the backend, as [`again`] makes it; the old one ends as done. If the process dies between the
/// two, there are both.
pub fn repush<Args, Kind, B>(backend: B) -> impl Fn(Task<Args>, Duration) -> Requeued + Clone
where
    Args: Send + 'static,
    Kind: 'static,
    B: TaskSink<Args, Kind> + Clone + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    move |job, after| {
        let mut backend = backend.clone();
        Box::pin(async move { backend.push_task(again(job, after)).await.map_err(Into::into) })
    }
}

/// The job once more, to be pushed: for after `after`, rounded up to whole seconds as apalis has them, with the attempts
/// that it has left.
///
/// It gets an id of its own from the backend, and has no idempotency key, which the backend has seen already.
pub fn again<Args>(job: Task<Args>, after: Duration) -> Task<Args> {
    let (args, context) = job.take();
    let context = Arc::unwrap_or_clone(context);
    let run_at = SystemTime::now() + after;
    let run_at = run_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let run_at = run_at.as_secs() + u64::from(run_at.subsec_nanos() > 0);
    let mut new = TaskBuilder::new(args)
        .with_metadata(context.metadata().clone())
        .with_data(context.data().clone())
        .run_at_timestamp(run_at);
    if let Some(max) = context.max_attempts() {
        // The attempt at hand is counted already, and was none.
        let spent = context.attempt().saturating_sub(1);
        new = new.max_attempts(max.saturating_sub(spent).max(1));
    }
    if let Some(priority) = context.priority() {
        new = new.priority(priority);
    }
    if let Some(queue) = context.queue() {
        new = new.queue(queue.clone());
    }
    new.build()
}
