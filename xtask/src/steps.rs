//! The checks, as a table. To add one, add a line to [`CI`] and the function that it names.
//!
//! All of them build with the same profile and without `RUSTFLAGS`, so that each reuses what the others have built.
//! Only the models and the instruction counts need builds of their own.

use std::time::Duration;

use anyhow::{Result, ensure};
use cargo_metadata::Package;

use crate::{
    binaries::{self, Binary},
    docs, model,
    needs::{self, Needy},
    new_layer, packages, run,
    workspace::{self, Workspace},
};

/// A check, and its name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: Run,
}

type Run = fn(&Workspace) -> Result<()>;

/// The steps of `cargo xtask ci`, in order.
pub(crate) const CI: &[Step] = &[
    Step::new("fmt", "the code is formatted", fmt),
    Step::new("clippy", "no warnings, in any target", clippy),
    Step::new("features", "no warnings with each feature alone, and with none", features),
    Step::new("test", "what `cargo xtask test` runs, and nothing left out", all_tests),
    Step::new("model", "what `cargo xtask check` runs, with fewer schedules", models),
    Step::new(
        "docs",
        "the documentation builds as on docs.rs, and its links lead somewhere",
        docs::check,
    ),
    Step::new(
        "packages",
        "each crate can be packaged, and what is packaged compiles",
        packages::check,
    ),
    Step::new(
        "new-layer",
        "what `cargo xtask new-layer` makes passes its checks",
        new_layer::check,
    ),
    Step::new("examples", "every example runs to its end", examples),
    Step::new("instructions", "no stack takes more instructions than its budget", instructions),
    Step::new("readme", "the figures of the README are those of the checked-in results", readme),
    Step::new("deny", "licences, duplicate versions and sources of the dependencies", deny),
];

/// The steps of `cargo xtask test`, in order.
const TEST: &[Step] = &[
    Step::new("tests", "unit and integration tests", tests),
    Step::new("doctests", "the code in the documentation", doctests),
];

/// The longest that a test binary or an example may run.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// What checks the dependencies.
const CARGO_DENY: &str = "cargo-deny@0.20.2";

// === impl Step ===

impl Step {
    const fn new(name: &'static str, about: &'static str, run: Run) -> Self {
        Self { name, about, run }
    }
}

/// Runs all tests and the code in the documentation, and prints which tests were left out.
pub(crate) fn test(workspace: &Workspace) -> Result<()> {
    let result = run::all(TEST.iter(), workspace, false);
    print_left_out(workspace)?;
    result
}

/// Prints the tests that cannot run here, and what to install for them.
pub(crate) fn print_left_out(workspace: &Workspace) -> Result<()> {
    let needy = needy_tests(workspace)?;
    needy.iter().filter(|n| n.is_left_out()).for_each(|needy| println!("{needy}"));
    Ok(())
}

fn needy_tests(workspace: &Workspace) -> Result<Vec<Needy>> {
    let mut tests = Vec::new();
    for package in workspace.packages() {
        let is_test = |n: &Needy| package.targets.iter().any(|t| t.test && t.name == n.target);
        tests.extend(needs::of(package)?.into_iter().filter(is_test));
    }
    Ok(tests)
}

fn fmt(workspace: &Workspace) -> Result<()> {
    run::command(workspace.cargo("fmt").arg("--check"))
}

fn clippy(workspace: &Workspace) -> Result<()> {
    let mut cargo = workspace.cargo("clippy");
    run::command(cargo.args(["--all-targets", "--all-features", "--", "-D", "warnings"]))
}

fn features(workspace: &Workspace) -> Result<()> {
    for package in workspace.crates() {
        for set in workspace::feature_sets(&package.features) {
            // Clippy, because `cargo check` can deny warnings only through RUSTFLAGS, which would build
            // every dependency once more.
            let mut cargo = workspace::cargo("clippy");
            cargo.current_dir(workspace.root()).args(["--quiet", "--package", &package.name]);
            run::command(cargo.args(set).args(["--", "-D", "warnings"]))?;
        }
    }
    Ok(())
}

/// Runs the tests and leaves none out.
fn all_tests(workspace: &Workspace) -> Result<()> {
    needs::provide(&needy_tests(workspace)?)?;
    test(workspace)
}

/// Runs the test binaries beside each other. Where arguments choose tests, one after the other, and shows what they
/// print at once.
fn tests(workspace: &Workspace) -> Result<()> {
    let binaries = binaries::build(workspace)?;
    if workspace.test_args.is_empty() {
        return run::at_once(binaries.iter().map(Binary::command).collect(), LIMIT);
    }
    let mut failed = Vec::new();
    for binary in binaries {
        if run::command(binary.command().args(&workspace.test_args)).is_err() {
            failed.push(binary.target);
        }
    }
    ensure!(failed.is_empty(), "tests failed in: {}", failed.join(", "));
    Ok(())
}

fn doctests(workspace: &Workspace) -> Result<()> {
    // Cargo runs the code in the documentation of libraries only, and fails if there is none.
    if !workspace.packages().flat_map(|p| &p.targets).any(cargo_metadata::Target::is_lib) {
        println!("no library among the selected packages");
        return Ok(());
    }
    let mut cargo = workspace.cargo("test");
    cargo.args(["--doc", "--all-features", "--no-fail-fast", "--"]).args(&workspace.test_args);
    run::command(&mut cargo)
}

/// With a quarter of the schedules that `cargo xtask check` runs, because all steps together have to end in 25 minutes.
fn models(workspace: &Workspace) -> Result<()> {
    let plan = model::Plan { schedules: Some(5_000), ..model::Plan::default() };
    model::check(workspace, &plan)
}

/// Built first, so that the limit is on the runs alone.
fn examples(workspace: &Workspace) -> Result<()> {
    let cargo = |command: &str, package: &Package| {
        let mut cargo = workspace::cargo(command);
        cargo.current_dir(workspace.root()).args(["--quiet", "--package", &package.name]);
        cargo
    };
    let mut runs = Vec::new();
    for package in workspace.all_packages() {
        let mut args = workspace::table(package, "examples")?;
        needs::provide(&needs::of(package)?)?;
        let examples: Vec<_> = package.targets.iter().filter(|t| t.is_example()).collect();
        if !examples.is_empty() {
            run::command(cargo("build", package).arg("--examples"))?;
        }
        for example in examples {
            let mut run = cargo("run", package);
            run.args(["--example", &example.name, "--"]);
            run.args(args.remove(&example.name).unwrap_or_default());
            runs.push(run);
        }
    }
    run::at_once(runs, LIMIT)
}

/// Checks the budget of every stack, which `cargo xtask bench instr` explains.
fn instructions(workspace: &Workspace) -> Result<()> {
    needs::provide_one("valgrind")?;
    run::command(workspace::bench().current_dir(workspace.root()).arg("instr"))
}

fn readme(workspace: &Workspace) -> Result<()> {
    run::command(workspace::bench().current_dir(workspace.root()).args(["readme", "--check"]))
}

/// Leaves advisories out: they change without a change here, and need the network.
fn deny(workspace: &Workspace) -> Result<()> {
    // Does nothing where this version is installed. Without optimization it is built in half the time, and quick enough.
    let mut install = workspace::cargo("install");
    let tools = workspace.target_directory().join("tools");
    run::command(install.args(["--locked", "--debug", CARGO_DENY, "--target-dir"]).arg(tools))?;
    let mut deny = workspace::cargo("deny");
    run::command(deny.current_dir(workspace.root()).args(["check", "licenses", "bans", "sources"]))
}
