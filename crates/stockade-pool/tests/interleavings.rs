//! Each job ends exactly once, over random interleavings of everything that can happen to a pool.
//!
//! `STOCKADE_SEED` is the first seed and `STOCKADE_ROUNDS` the number of them; both are printed, and a failure names
//! the seed that replays it.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use std::{
    collections::HashSet,
    env,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use stockade_core::{LayerError, Reason};
use stockade_pool::{OnDrop, Pool};
use tokio::{
    runtime::{Builder, Handle},
    task::yield_now,
    time::{sleep, timeout},
};
use tower::service_fn;

use common::{MS, Refusal, accepted};

type Busy = Pool<Task, u64, Refusal>;

#[derive(Clone, Copy, Debug)]
struct Task {
    id: u64,
    key: u8,
    yields: u8,
    millis: u8,
    panics: bool,
}

#[derive(Default)]
struct Books {
    started: Mutex<HashSet<u64>>,
    twice: Mutex<Vec<u64>>,
    answered: Mutex<HashSet<u64>>,
}

fn draw(random: &mut fastrand::Rng, id: u64) -> Task {
    Task {
        id,
        key: random.u8(0..3),
        yields: random.u8(0..4),
        millis: if random.u8(0..4) == 0 { random.u8(1..5) } else { 0 },
        panics: random.u8(0..12) == 0,
    }
}

async fn go(task: Task, books: Arc<Books>) -> Result<u64, Refusal> {
    if !books.started.lock().unwrap().insert(task.id) {
        // A panic here would be one job's outcome.
        books.twice.lock().unwrap().push(task.id);
    }
    for _ in 0..task.yields {
        yield_now().await;
    }
    if task.millis > 0 {
        sleep(MS * u32::from(task.millis)).await;
    }
    if task.panics {
        // Not through the panic hook, which would print it.
        std::panic::resume_unwind(Box::new("as drawn"));
    }
    Ok(task.id)
}

async fn call(pool: Busy, caller: u64, seed: u64, books: Arc<Books>) {
    let mut random = fastrand::Rng::with_seed(seed * 1_000 + caller);
    for n in 0..30 {
        let task = draw(&mut random, caller * 1_000 + n);
        if random.u8(0..4) == 0 {
            // Gives up whenever it takes too long: before there is a place, in the queue, or while it runs.
            if let Ok(answer) = timeout(MS * random.u32(1..20), pool.submit(task)).await {
                assert!(books.answered.lock().unwrap().insert(task.id));
                if answered(answer, task).is_break() {
                    return;
                }
            }
            continue;
        }
        let job = if random.bool() {
            let Ok(job) = pool.try_submit(task) else {
                yield_now().await;
                continue;
            };
            job
        } else {
            match timeout(MS * random.u32(1..20), accepted(pool.submit(task))).await {
                Ok(Ok(job)) => job,
                Ok(Err(_)) => return,
                Err(_) => continue,
            }
        };
        if random.u8(0..4) == 0 {
            yield_now().await;
            drop(job);
            continue;
        }
        let answer = job.await;
        assert!(books.answered.lock().unwrap().insert(task.id));
        let _ = answered(answer, task);
    }
}

/// Checks an answer; breaks when the pool is closed.
fn answered(answer: Result<u64, Refusal>, task: Task) -> ControlFlow<()> {
    match answer {
        Ok(id) => assert_eq!(id, task.id),
        Err(error) => {
            let reason = error.rejected().unwrap().reason();
            let known = [
                Reason::Panicked,
                Reason::Cancelled,
                Reason::PoolClosed,
                Reason::Shed,
                Reason::WaitExceeded,
            ];
            assert!(known.contains(&reason), "{reason:?}");
            if reason == Reason::PoolClosed {
                return ControlFlow::Break(());
            }
        }
    }
    ControlFlow::Continue(())
}

