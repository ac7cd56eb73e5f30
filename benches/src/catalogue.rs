//! What is measured: groups of cases that compare.

use std::sync::Arc;

use stockade::Pool;
use tokio::sync::Semaphore;

#[cfg(feature = "peers")]
use crate::suite::peers::elsewhere;
use crate::{
    drive::{
        self, ByInvoke, ByReady, BySpawn, BySubmit, Timed, clone_each, each_thread, one_handle,
        window,
    },
    floor::Floor,
    inner::{Busy, Failure, Inner, PendingOnce, Ready},
    measure::{BARE, Case, Flavor, Group},
    stacks,
};

/// The names of the groups that goals are about.
pub mod names {
    /// The service inside is ready, one thread.
    pub const READY: &str = "ready";
    /// The service inside is pending once, one thread.
    pub const PENDING: &str = "pending-once";
    /// The service inside is pending once, a runtime of two workers.
    pub const PENDING_MULTI: &str = "pending-once-multi";
    /// The service inside is ready, two threads share what is called.
    pub const SHARED: &str = "two-threads";
    /// What the groups about pools begin with.
    pub const POOL: &str = "pool";
    /// What the groups about runs begin with.
    pub const RUN: &str = "run-on";
    /// The one on two threads.
    pub const RUN_ON_2: &str = "run-on-2";
    /// Jobs that keep a processor busy.
    pub const BUSY: &str = "busy-on-2";
    /// What the groups about slow jobs among fast ones begin with.
    pub const SLOW: &str = "slow-among-fast-on";
}

/// The layers, each alone, as cases are called.
pub const LAYERS: [&str; 5] = ["limit", "rate", "timeout", "retry", BREAKER];
/// The five layers together, called through one handle.
pub const FIVE: &str = "five";
/// The five layers together, called through a clone for each call.
pub const FIVE_CLONED: &str = "five, clone each";
/// The five layers of tower-resilience together, with the feature `peers`.
pub const RESILIENCE_FIVE: &str = "tower-resilience five";
/// The breaker alone.
pub const BREAKER: &str = "breaker";
/// That of tower-resilience, with the feature `peers`.
pub const RESILIENCE_BREAKER: &str = "tower-resilience breaker";
/// A pool's job.
pub const POOL_JOB: &str = "pool job";
/// tokio in the place of a pool.
pub const SPAWN: &str = "spawn + JoinHandle";
/// tower in the place of a pool.
pub const TOWER_POOL: &str = "tower Buffer + limit";
/// Many jobs through a pool.
pub const RUN: &str = "pool.run";
/// Channels in the place of a run.
pub const PIPELINE: &str = "flume both ways";
/// Jobs that keep a processor busy.
pub const BUSY: &str = "pool, 64 callers";
/// What such jobs cost at least.
pub const IDEAL: &str = "a loop a thread";
/// The fast jobs beside slow ones.
pub const FAST: &str = "pool, fast jobs";
/// The same without a pool.
pub const FAST_SPAWN: &str = "spawn + Semaphore";

const JOBS: u64 = 1_000_000;

