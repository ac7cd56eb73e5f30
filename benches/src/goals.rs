//! What is promised, held against what was measured.

use crate::{
    catalogue::{FIVE, LAYERS, POOL_JOB, names},
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
        let text = format!("{}: cheaper than tokio::spawn and its JoinHandle", pool.name);
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
            text,
            found: found.map_or_else(String::new, |found| format!("{:.2}", found.median)),
            met: found.map(|found| found.median <= most),
        }
    }
}
