//! What is promised, held against what was measured.

use crate::{
    catalogue::{FIVE, FIVE_CLONED, LAYERS, POOL_JOB, names},
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

/// What part of the time of tower's five the five layers may take. Where two threads share them, tower's are
/// behind a `Buffer`.
const FIVE_AGAINST_TOWER: [(&str, f64); 4] = [
    (names::READY, 0.4),
    (names::PENDING, 0.5),
    (names::PENDING_MULTI, 1.0 / 6.0),
    (names::SHARED, 0.25),
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
        let text = format!("{}: against tokio::spawn and its JoinHandle", pool.name);
        goals.push(Goal::at_most(text, pool.ratio(job), 1.0));
    }
    goals
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
            text: format!("{text}: at most {most:.2}"),
            found: found.map_or_else(String::new, |found| format!("{:.2}", found.median)),
            met: found.map(|found| found.median <= most),
        }
    }
}
