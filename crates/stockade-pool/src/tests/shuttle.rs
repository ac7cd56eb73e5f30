//! The lock and all who wait, under thousands of schedules.
//!
//! Real callers and seats, with threads of the model checker for the workers: a wake that is lost is a deadlock,
//! which it finds.

use std::{convert::Infallible, future::poll_fn, pin::pin, sync::Arc, task::Poll};

use shuttle::{
    future::block_on,
    rand::{Rng, thread_rng},
    thread::{self, JoinHandle},
};
use stockade_core::{
    Error,
    internal::{lock, sync::Mutex},
};
use stockade_testkit::schedules;
use tokio_util::sync::CancellationToken;

use crate::{
    Any, Pool, PoolHandle, Rules, Status,
    builder::PoolBuilder,
    rules::Of,
    scale::{Size, Stop},
    seat::{Next, Seat},
    shared::{Chair, Shared, Start},
    slot::Slot,
};

type Refusal = Error<Infallible>;
type Modelled = Pool<u32, u32, Refusal>;

/// Starts a worker as a thread of the model.
#[derive(Default)]
struct Threads(Arc<Mutex<Vec<JoinHandle<()>>>>);

impl Start<u32, u32, Refusal> for Threads {
    fn start(&self, shared: &Arc<Shared<u32, u32, Refusal>>, chair: Chair) -> Stop {
        let seat = Seat::new(Arc::clone(shared), chair);
        let thread = thread::spawn(move || work(seat));
        lock(&self.0).push(thread);
        Stop::Thread(CancellationToken::new())
    }
}

/// A worker, whose idle spell may be over at any time.
fn work(mut seat: Seat<u32, u32, Refusal>) {
    let mut slot = Slot::new();
    loop {
        let next = poll_fn(|cx| match seat.poll_next(&mut slot, cx) {
            Poll::Pending if seat.is_spare() && thread_rng().r#gen() && seat.try_leave() => {
                Poll::Ready(Next::Leave)
            }
            next => next,
        });
        match block_on(next) {
            Next::Leave => return,
            Next::Job => {
                let request = slot.start().expect("the slot was filled");
                thread::yield_now();
                slot.end(Status::Success, Ok(request), None);
                if thread_rng().r#gen() {
                    seat.shared.settle(&mut slot, seat.badge.id);
                    seat.unbind();
                }
            }
        }
    }
}

/// Does what callers do, and sees to it that whoever waits for an answer gets it.
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
                let mut submit = pin!(pool.submit(n));
                let once = poll_fn(|cx| Poll::Ready(submit.as_mut().poll(cx)));
                drop(block_on(once));
            }
            3 => {
                // The same, or in the queue, or while it runs.
                let mut invoke = pin!(pool.invoke(n));
                let once = poll_fn(|cx| Poll::Ready(invoke.as_mut().poll(cx)));
                let _ = block_on(once);
                thread::yield_now();
            }
            4 => {
                assert!(matches!(block_on(pool.invoke(n)), Ok(_) | Err(Error::Rejected(_))));
            }
            5 => {
                let ready = poll_fn(|cx| tower_service::Service::<u32>::poll_ready(&mut pool, cx));
                assert!(block_on(ready).is_ok());
                thread::yield_now();
                pool = pool.clone();
            }
            _ => {
                if let Ok(job) = block_on(pool.submit(n)) {
                    assert!(matches!(block_on(job), Ok(_) | Err(Error::Rejected(_))));
                }
            }
        }
    }
}

fn steer(handle: &PoolHandle<u32, u32, Refusal>) {
    match thread_rng().gen_range(0..4) {
        0 => handle.resize(1),
        1 => handle.resize(2..=3),
        2 => {
            handle.pause();
            thread::yield_now();
            handle.resume();
        }
        _ => handle.resize(0..=2),
    }
}

fn once(rules: Of<u32>, workers: Size, queue: usize) {
    let threads = Threads::default();
    let started = Arc::clone(&threads.0);
    let settings =
        PoolBuilder::default().workers(workers.min..=workers.max).queue(queue).settings();
    let shared = Arc::new(Shared::new(settings, rules, None, Box::new(threads)));
    shared.open();
    let pool = Pool::new(shared);
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
}

#[test]
fn a_fixed_pool_loses_no_job_and_no_wake() {
    schedules(|| once(Any.into_rules(), Size { min: 2, max: 2 }, 1));
}

#[test]
fn a_rendezvous_pool_that_grows_and_shrinks_loses_no_job_and_no_wake() {
    schedules(|| once(Any.into_rules(), Size { min: 0, max: 2 }, 0));
}

#[test]
fn a_pool_with_keys_loses_no_job_and_no_wake() {
    schedules(|| {
        let mut rules: Of<u32> = Any.into_rules();
        rules.set_lane(|n| n % 2);
        once(rules, Size { min: 1, max: 2 }, 1);
    });
}

#[test]
fn a_pool_with_weights_loses_no_job_and_no_wake() {
    schedules(|| {
        let mut rules: Of<u32> = Any.into_rules();
        rules.weigh = Some(Arc::new(|n| *n as usize));
        once(rules, Size { min: 1, max: 2 }, 2);
    });
}