async fn steer(pool: Busy, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let handle = pool.handle();
    for _ in 0..random.usize(5..40) {
        match random.u8(0..6) {
            0 => handle.resize(random.usize(1..5)).unwrap(),
            1 => handle.resize(random.usize(0..2)..=random.usize(2..6)).unwrap(),
            2 => handle.pause(),
            3 => handle.resume(),
            _ => sleep(MS * random.u32(0..4)).await,
        }
        yield_now().await;
    }
    handle.resume();
}

async fn round(seed: u64) {
    let before = Handle::current().metrics().num_alive_tasks();
    let mut random = fastrand::Rng::with_seed(!seed);
    let books = Arc::new(Books::default());
    let builder = Pool::builder().workers(random.usize(0..2)..=3).queue(random.usize(0..6));
    let builder = builder.idle(3 * MS);
    let builder = match random.u8(0..4) {
        0 => builder.max_wait(6 * MS),
        1 => builder.on_drop(OnDrop::Detach),
        _ => builder,
    };
    let pool = match random.u8(0..3) {
        0 => build(builder.affinity(|task: &Task| task.key), &books),
        1 => build(builder.weigh(|task: &Task| usize::from(task.key), 4), &books),
        _ => build(builder, &books),
    };
    let mut tasks: Vec<_> = (0..4)
        .map(|caller| tokio::spawn(call(pool.clone(), caller, seed, Arc::clone(&books))))
        .collect();
    tasks.push(tokio::spawn(steer(pool.clone(), seed)));
    let mut drawn = fastrand::Rng::with_seed(seed + 7);
    let mut outcomes = pool.run((0..40).map(move |n| draw(&mut drawn, 9_000 + n)));
    let stop = random.u64(0..60);
    tasks.push(tokio::spawn(async move {
        let mut read = 0;
        while read < stop && outcomes.next().await.is_some() {
            read += 1;
        }
    }));
    let back = match random.u8(0..3) {
        0 => {
            sleep(MS * random.u32(0..30)).await;
            pool.abort()
        }
        1 => {
            sleep(MS * random.u32(0..30)).await;
            pool.drain(MS * random.u32(0..10)).await.unfinished
        }
        _ => Vec::new(),
    };
    for task in tasks {
        timeout(Duration::from_secs(3_600), task).await.expect("it hangs").unwrap();
    }
    let drained = pool.drain(Duration::from_secs(3_600)).await;
    assert_eq!(drained.stuck, 0);
    let stats = pool.stats();
    assert_eq!(stats.accepted, stats.ended(), "{stats:?}");
    assert_eq!((stats.queued, stats.running, stats.workers, stats.idle), (0, 0, 0, 0));
    assert_eq!(stats.handed_back, (back.len() + drained.unfinished.len()) as u64);
    assert_eq!(*books.twice.lock().unwrap(), [], "started twice");
    let started = books.started.lock().unwrap();
    let unstarted = stats.accepted - started.len() as u64;
    assert!(unstarted <= stats.cancelled + stats.handed_back + stats.shed, "{stats:?}");
    assert!(back.iter().all(|task| !started.contains(&task.id)), "handed back and started");
    assert_eq!(Handle::current().metrics().num_alive_tasks(), before);
}

fn build(builder: stockade_pool::PoolBuilder<Task>, books: &Arc<Books>) -> Busy {
    let books = Arc::clone(books);
    builder.build(service_fn(move |task| go(task, Arc::clone(&books))))
}

fn chosen(name: &str, or: u64) -> u64 {
    let value = env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(or);
    println!("{name}={value}");
    value
}

#[test]
fn accepted_is_the_sum_of_all_ends_over_random_interleavings() {
    let (first, rounds) = (chosen("STOCKADE_SEED", 1), chosen("STOCKADE_ROUNDS", 400));
    for seed in first..first + rounds {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.unwrap();
        let ran = catch_unwind(AssertUnwindSafe(|| runtime.block_on(round(seed))));
        if let Err(panic) = ran {
            eprintln!("failed with STOCKADE_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