/// Everything that `pass_path` measures.
pub fn pass_path() -> Vec<Group> {
    let mut groups = vec![
        Group {
            name: names::READY.to_owned(),
            about: "The service inside is ready at its first poll; one task of a current-thread runtime."
                .to_owned(),
            flavor: Flavor::CurrentThread,
            calls: None,
            cases: pass_path_over(Ready),
        },
        Group {
            name: names::PENDING.to_owned(),
            about: "The service inside is pending once; one task of a current-thread runtime.".to_owned(),
            flavor: Flavor::CurrentThread,
            calls: None,
            cases: pass_path_over(PendingOnce),
        },
        Group {
            name: names::PENDING_MULTI.to_owned(),
            about: "The service inside is pending once; one task of a runtime with two workers.".to_owned(),
            flavor: Flavor::MultiThread,
            calls: None,
            cases: pass_path_over(PendingOnce),
        },
        Group {
            name: names::SHARED.to_owned(),
            about: "Two tasks on two threads share one stack, each with a clone of it; the service inside is \
                    ready. Nanoseconds from one call of a task to its next."
                .to_owned(),
            flavor: Flavor::MultiThread,
            calls: None,
            cases: shared_over(Ready),
        },
    ];
    for (flavor, threads) in [(Flavor::CurrentThread, 1), (Flavor::MultiThread, 2)] {
        for outstanding in [1, 64, 1_024] {
            groups.push(Group {
                name: format!("{}-{outstanding}-on-{threads}", names::POOL),
                about: format!(
                    "Round trips of a job that does nothing through 4 workers, {outstanding} outstanding, \
                     threads: {threads}."
                ),
                flavor,
                calls: None,
                cases: pool(outstanding),
            });
        }
        groups.push(Group {
            name: format!("{}-{threads}", names::RUN),
            about: format!(
                "{JOBS} jobs that do nothing through 4 workers into one collector, threads: {threads}."
            ),
            flavor,
            calls: Some(JOBS),
            cases: run(),
        });
        groups.push(Group {
            name: format!("{}-{threads}", names::SLOW),
            about: format!(
                "Bursts of 100 jobs through 4 workers, one of which takes a millisecond, threads: {threads}. Not \
                 the time of a call, but the 99th percentile of how long the other jobs waited to be started."
            ),
            flavor,
            calls: None,
            cases: slow_among_fast(),
        });
    }
    #[cfg(feature = "peers")]
    for group in &mut groups {
        match group.name.as_str() {
            names::READY => group.cases.extend(elsewhere_over(Ready)),
            names::SHARED => group.cases.extend(elsewhere_shared_over(Ready)),
            _ => {}
        }
    }
    groups.push(Group {
        name: names::BUSY.to_owned(),
        about: "Jobs that keep a processor busy for 10 us, on two threads.".to_owned(),
        flavor: Flavor::MultiThread,
        calls: None,
        cases: busy(),
    });
    groups
}

fn pass_path_over(inner: impl Inner + Copy) -> Vec<Case> {
    vec![
        Case::new(BARE, move |rt| one_handle(rt, inner)),
        Case::new("limit", move |rt| one_handle(rt, stacks::limit(inner))).against("tower limit"),
        Case::new("tower limit", move |rt| one_handle(rt, stacks::tower_limit(inner))),
        Case::new("rate", move |rt| one_handle(rt, stacks::rate(inner))).against("tower rate"),
        Case::new("tower rate", move |rt| one_handle(rt, stacks::tower_rate(inner))),
        Case::new("timeout", move |rt| one_handle(rt, stacks::timeout(inner)))
            .against("tower timeout"),
        Case::new("tower timeout", move |rt| one_handle(rt, stacks::tower_timeout(inner))),
        Case::new("retry", move |rt| one_handle(rt, stacks::retry(inner))).against("tower retry"),
        Case::new("tower retry", move |rt| one_handle(rt, stacks::tower_retry(inner))),
        Case::new(BREAKER, move |rt| one_handle(rt, stacks::breaker(inner))),
        Case::new(FIVE, move |rt| one_handle(rt, stacks::five(inner))).against("tower five"),
        Case::new("tower five", move |rt| one_handle(rt, stacks::tower_five(inner))),
        Case::new(FIVE_CLONED, move |rt| clone_each(rt, stacks::five(inner)))
            .against("tower five + buffer, clone each"),
        Case::new("tower five + buffer, clone each", move |rt| {
            clone_each(rt, stacks::tower_five_shared(inner))
        }),
    ]
}

fn shared_over(inner: impl Inner + Copy) -> Vec<Case> {
    vec![
        Case::new(BARE, move |rt| each_thread(rt, inner)),
        Case::new("limit", move |rt| each_thread(rt, stacks::limit(inner))).against("tower limit"),
        Case::new("tower limit", move |rt| each_thread(rt, stacks::tower_limit(inner))),
        Case::new(BREAKER, move |rt| each_thread(rt, stacks::breaker(inner))),
        Case::new(FIVE, move |rt| each_thread(rt, stacks::five(inner)))
            .against("tower five + buffer"),
        Case::new("tower five + buffer", move |rt| {
            each_thread(rt, stacks::tower_five_shared(inner))
        }),
    ]
}

