//! The lock and all who wait, under thousands of schedules.
//!
//! Real callers and workers, with threads of the model checker for the workers. A wake that is lost is a deadlock, which
//! the checker finds.

use std::{convert::Infallible, future::poll_fn, pin::pin, sync::Arc, task::Poll};

use ::shuttle::{
    future::block_on,
    rand::{Rng, thread_rng},
    thread::{self, JoinHandle},
};
use stockade_core::{
    Error, Share,
    internal::{lock, sync::Mutex},
    priority::Priority,
};
use stockade_testkit::schedules;

use crate::{
    ByHand, Pool, PoolHandle, WhenFull,
    config::{Checked, OrderBy},
    roster::Size,
    rules::Rules,
    shared::{Hired, Shared, Spawn},
    worker::{Step, Worker},
};

type Refusal = Error<Infallible>;
type Modelled = Pool<u32, u32, Refusal>;

/// Starts a worker as a thread of the model.
#[derive(Default)]
struct Threads(Arc<Mutex<Vec<JoinHandle<()>>>>);

impl Spawn<u32, u32, Refusal> for Threads {
    fn spawn(&self, shared: &Arc<Shared<u32, u32, Refusal>>, hired: Hired) -> std::io::Result<()> {
        let worker = Worker::new(Arc::clone(shared), hired);
        let thread = thread::spawn(move || work(worker));
        lock(&self.0).push(thread);
        Ok(())
    }
}

/// A worker, which may have been idle for long at any time.
fn work(mut worker: Worker<u32, u32, Refusal>) {
    loop {
        let next = poll_fn(|cx| match worker.poll_next(cx) {
            Poll::Pending if worker.is_spare() && thread_rng().r#gen() && worker.try_leave() => {
                Poll::Ready(Step::Leave)
            }
            next => next,
        });
        match block_on(next) {
            Step::Leave => return,
            Step::Job => {
                let request = worker.job.request.take().expect("a worker is given a request");
                thread::yield_now();
                worker.job.enter(|| Poll::Ready(Ok(request)));
                if thread_rng().r#gen() {
                    worker.settle();
                    worker.stand_aside();
                }
            }
        }
    }
}

/// Does what callers do. An answer that does not come is a deadlock.
fn call(mut pool: Modelled) {
    for n in 0..3 {
        match thread_rng().gen_range(0..8) {
            0 => drop(pool.try_submit(n)),
            1 => {
                if let Ok(job) = pool.try_submit(n) {
                    assert!(matches!(block_on(job), Ok(_) | Err(Error::Rejected(_))));
                }
            }
            2 => {
                // Waits for a place, and gives up at once if there is none.
                let mut job = pool.submit(n);
                let once = poll_fn(|cx| Poll::Ready(pin!(job.accepted()).poll(cx).is_ready()));
                let _ = block_on(once);
            }
            3 => {
                // The same in the queue, or while it runs.
                let mut job = pin!(pool.submit(n));
                let once = poll_fn(|cx| Poll::Ready(job.as_mut().poll(cx)));
                let _ = block_on(once);
                thread::yield_now();
            }
            4 => pool.submit(n).detach(),
            5 => {
                let ready = poll_fn(|cx| tower_service::Service::<u32>::poll_ready(&mut pool, cx));
                assert!(block_on(ready).is_ok());
                thread::yield_now();
                pool = pool.clone();
            }
            6 => {
                let mut run = pool.run(ByHand::new());
                let pushed = (0..2).filter(|n| block_on(run.push(*n)).is_ok()).count();
                assert_eq!(block_on(run.all()).len(), pushed);
            }
            _ => {
                let mut job = pool.submit(n);
                if block_on(job.accepted()).is_ok() {
                    assert!(matches!(block_on(job), Ok(_) | Err(Error::Rejected(_))));
                }
            }
        }
    }
}

fn steer(handle: &PoolHandle<u32, u32, Refusal>) {
    match thread_rng().gen_range(0..4) {
        0 => handle.resize(1).expect("one is allowed"),
        1 => handle.resize(2..=3).expect("a range is allowed"),
        2 => {
            handle.pause();
            thread::yield_now();
            handle.resume();
        }
        _ => handle.resize(0..=2).expect("a range is allowed"),
    }
}

fn once(rules: Rules<u32>, workers: Size, queue: usize, set: fn(&mut Checked)) {
    let threads = Threads::default();
    let started = Arc::clone(&threads.0);
    let mut config = Checked { size: workers, ..Checked::default() };
    config.capacity = queue;
    set(&mut config);
    let shared = Arc::new(Shared::new(config, rules, Box::new(|_| false), Box::new(threads)));
    shared.start().expect("the model spawns");
    let pool = Pool::of(shared);
    let handle = pool.handle();
    let callers: Vec<_> = (0..2)
        .map(|_| {
            let pool = pool.clone();
            thread::spawn(move || call(pool))
        })
        .collect();
    steer(&handle);
    if thread_rng().r#gen() {
        pool.close();
    }
    callers.into_iter().for_each(|caller| caller.join().expect("a caller"));
    drop(pool);
    while let Some(worker) = { lock(&started).pop() } {
        worker.join().expect("a worker");
    }
    let stats = handle.stats();
    assert_eq!(stats.accepted, stats.ended(), "{stats:?}");
    assert_eq!((stats.queued, stats.running, stats.workers, stats.idle), (0, 0, 0, 0));
    assert_eq!(stats.waiting, 0);
}

#[test]
fn a_fixed_pool_loses_no_job_and_no_wake() {
    schedules(|| once(Rules::default(), Size { min: 2, max: 2 }, 1, |_| {}));
}

#[test]
fn a_rendezvous_pool_that_grows_and_shrinks_loses_no_job_and_no_wake() {
    schedules(|| once(Rules::default(), Size { min: 0, max: 2 }, 0, |_| {}));
}

#[test]
fn a_pool_with_keys_loses_no_job_and_no_wake() {
    schedules(|| {
        let mut rules: Rules<u32> = Rules::default();
        rules.share = Some(Arc::new(|n| Share::of(n % 2)));
        once(rules, Size { min: 1, max: 2 }, 2, |config| config.order_by = OrderBy::Key);
    });
}

#[test]
fn a_pool_with_weights_loses_no_job_and_no_wake() {
    schedules(|| {
        let mut rules: Rules<u32> = Rules::default();
        rules.weigh = Some(Arc::new(|n| *n as usize));
        once(rules, Size { min: 1, max: 2 }, 2, |config| config.budget = Some(2));
    });
}

#[test]
fn a_pool_that_drops_the_oldest_job_loses_no_other_and_no_wake() {
    schedules(|| {
        once(Rules::default(), Size { min: 1, max: 2 }, 1, |config| {
            config.when_full = WhenFull::DropOldest;
        });
    });
}

#[test]
fn a_pool_whose_jobs_give_way_to_others_loses_none_and_no_wake() {
    schedules(|| {
        let mut rules: Rules<u32> = Rules::default();
        let class = |n: &u32| Share::of_class(Priority::ALL[*n as usize % Priority::ALL.len()]);
        rules.share = Some(Arc::new(class));
        once(rules, Size { min: 1, max: 2 }, 1, |config| {
            config.order_by = OrderBy::Share;
            config.when_full = WhenFull::DropOldest;
        });
    });
}
