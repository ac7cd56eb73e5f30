//! The checks, as a table: to add one, add a line to [`CI`] and the function that it names.
//!
//! All of them build with the same profile and without `RUSTFLAGS`, so that what one has built the next
//! finds. Only the examples are built a second time, for release, and the models in a folder of their own.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Result, ensure};
use cargo_metadata::{Package, Target};

use crate::{
    forward,
    metadata::{EXAMPLES, Project, feature_sets},
    model::{self, Plan},
    needs::{self, Needy},
    run,
};

/// A check, and what to call it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn(&Job) -> Result<()>,
}

/// What is to be checked.
#[derive(Debug)]
pub(crate) struct Job {
    project: Project,
    /// The packages to look at; none means all.
    packages: Vec<String>,
    /// What the test binaries are handed.
    test_args: Vec<String>,
}

/// What `cargo xtask ci` runs, in this order.
pub(crate) const CI: &[Step] = &[
    Step { name: "fmt", about: "the code is formatted", run: fmt },
    Step { name: "clippy", about: "no warnings, in any target", run: clippy },
    Step {
        name: "features",
        about: "no warnings with each feature of each crate alone, none and all",
        run: features,
    },
    Step {
        name: "test",
        about: "what `cargo xtask test` runs, and nothing left out",
        run: all_tests,
    },
    Step { name: "model", about: "what `cargo xtask check` runs", run: models },
    Step { name: "docs", about: "the documentation builds without warnings", run: docs },
    Step { name: "examples", about: "every example runs to its end", run: examples },
    Step {
        name: "instructions",
        about: "no call through a stack takes more instructions than its budget",
        run: instructions,
    },
    Step {
        name: "readme",
        about: "the headline table of the README is that of the results checked in",
        run: readme,
    },
    Step {
        name: "deny",
        about: "licences, duplicate versions and sources of the dependencies",
        run: deny,
    },
];

/// What `cargo xtask test` runs, in this order.
const TEST: &[Step] = &[
    Step { name: "tests", about: "unit and integration tests", run: tests },
    Step { name: "doctests", about: "the code in the documentation", run: doctests },
];

/// The longest that an example may run.
const EXAMPLE_LIMIT: Duration = Duration::from_secs(3 * 60);

/// The `cargo-deny` to install where there is none.
const CARGO_DENY: &str = "0.20.2";

// === impl Job ===

impl Job {
    /// Looks at `packages` alone, or at the whole workspace where there are none.
    ///
    /// # Errors
    ///
    /// When a package is not in the workspace.
    pub(crate) fn new(
        project: Project,
        packages: Vec<String>,
        test_args: Vec<String>,
    ) -> Result<Self> {
        for name in &packages {
            project.package(name)?;
        }
        Ok(Self { project, packages, test_args })
    }

    fn selects(&self, package: &str) -> bool {
        self.packages.is_empty() || self.packages.iter().any(|name| name == package)
    }

    /// Whether there is code in documentation to run: cargo does that for libraries alone.
    fn has_library(&self) -> bool {
        self.selected().any(|p| p.targets.iter().any(Target::is_lib))
    }

    fn selected(&self) -> impl Iterator<Item = &Package> {
        self.project.packages().filter(|p| self.selects(&p.name))
    }

    /// The selected packages' tests that need something installed.
    fn needy_tests(&self) -> Result<Vec<Needy>> {
        let needy: Vec<_> = self.selected().map(needs::of).collect::<Result<_>>()?;
        let is_test = |n: &Needy| {
            let targets = self.selected().filter(|p| *p.name == n.package).flat_map(|p| &p.targets);
            targets.into_iter().any(|t| t.test && t.name == n.target)
        };
        Ok(needy.into_iter().flatten().filter(is_test).collect())
    }

    /// The selected packages that have tests for a model checker.
    pub(crate) fn models(&self) -> impl Iterator<Item = &Package> {
        self.project.models().filter(|p| self.selects(&p.name))
    }

    pub(crate) fn target_directory(&self) -> &Path {
        self.project.target_directory()
    }

    /// `cargo COMMAND`, from the workspace's root.
    pub(crate) fn cargo(&self, command: &str) -> Command {
        let mut cargo = forward::cargo(command);
        cargo.current_dir(self.project.root());
        cargo
    }

    /// `cargo COMMAND` on the selected packages.
    fn cargo_on_selected(&self, command: &str) -> Command {
        let mut cargo = self.cargo(command);
        if self.packages.is_empty() {
            cargo.arg(if command == "fmt" { "--all" } else { "--workspace" });
        }
        for name in &self.packages {
            cargo.args(["--package", name]);
        }
        cargo
    }
}

// === the steps ===

/// Runs all tests, and the code in the documentation; in the end it says which tests were left out.
pub(crate) fn test(job: &Job) -> Result<()> {
    let result = run::all(TEST.iter(), job, false);
    for needy in job.needy_tests()?.iter().filter(|n| n.is_left_out()) {
        println!("{needy}");
    }
    result
}

/// Runs all tests, and leaves none out.
fn all_tests(job: &Job) -> Result<()> {
    needs::provide(&job.needy_tests()?)?;
    test(job)
}

fn fmt(job: &Job) -> Result<()> {
    run::command(job.cargo_on_selected("fmt").arg("--check"))
}

