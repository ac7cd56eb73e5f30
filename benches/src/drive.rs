//! The callers: each driver calls in one way, and is the same for all stacks.
//!
//! They run as tasks of the runtime, not in `block_on`, as callers do in a server; the clock starts when they do.

use std::{
    hint::{black_box, spin_loop},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use stockade::Pool;
use tokio::{
    runtime::Runtime,
    sync::{Barrier, Semaphore},
    task::JoinSet,
    time::Instant,
};
use tower::ServiceExt;

use crate::{
    inner::{Failure, Inner},
    measure::Runner,
    stacks::Client,
};

const NO_PANIC: &str = "a driver does not panic";
const NO_ERROR: &str = "the stack lets every call through";

/// One task that calls one handle again and again: `ready`, then `call`.
pub fn one_handle(runtime: &Arc<Runtime>, service: impl Client) -> Runner {
    let runtime = Arc::clone(runtime);
    let mut kept = Some(service);
    Box::new(move |calls| {
        let service = kept.take().expect(NO_PANIC);
        let driver = async { tokio::spawn(call_often(service, calls)).await.expect(NO_PANIC) };
        let (service, took) = runtime.block_on(driver);
        kept = Some(service);
        took
    })
}

async fn call_often<S: Client>(mut service: S, calls: u64) -> (S, Duration) {
    let start = Instant::now();
    for n in 0..calls {
        let ready = black_box(&mut service).ready().await.expect(NO_ERROR);
        black_box(ready.call(black_box(n)).await.expect(NO_ERROR));
    }
    (service, start.elapsed())
}

/// One task that makes a clone for each call: `service.clone().oneshot(n)`.
pub fn clone_each(runtime: &Arc<Runtime>, service: impl Client + Clone) -> Runner {
    let runtime = Arc::clone(runtime);
    Box::new(move |calls| {
        let mut service = service.clone();
        let driver = runtime.spawn(async move {
            let start = Instant::now();
            for n in 0..calls {
                let once = black_box(&mut service).clone();
                black_box(once.oneshot(black_box(n)).await.expect(NO_ERROR));
            }
            start.elapsed()
        });
        runtime.block_on(driver).expect(NO_PANIC)
    })
}

/// As many tasks as the runtime has threads, at the same time, each with a clone of its own. So many calls are
/// made by each of them.
pub fn each_thread(runtime: &Arc<Runtime>, service: impl Client + Clone) -> Runner {
    let runtime = Arc::clone(runtime);
    let threads = runtime.metrics().num_workers();
    let mut kept = vec![service; threads];
    Box::new(move |calls| {
        let present = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = kept
            .drain(..)
            .map(|service| {
                let present = Arc::clone(&present);
                runtime.spawn(async move {
                    // Spinning keeps the thread, so the tasks are on different ones.
                    present.fetch_add(1, Ordering::Relaxed);
                    while present.load(Ordering::Relaxed) < threads {
                        spin_loop();
                    }
                    call_often(service, calls).await
                })
            })
            .collect();
        let mut longest = Duration::ZERO;
        for task in tasks {
            let (service, took) = runtime.block_on(task).expect(NO_PANIC);
            kept.push(service);
            longest = longest.max(took);
        }
        longest
    })
}

/// One who makes one call after the other.
pub trait Caller: Clone + Send + 'static {
    /// Makes a call, and waits for its answer.
    fn call(&mut self, n: u64) -> impl Future<Output = ()> + Send;
}

/// Calls a service: `ready`, then `call`.
#[derive(Clone, Copy, Debug)]
pub struct ByReady<S>(pub S);

/// Invokes a pool.
#[derive(Clone, Debug)]
pub struct ByInvoke(pub Pool<u64, u64, Failure>);

/// Submits to a pool, then waits for the answer.
#[derive(Clone, Debug)]
pub struct BySubmit(pub Pool<u64, u64, Failure>);

/// Spawns a task that calls a service, then waits for its handle.
#[derive(Clone, Copy, Debug)]
pub struct BySpawn<S>(pub S);

/// So many tasks, each of which makes one call after the other: so many calls are outstanding.
pub fn window(runtime: &Arc<Runtime>, outstanding: u64, caller: impl Caller) -> Runner {
    let runtime = Arc::clone(runtime);
    Box::new(move |calls| {
        let gate = Arc::new((Barrier::new(outstanding as usize + 1), Semaphore::new(0)));
        let tasks: Vec<_> = (0..outstanding)
            .map(|n| {
                let share = calls / outstanding + u64::from(n < calls % outstanding);
                let gate = Arc::clone(&gate);
                let mut caller = caller.clone();
                runtime.spawn(async move {
                    gate.0.wait().await;
                    gate.1.acquire().await.expect(NO_PANIC).forget();
                    for n in 0..share {
                        caller.call(black_box(n)).await;
                    }
                })
            })
            .collect();
        let driver = runtime.spawn(async move {
            gate.0.wait().await;
            let start = Instant::now();
            gate.1.add_permits(tasks.len());
            for task in tasks {
                task.await.expect(NO_PANIC);
            }
            start.elapsed()
        });
        runtime.block_on(driver).expect(NO_PANIC)
    })
}

