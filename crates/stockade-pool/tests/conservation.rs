//! Each job ends exactly once, whatever is dropped, panics or is shut down when. On real threads: the books are
//! checked, not the time.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use stockade_pool::{Job, Pool, Refused, Status};
use tokio::{runtime, task::yield_now};
use tower::{Service, ServiceExt, service_fn};

use common::Refusal;

/// How a call goes, drawn from a seeded generator.
#[derive(Clone, Copy, Debug)]
enum Way {
    AtOnce,
    Yielding(u8),
    Panicking,
    Failing,
}

fn way(random: &mut fastrand::Rng) -> Way {
    match random.u8(0..10) {
        0 => Way::Panicking,
        1 => Way::Failing,
        2..5 => Way::Yielding(random.u8(1..4)),
        _ => Way::AtOnce,
    }
}

async fn go(way: Way, started: Arc<AtomicU64>) -> Result<(), Refusal> {
    started.fetch_add(1, SeqCst);
    match way {
        Way::AtOnce => {}
        Way::Yielding(times) => {
            for _ in 0..times {
                yield_now().await;
            }
        }
        // Not through the panic hook, which would print it.
        Way::Panicking => std::panic::resume_unwind(Box::new("as drawn")),
        Way::Failing => {
            let rejected =
                stockade_core::Rejected::new(&"test", stockade_core::Reason::BreakerOpen);
            return Err(rejected.into());
        }
    }
    Ok(())
}

fn round(seed: u64, workers: usize, queue: usize) {
    let runtime =
        runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let started = Arc::new(AtomicU64::new(0));
    let accepted = Arc::new(AtomicU64::new(0));
    runtime.block_on(async {
        let counted = Arc::clone(&started);
        let service = service_fn(move |way| go(way, Arc::clone(&counted)));
        let pool = Pool::builder().workers(workers).queue(queue).build(service);
        let callers = (0..8).map(|caller| {
            let (mut pool, accepted) = (pool.clone(), Arc::clone(&accepted));
            let mut random = fastrand::Rng::with_seed(seed * 31 + caller);
            tokio::spawn(async move {
                for _ in 0..200 {
                    let job = match random.u8(0..4) {
                        0 => {
                            let Ok(job) = pool.try_submit(way(&mut random)) else { continue };
                            job
                        }
                        1 => match in_queue(pool.submit(way(&mut random))).await {
                            Ok(job) => job,
                            Err(_) => return,
                        },
                        2 => {
                            // Waits for a place for a while only.
                            let mut clone = pool.clone();
                            tokio::select! {
                                biased;
                                _ = clone.ready() => {}
                                () = yield_now() => {}
                            }
                            continue;
                        }
                        _ => {
                            if pool.stats().workers == 0 {
                                return;
                            }
                            pool.ready().await.unwrap().call(way(&mut random))
                        }
                    };
                    accepted.fetch_add(1, SeqCst);
                    if random.u8(0..5) == 0 {
                        yield_now().await;
                        drop(job);
                    } else {
                        let _ = job.await;
                    }
                }
            })
        });
        let callers: Vec<_> = callers.collect();
        let mut outcomes = pool.run((0..500).map(|_| Way::Yielding(1)));
        let reader = tokio::spawn(async move {
            let mut seen = 0;
            while let Some(outcome) = outcomes.next().await {
                assert_ne!(outcome.status, Status::Panicked);
                seen += 1;
                if seen == 300 && seed.is_multiple_of(2) {
                    break;
                }
            }
        });
        // Half of the rounds are drained in the middle.
        if seed.is_multiple_of(3) {
            while pool.stats().accepted < 400 {
                yield_now().await;
            }
            let drained = pool.drain(Duration::ZERO).await;
            // Workers that were stopped may still run for a moment on a busy machine, so nothing is said of them here.
            assert_eq!(drained.unfinished.len() as u64, pool.stats().handed_back);
        }
        for caller in callers {
            caller.await.unwrap();
        }
        reader.await.unwrap();
        let drained = pool.drain(Duration::from_secs(60)).await;
        assert!(drained.is_complete());
        let stats = pool.stats();
        assert_eq!((stats.queued, stats.running, stats.workers, stats.idle), (0, 0, 0, 0));
        assert_eq!(stats.accepted, stats.ended(), "seed {seed}: {stats:?}");
        assert!(stats.accepted >= accepted.load(SeqCst).min(400));
        let unstarted = stats.accepted - started.load(SeqCst);
        assert!(unstarted <= stats.cancelled + stats.handed_back, "seed {seed}: {stats:?}");
    });
}

/// The job, once it has a place in the queue.
async fn in_queue<Req, T, E>(mut job: Job<Req, T, E>) -> Result<Job<Req, T, E>, Refused<Req>> {
    job.accepted().await.map(|()| job)
}

#[test]
fn accepted_is_the_sum_of_all_ends_whatever_happens_when() {
    for seed in 0..24 {
        let (workers, queue) = [(1, 1), (4, 8), (2, 0), (3, 64)][seed as usize % 4];
        round(seed, workers, queue);
    }
}