#[cfg(feature = "peers")]
fn elsewhere_over(inner: Ready) -> [Case; 2] {
    [
        Case::new(RESILIENCE_BREAKER, move |rt| one_handle(rt, elsewhere::breaker(inner))),
        Case::new(RESILIENCE_FIVE, move |rt| one_handle(rt, elsewhere::five(inner))),
    ]
}

#[cfg(feature = "peers")]
fn elsewhere_shared_over(inner: Ready) -> [Case; 2] {
    [
        Case::new(RESILIENCE_BREAKER, move |rt| each_thread(rt, elsewhere::breaker(inner))),
        Case::new(RESILIENCE_FIVE, move |rt| each_thread(rt, elsewhere::five(inner))),
    ]
}

fn pool(outstanding: u64) -> Vec<Case> {
    vec![
        Case::new(POOL_JOB, move |rt| window(rt, outstanding, ByInvoke(stacks::pool())))
            .against(SPAWN),
        Case::new("pool job by call", move |rt| window(rt, outstanding, ByReady(stacks::pool())))
            .against(TOWER_POOL),
        Case::new("pool job by submit", move |rt| {
            window(rt, outstanding, BySubmit(stacks::pool()))
        })
        .against(SPAWN),
        Case::new("bare prototype", move |rt| window(rt, outstanding, Floor::new(stacks::WORKERS)))
            .against(SPAWN),
        Case::new(SPAWN, move |rt| window(rt, outstanding, BySpawn(Ready))),
        Case::new(TOWER_POOL, move |rt| window(rt, outstanding, ByReady(stacks::tower_pool())))
            .against(SPAWN),
    ]
}

fn run() -> Vec<Case> {
    vec![
        Case::new(RUN, |rt| drive::run(rt, stacks::pool())).against(PIPELINE),
        Case::new(PIPELINE, |rt| drive::pipeline(rt, stacks::WORKERS, stacks::QUEUE, Ready)),
        Case::new("JoinSet of 128", |rt| drive::join_set(rt, 128, Ready)),
    ]
}

fn busy() -> Vec<Case> {
    vec![
        Case::new(BUSY, |rt| window(rt, 64, ByInvoke(stacks::busy_pool()))).against(IDEAL),
        Case::new(IDEAL, |rt| {
            let mut loops = each_thread(rt, Busy);
            // Each of the two threads makes half of the calls.
            Box::new(move |calls| loops(calls.div_ceil(2)))
        }),
    ]
}

fn slow_among_fast() -> Vec<Case> {
    vec![
        Case::new(FAST, |rt| {
            let service =
                tower::service_fn(|job: Timed| async move { Ok::<_, Failure>(job.run().await) });
            let pool = Pool::builder().workers(stacks::WORKERS).queue(stacks::QUEUE).build(service);
            drive::bursts(rt, move |jobs| {
                let pool = pool.clone();
                async move {
                    let jobs: Vec<_> = jobs.into_iter().map(|job| pool.try_submit(job)).collect();
                    let mut waits = Vec::new();
                    for job in jobs {
                        waits.extend(job.expect("there is room").await.expect("it succeeds"));
                    }
                    waits
                }
            })
        })
        .against(FAST_SPAWN),
        Case::new(FAST_SPAWN, |rt| {
            let permits = Arc::new(Semaphore::new(stacks::WORKERS));
            drive::bursts(rt, move |jobs| {
                let permits = Arc::clone(&permits);
                async move {
                    let spawn = |job: Timed| {
                        let permits = Arc::clone(&permits);
                        tokio::spawn(async move {
                            let _permit = permits.acquire().await.expect("it is open");
                            job.run().await
                        })
                    };
                    let jobs: Vec<_> = jobs.into_iter().map(spawn).collect();
                    let mut waits = Vec::new();
                    for job in jobs {
                        waits.extend(job.await.expect("it does not panic"));
                    }
                    waits
                }
            })
        }),
    ]
}
