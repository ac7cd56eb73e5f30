//! Stops a pool on Ctrl-C or SIGTERM: running jobs may finish, and what did not run to its end is written to a file.
//!
//! If nobody sends a signal, the example sends itself a SIGTERM after a second.

use std::{convert::Infallible, env, fs, io, process, time::Duration};

use stockade::{Error, Pool, Reason};
use tokio::time::sleep;
use tower::service_fn;

#[tokio::main]
async fn main() -> io::Result<()> {
    let work = service_fn(async |n: u32| {
        sleep(Duration::from_millis(100)).await;
        Ok::<_, Error<Infallible>>(n)
    });
    // It keeps the requests, so that those of calls that are stopped midway come back, too.
    let pool = Pool::builder().workers(4).queue(64).keep_requests().build(work);

    let reader = tokio::spawn({
        let mut outcomes = pool.run(0..200);
        async move {
            let mut done = 0;
            while let Some(outcome) = outcomes.next().await {
                match outcome.result {
                    Ok(_) => done += 1,
                    Err(Error::Rejected(no)) if no.reason() == Reason::PoolClosed => {}
                    Err(error) => println!("a call that ran was ended: {error}"),
                }
            }
            // What the pool has never taken from the source.
            (done, outcomes.into_remaining().collect::<Vec<u32>>())
        }
    });

    println!("running; stop it with Ctrl-C, or wait a second");
    let impatient = tokio::spawn(async {
        sleep(Duration::from_secs(1)).await;
        process::Command::new("kill").args(["-TERM", &process::id().to_string()]).status()
    });
    let drained = pool.handle().shutdown_on(stop_signal, Duration::from_millis(150)).await;
    impatient.abort();
    let (done, never_taken) = reader.await?;

    let file = env::temp_dir().join("stockade-graceful-shutdown.txt");
    let mut lines = String::new();
    for (what, requests) in [
        ("started", &drained.started),
        ("queued", &drained.unfinished),
        ("never taken", &never_taken),
    ] {
        lines.extend(requests.iter().map(|n| format!("{n} {what}\n")));
    }
    fs::write(&file, lines)?;
    println!(
        "{done} done, {} of them while draining; {} started, {} queued and {} never taken are in {}",
        drained.completed,
        drained.started.len(),
        drained.unfinished.len(),
        never_taken.len(),
        file.display()
    );

    // Every request is done, or in the file.
    assert_eq!(done + fs::read_to_string(&file)?.lines().count(), 200);
    let stats = pool.stats();
    assert_eq!(stats.accepted, stats.ended());
    println!("books balance: 200 requests, each in one place");
    if drained.stuck > 0 {
        // A job blocks its thread, and the runtime would wait for it.
        process::exit(1);
    }
    Ok(())
}

/// Waits for Ctrl-C or for SIGTERM.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be waited for");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => println!("SIGINT: no new jobs; what is accepted has 150 ms"),
        _ = terminate.recv() => println!("SIGTERM: no new jobs; what is accepted has 150 ms"),
    }
}
