//! Jobs that outlive the process: the same stack under a worker of `apalis`, with the queue in memory or in PostgreSQL.
//!
//! Without arguments the queue is in memory. With PostgreSQL, two worker processes share the queue, and one of them is
//! killed in the middle of its jobs: every job is finished at least once, and has its effect exactly once. Start
//! reading in `stack.rs`.

mod memory;
mod postgres;
mod stack;
mod worker;

use std::process::ExitCode;

use clap::Parser;
use stockade::BoxError;
use stockade_test_servers::Postgres;

/// Runs durable jobs through a pool and five layers, and checks that each of them had its effect exactly once.
#[derive(Debug, Parser)]
struct Args {
    /// Keeps the queue in the PostgreSQL at this URL, and kills one of two worker processes.
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// The same with a temporary PostgreSQL, started from the installed programs.
    #[arg(long, conflicts_with = "postgres")]
    own_server: bool,
    /// How many jobs there are.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(20..=10_000))]
    jobs: u32,
    /// Run as one of the worker processes: its name and the name of its queue.
    #[arg(long, hide = true, num_args = 2, requires = "postgres")]
    worker: Option<Vec<String>>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), BoxError> {
    match (args.postgres, args.worker.as_deref()) {
        (Some(url), Some([name, queue])) => worker::run(&url, name, queue).await,
        (Some(url), _) => postgres::run(&url, args.jobs).await,
        (None, _) if args.own_server => {
            let server = Postgres::new().start().await?;
            postgres::run(&server.url(), args.jobs).await
        }
        (None, _) => memory::run(args.jobs).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_job_has_its_effect_once_with_the_queue_in_memory() {
        memory::run(40).await.unwrap();
    }
}
