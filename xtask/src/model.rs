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

use crate::{run, workspace::Workspace};

/// Which schedules the models run under.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct Plan {
    /// Runs two million schedules for each test instead of twenty thousand
    #[arg(long)]
    pub(crate) deep: bool,

    /// Runs this many schedules for each test
    #[arg(long, value_name = "N")]
    pub(crate) schedules: Option<u64>,

    /// Draws the schedules from this seed, not from a new one
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

// === impl Plan ===

impl Plan {
    fn schedules(&self) -> u64 {
        self.schedules.unwrap_or(if self.deep { 2_000_000 } else { 20_000 })
    }

    fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish())
    }
}

/// Runs the models of the selected packages.
///
/// # Errors
///
/// If one of them fails under a schedule.
pub(crate) fn check(workspace: &Workspace, plan: &Plan) -> Result<()> {
    let models: Vec<_> = workspace.models().collect();
    if models.is_empty() {
        println!("no model among the selected packages");
        return Ok(());
    }
    let (schedules, seed) = (plan.schedules(), plan.seed());
    println!("{schedules} schedules for each model, from seed {seed}");
    let mut cargo = crate::workspace::cargo("test");
    cargo.current_dir(workspace.root()).args(["--lib", "--no-fail-fast"]);
    for package in models {
        cargo.args(["--package", &package.name]);
    }
    if plan.deep {
        // So many schedules are worth an optimized build.
        cargo.arg("--release");
    }
    cargo.args(["--", "shuttle::", "model::", "--nocapture"]);
    cargo.env("RUSTFLAGS", "--cfg shuttle");
    cargo.env("CARGO_TARGET_DIR", workspace.target_directory().join("shuttle"));
    cargo.env("STOCKADE_SCHEDULES", schedules.to_string()).env("STOCKADE_SEED", seed.to_string());
    run::command(&mut cargo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_runs_more_schedules_unless_their_number_is_given() {
        let plan = |deep, schedules| Plan { deep, schedules, seed: Some(1) }.schedules();

        assert_eq!(plan(false, None), 20_000);
        assert_eq!(plan(true, None), 2_000_000);
        assert_eq!(plan(true, Some(7)), 7);
    }

    #[test]
    fn without_a_seed_each_run_draws_another_one() {
        let seeds = [(); 3].map(|()| Plan::default().seed());

        assert!(seeds[0] != seeds[1] && seeds[1] != seeds[2], "{seeds:?}");
    }
}
