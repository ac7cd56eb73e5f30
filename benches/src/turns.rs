//! Cases that take turns, A B A B, so that what disturbs the machine disturbs them all.

use std::{fmt, sync::Arc, time::Duration};

use tokio::runtime::{Builder, Runtime};

use crate::{
    drive::Runner,
    numbers::Interval,
    plan::{Plan, Section},
    record::{Case, Goal, Group},
    worker::{Event, Worker},
};

type Make = Box<dyn Fn(&Arc<Runtime>) -> Runner>;

/// One thing to measure.
pub struct Entry {
    /// Its name.
    pub name: String,
    make: Make,
    /// How many calls a turn makes, where that is fixed. Allocations are not counted then.
    calls: Option<u64>,
    /// How many tasks call. Each makes so many calls in a turn that starting it does not count.
    tasks: u64,
}

/// Entries that compare, before they are measured.
#[derive(Debug)]
pub struct Planned {
    /// A short name, unique.
    pub name: String,
    /// What is done, in a sentence.
    pub about: String,
    /// What is counted: `call` or `job`.
    pub per: &'static str,
    /// How many threads run it.
    pub threads: usize,
    /// What takes turns. Ratios are taken to the first.
    pub entries: Vec<Entry>,
    /// What is promised.
    pub promises: Vec<Promise>,
}

