//! What is promised, held against what was measured.

use crate::{
    catalogue::{BUSY, FAST, FIVE, LAYERS, PIPELINE, POOL_JOB, RUN, TOWER_POOL, names},
    measure::{Measured, Spread},
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

/// All goals of `pass_path`, as far as they were measured.
pub fn pass_path(all: &[Measured]) -> Vec<Goal> {
    let mut goals = vec![no_allocation(all)];
    for name in [names::READY, names::PENDING, names::PENDING_MULTI] {
        let five = group(all, name).and_then(|group| group.ratio(group.row(FIVE)?));
        goals.push(Goal::at_most(
            format!("{name}: five layers at most 0.5 x tower's five"),
            five,
            0.5,
        ));
    }
    let timeout = group(all, names::PENDING_MULTI)
        .and_then(|group| group.ratio_of_adds(group.row("timeout")?));
    goals.push(Goal::at_most(
        format!("{}: timeout adds at most 0.25 x what tower's adds", names::PENDING_MULTI),
        timeout,
        0.25,
    ));
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
        goals.push(Goal::at_most(text, pool.ratio_to(job, TOWER_POOL), 0.6));
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
        Self {
            text,
            found: found.map_or_else(String::new, |found| format!("{:.2}", found.median)),
            met: found.map(|found| found.median <= most),
        }
    }
}
