//! What a call through each stack costs over the bare service.

use std::{
    hint::{black_box, spin_loop},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Runtime, time::Instant};
use tower::ServiceExt;

use super::{
    combo::Combo,
    kit::{Kit, Visit},
    numbers::Interval,
    payload::{AtOnce, AtSecond, Large, Payload, Stack},
    plan::Plan,
    record::{Overhead, inner},
    turns::{self, Effort, Entry, Taken},
    worker::{Event, Worker},
};
use crate::measure::Runner;

/// How many stacks take turns with each other. The bare service is among them each time, so that it is never far
/// away in time from what is compared with it.
const AT_A_TIME: usize = 8;

/// Measures all stacks of the plan, over every service, on one thread and on several.
#[inline]
pub fn measure(plan: &Plan, worker: &Worker) {
    let effort = if plan.quick {
        Effort { rounds: 31, round: Duration::from_micros(1_500) }
    } else {
        Effort { rounds: 101, round: Duration::from_millis(2) }
    };
    let combos = worker.combos(plan);
    let shares: Vec<_> = combos.iter().filter(|combo| **combo != Combo::BARE).collect();
    let mut shares: Vec<&[&Combo]> = shares.chunks(AT_A_TIME).collect();
    if shares.is_empty() {
        shares.push(&[]);
    }
    let step = plan.estimate(super::plan::Section::Overhead) / (6 * shares.len()) as f64;
    for threads in [1, plan.threads] {
        for inner in inner::ALL {
            for (place, share) in shares.iter().enumerate() {
                let all = [&Combo::BARE].into_iter().chain(share.iter().copied());
                let entries: Vec<_> = all.map(|combo| entry(*combo, inner, threads)).collect();
                let Some(taken) = turns::take(&entries, threads, effort, worker) else { return };
                for (entry, taken_by) in entries.iter().zip(&taken).skip(usize::from(place > 0)) {
                    let row = row(entry, inner, threads, taken_by, &taken[0], plan.seed);
                    worker.emit(&row.map_or(Event::Done(0.0), Event::Overhead));
                }
                worker.emit(&Event::Done(step));
            }
        }
        if plan.threads == 1 {
            return;
        }
    }
}

/// What measures one stack over one of [`inner::ALL`].
#[inline]
pub fn entry(combo: Combo, inner: &'static str, threads: usize) -> Entry {
    Entry::new(combo.to_string(), move |runtime| {
        let kit = Kit::passing();
        let runtime = Arc::clone(runtime);
        match inner {
            inner::PENDING => kit.over::<u64, _>(combo, AtSecond, Drive { runtime, threads }),
            inner::LARGE => kit.over::<Large, _>(combo, AtOnce, Drive { runtime, threads }),
            _ => kit.over::<u64, _>(combo, AtOnce, Drive { runtime, threads }),
        }
    })
}

fn row(
    entry: &Entry,
    inner: &str,
    threads: usize,
    taken: &Taken,
    bare: &Taken,
    seed: u64,
) -> Option<Overhead> {
    Some(Overhead {
        stack: entry.name.clone(),
        inner: inner.to_owned(),
        threads,
        ns: Interval::of(&taken.rounds, seed)?,
        ratio: turns::ratio(taken, bare, seed)?,
        adds: turns::adds(taken, bare, seed)?,
        allocations: taken.allocations?,
        bytes: taken.bytes?,
        rounds: taken.rounds.len(),
    })
}

/// Calls a stack from so many tasks, each on a thread of its own with a clone of its own.
struct Drive {
    runtime: Arc<Runtime>,
    threads: usize,
}

impl<R: Payload> Visit<R> for Drive {
    type Out = Runner;

    fn visit<S: Stack<R>>(self, stack: S) -> Runner {
        let Self { runtime, threads } = self;
        // When allocations are counted there is one thread, whatever is measured later.
        let threads = threads.min(runtime.metrics().num_workers());
        let mut kept = vec![stack; threads];
        Box::new(move |calls| {
            let present = Arc::new(AtomicUsize::new(0));
            let tasks: Vec<_> = kept
                .drain(..)
                .map(|stack| {
                    let present = Arc::clone(&present);
                    runtime.spawn(async move {
                        // Spinning keeps the thread, so the tasks are on different ones.
                        present.fetch_add(1, Ordering::Relaxed);
                        while present.load(Ordering::Relaxed) < threads {
                            spin_loop();
                        }
                        call_often::<R, S>(stack, calls).await
                    })
                })
                .collect();
            let mut longest = Duration::ZERO;
            for task in tasks {
                let (stack, took) = runtime.block_on(task).expect("a driver does not panic");
                kept.push(stack);
                longest = longest.max(took);
            }
            longest
        })
    }
}

async fn call_often<R: Payload, S: Stack<R>>(mut stack: S, calls: u64) -> (S, Duration) {
    const NO_ERROR: &str = "the stack lets every call through";
    let start = Instant::now();
    for n in 0..calls {
        let ready = black_box(&mut stack).ready().await.expect(NO_ERROR);
        black_box(ready.call(R::make(black_box(n))).await.expect(NO_ERROR));
    }
    (stack, start.elapsed())
}
