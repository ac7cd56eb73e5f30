//! A stack whose settings are in a file, which is changed, broken, mended and removed while calls run.
//!
//! Each change is in force for all calls at once, or refused as a whole: then the error says where it is wrong, and the
//! settings from before stay. No call is lost.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use stockade::{
    BoxError, Error,
    config::{StackConfig, Status, Watch, toml},
};
use tokio::{sync::watch::Receiver, task::JoinSet, time::sleep};
use tower::{Service, ServiceBuilder, ServiceExt};

const CALLERS: usize = 24;

/// How many calls at once the file allows at first.
const AT_FIRST: usize = 4;

/// What the service has seen.
#[derive(Default)]
struct Seen {
    answered: AtomicU64,
    running: AtomicUsize,
    most: AtomicUsize,
}

fn settings(max: &str) -> String {
    format!(
        r#"
            [timeout]
            limit = "10s"

            [retry]
            max_attempts = 3

            [limit]
            max = {max}
            queue = 1000

            [attempt_timeout]
            limit = "2s"
        "#
    )
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("limits.toml");
    fs::write(&file, settings(&AT_FIRST.to_string()))?;

    let watch = Watch::new(&file, toml::<StackConfig>).every(Duration::from_millis(20));
    let (layer, handle) = watch.read()?.try_build()?.with_handle();
    let watching = watch.start(handle.clone());
    let mut status = watching.subscribe();

    let seen = Arc::new(Seen::default());
    let service = {
        let seen = Arc::clone(&seen);
        ServiceBuilder::new().layer(layer).map_err(Error::Service).service_fn(move |n: u64| {
            let seen = Arc::clone(&seen);
            async move { serve(&seen, n).await }
        })
    };
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(call(service.clone(), Arc::clone(&stop)));
    }

    reaches(&seen, AT_FIRST).await;
    println!("{AT_FIRST} calls at once, as the file says");

    let told = write(&file, &settings("9"), &mut status).await?;
    println!("changed: {}", told.changes[0]);
    assert_eq!((told.generation, told.error), (1, None));
    reaches(&seen, 9).await;

    let broken = [
        (settings("0"), "limit.max"),
        (settings("9").replace("2s", "5 parsecs"), "attempt_timeout.limit"),
        (settings("3") + "readiness = true", "attempt_timeout.readiness"),
        (settings("3") + "[breaker]", "breaker"),
    ];
    for (text, setting) in &broken {
        let told = write(&file, text, &mut status).await?;
        let error = told.error.ok_or("it is wrong")?;
        println!("refused: {error}");
        assert_eq!((error.setting(), told.generation), (*setting, 1));
        assert_eq!(handle.config().limit.map(|limit| limit.max), Some(9));
    }
    fs::remove_file(&file)?;
    status.changed().await?;
    println!("refused: {}", status.borrow_and_update().error.as_ref().ok_or("it is gone")?);

    let told = write(&file, &settings("2"), &mut status).await?;
    println!("changed: {}", told.changes[0]);
    assert_eq!((told.generation, told.error), (2, None));
    // The calls that began before end first.
    let limit = handle.limit.ok_or("it has a section")?;
    while limit.in_flight() > 2 {
        sleep(Duration::from_millis(1)).await;
    }
    seen.most.store(0, Relaxed);
    reaches(&seen, 2).await;

    stop.store(true, Relaxed);
    let mut calls = 0;
    while let Some(answered) = callers.join_next().await {
        calls += answered??;
    }
    let (answered, most) = (seen.answered.load(Relaxed), seen.most.load(Relaxed));
    println!("{calls} calls, {answered} answers, at most {most} at once in the end");
    assert_eq!((calls, most), (answered, 2));
    assert_eq!((limit.in_flight(), limit.waiting()), (0, 0));
    println!("the books balance");
    Ok(())
}

/// Stands for your client.
async fn serve(seen: &Seen, n: u64) -> Result<u64, std::io::Error> {
    let running = seen.running.fetch_add(1, Relaxed) + 1;
    seen.most.fetch_max(running, Relaxed);
    sleep(Duration::from_millis(1)).await;
    seen.running.fetch_sub(1, Relaxed);
    seen.answered.fetch_add(1, Relaxed);
    Ok(n)
}

/// Calls again and again, and returns how often. Any error is returned.
async fn call<S>(mut service: S, stop: Arc<AtomicBool>) -> Result<u64, Error<std::io::Error>>
where
    S: Service<u64, Response = u64, Error = Error<std::io::Error>>,
{
    let mut calls = 0;
    while !stop.load(Relaxed) {
        assert_eq!(service.ready().await?.call(calls).await?, calls);
        calls += 1;
    }
    Ok(calls)
}

/// Waits until so many calls have run at once; never more.
async fn reaches(seen: &Seen, max: usize) {
    while seen.most.load(Relaxed) < max {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(seen.most.load(Relaxed), max);
}

/// Writes the file as it should be written: beside it, and then in its place. Returns what becomes of it.
async fn write(file: &Path, text: &str, status: &mut Receiver<Status>) -> Result<Status, BoxError> {
    let beside = file.with_extension("new");
    fs::write(&beside, text)?;
    fs::rename(&beside, file)?;
    status.changed().await?;
    Ok(status.borrow_and_update().clone())
}
