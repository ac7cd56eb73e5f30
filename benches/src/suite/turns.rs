//! Cases that take turns, A B A B, so that what disturbs the machine disturbs them all.

use std::{fmt, sync::Arc, time::Duration};

use tokio::runtime::{Builder, Runtime};

use super::{
    numbers::Interval,
    record::{Case, Group},
    worker::Worker,
};
use crate::measure::Runner;

type Make = Box<dyn Fn(&Arc<Runtime>) -> Runner>;

/// One thing to measure.
pub struct Entry {
    /// What it is called.
    pub name: String,
    make: Make,
    /// How many calls a turn makes, if it is not to be found out. Its allocations are not counted then.
    calls: Option<u64>,
}

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// How many turns each entry gets.
    pub rounds: usize,
    /// How long a turn takes, about.
    pub round: Duration,
}

/// What an entry took.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// Nanoseconds a call, for each round.
    pub rounds: Vec<f64>,
    /// Allocations a call, if they were counted.
    pub allocations: Option<f64>,
    /// Bytes allocated a call, if they were counted.
    pub bytes: Option<f64>,
}

/// The fewest rounds that say something.
const FEWEST: usize = 3;

// === impl Entry ===

impl Entry {
    /// Measured in turns of about the same time.
    pub fn new(name: impl Into<String>, make: impl Fn(&Arc<Runtime>) -> Runner + 'static) -> Self {
        Self { name: name.into(), make: Box::new(make), calls: None }
    }

    /// Measured in turns of so many calls.
    #[must_use]
    pub fn of(mut self, calls: u64) -> Self {
        self.calls = Some(calls);
        self
    }