fn clippy(job: &Job) -> Result<()> {
    let mut cargo = job.cargo_on_selected("clippy");
    run::command(cargo.args(["--all-targets", "--all-features", "--", "-D", "warnings"]))
}

fn features(job: &Job) -> Result<()> {
    for package in job.project.crates().filter(|p| job.selects(&p.name)) {
        for set in feature_sets(&package.features) {
            // Clippy, because `cargo check` can deny warnings only through RUSTFLAGS, which would build
            // every dependency once more.
            let mut cargo = job.cargo("clippy");
            cargo.args(["--quiet", "--package", &package.name]).args(set);
            run::command(cargo.args(["--", "-D", "warnings"]))?;
        }
    }
    Ok(())
}

/// Cargo can leave out packages, and not targets: packages with tests to be left out get a command of their own, which
/// lists the others.
fn tests(job: &Job) -> Result<()> {
    let mut left_out = job.needy_tests()?;
    left_out.retain(Needy::is_left_out);
    if left_out.is_empty() {
        return cargo_test(job, job.cargo_on_selected("test").arg("--tests"));
    }
    let (partly, whole): (Vec<_>, Vec<_>) =
        job.selected().partition(|p| left_out.iter().any(|n| n.package == *p.name));
    let mut commands = Vec::new();
    if !whole.is_empty() {
        let mut cargo = job.cargo("test");
        cargo.args(whole.iter().flat_map(|p| ["--package", &p.name])).arg("--tests");
        commands.push(cargo);
    }
    for package in partly {
        let out =
            |t: &Target| left_out.iter().any(|n| n.package == *package.name && n.target == t.name);
        let rest: Vec<_> = package.targets.iter().filter(|t| t.test && !out(t)).collect();
        if !rest.is_empty() {
            let mut cargo = job.cargo("test");
            cargo.args(["--package", &package.name]).args(rest.into_iter().flat_map(chosen));
            commands.push(cargo);
        }
    }
    // All of them, also when the first one fails, as with a single command.
    let results: Vec<_> = commands.iter_mut().map(|cargo| cargo_test(job, cargo)).collect();
    results.into_iter().collect()
}

/// The arguments with which cargo chooses `target` of a package.
fn chosen(target: &Target) -> Vec<&str> {
    let kind = if target.is_test() {
        "--test"
    } else if target.is_example() {
        "--example"
    } else if target.is_bin() {
        "--bin"
    } else if target.is_bench() {
        "--bench"
    } else {
        return vec!["--lib"];
    };
    vec![kind, &target.name]
}

fn doctests(job: &Job) -> Result<()> {
    if !job.has_library() {
        println!("no library among the selected packages");
        return Ok(());
    }
    cargo_test(job, job.cargo_on_selected("test").arg("--doc"))
}

fn cargo_test(job: &Job, cargo: &mut Command) -> Result<()> {
    cargo.args(["--all-features", "--no-fail-fast"]);
    if !job.test_args.is_empty() {
        cargo.arg("--").args(&job.test_args);
    }
    run::command(cargo)
}

fn models(job: &Job) -> Result<()> {
    model::check(job, Plan::new(false, None, None))
}

fn docs(job: &Job) -> Result<()> {
    let mut cargo = job.cargo_on_selected("doc");
    run::command(cargo.args(["--no-deps", "--all-features"]).env("RUSTDOCFLAGS", "-D warnings"))
}

fn examples(job: &Job) -> Result<()> {
    let examples = job.project.examples()?;
    ensure!(!examples.is_empty(), "{EXAMPLES} has no examples");
    needs::provide(&needs::of(job.project.package(EXAMPLES)?)?)?;
    // Built beforehand, so that the limit is on the run alone.
    run::command(job.cargo("build").args(["--release", "--package", EXAMPLES, "--examples"]))?;
    for example in examples {
        let mut cargo = job.cargo("run");
        cargo.args(["--quiet", "--release", "--package", EXAMPLES, "--example", &example.name]);
        if !example.args.is_empty() {
            cargo.arg("--").args(example.args);
        }
        run::command_within(EXAMPLE_LIMIT, &mut cargo)?;
    }
    Ok(())
}

/// Holds the budget of every stack, which `cargo xtask bench instr` explains.
fn instructions(job: &Job) -> Result<()> {
    needs::provide_one("valgrind")?;
    run::command(bench(job).arg("instr"))
}

fn readme(job: &Job) -> Result<()> {
    run::command(bench(job).args(["readme", "--check"]))
}

/// The front of the benchmark suite.
fn bench(job: &Job) -> Command {
    let mut cargo = job.cargo("run");
    cargo.args(["--quiet", "--package", "stockade-benches", "--bin", "bench", "--"]);
    cargo
}

/// Leaves advisories out: they change without a change here, and need the network.
fn deny(job: &Job) -> Result<()> {
    let installed = job.cargo("deny").arg("--version").output()?.status.success();
    if !installed {
        println!("cargo-deny is not installed: building it takes about three minutes");
        let mut cargo = job.cargo("install");
        cargo.args(["cargo-deny", "--locked", "--version", CARGO_DENY, "--target-dir"]);
        run::command(cargo.arg(job.project.target_directory().join("tools")))?;
    }
    run::command(job.cargo("deny").args(["check", "licenses", "bans", "sources"]))
}
