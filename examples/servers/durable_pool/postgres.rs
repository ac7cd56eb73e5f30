//! The queue in PostgreSQL: two worker processes, one of which is killed, and the books.

use std::{env, time::Duration};

use apalis_core::backend::TaskSink;
use apalis_postgres::PostgresStorage;
use sqlx::PgPool;
use stockade::BoxError;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::worker::storage;

/// How long the whole run may take.
const LIMIT: Duration = Duration::from_secs(150);

/// How often to look at the books.
const GLANCE: Duration = Duration::from_millis(20);

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS durable_runs (queue text, job bigint, worker text);
    CREATE TABLE IF NOT EXISTS durable_effects
        (queue text, job bigint, worker text, PRIMARY KEY (queue, job));";

/// Jobs that a worker has begun and that have had no effect yet.
const BEGUN: &str =
    "SELECT count(DISTINCT job) FROM durable_runs r WHERE queue = $1 AND worker = $2
    AND NOT EXISTS (SELECT FROM durable_effects e WHERE e.queue = r.queue AND e.job = r.job)";
const OPEN: &str = "SELECT count(*) FROM apalis.jobs WHERE job_type = $1 AND status <> 'Done'";
const RUNS: &str = "SELECT count(*) FROM durable_runs WHERE queue = $1";
const TWICE: &str = "SELECT count(*) FROM
    (SELECT job FROM durable_runs WHERE queue = $1 GROUP BY job HAVING count(*) > 1) AS again";
const RAN: &str = "SELECT count(DISTINCT job) FROM durable_runs WHERE queue = $1";
const EFFECTS: &str = "SELECT count(*) FROM durable_effects WHERE queue = $1";
const FORGET: [&str; 4] = [
    "DELETE FROM durable_runs WHERE queue = $1",
    "DELETE FROM durable_effects WHERE queue = $1",
    "DELETE FROM apalis.jobs WHERE job_type = $1",
    "DELETE FROM apalis.workers WHERE worker_type = $1",
];

/// What the database says about one queue.
struct Books {
    database: PgPool,
    queue: String,
}

pub(crate) async fn run(url: &str, jobs: u32) -> Result<(), BoxError> {
    let database = PgPool::connect(url).await?;
    PostgresStorage::setup(&database).await?;
    sqlx::raw_sql(TABLES).execute(&database).await?;
    let queue = format!("durable_pool_{}", std::process::id());
    storage(&database, &queue).push_bulk((0..jobs).collect()).await?;
    let books = Books { database, queue };
    let mut workers = ["one", "two"].map(|name| books.start(url, name));
    let [one, two] = &mut workers;
    let (one, two) =
        (one.as_mut().map_err(|e| e.to_string())?, two.as_mut().map_err(|e| e.to_string())?);

    let begin = Instant::now();
    let in_time = || if begin.elapsed() < LIMIT { Ok(()) } else { Err("it takes too long") };
    // In the middle of several jobs, when some are done already.
    while books.count(EFFECTS).await? < i64::from(jobs / 6) || books.begun_by("one").await? < 2 {
        in_time()?;
        sleep(GLANCE).await;
    }
    one.kill().await?;
    let cut = books.begun_by("one").await?;
    println!("{jobs} jobs, two worker processes; one is killed in the middle of {cut} jobs");
    while books.count(OPEN).await? > 0 {
        in_time()?;
        sleep(GLANCE).await;
    }
    let id = two.id().ok_or("the second worker has ended by itself")?;
    Command::new("kill").args(["-TERM", &id.to_string()]).status().await?;
    let ended = two.wait().await?;

    let (runs, twice) = (books.count(RUNS).await?, books.count(TWICE).await?);
    let (ran, effects) = (books.count(RAN).await?, books.count(EFFECTS).await?);
    println!("{runs} runs, {twice} jobs ran more than once, {effects} jobs with an effect");
    books.forget().await?;
    let jobs = i64::from(jobs);
    if ran != jobs || effects != jobs || twice < cut.min(1) || cut == 0 || !ended.success() {
        return Err("the books do not balance".into());
    }
    println!("books balance: every job at least once, and once in effect");
    Ok(())
}

// === impl Books ===

impl Books {
    fn start(&self, url: &str, name: &str) -> std::io::Result<Child> {
        let mut worker = Command::new(env::current_exe()?);
        worker.args(["--postgres", url, "--worker", name, &self.queue]).kill_on_drop(true);
        worker.spawn()
    }

    async fn count(&self, question: &'static str) -> Result<i64, BoxError> {
        Ok(sqlx::query_scalar(question).bind(&self.queue).fetch_one(&self.database).await?)
    }

    async fn begun_by(&self, worker: &str) -> Result<i64, BoxError> {
        let question = sqlx::query_scalar(BEGUN).bind(&self.queue).bind(worker);
        Ok(question.fetch_one(&self.database).await?)
    }

    async fn forget(&self) -> Result<(), BoxError> {
        for statement in FORGET {
            sqlx::query(statement).bind(&self.queue).execute(&self.database).await?;
        }
        Ok(())
    }
}
