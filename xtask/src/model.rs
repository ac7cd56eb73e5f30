//! The tests under a model checker: those in `src/tests/shuttle.rs` of the crates that have one.
//!
//! A crate's `lib.rs` takes them in with `#[cfg(all(test, shuttle))] mod tests { mod shuttle; }`. They need a
//! build of their own, in which the checker's locks and counters replace those of the standard library. It has a
//! folder of its own, so that nothing else has to be built again.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
};

use anyhow::Result;

use crate::{run, steps::Job};

/// Which schedules the models run under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// How many for each test.
    pub(crate) schedules: u64,
    pub(crate) seed: u64,
    /// Whether they are worth an optimized build.
    pub(crate) deep: bool,
}

const USUAL: u64 = 20_000;
const DEEP: u64 = 2_000_000;

// === impl Plan ===

impl Plan {
    /// Without a seed, another one each time.
    pub(crate) fn new(deep: bool, schedules: Option<u64>, seed: Option<u64>) -> Self {
        Self {
            schedules: schedules.unwrap_or(if deep { DEEP } else { USUAL }),
            seed: seed.unwrap_or_else(|| RandomState::new().build_hasher().finish()),
            deep,
        }
    }
}

/// Runs the models of the selected packages.
///
/// # Errors
///
/// When one of them fails under a schedule.
pub(crate) fn check(job: &Job, plan: Plan) -> Result<()> {
    let models: Vec<_> = job.models().collect();
    if models.is_empty() {
        println!("no model among the selected packages");
        return Ok(());
    }
    let Plan { schedules, seed, deep } = plan;
    println!("{schedules} schedules for each model, from seed {seed}");
    let mut cargo = job.cargo("test");
    cargo.args(["--lib", "--no-fail-fast"]);
    for package in models {
        cargo.args(["--package", &package.name]);
    }
    if deep {
        cargo.arg("--release");
    }
    cargo
        .env("RUSTFLAGS", "--cfg shuttle")
        .env("CARGO_TARGET_DIR", job.target_directory().join("shuttle"));
    cargo.env("STOCKADE_SCHEDULES", schedules.to_string()).env("STOCKADE_SEED", seed.to_string());
    run::command(cargo.args(["--", "shuttle::", "model::", "--nocapture"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_means_more_schedules_unless_told_how_many() {
        assert_eq!(Plan::new(false, None, Some(1)).schedules, 20_000);
        assert_eq!(Plan::new(true, None, Some(1)).schedules, 2_000_000);
        assert_eq!(Plan::new(true, Some(7), Some(1)).schedules, 7);
    }

    #[test]
    fn without_a_seed_it_is_another_one_each_time() {
        let seeds = [(); 3].map(|()| Plan::new(false, None, None).seed);

        assert!(seeds[0] != seeds[1] && seeds[1] != seeds[2], "{seeds:?}");
    }
}
