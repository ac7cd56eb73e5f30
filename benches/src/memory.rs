//! The memory of a process after a peak of a million waiters, timers or jobs, or ten million hostile keys.
//!
//! What the peak leaves behind is what was allocated and not freed again: the futures of this benchmark leave gaps in
//! the heap, which the allocator keeps, and which are not what a layer keeps.
//!
//! Each is looked at in a process of its own, which [`measure`](crate::measure) starts: what an earlier peak has left
//! behind in the allocator would hide what this one leaves.

use std::{
    fs,
    future::{Future, Pending, pending},
    hint::black_box,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use stockade::{KeyedLayer, LimitLayer, Pool, RateLayer, TimeoutLayer};
use tower::{Layer, Service, service_fn};

use crate::{record::Memory, service::Failure, turns};

/// The peaks.
pub const PEAKS: [&str; 4] = ["keys", "waiters", "timers", "jobs"];

const PEAK: usize = 1_000_000;
/// How many keys come for each of the peak. Without optimization they take long, and fewer show the same.
const KEYS: usize = if cfg!(debug_assertions) { 1 } else { 10 };
const MAX_KEYS: usize = 100_000;
const IDLE: Duration = Duration::from_millis(100);
/// Enough that all that is built once is there.
const WARM: usize = 1_000;

/// Goes through a peak twice: a small one, so that all that is built once is there, and the real one.
///
/// # Panics
///
/// If there is no such peak, or the system does not tell the memory of a process.
pub fn peak(name: &str) -> Memory {
    let runtime = turns::runtime(1);
    let _guard = runtime.enter();
    let hang = service_fn(|_: usize| -> Pending<Result<u64, Failure>> { pending() });
    let mut through: Box<dyn FnMut(usize) -> u64> = match name {
        "waiters" => {
            let mut limit = LimitLayer::new(1).queue(PEAK).layer(hang);
            let first = limit.call(0);
            Box::new(move |n| {
                black_box(&first);
                pending_calls(&mut limit, n)
            })
        }
        "timers" => {
            let mut timeout = TimeoutLayer::new(Duration::from_secs(3_600)).layer(hang);
            Box::new(move |n| pending_calls(&mut timeout, n))
        }
        "jobs" => {
            let pool = Pool::builder().workers(1).queue(PEAK).build(hang);
            let first = pool.try_submit(0);
            let runtime = Arc::clone(&runtime);
            Box::new(move |n| {
                black_box(&first);
                let submit = |n| pool.try_submit(n).ok();
                let jobs: Vec<_> = (0..n).filter_map(submit).collect();
                let peak = resident();
                assert!(jobs.len() + 1 >= n, "{} of {n} jobs were queued", jobs.len());
                drop(jobs);
                runtime.block_on(tokio::task::yield_now());
                peak
            })
        }
        "keys" => {
            // The state of a rate limit goes with it; that of a limit is kept, to be used again.
            let keyed = KeyedLayer::new(|n: &usize| *n, MAX_KEYS, |_| RateLayer::per_second(4));
            let (keyed, handle) = keyed.idle(IDLE).with_handle();
            let mut stack = keyed.layer(hang);
            let mut key = 0;
            Box::new(move |n| {
                for _ in 0..n * KEYS {
                    key += 1;
                    drop(stack.call(key));
                }
                let peak = resident();
                while !handle.is_empty() {
                    thread::sleep(IDLE / 10);
                }
                peak
            })
        }
        other => panic!("there is no peak {other:?}"),
    };
    through(WARM);
    let before = resident();
    let mut peak = 0;
    let left = allocation_counter::measure(|| peak = through(PEAK)).bytes_current;
    Memory { name: name.to_owned(), before, peak, after: before.saturating_add_signed(left) }
}

/// Has this many calls pending at once, and returns the memory then.
fn pending_calls<S: Service<usize>>(service: &mut S, calls: usize) -> u64 {
    let mut cx = Context::from_waker(Waker::noop());
    let mut all: Vec<Pin<Box<S::Future>>> = Vec::with_capacity(calls);
    for n in 0..calls {
        assert!(matches!(service.poll_ready(&mut cx), Poll::Ready(Ok(()))));
        let mut call = Box::pin(service.call(n));
        assert!(call.as_mut().poll(&mut cx).is_pending());
        all.push(call);
    }
    resident()
}

/// The bytes of memory that this process has.
fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/status").expect("the memory of a process is told");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.expect("the memory of a process is a number") * 1_024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_peak_of_a_million_a_tenth_more_is_kept_at_most() {
        for name in PEAKS {
            let memory = peak(name);
            assert!(memory.peak > memory.before, "{memory:?}");
            assert!(memory.after <= memory.before + memory.before / 10, "{memory:?}");
        }
    }
}
