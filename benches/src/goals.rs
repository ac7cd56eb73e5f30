//! What is promised, held against what was measured.

use crate::{
    catalogue::{
        BREAKER, BUSY, FAST, FIVE, FIVE_CLONED, LAYERS, PIPELINE, POOL_JOB, RESILIENCE_BREAKER,
        RESILIENCE_FIVE, RUN, TOWER_POOL, names,
    },
    measure::{Measured, Spread},
    suite::peers,
};

/// A promise, and whether it is kept.
#[derive(Debug)]
pub struct Goal {
    /// The promise.
    pub text: String,
    /// What was measured, in words.
    pub found: String,
    /// Whether it is kept; `None` if it was not measured.
    pub met: Option<bool>,
}

/// What part of the time of tower's five the five layers may take. Where two threads share them, tower's are
/// behind a `Buffer`.
const FIVE_AGAINST_TOWER: [(&str, f64); 4] = [
    (names::READY, 0.4),
    (names::PENDING, 0.5),
    (names::PENDING_MULTI, 1.0 / 6.0),
    (names::SHARED, 0.25),
];

/// What part of tower-resilience's time may be taken, where it was built with the feature `peers`: one in so many.
const AGAINST_RESILIENCE: [(&str, &str, &str, f64); 3] = [
    (names::READY, FIVE, RESILIENCE_FIVE, 18.0),
    (names::SHARED, FIVE, RESILIENCE_FIVE, 10.0),
    (names::SHARED, BREAKER, RESILIENCE_BREAKER, 20.0),
];

/// All goals of `pass_path`, as far as they were measured.
pub fn pass_path(all: &[Measured]) -> Vec<Goal> {
    let mut goals = vec![no_allocation(all)];
    for (name, most) in FIVE_AGAINST_TOWER {
        let five = group(all, name).and_then(|group| group.ratio(group.row(FIVE)?));
        goals.push(Goal::at_most(format!("{name}: five layers against tower's five"), five, most));
    }
    for name in [names::READY, names::SHARED] {
        let limit = group(all, name).and_then(|group| group.ratio(group.row("limit")?));
        goals.push(Goal::at_most(format!("{name}: limit against tower's"), limit, 0.8));
    }
    for (name, most) in [(names::PENDING, 1.0 / 3.0), (names::PENDING_MULTI, 0.1)] {
        let timeout = group(all, name).and_then(|group| group.ratio_of_adds(group.row("timeout")?));
        let text = format!("{name}: what timeout adds against what tower's adds");
        goals.push(Goal::at_most(text, timeout, most));
    }
    for (name, ours, theirs, times) in AGAINST_RESILIENCE.into_iter().filter(|_| peers::ALL) {
        let found =
            group(all, name).and_then(|group| group.ratio_to(group.row(ours)?, group.row(theirs)?));
        let text = format!("{name}: {ours} against {theirs}, 1/{times}");
        goals.push(Goal::at_most_to(3, text, found, 1.0 / times));
    }
    let cloned = group(all, names::READY)
        .and_then(|group| group.ratio_to(group.row(FIVE_CLONED)?, group.row(FIVE)?));
    let text = format!("{}: five layers, a clone for each call against one handle", names::READY);
    goals.push(Goal::at_most(text, cloned, 2.0));
    for pool in all.iter().filter(|group| group.name.starts_with(names::POOL)) {
        let Some(job) = pool.row(POOL_JOB) else { continue };
        goals.push(Goal {
            text: format!("{}: at most one allocation a job", pool.name),
            found: format!("{}", job.allocations),
            met: Some(job.allocations <= 1.0),
        });
        let most = against_spawn(&pool.name);
        let text = format!("{}: a job at most {most} x tokio::spawn and its JoinHandle", pool.name);
        goals.push(Goal::at_most(text, pool.ratio(job), most));
        let text =
            format!("{}: a job at most 0.6 x tower's Buffer and ConcurrencyLimit", pool.name);
        goals.push(Goal::at_most(
            text,
            pool.row(TOWER_POOL).and_then(|tower| pool.ratio_to(job, tower)),
            0.6,
        ));
    }
    for run in all.iter().filter(|group| group.name.starts_with(names::RUN)) {
        let text =
            format!("{}: a job at most 0.5 x a flume pipeline both ways on two threads", run.name);
        goals.push(Goal::at_most(text, run_against_pipeline(run, all), 0.5));
    }
    for slow in all.iter().filter(|group| group.name.starts_with(names::SLOW)) {
        let text = format!("{}: fast jobs wait no longer than without a pool", slow.name);
        goals.push(Goal::at_most(text, ratio(slow, FAST), 1.0));
    }
    if let Some(busy) = group(all, names::BUSY) {
        let text = format!("{}: at least 95 % of what two cores can do", busy.name);
        goals.push(Goal::at_most(text, ratio(busy, BUSY), 1.0 / 0.95));
    }
    goals
}

/// What is promised of a job against a task, by threads and by how many are outstanding.
fn against_spawn(group: &str) -> f64 {
    match group {
        group if group.contains("-1-on-") => 0.65,
        group if group.ends_with("-on-1") => 0.4,
        _ => 0.75,
    }
}

/// A job of a run, as a multiple of one of the pipeline on two threads, which is in another group.
fn run_against_pipeline(run: &Measured, all: &[Measured]) -> Option<Spread> {
    let row = run.row(RUN)?;
    let two = group(all, names::RUN_ON_2)?;
    if run.name == two.name {
        return run.ratio(row);
    }
    let pipeline = two.row(PIPELINE)?.ns()?.median;
    Spread::of(row.rounds.iter().map(|ns| ns / pipeline))
}

fn ratio(group: &Measured, row: &str) -> Option<Spread> {
    group.ratio(group.row(row)?)
}

fn group<'a>(all: &'a [Measured], name: &str) -> Option<&'a Measured> {
    all.iter().find(|group| group.name == name)
}

fn no_allocation(all: &[Measured]) -> Goal {
    let found: Vec<_> = group(all, names::READY)
        .into_iter()
        .flat_map(|group| &group.rows)
        .filter(|row| LAYERS.contains(&row.name) || row.name.starts_with(FIVE))
        .collect();
    let some: Vec<_> = found
        .iter()
        .filter(|row| row.allocations != 0.0)
        .map(|row| format!("{} {}", row.name, row.allocations))
        .collect();
    Goal {
        text: format!("{}: no layer allocates, nor do five", names::READY),
        found: match (found.len(), some.is_empty()) {
            (0, _) => String::new(),
            (cases, true) => format!("none in {cases} cases"),
            (_, false) => some.join(", "),
        },
        met: (!found.is_empty()).then_some(some.is_empty()),
    }
}

// === impl Goal ===

impl Goal {
    fn at_most(text: String, found: Option<Spread>, most: f64) -> Self {
        Self::at_most_to(2, text, found, most)
    }

    /// To so many places.
    fn at_most_to(places: usize, text: String, found: Option<Spread>, most: f64) -> Self {
        Self {
            text: format!("{text}: at most {most:.places$}"),
            found: found.map_or_else(String::new, |found| format!("{:.places$}", found.median)),
            met: found.map(|found| found.median <= most),
        }
    }
}
