//! The pool, and beside it what could stand in its place.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Runtime,
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep},
};
use tower::service_fn;

use super::{
    payload::AtOnce,
    plan::{Plan, Section},
    turns::{self, Effort, Entry},
    worker::{Event, Worker},
};
use crate::{
    drive::{self, BySpawn, BySubmit, Caller, window},
    inner::{Failure, Ready},
    measure::Runner,
    stacks,
};
use stockade::Pool;

/// A group that is still to be measured.
#[derive(Debug)]
pub struct Planned {
    /// What it is called.
    pub name: String,
    /// What is done, in a sentence.
    pub about: String,
    /// What is counted.
    pub per: &'static str,
    /// How many threads run it.
    pub threads: usize,
    /// What takes turns; ours is the first.
    pub entries: Vec<Entry>,
}

const WORKERS: usize = 4;
const RUN: u64 = 50_000;
const BURST: u64 = 256;
const BURST_WORKERS: usize = 16;
const SLEEPERS: usize = 64;
const SLEEPS: u64 = 256;
const CPU_JOBS: u64 = 1_000;
const DRAINED: u64 = 1_000;

/// Measures all groups.
#[inline]
pub fn measure(plan: &Plan, worker: &Worker) {
    take(groups(plan.threads), plan, Section::Pool, worker, Event::Pool);
}

/// Measures groups, one after the other.
pub fn take(
    groups: Vec<Planned>,
    plan: &Plan,
    section: Section,
    worker: &Worker,
    event: fn(super::record::Group) -> Event,
) {
    let effort = if plan.quick {
        Effort { rounds: 21, round: Duration::from_micros(1_500) }
    } else {
        Effort { rounds: 81, round: Duration::from_millis(3) }
    };
    let step = plan.estimate(section) / groups.len() as f64;
    for group in groups {
        let Planned { name, about, per, threads, entries } = group;
        let Some(taken) = turns::take(&entries, threads, effort, worker) else { return };
        let group = turns::group(&name, &about, per, &entries, &taken, plan.seed);
        worker.emit(&event(group));
        worker.emit(&Event::Done(step));
    }
}

/// Everything that is measured of the pool.
#[inline]
pub fn groups(threads: usize) -> Vec<Planned> {
    let mut groups = Vec::new();
    let mut counts = vec![1, threads];
    counts.dedup();
    for threads in counts {
        for outstanding in [1, 4, 64, 1_024] {
            groups.push(Planned {
                name: format!("round trips, {outstanding} outstanding, {}", on(threads)),
                about: format!(
                    "jobs that do nothing through {WORKERS} workers, {outstanding} outstanding"
                ),
                per: "job",
                threads,
                entries: round_trips(outstanding),
            });
        }
        groups.push(Planned {
            name: format!("run, {}", on(threads)),
            about: format!("{RUN} jobs that do nothing through {WORKERS} workers to one collector"),
            per: "job",
            threads,
            entries: runs(),
        });
    }
    groups.push(Planned {
        name: "burst".to_owned(),
        about: format!("a burst of {BURST} jobs that sleep for 1 ms, {BURST_WORKERS} at once"),
        per: "job",
        threads: 1,
        entries: bursts(),
    });
    groups.push(Planned {
        name: "sleeps".to_owned(),
        about: format!("{SLEEPS} jobs that sleep for 10 ms, {SLEEPERS} at once"),
        per: "job",
        threads: 1,
        entries: sleeps(),
    });
    groups.push(Planned {
        name: format!("processor work, {}", on(threads)),
        about: format!("{CPU_JOBS} jobs that compute for about 10 µs, {threads} at once"),
        per: "job",
        threads,
        entries: cpu(threads),
    });
    groups.push(Planned {
        name: "drain".to_owned(),
        about: format!("close a pool of {WORKERS} workers and wait for the end of all jobs"),
        per: "drain",
        threads: 1,
        entries: drains(),
    });
    groups
}

