//! Jobs that fail sometimes, fail always, take too long or panic: how each one ended, and how often it was
//! tried.

use std::{collections::BTreeMap, fmt, panic, time::Duration};

use stockade::{
    Class, Error, LayerError, Pool, RetryLayer, TimeoutLayer, pool::Status, retry::Backoff,
};
use tokio::time::sleep;
use tower::ServiceBuilder;

/// What goes wrong in a job.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Busy,
    Unknown,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "the line is busy",
            Self::Unknown => "there is no such thing",
        })
    }
}

#[tokio::main]
async fn main() {
    // One line per panic is enough here.
    panic::set_hook(Box::new(|panic| println!("a job panicked: {panic}")));

    let retry = RetryLayer::max_attempts(4)
        .backoff(Backoff::exponential(Duration::from_millis(5), Duration::from_millis(50)))
        .classify(|result: Result<&u32, &Error<Trouble>>| match result {
            Ok(_) => Class::Success,
            Err(Error::Service(Trouble::Unknown)) => Class::Permanent,
            Err(Error::Service(Trouble::Busy)) => Class::Transient { after: None },
            Err(error) => match error.rejected() {
                Some(refused) if !refused.is_refusal() => Class::Permanent,
                _ => Class::NoEffect { after: None },
            },
        });
    let (retry, retries) = retry.with_handle();
    let stack = ServiceBuilder::new()
        .layer(retry)
        .layer(TimeoutLayer::new(Duration::from_millis(50)))
        .map_err(Error::Service)
        .service_fn(work);
    let pool = Pool::builder().workers(4).queue(40).measure().build(stack);

    let mut table: BTreeMap<String, (u64, u32)> = BTreeMap::new();
    let mut outcomes = pool.run(0..40u32);
    while let Some(outcome) = outcomes.next().await {
        let row = match (outcome.status, &outcome.result) {
            (status @ Status::Failed, Err(error)) => format!("{status:?}: {error}"),
            (status, _) => format!("{status:?}"),
        };
        let (jobs, attempts) = table.entry(row).or_default();
        *jobs += 1;
        *attempts += outcome.attempts;
    }

    println!("{:<36} {:>5} {:>9}", "outcome", "jobs", "attempts");
    for (row, (jobs, attempts)) in &table {
        println!("{row:<36} {jobs:>5} {attempts:>9}");
    }
    let (stats, retries) = (pool.stats(), retries.stats());
    let run_time = stats.run_time.unwrap_or_default();
    println!(
        "{} retries; a job ran {:?} at the median, {:?} at most",
        retries.retried, run_time.p50, run_time.max
    );

    // Each job is in exactly one row, and each attempt is a job's first one or a retry.
    let jobs: u64 = table.values().map(|(jobs, _)| jobs).sum();
    let attempts: u32 = table.values().map(|(_, attempts)| attempts).sum();
    assert_eq!((jobs, stats.accepted, stats.ended()), (40, 40, 40));
    assert_eq!(u64::from(attempts), 40 + retries.retried);
    assert_eq!((stats.timed_out, stats.panicked), (4, 4));
    println!("books balance: 40 jobs in {} rows, {attempts} attempts", table.len());
}

/// Of ten jobs one takes too long, one panics, one always fails, and two find the line busy.
async fn work(n: u32) -> Result<u32, Trouble> {
    sleep(Duration::from_millis(2)).await;
    match n % 10 {
        1 => sleep(Duration::from_secs(1)).await,
        2 => panic!("job {n} is not to be touched"),
        3 => return Err(Trouble::Unknown),
        4 | 5 if fastrand::bool() => return Err(Trouble::Busy),
        _ => {}
    }
    Ok(n)
}
