//! The pool, beside what could stand in its place.

use std::{hint::black_box, sync::Arc, time::Duration};

use stockade::{Pool, pool::PoolBuilder};
use tokio::{runtime::Runtime, sync::Semaphore, task::JoinSet, time::Instant};
use tower::service_fn;

use crate::{
    drive::{self, ByReady, BySpawn, BySubmit, Caller, Runner, window},
    peers,
    service::{AtOnce, Failure},
    turns::{Entry, Planned, Promise, on},
};

const WORKERS: usize = 4;
const QUEUE: usize = 1_024;
const RUN: u64 = 50_000;
const CPU_JOBS: u64 = 1_000;

const CALL: &str = "ready + call";
const SUBMIT: &str = "submit";
const SPAWN: &str = "tokio::spawn + JoinHandle";
const POOL: &str = "stockade pool";

/// All groups.
#[inline]
pub fn groups(threads: usize) -> Vec<Planned> {
    let mut groups = Vec::new();
    let mut counts = vec![1, threads];
    counts.dedup();
    for threads in counts {
        groups.extend([1, 4, 64, 1_024].map(|outstanding| round_trips(outstanding, threads)));
        groups.push(runs(threads));
    }
    groups.push(cpu(threads));
    groups.push(in_order());
    groups
}

#[inline]
fn round_trips(outstanding: u64, threads: usize) -> Planned {
    #[cfg_attr(not(feature = "peers"), expect(unused_mut, reason = "without peers it is all"))]
    let mut entries = vec![
        Entry::new(CALL, move |rt| window(rt, outstanding, ByReady(pool()))),
        Entry::new(SUBMIT, move |rt| window(rt, outstanding, BySubmit(pool()))),
        Entry::new(SPAWN, move |rt| window(rt, outstanding, BySpawn(AtOnce::<241>))),
        Entry::new("tokio::spawn + Semaphore", move |rt| {
            window(rt, outstanding, Bounded(Arc::new(Semaphore::new(WORKERS))))
        }),
        Entry::new("tower Buffer + ConcurrencyLimit", move |rt| {
            window(rt, outstanding, ByReady(peers::pool(WORKERS)))
        }),
    ];
    #[cfg(feature = "peers")]
    entries.extend(peers::elsewhere::round_trips(outstanding, WORKERS));
    let most = match (threads, outstanding) {
        (1, 1) => 0.75,
        (1, _) => 0.5,
        (_, 1_024) => 0.75,
        _ => 0.8,
    };
    let mut promises = vec![Promise::NoAllocation(CALL)];
    if outstanding != 4 {
        promises.push(Promise::Time(CALL, SPAWN, most));
    }
    Planned {
        name: format!("round trips, {outstanding} outstanding, {}", on(threads)),
        about: format!("jobs that do nothing through {WORKERS} workers, {outstanding} outstanding"),
        per: "job",
        threads,
        entries: entries.into_iter().map(|entry| entry.by(outstanding)).collect(),
        promises,
    }
}

#[inline]
fn runs(threads: usize) -> Planned {
    #[cfg_attr(not(feature = "peers"), expect(unused_mut, reason = "without peers it is all"))]
    let mut entries = vec![
        Entry::new(POOL, |rt| drive::run(rt, pool())).of(RUN),
        Entry::new("tokio JoinSet of 128", |rt| drive::join_set(rt, 128, AtOnce::<242>)).of(RUN),
    ];
    #[cfg(feature = "peers")]
    entries
        .push(Entry::new("flume both ways", |rt| peers::elsewhere::pipeline(rt, WORKERS)).of(RUN));
    Planned {
        name: format!("run, {}", on(threads)),
        about: format!("{RUN} jobs that do nothing through {WORKERS} workers to one collector"),
        per: "job",
        threads,
        entries,
        promises: Vec::new(),
    }
}

#[inline]
fn cpu(threads: usize) -> Planned {
    let spins = spins();
    Planned {
        name: format!("processor work, {}", on(threads)),
        about: format!("{CPU_JOBS} jobs that compute for about 10 µs, {threads} at once"),
        per: "job",
        threads,
        entries: vec![
            Entry::new(POOL, move |rt| {
                let builder = Pool::builder().workers(threads).threads().queue(CPU_JOBS as usize);
                let compute = move |n| async move { Ok::<_, Failure>(spin(spins).max(n)) };
                submit_all(rt, builder.build(service_fn(compute)))
            })
            .of(CPU_JOBS),
            Entry::new("tokio::spawn", move |rt| {
                drive::spawned(rt, move |jobs| async move {
                    let jobs = (0..jobs).map(|n| async move { spin(spins).max(n) });
                    black_box(jobs.collect::<JoinSet<_>>().join_all().await);
                })
            })
            .of(CPU_JOBS),
        ],
        promises: Vec::new(),
    }
}

fn builder<Req>() -> PoolBuilder<Req> {
    Pool::builder().workers(WORKERS).queue(QUEUE)
}

/// Most jobs are queued while others run.
#[inline]
fn in_order() -> Planned {
    const OUTSTANDING: u64 = 64;
    let entry = |name: &str, pool: fn() -> Pool<u64, u64, Failure>| {
        Entry::new(name, move |rt| window(rt, OUTSTANDING, BySubmit(pool()))).by(OUTSTANDING)
    };
    Planned {
        name: format!("order, {OUTSTANDING} outstanding, one thread"),
        about: format!(
            "jobs that do nothing through {WORKERS} workers, {OUTSTANDING} outstanding, by the order in which they are taken"
        ),
        per: "job",
        threads: 1,
        entries: vec![
            entry("first come", || builder().build(AtOnce::<232>)),
            entry("by class", || builder().by_priority().build(AtOnce::<233>)),
            entry("in shares", || builder().fair_by(|n: &u64| n % 8).build(AtOnce::<234>)),
        ],
        promises: Vec::new(),
    }
}

fn pool() -> Pool<u64, u64, Failure> {
    builder().build(AtOnce::<240>)
}

/// Takes a permit, spawns a task and waits for it.
#[derive(Clone, Debug)]
struct Bounded(Arc<Semaphore>);

impl Caller for Bounded {
    async fn call(&mut self, n: u64) {
        let permit = Arc::clone(&self.0).acquire_owned().await.expect("it is never closed");
        let task = tokio::spawn(async move {
            let _permit = permit;
            black_box(n)
        });
        black_box(task.await.expect("the task does not panic"));
    }
}

/// Submits all jobs, then waits for all answers.
fn submit_all(rt: &Arc<Runtime>, pool: Pool<u64, u64, Failure>) -> Runner {
    drive::spawned(rt, move |jobs| {
        let pool = pool.clone();
        async move {
            let submit = |n| pool.try_submit(n).expect("the queue has a place for each");
            let submitted: Vec<_> = (0..jobs).map(submit).collect();
            for job in submitted {
                black_box(job.await.expect("the job ends well"));
            }
        }
    })
}

fn spin(rounds: u64) -> u64 {
    (0..rounds).fold(1, |x: u64, n| black_box(x.wrapping_mul(0x5851_F42D_4C95_7F2D) ^ n))
}

/// How many rounds of [`spin`] take about 10 µs.
fn spins() -> u64 {
    const ROUNDS: u64 = 100_000;
    let once = |_| {
        let start = Instant::now();
        black_box(spin(ROUNDS));
        start.elapsed()
    };
    let fastest: Duration = (0..5).map(once).min().unwrap_or_default();
    (ROUNDS as f64 * 1e-5 / fastest.as_secs_f64().max(1e-9)) as u64 + 1
}
