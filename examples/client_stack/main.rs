//! An HTTP client in a pool and five layers calls a server that fails. Every answer goes into a database through a
//! second stack. At the end, the books are checked.
//!
//! Start reading in `stack.rs`, which has the two stacks. The other files are their surroundings.

mod audit;
mod books;
mod exchange;
mod load;
mod plan;
mod progress;
mod report;
mod server;
mod stack;
mod store;
mod tally;
mod transitions;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use stockade::BoxError;

use crate::{
    audit::Audit, books::Books, plan::Plan, progress::Progress, report::Report, store::Database,
    tally::Tally, transitions::Transitions,
};

/// Sends requests to a server that fails, through a pool and five layers, stores the answers in a database,
/// and checks that every request is accounted for.
#[derive(Debug, Parser)]
struct Args {
    /// How many requests to send: a third each in a calm, a failing and a recovering phase.
    #[arg(long, default_value_t = 6_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    requests: u64,
    /// The load and the faults follow from this number.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Calls per second that the rate limit allows; the load is four fifths of it.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Calls at once that the concurrency limit allows.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    limit: u16,
    /// Workers of the pool in front of the client.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    workers: u16,
    /// Keep the database in this file, which must not exist yet; by default it is deleted.
    #[arg(long, value_name = "PATH")]
    database: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run(args: Args) -> Result<ExitCode, BoxError> {
    let folder = tempfile::tempdir()?;
    let path = args.database.clone().unwrap_or_else(|| folder.path().join("answers.db"));
    if path.exists() {
        return Err(format!("{} exists already: name a new file", path.display()).into());
    }
    let created = Database::create(&path);
    let database = created.map_err(|error| format!("{}: {error}", path.display()))?;
    let load = f64::from(args.rate) * 0.8;
    let plan = Plan { requests: args.requests, seed: args.seed, load };
    let audit = Audit::new(plan);
    let address = server::start(plan, audit.clone()).await?;

    let (http, http_retries, breaker) = stack::http(&args, address, &audit);
    let (rows, rows_retries) = stack::rows(&database);

    let tally = Tally::new();
    let transitions = Transitions::follow(breaker.watch());
    let progress = Progress::new(args.requests, tally.clone(), breaker.watch());
    progress.say(&format!(
        "{} requests, {load:.0} a second, to http://{address}; seed {}",
        args.requests, args.seed
    ));
    let load = tokio::spawn(load::offer(plan, http.clone(), rows.clone(), tally.clone()));
    let work = load::drain_after(load, &http, |what| progress.say(what));
    let drained = progress.during(work).await?;
    rows.drain(load::PATIENCE).await;
    let stored = database.count()?;

    let counts = tally.lock();
    let findings = audit.findings();
    let report = Report {
        counts: &counts,
        findings: &findings,
        http: http.stats(),
        rows: rows.stats(),
        workers: args.workers.into(),
        http_retries: http_retries.stats(),
        rows_retries: rows_retries.stats(),
        breaker: breaker.snapshot(),
        transitions: &transitions.lock(),
    };
    report.print();
    if drained.interrupted {
        println!("interrupted after {} of {} requests", report.http.accepted, args.requests);
    }
    if let Some((n, error)) = &counts.not_stored {
        println!("{n} answers could not be stored: {error}");
    }
    let books = Books {
        accepted: report.http.accepted,
        outcomes: counts.outcomes(),
        handed_back: drained.handed_back,
        successes: counts.successes(),
        rows: stored,
        peak: findings.peak,
        limit: args.limit.into(),
        arrivals: findings.arrivals,
        rate: args.rate,
        burst: args.burst(),
    };
    Ok(match books.check() {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(said) => {
            println!("{said}");
            ExitCode::FAILURE
        }
    })
}

// === impl Args ===

impl Args {
    /// The calls that the rate limit allows at once after a pause: those of a tenth of a second.
    fn burst(&self) -> u32 {
        self.rate.div_ceil(10)
    }
}
