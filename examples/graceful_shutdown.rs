//! Stops a pool on Ctrl-C or SIGTERM: running jobs may finish, and jobs that were not started are handed back.
//!
//! If nobody sends a signal, the example sends itself a SIGTERM after a second.

use std::{convert::Infallible, process, time::Duration};

use stockade::{Error, Pool, Reason};
use tokio::time::sleep;
use tower::service_fn;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let pool = Pool::builder().workers(4).queue(64).build(service_fn(async |n: u32| {
        sleep(Duration::from_millis(100)).await;
        Ok::<_, Error<Infallible>>(n)
    }));

    let reader = tokio::spawn({
        let mut outcomes = pool.run(0..200);
        async move {
            let (mut done, mut refused) = (0, 0);
            while let Some(outcome) = outcomes.next().await {
                match outcome.result {
                    Ok(_) => done += 1,
                    Err(Error::Rejected(no)) if no.reason() == Reason::PoolClosed => refused += 1,
                    Err(error) => println!("a call that ran was ended: {error}"),
                }
            }
            (done, refused, outcomes.into_remaining().count())
        }
    });

    println!("running; stop it with Ctrl-C, or wait a second");
    let signal = stop_signal(Duration::from_secs(1)).await?;
    println!("{signal}: no new jobs; what is queued has 150 ms");
    let drained = pool.drain(Duration::from_millis(150)).await;
    let (done, refused, never_taken) = reader.await?;

    let back = drained.unfinished.len();
    println!(
        "{done} done, {} of them while draining; {back} handed back, {never_taken} never taken",
        drained.completed
    );
    // Every request is done, was cancelled while it ran, was handed back, or was never accepted.
    let stats = pool.stats();
    assert_eq!(stats.accepted, stats.ended());
    assert_eq!(stats.succeeded + stats.cancelled + stats.handed_back, stats.accepted);
    assert_eq!((refused, stats.handed_back), (back, back as u64));
    assert_eq!(done + drained.cancelled as usize + back + never_taken, 200);
    println!("books balance: 200 requests, each in one place");
    Ok(())
}

/// Waits for Ctrl-C or for SIGTERM, which it sends to itself after a while.
async fn stop_signal(patience: Duration) -> std::io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let impatient = tokio::spawn(async move {
        sleep(patience).await;
        process::Command::new("kill").args(["-TERM", &process::id().to_string()]).status()
    });
    let name = tokio::select! {
        _ = tokio::signal::ctrl_c() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    };
    impatient.abort();
    Ok(name)
}