    /// Builds what is called, in a runtime of its own with so many threads.
    pub fn start(&self, threads: usize) -> Runner {
        let runtime = runtime(threads);
        let _guard = runtime.enter();
        (self.make)(&runtime)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A runtime with timer and network, as `#[tokio::main]` has; one thread means the caller's own.
///
/// # Panics
///
/// If the operating system gives no thread.
pub fn runtime(threads: usize) -> Arc<Runtime> {
    let mut builder = match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    Arc::new(builder.enable_all().build().expect("a runtime can be started"))
}

/// Measures all entries in turns, each in a runtime of its own with so many threads. If the worker is told to stop, the
/// rounds that all entries have had count, and `None` means that they were too few.
pub fn take(
    entries: &[Entry],
    threads: usize,
    effort: Effort,
    worker: &Worker,
) -> Option<Vec<Taken>> {
    let mut turns = Vec::new();
    for entry in entries {
        if worker.is_stopped() {
            return None;
        }
        let mut taken = Taken::default();
        if entry.calls.is_none() {
            let (allocations, bytes) = allocations(entry);
            (taken.allocations, taken.bytes) = (Some(allocations), Some(bytes));
        }
        let mut run = entry.start(threads);
        let calls = entry.calls.unwrap_or_else(|| calibrate(&mut run, effort.round));
        turns.push((run, calls, taken));
    }
    'rounds: for _ in 0..effort.rounds {
        for (run, calls, taken) in &mut turns {
            if worker.is_stopped() {
                break 'rounds;
            }
            taken.rounds.push(run(*calls).as_nanos() as f64 / *calls as f64);
        }
    }
    let whole = turns.iter().map(|(_, _, taken)| taken.rounds.len()).min()?;
    let cut = |(_, _, mut taken): (_, _, Taken)| {
        taken.rounds.truncate(whole);
        taken
    };
    (whole >= FEWEST.min(effort.rounds)).then(|| turns.into_iter().map(cut).collect())
}

/// How many calls take about as long as `round`. Warms up as well.
fn calibrate(run: &mut Runner, round: Duration) -> u64 {
    let mut calls = 64;
    loop {
        let took = run(calls);
        if took >= round / 4 {
            return ((calls as f64 * round.as_secs_f64() / took.as_secs_f64()) as u64).max(64);
        }
        calls *= 2;
    }
}

/// Allocations and bytes a call, counted on one thread: what twice as many calls allocate more. So what is
/// allocated once does not count.
fn allocations(entry: &Entry) -> (f64, f64) {
    const CALLS: u64 = 1_024;
    let mut run = entry.start(1);
    run(2 * CALLS);
    let mut count = |calls| {
        allocation_counter::measure(|| {
            run(calls);
        })
    };
    let (once, twice) = (count(CALLS), count(2 * CALLS));
    let a_call = |once: u64, twice: u64| (twice as f64 - once as f64) / CALLS as f64;
    (a_call(once.count_total, twice.count_total), a_call(once.bytes_total, twice.bytes_total))
}

/// Makes a group of what was taken; ratios are to the first entry.
pub fn group(
    name: &str,
    about: &str,
    per: &str,
    entries: &[Entry],
    taken: &[Taken],
    seed: u64,
) -> Group {
    let cases = entries.iter().zip(taken).filter_map(|(entry, row)| {
        Some(Case {
            name: entry.name.clone(),
            ns: Interval::of(&row.rounds, seed)?,
            ratio: ratio(row, taken.first()?, seed)?,
            allocations: row.allocations,
        })
    });
    Group {
        name: name.to_owned(),
        about: about.to_owned(),
        per: per.to_owned(),
        cases: cases.collect(),
    }
}

/// One entry as a multiple of another, round by round.
pub fn ratio(row: &Taken, to: &Taken, seed: u64) -> Option<Interval> {
    let ratios: Vec<_> = row.rounds.iter().zip(&to.rounds).map(|(row, to)| row / to).collect();
    Interval::of(&ratios, seed)
}

/// How much more one entry takes than another, round by round.
pub fn adds(row: &Taken, to: &Taken, seed: u64) -> Option<Interval> {
    let more: Vec<_> = row.rounds.iter().zip(&to.rounds).map(|(row, to)| row - to).collect();
    Interval::of(&more, seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(rounds: &[f64]) -> Taken {
        Taken { rounds: rounds.to_vec(), ..Taken::default() }
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let (ours, theirs) = (taken(&[2.0, 20.0, 200.0]), taken(&[5.0, 50.0, 500.0]));
        let ratio = ratio(&ours, &theirs, 1).unwrap();
        assert_eq!(ratio, Interval { low: 0.4, mid: 0.4, high: 0.4 });
        assert_eq!(adds(&theirs, &ours, 1).unwrap().mid, 30.0);
    }

    #[test]
    fn entries_take_turns() {
        use std::{cell::RefCell, rc::Rc};
        let seen = Rc::new(RefCell::new(String::new()));
        let entry = |name: &'static str| {
            let seen = Rc::clone(&seen);
            let make = move |_: &Arc<Runtime>| -> Runner {
                let seen = Rc::clone(&seen);
                Box::new(move |_| {
                    seen.borrow_mut().push_str(name);
                    Duration::from_nanos(1)
                })
            };
            Entry::new(name, make).of(1)
        };
        let effort = Effort { rounds: 3, round: Duration::ZERO };
        let taken = take(&[entry("a"), entry("b")], 1, effort, &Worker::silent()).unwrap();
        assert_eq!(*seen.borrow(), "ababab");
        assert_eq!(taken[1].rounds, [1.0; 3]);
    }

    #[test]
    fn a_worker_that_was_stopped_takes_no_turn() {
        let entry = Entry::new("a", |_| Box::new(|_| panic!("it was called"))).of(1);
        let worker = Worker::silent();
        worker.stop();
        let effort = Effort { rounds: 3, round: Duration::ZERO };
        assert!(take(&[entry], 1, effort, &worker).is_none());
    }

    #[test]
    fn allocations_are_counted() {
        let entry = Entry::new("boxes", |_| {
            Box::new(|calls| {
                (0..calls).for_each(|n| drop(std::hint::black_box(Box::new(n))));
                Duration::from_micros(calls)
            })
        });
        assert_eq!(allocations(&entry), (1.0, 8.0));
    }
}