fn on(threads: usize) -> String {
    if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") }
}

#[inline]
fn round_trips(outstanding: u64) -> Vec<Entry> {
    let ours =
        Entry::new("stockade pool", move |rt| window(rt, outstanding, BySubmit(stacks::pool())));
    #[cfg_attr(not(feature = "peers"), expect(unused_mut, reason = "without peers it is all"))]
    let mut entries = vec![
        ours,
        Entry::new("tokio::spawn", move |rt| window(rt, outstanding, BySpawn(Ready))),
        Entry::new("tokio::spawn + Semaphore", move |rt| {
            window(rt, outstanding, Bounded::new(WORKERS))
        }),
        Entry::new("tower Buffer + ConcurrencyLimit", move |rt| {
            window(rt, outstanding, drive::ByReady(stacks::tower_pool()))
        }),
    ];
    #[cfg(feature = "peers")]
    entries.extend(super::peers::elsewhere::round_trips(outstanding, WORKERS));
    entries
}

#[inline]
fn runs() -> Vec<Entry> {
    #[cfg_attr(not(feature = "peers"), expect(unused_mut, reason = "without peers it is all"))]
    let mut entries = vec![
        Entry::new("stockade pool", |rt| drive::run(rt, stacks::pool())).of(RUN),
        Entry::new("tokio JoinSet of 128", |rt| drive::join_set(rt, 128, Ready)).of(RUN),
    ];
    #[cfg(feature = "peers")]
    entries.extend(super::peers::elsewhere::runs(WORKERS).map(|entry| entry.of(RUN)));
    entries
}

#[inline]
fn bursts() -> Vec<Entry> {
    let ms = Duration::from_millis(1);
    vec![
        Entry::new("stockade pool, 1 to 16 workers", move |rt| {
            let builder = Pool::builder().workers(1..=BURST_WORKERS).idle(5 * ms);
            submit_all(rt, builder.queue(BURST as usize).build(sleeper(ms)))
        })
        .of(BURST),
        Entry::new("stockade pool, 16 workers", move |rt| {
            let builder = Pool::builder().workers(BURST_WORKERS);
            submit_all(rt, builder.queue(BURST as usize).build(sleeper(ms)))
        })
        .of(BURST),
        Entry::new("tokio::spawn + Semaphore", move |rt| spawn_all(rt, BURST_WORKERS, ms))
            .of(BURST),
    ]
}

#[inline]
fn sleeps() -> Vec<Entry> {
    let time = Duration::from_millis(10);
    vec![
        Entry::new("stockade pool", move |rt| {
            let builder = Pool::builder().workers(SLEEPERS).queue(SLEEPS as usize);
            submit_all(rt, builder.build(sleeper(time)))
        })
        .of(SLEEPS),
        Entry::new("tokio::spawn + Semaphore", move |rt| spawn_all(rt, SLEEPERS, time)).of(SLEEPS),
    ]
}

#[inline]
fn cpu(threads: usize) -> Vec<Entry> {
    let spins = spins();
    #[cfg_attr(not(feature = "peers"), expect(unused_mut, reason = "without peers it is all"))]
    let mut entries = vec![
        Entry::new("stockade pool, threads", move |rt| {
            let builder = Pool::builder().workers(threads).threads().queue(CPU_JOBS as usize);
            let compute = move |n| async move { Ok(spin(spins).max(n)) };
            submit_all(rt, builder.build(service_fn(compute)))
        })
        .of(CPU_JOBS),
        Entry::new("tokio::spawn", move |rt| {
            all(rt, move |set, n| {
                set.spawn(async move { spin(spins).max(n) });
            })
        })
        .of(CPU_JOBS),
    ];
    #[cfg(feature = "peers")]
    entries.push(super::peers::elsewhere::rayon(threads, spins).of(CPU_JOBS));
    entries
}