/// One collector takes what `Pool::run` makes of as many requests as there are calls.
pub fn run(runtime: &Arc<Runtime>, pool: Pool<u64, u64, Failure>) -> Runner {
    let runtime = Arc::clone(runtime);
    Box::new(move |calls| {
        let pool = pool.clone();
        let driver = runtime.spawn(async move {
            let start = Instant::now();
            let mut outcomes = pool.run(0..calls);
            let mut ended = 0;
            while let Some(outcome) = outcomes.next().await {
                ended += black_box(outcome.result).map(|_| 1).expect(NO_ERROR);
            }
            assert_eq!(ended, calls);
            start.elapsed()
        });
        runtime.block_on(driver).expect(NO_PANIC)
    })
}

/// A pipeline of channels: what a producer sends into one goes through so many workers into another, from which one
/// collector takes it.
pub fn pipeline(
    runtime: &Arc<Runtime>,
    workers: usize,
    queue: usize,
    service: impl Inner,
) -> Runner {
    let runtime = Arc::clone(runtime);
    Box::new(move |calls| {
        let (send, receive) = flume::bounded::<u64>(queue);
        let (answer, answers) = flume::bounded(queue);
        for _ in 0..workers {
            let (receive, answer, mut service) = (receive.clone(), answer.clone(), service.clone());
            runtime.spawn(async move {
                while let Ok(n) = receive.recv_async().await {
                    answer.send_async(service.call(n).await).await.expect(NO_PANIC);
                }
            });
        }
        drop((receive, answer));
        let driver = runtime.spawn(async move {
            let start = Instant::now();
            let producer = tokio::spawn(async move {
                for n in 0..calls {
                    send.send_async(black_box(n)).await.expect(NO_PANIC);
                }
            });
            let mut ended = 0;
            while let Ok(answer) = answers.recv_async().await {
                ended += black_box(answer).map(|_| 1).expect(NO_ERROR);
            }
            producer.await.expect(NO_PANIC);
            assert_eq!(ended, calls);
            start.elapsed()
        });
        runtime.block_on(driver).expect(NO_PANIC)
    })
}

/// Bursts of a hundred jobs, one of which is slow. What is returned as the time of a call is the 99th percentile of
/// how long the others waited until they were started.
pub fn bursts<F, Fut>(runtime: &Arc<Runtime>, burst: F) -> Runner
where
    F: Fn(Vec<Timed>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Vec<Duration>> + Send,
{
    let runtime = Arc::clone(runtime);
    Box::new(move |calls| {
        let burst = burst.clone();
        let driver = runtime.spawn(async move {
            let mut waits = Vec::new();
            for n in 0..calls.div_ceil(BURST) {
                let slow = n * 37 % BURST;
                let now = Instant::now();
                let jobs = (0..BURST).map(|at| Timed { since: now, slow: at == slow });
                waits.extend(burst(jobs.collect()).await);
            }
            waits.sort_unstable();
            waits[waits.len() * 99 / 100]
        });
        runtime.block_on(driver).expect(NO_PANIC) * calls as u32
    })
}

const BURST: u64 = 100;

/// A job of a [burst](bursts).
#[derive(Clone, Copy, Debug)]
pub struct Timed {
    since: Instant,
    slow: bool,
}

impl Timed {
    /// Runs the job. Returns how long it waited, none for the slow one.
    pub async fn run(self) -> Option<Duration> {
        let waited = self.since.elapsed();
        if self.slow {
            tokio::time::sleep(Duration::from_millis(1)).await;
            return None;
        }
        Some(waited)
    }
}

/// One collector keeps a `JoinSet` at so many tasks until there were as many as calls.
pub fn join_set(runtime: &Arc<Runtime>, outstanding: usize, service: impl Inner) -> Runner {
    let runtime = Arc::clone(runtime);
    Box::new(move |calls| {
        let mut service = service.clone();
        let driver = runtime.spawn(async move {
            let start = Instant::now();
            let mut set: JoinSet<Result<u64, Failure>> = JoinSet::new();
            let mut ended = 0;
            for n in 0..calls {
                if set.len() == outstanding {
                    let answer = set.join_next().await.expect(NO_ERROR);
                    ended += black_box(answer.expect(NO_PANIC)).map(|_| 1).expect(NO_ERROR);
                }
                set.spawn(service.call(black_box(n)));
            }
            while let Some(answer) = set.join_next().await {
                ended += black_box(answer.expect(NO_PANIC)).map(|_| 1).expect(NO_ERROR);
            }
            assert_eq!(ended, calls);
            start.elapsed()
        });
        runtime.block_on(driver).expect(NO_PANIC)
    })
}

// === impl Caller ===

impl<S: Client + Clone> Caller for ByReady<S> {
    async fn call(&mut self, n: u64) {
        let ready = black_box(&mut self.0).ready().await.expect(NO_ERROR);
        black_box(ready.call(n).await.expect(NO_ERROR));
    }
}

impl Caller for ByInvoke {
    async fn call(&mut self, n: u64) {
        black_box(black_box(&self.0).invoke(n).await.expect(NO_ERROR));
    }
}

impl Caller for BySubmit {
    async fn call(&mut self, n: u64) {
        let job = black_box(&self.0).submit(n).await.expect(NO_ERROR);
        black_box(job.await.expect(NO_ERROR));
    }
}

impl<S: Inner> Caller for BySpawn<S> {
    async fn call(&mut self, n: u64) {
        let answer = tokio::spawn(black_box(&mut self.0).call(n));
        black_box(answer.await.expect(NO_PANIC).expect(NO_ERROR));
    }
}
