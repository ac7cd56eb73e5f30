//! The callers: each driver calls in one way, and is the same for all stacks.
//!
//! They run as tasks of the runtime, not in `block_on`, as callers do in a server; the clock starts when they do.

use std::{
    hint::{black_box, spin_loop},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
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

use crate::service::{Client, Failure, Payload, Stack};

/// Makes the given number of calls, and returns how long they took together.
pub type Runner = Box<dyn FnMut(u64) -> Duration>;

const NO_PANIC: &str = "a driver does not panic";
const NO_ERROR: &str = "the stack lets every call through";

/// Calls one handle again and again: `ready`, then `call`.
pub async fn call_often<R: Payload, S: Client<R>>(service: &mut S, calls: u64) {
    for n in 0..calls {
        let ready = black_box(&mut *service).ready().await.expect(NO_ERROR);
        black_box(ready.call(R::make(black_box(n))).await.expect(NO_ERROR));
    }
}

/// One task that calls one handle.
pub fn one_handle<R: Payload>(runtime: &Arc<Runtime>, service: impl Client<R>) -> Runner {
    handles(runtime, vec![service])
}

/// As many tasks as the runtime has threads, at the same time, each with a clone of its own. Each of them makes the
/// given number of calls.
pub fn each_thread<R: Payload>(runtime: &Arc<Runtime>, service: impl Client<R> + Clone) -> Runner {
    handles(runtime, vec![service; runtime.metrics().num_workers()])
}

fn handles<R: Payload, S: Client<R>>(runtime: &Arc<Runtime>, mut services: Vec<S>) -> Runner {
    let runtime = Arc::clone(runtime);
    let threads = services.len();
    Box::new(move |calls| {
        let present = Arc::new(AtomicUsize::new(0));
        let start = |mut service| {
            let present = Arc::clone(&present);
            runtime.spawn(async move {
                present.fetch_add(1, Relaxed);
                wait_on_this_thread(|| present.load(Relaxed) == threads);
                let start = Instant::now();
                call_often(&mut service, calls).await;
                (service, start.elapsed())
            })
        };
        let tasks: Vec<_> = services.drain(..).map(start).collect();
        let mut longest = Duration::ZERO;
        for task in tasks {
            let (service, took) = runtime.block_on(task).expect(NO_PANIC);
            services.push(service);
            longest = longest.max(took);
        }
        longest
    })
}

/// Spins, which keeps the thread, so that the tasks are on different ones. One may lie in the queue of this thread while
/// another thread sleeps: tokio wakes none for it where that other was just about to sleep. Spawning a task wakes it.
fn wait_on_this_thread(is_over: impl Fn() -> bool) {
    const SPINS: usize = 100_000;
    while !(0..SPINS).any(|_| {
        spin_loop();
        is_over()
    }) {
        drop(tokio::spawn(async {}));
    }
}

/// One task that makes a clone for each call: `service.clone().oneshot(n)`.
pub fn clone_each(runtime: &Arc<Runtime>, service: impl Client + Clone) -> Runner {
    spawned(runtime, move |calls| {
        let mut service = service.clone();
        async move {
            for n in 0..calls {
                let once = black_box(&mut service).clone();
                black_box(once.oneshot(black_box(n)).await.expect(NO_ERROR));
            }
        }
    })
}

/// One task that does all that `work` says for the given number of calls.
pub fn spawned<F>(runtime: &Arc<Runtime>, work: impl Fn(u64) -> F + 'static) -> Runner
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = Arc::clone(runtime);
    Box::new(move |calls| {
        let work = work(calls);
        let driver = runtime.spawn(async move {
            let start = Instant::now();
            work.await;
            start.elapsed()
        });
        runtime.block_on(driver).expect(NO_PANIC)
    })
}

// === many callers ===

/// A caller that makes one call after the other.
pub trait Caller: Clone + Send + 'static {
    /// Makes a call, and waits for its answer.
    fn call(&mut self, n: u64) -> impl Future<Output = ()> + Send;
}

/// Calls a service: `ready`, then `call`.
#[derive(Clone, Copy, Debug)]
pub struct ByReady<S>(pub S);

/// Submits to a pool, then waits for the answer.
#[derive(Clone, Debug)]
pub struct BySubmit(pub Pool<u64, u64, Failure>);

/// Spawns a task that calls a service, then waits for its handle.
#[derive(Clone, Copy, Debug)]
pub struct BySpawn<S>(pub S);

/// Tasks that each make one call after the other: as many calls are outstanding as there are tasks.
pub fn window(runtime: &Arc<Runtime>, tasks: u64, caller: impl Caller) -> Runner {
    let runtime = Arc::clone(runtime);
    Box::new(move |calls| {
        let gate = Arc::new((Barrier::new(tasks as usize + 1), Semaphore::new(0)));
        let start = |n: u64| {
            let share = calls / tasks + u64::from(n < calls % tasks);
            let (gate, mut caller) = (Arc::clone(&gate), caller.clone());
            runtime.spawn(async move {
                gate.0.wait().await;
                gate.1.acquire().await.expect(NO_PANIC).forget();
                for n in 0..share {
                    caller.call(black_box(n)).await;
                }
            })
        };
        let tasks: Vec<_> = (0..tasks).map(start).collect();
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

/// One collector takes the outcomes of `Pool::run`.
pub fn run(runtime: &Arc<Runtime>, pool: Pool<u64, u64, Failure>) -> Runner {
    spawned(runtime, move |calls| {
        let pool = pool.clone();
        async move {
            let mut outcomes = pool.run(0..calls);
            let mut ended = 0;
            while let Some(outcome) = outcomes.next().await {
                ended += black_box(outcome.result).map(|_| 1).expect(NO_ERROR);
            }
            assert_eq!(ended, calls);
        }
    })
}

/// One collector keeps a `JoinSet` at this many tasks until there were as many as calls.
pub fn join_set(runtime: &Arc<Runtime>, outstanding: usize, service: impl Stack) -> Runner {
    spawned(runtime, move |calls| {
        let mut service = service.clone();
        async move {
            let mut set: JoinSet<Result<u64, Failure>> = JoinSet::new();
            for n in 0..calls {
                if set.len() == outstanding {
                    let answer = set.join_next().await.expect(NO_ERROR);
                    black_box(answer.expect(NO_PANIC)).expect(NO_ERROR);
                }
                set.spawn(service.call(black_box(n)));
            }
            while let Some(answer) = set.join_next().await {
                black_box(answer.expect(NO_PANIC)).expect(NO_ERROR);
            }
        }
    })
}

// === impl Caller ===

impl<S: Client + Clone> Caller for ByReady<S> {
    async fn call(&mut self, n: u64) {
        let ready = black_box(&mut self.0).ready().await.expect(NO_ERROR);
        black_box(ready.call(n).await.expect(NO_ERROR));
    }
}

impl Caller for BySubmit {
    async fn call(&mut self, n: u64) {
        let job = black_box(&self.0).submit(n);
        black_box(job.await.expect(NO_ERROR));
    }
}

impl<S: Stack> Caller for BySpawn<S> {
    async fn call(&mut self, n: u64) {
        let answer = tokio::spawn(black_box(&mut self.0).call(n));
        black_box(answer.await.expect(NO_PANIC).expect(NO_ERROR));
    }
}