/// What is promised of an entry, which is named first.
#[derive(Clone, Copy, Debug)]
pub enum Promise {
    /// It takes at most this part of the time of another one.
    Time(&'static str, &'static str, f64),
    /// It adds at most this part of what another one adds to the first entry of the group.
    Adds(&'static str, &'static str, f64),
    /// The first adds to what is named after it at most this part of what the third adds to the fourth.
    AddsTo((&'static str, &'static str), (&'static str, &'static str), f64),
    /// It allocates nothing.
    NoAllocation(&'static str),
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
    /// Is measured in turns of about the same time. `make` builds what is called, inside the runtime that it gets.
    pub fn new(name: impl Into<String>, make: impl Fn(&Arc<Runtime>) -> Runner + 'static) -> Self {
        Self { name: name.into(), make: Box::new(make), calls: None, tasks: 1 }
    }

    /// Is measured in turns of this many calls.
    #[must_use]
    pub fn of(mut self, calls: u64) -> Self {
        self.calls = Some(calls);
        self
    }

    /// Is called by this many tasks.
    #[must_use]
    pub fn by(mut self, tasks: u64) -> Self {
        self.tasks = tasks;
        self
    }

    /// Builds what is called, in a runtime of its own with this many threads. Entries share no runtime, because a
    /// timer that one leaves behind makes the timers of the others cheaper.
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

/// A runtime with timer and network, as `#[tokio::main]` has; one thread means the caller's own. The network matters:
/// to wake a runtime that waits for it, as a timer may have to, is a system call.
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

/// `1 thread`, or another number of them.
pub fn on(threads: usize) -> String {
    if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") }
}

/// Measures groups, one after the other.
#[inline]
pub fn measure(groups: Vec<Planned>, plan: &Plan, section: Section, worker: &Worker) {
    let step = plan.estimate(section) / groups.len() as f64;
    for group in groups {
        let Some(group) = group.measure(section, plan.quick, plan.seed, worker) else { return };
        worker.emit(&Event::Group(group));
        worker.emit(&Event::Done(step));
    }
}

// === impl Planned ===

impl Planned {
    /// Measures the entries and judges the promises; `None` if the worker is told to stop too early.
    pub fn measure(
        &self,
        section: Section,
        quick: bool,
        seed: u64,
        worker: &Worker,
    ) -> Option<Group> {
        let effort = if quick {
            Effort { rounds: 21, round: Duration::from_micros(1_500) }
        } else {
            Effort { rounds: 81, round: Duration::from_millis(3) }
        };
        let taken = take(&self.entries, self.threads, effort, worker)?;
        let case = |(entry, row): (&Entry, &Taken)| {
            Some(Case {
                name: entry.name.clone(),
                ns: Interval::of(&row.rounds, seed)?,
                ratio: ratio(row, taken.first()?, seed)?,
                allocations: row.allocations,
            })
        };
        let of = |name: &str| {
            self.entries.iter().position(|e| e.name == name).map(|place| &taken[place])
        };
        let goal = |promise: &Promise| promise.judge(of, taken.first()?);
        Some(Group {
            section,
            name: self.name.clone(),
            about: self.about.clone(),
            per: self.per.to_owned(),
            cases: self.entries.iter().zip(&taken).filter_map(case).collect(),
            goals: self.promises.iter().filter_map(goal).collect(),
        })
    }
}

/// Measures all entries in turns, each in a runtime of its own. If the worker is told to stop, only the rounds that
/// all entries have had count; `None` means that these are too few.
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
        let calls =
            entry.calls.unwrap_or_else(|| calibrate(&mut run, 64 * entry.tasks, effort.round));
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

/// How many calls take about as long as `round`, but at least `fewest`. Warms up as well.
fn calibrate(run: &mut Runner, fewest: u64, round: Duration) -> u64 {
    let mut calls = fewest;
    loop {
        let took = run(calls);
        if took >= round / 4 {
            let calls = (calls as f64 * round.as_secs_f64() / took.as_secs_f64()) as u64;
            return calls.max(fewest);
        }
        calls *= 2;
    }
}

/// Allocations and bytes a call, counted on one thread: what twice as many calls allocate more, so that what is
/// allocated once does not count.
fn allocations(entry: &Entry) -> (f64, f64) {
    const CALLS: u64 = 4_096;
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

// === impl Promise ===

impl Promise {
    /// `None` if something of it was not measured.
    fn judge<'a>(self, of: impl Fn(&str) -> Option<&'a Taken>, first: &Taken) -> Option<Goal> {
        let (text, found, most) = match self {
            Self::Time(ours, theirs, most) => {
                let ratio = Interval::of(&ratios(of(ours)?, of(theirs)?), 0)?;
                (format!("{ours} against {theirs}"), ratio.mid, most)
            }
            Self::Adds(ours, theirs, most) => {
                let (ours_took, theirs_took) = (of(ours)?, of(theirs)?);
                let rounds = ours_took.rounds.iter().zip(&theirs_took.rounds).zip(&first.rounds);
                let parts: Vec<_> =
                    rounds.map(|((ours, theirs), bare)| (ours - bare) / (theirs - bare)).collect();
                let text = format!("what {ours} adds against what {theirs} adds");
                (text, Interval::of(&parts, 0)?.mid, most)
            }
            Self::AddsTo(ours, theirs, most) => {
                let adds = |(with, without)| {
                    let (with, without): (&Taken, &Taken) = (of(with)?, of(without)?);
                    let rounds = with.rounds.iter().zip(&without.rounds);
                    Interval::of(
                        &rounds.map(|(with, without)| with - without).collect::<Vec<_>>(),
                        0,
                    )
                };
                // Each is small beside what it is added to, so the quotient is taken of the medians.
                let found = adds(ours)?.mid / adds(theirs)?.mid;
                (format!("what {} adds against what {} adds", ours.0, theirs.0), found, most)
            }
            Self::NoAllocation(ours) => {
                // A runtime allocates now and then, whatever is called.
                let found = (of(ours)?.allocations? * 100.0).round() / 100.0;
                (format!("allocations of {ours}"), found, 0.0)
            }
        };
        Some(Goal { text, found, most })
    }
}

fn ratios(row: &Taken, to: &Taken) -> Vec<f64> {
    row.rounds.iter().zip(&to.rounds).map(|(row, to)| row / to).collect()
}

/// One entry as a multiple of another, round by round.
pub fn ratio(row: &Taken, to: &Taken, seed: u64) -> Option<Interval> {
    Interval::of(&ratios(row, to), seed)
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
    fn goals_compare_times_and_what_is_added_to_the_first_entry() {
        let first = taken(&[1.0, 10.0, 100.0]);
        let (ours, theirs) = (taken(&[2.0, 20.0, 200.0]), taken(&[5.0, 50.0, 500.0]));
        let of = |name: &str| match name {
            "ours" => Some(&ours),
            "theirs" => Some(&theirs),
            "first" => Some(&first),
            _ => None,
        };
        let goal = |promise: Promise| promise.judge(of, &first);

        assert_eq!(goal(Promise::Time("ours", "theirs", 0.4)).unwrap().found, 0.4);
        assert_eq!(goal(Promise::Adds("ours", "theirs", 0.2)).unwrap().found, 0.25);
        assert_eq!(
            goal(Promise::AddsTo(("ours", "first"), ("theirs", "first"), 0.2)).unwrap().found,
            0.25
        );
        assert!(goal(Promise::Time("ours", "nobody", 0.4)).is_none());
        assert!(goal(Promise::NoAllocation("ours")).is_none());
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
    fn a_stopped_worker_takes_no_turn() {
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
