//! What a call through each stack costs over the bare service.

use std::{sync::Arc, time::Duration};

use tokio::runtime::Runtime;

use crate::{
    combo::Combo,
    drive::{Runner, each_thread},
    kit::{Kit, Visit},
    numbers::Interval,
    plan::{Plan, Section},
    record::{Overhead, inner},
    service::{AtOnce, AtSecond, Large, Payload, Stack},
    turns::{self, Effort, Entry, Taken},
    worker::{Event, Worker},
};

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
    let combos = plan.combos();
    let shares: Vec<_> = combos.iter().filter(|combo| **combo != Combo::BARE).collect();
    let mut shares: Vec<&[&Combo]> = shares.chunks(AT_A_TIME).collect();
    if shares.is_empty() {
        shares.push(&[]);
    }
    let step = plan.estimate(Section::Overhead) / (6 * shares.len()) as f64;
    for threads in [1, plan.threads] {
        for inner in inner::ALL {
            for (place, share) in shares.iter().enumerate() {
                let all = [&Combo::BARE].into_iter().chain(share.iter().copied());
                let entries: Vec<_> = all.map(|combo| entry(*combo, inner)).collect();
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

/// Measures one stack over one of [`inner::ALL`].
#[inline]
pub fn entry(combo: Combo, inner: &'static str) -> Entry {
    Entry::new(combo.to_string(), move |runtime| {
        let kit = Kit::passing();
        match inner {
            inner::PENDING => kit.over::<u64, _>(combo, &AtSecond, Drive(runtime)),
            inner::LARGE => kit.over::<Large, _>(combo, &AtOnce, Drive(runtime)),
            _ => kit.over::<u64, _>(combo, &AtOnce, Drive(runtime)),
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

/// Calls a stack from every thread.
struct Drive<'a>(&'a Arc<Runtime>);

impl<R: Payload> Visit<R> for Drive<'_> {
    type Out = Runner;

    fn visit<S: Stack<R>>(self, stack: S) -> Runner {
        each_thread::<R>(self.0, stack)
    }
}