#[inline]
fn drains() -> Vec<Entry> {
    let drain = |queued: u64| {
        move |rt: &Arc<Runtime>| -> Runner {
            let rt = Arc::clone(rt);
            Box::new(move |_| {
                rt.block_on(async {
                    let builder = Pool::builder().workers(WORKERS).queue(DRAINED as usize);
                    let pool: Pool<u64, u64, Failure> = builder.build(AtOnce);
                    let submit = |n| pool.try_submit(n).expect("the queue has a place for each");
                    let jobs: Vec<_> = (0..queued).map(submit).collect();
                    let start = Instant::now();
                    let drained = pool.drain(Duration::from_secs(60)).await;
                    assert!(drained.is_complete() && drained.completed == queued);
                    let took = start.elapsed();
                    drop(jobs);
                    took
                })
            })
        }
    };
    vec![
        Entry::new(format!("{DRAINED} jobs in the queue"), drain(DRAINED)).of(1),
        Entry::new("nothing in the queue", drain(0)).of(1),
    ]
}

/// Takes one of so many permits, spawns a task and waits for it.
#[derive(Clone, Debug)]
struct Bounded(Arc<Semaphore>);

impl Bounded {
    fn new(permits: usize) -> Self {
        Self(Arc::new(Semaphore::new(permits)))
    }
}

impl Caller for Bounded {
    async fn call(&mut self, n: u64) {
        let permit = Arc::clone(&self.0).acquire_owned().await.expect("it is never closed");
        let task = tokio::spawn(async move {
            let _permit = permit;
            std::hint::black_box(n)
        });
        std::hint::black_box(task.await.expect("the task does not panic"));
    }
}

fn sleeper(time: Duration) -> impl super::payload::Stack<u64> {
    service_fn(move |n: u64| async move {
        sleep(time).await;
        Ok(n)
    })
}

/// Submits all jobs, then waits for all answers.
fn submit_all(rt: &Arc<Runtime>, pool: Pool<u64, u64, Failure>) -> Runner {
    let rt = Arc::clone(rt);
    Box::new(move |jobs| {
        rt.block_on(async {
            let start = Instant::now();
            let submit = |n| pool.try_submit(n).expect("the queue has a place for each");
            let submitted: Vec<_> = (0..jobs).map(submit).collect();
            for job in submitted {
                std::hint::black_box(job.await.expect("the job ends well"));
            }
            start.elapsed()
        })
    })
}

/// Spawns a task for each job that sleeps, so many of them at once.
fn spawn_all(rt: &Arc<Runtime>, at_once: usize, time: Duration) -> Runner {
    let places = Arc::new(Semaphore::new(at_once));
    all(rt, move |set, n| {
        let places = Arc::clone(&places);
        set.spawn(async move {
            let _place = places.acquire().await.expect("it is never closed");
            sleep(time).await;
            n
        });
    })
}

fn all(rt: &Arc<Runtime>, spawn: impl Fn(&mut JoinSet<u64>, u64) + 'static) -> Runner {
    let rt = Arc::clone(rt);
    Box::new(move |jobs| {
        rt.block_on(async {
            let start = Instant::now();
            let mut set = JoinSet::new();
            (0..jobs).for_each(|n| spawn(&mut set, n));
            std::hint::black_box(set.join_all().await);
            start.elapsed()
        })
    })
}

/// Computes something for so many rounds.
pub fn spin(rounds: u64) -> u64 {
    (0..rounds).fold(1, |x: u64, n| std::hint::black_box(x.wrapping_mul(0x5851_F42D_4C95_7F2D) ^ n))
}

/// How many rounds of [`spin`] take about 10 µs.
fn spins() -> u64 {
    const ROUNDS: u64 = 100_000;
    let once = |_| {
        let start = Instant::now();
        std::hint::black_box(spin(ROUNDS));
        start.elapsed()
    };
    let fastest = (0..5).map(once).min().unwrap_or_default();
    (ROUNDS as f64 * 1e-5 / fastest.as_secs_f64().max(1e-9)) as u64 + 1
}
