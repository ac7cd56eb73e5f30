//! The project's own commands: `cargo xtask --help`.

mod forward;
mod metadata;
mod model;
mod needs;
mod run;
mod steps;

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use clap::{
    Args, Parser, Subcommand,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};

use crate::{
    metadata::Project,
    model::Plan,
    steps::{Job, Step},
};

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs all tests, then the code in the documentation and in the README
    ///
    /// Tests that need a server are left out, by name, where it is not installed.
    Test(TestArgs),

    /// Runs what shares locks and counters under a model checker
    ///
    /// Each test in the src/tests/shuttle.rs of a crate runs under thousands of schedules of its threads. The
    /// seed of a schedule that fails is printed; --seed with it, and --schedules 1, runs that schedule again.
    Check(CheckArgs),

    /// Runs a fleet of clients against an overloaded server in virtual time, with and without the layers
    ///
    /// Shows the storm of retries that keeps an overload going, and what ends it, as tables and as a chart. What
    /// follows goes to the simulator: --help lists its options, --list the scenarios that come along.
    #[command(disable_help_flag = true)]
    Simulate(SimulateArgs),

    /// Measures every combination of the layers, beside their peers, and draws a report
    ///
    /// What follows goes to the benchmark suite: --help lists its commands and options. Without any it measures
    /// everything, with --quick in less than three minutes.
    #[command(disable_help_flag = true)]
    Bench(BenchArgs),

    /// Writes the headline table of the README from the results that are checked in
    Readme(ReadmeArgs),

    /// Runs every check that a change must pass
    ///
    /// The steps run in the order of the list under --only, and end at the first that fails. The steps
    /// examples and deny look at the workspace as a whole, whatever --package says. Nothing is left out:
    /// a server that tests or examples need is installed with apt-get where it is missing.
    Ci(CiArgs),
}

#[derive(Debug, Args)]
struct TestArgs {
    #[command(flatten)]
    selection: Selection,

    /// Handed to every test binary: a part of a test's name, or an option such as --nocapture
    #[arg(last = true)]
    args: Vec<String>,
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    selection: Selection,

    /// Two million schedules for each test in place of twenty thousand
    #[arg(long)]
    deep: bool,

    /// Runs this many schedules for each test
    #[arg(long, value_name = "N")]
    schedules: Option<u64>,

    /// Draws the schedules from this seed, and not from a new one
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

#[derive(Debug, Args)]
struct SimulateArgs {
    /// For the simulator
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

#[derive(Debug, Args)]
struct BenchArgs {
    /// For the benchmark suite
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

#[derive(Debug, Args)]
struct ReadmeArgs {
    /// Only says whether they match
    #[arg(long)]
    check: bool,

    /// Renews the results from a run that was kept by `cargo xtask bench save NAME`
    #[arg(long, value_name = "NAME", conflicts_with = "check")]
    from: Option<OsString>,
}

#[derive(Debug, Args)]
struct CiArgs {
    #[command(flatten)]
    selection: Selection,

    /// Runs only this step; may be given several times
    #[arg(long, value_name = "STEP", value_parser = step())]
    only: Vec<&'static Step>,

    /// Runs the remaining steps although one has failed
    #[arg(long)]
    keep_going: bool,
}

#[derive(Debug, Args)]
struct Selection {
    /// Looks at this package alone; may be given several times
    #[arg(short, long = "package", value_name = "NAME")]
    packages: Vec<String>,
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        Command::Test(TestArgs { selection, args }) => steps::test(&job(selection, args)?)?,
        Command::Check(CheckArgs { selection, deep, schedules, seed }) => {
            model::check(&job(selection, Vec::new())?, Plan::new(deep, schedules, seed))?;
        }
        Command::Simulate(SimulateArgs { args }) => return simulate(args),
        Command::Bench(BenchArgs { args }) => return bench(args),
        Command::Readme(ReadmeArgs { check, from }) => {
            let check = check.then(|| "--check".into());
            let from = from.into_iter().flat_map(|name| ["--from".into(), name]);
            return bench(["readme".into()].into_iter().chain(check).chain(from).collect());
        }
        Command::Ci(CiArgs { selection, only, keep_going }) => {
            let job = job(selection, Vec::new())?;
            let chosen = |step: &&Step| only.is_empty() || only.iter().any(|o| o.name == step.name);
            run::all(steps::CI.iter().filter(chosen), &job, keep_going)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn job(selection: Selection, args: Vec<String>) -> Result<Job> {
    Job::new(Project::load()?, selection.packages, args)
}

/// Hands over to the simulator, which is built for release.
fn simulate(args: Vec<OsString>) -> Result<ExitCode> {
    let mut cargo = forward::cargo("run");
    cargo.args(["--quiet", "--release", "--package", "stockade-simulate", "--"]);
    forward::hand_over(cargo.args(args))
}

/// Hands over to the front of the benchmark suite, which builds what measures.
fn bench(args: Vec<OsString>) -> Result<ExitCode> {
    let mut cargo = forward::cargo("run");
    cargo.args(["--quiet", "--package", "stockade-benches", "--bin", "bench", "--"]);
    forward::hand_over(cargo.args(args))
}

/// Reads the name of a step; clap lists the known ones in the help, and when the name is unknown.
fn step() -> impl TypedValueParser<Value = &'static Step> {
    PossibleValuesParser::new(steps::CI.iter().map(|s| PossibleValue::new(s.name).help(s.about)))
        .try_map(|name| steps::CI.iter().find(|s| s.name == name).ok_or("unknown step"))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_unknown_step_is_answered_with_the_known_ones() {
        let error = Cli::try_parse_from(["xtask", "ci", "--only", "nothing"]).unwrap_err();

        assert_eq!(error.kind(), ErrorKind::InvalidValue);
        for step in steps::CI {
            assert!(error.to_string().contains(step.name), "{error}");
        }
    }

    #[test]
    fn what_the_benchmark_suite_is_asked_for_goes_there_as_it_is() {
        let words = ["--quick", "save", "x", "--layers", "retry,breaker", "--help"];
        let cli = Cli::try_parse_from(["xtask", "bench"].iter().chain(&words));

        let Command::Bench(bench) = cli.unwrap().command else { panic!("another command") };
        assert_eq!(bench.args, words);
    }

    #[test]
    fn a_schedule_that_failed_can_be_asked_for_again() {
        let cli = Cli::try_parse_from(["xtask", "check", "--seed", "9", "--schedules", "1"]);

        let Command::Check(check) = cli.unwrap().command else { panic!("another command") };
        assert_eq!((check.seed, check.schedules, check.deep), (Some(9), Some(1), false));
    }

    #[test]
    fn what_follows_goes_to_the_simulator() {
        for args in [&["--help"][..], &["mine.toml", "--seed", "3"], &["--list", "--", "-x"]] {
            let cli = Cli::try_parse_from([&["xtask", "simulate"], args].concat());

            let Command::Simulate(simulate) = cli.unwrap().command else { panic!("another") };
            assert_eq!(simulate.args, args);
        }
    }

    #[test]
    fn what_follows_two_dashes_goes_to_the_tests() {
        let cli = Cli::try_parse_from(["xtask", "test", "-p", "stockade", "--", "--nocapture"]);

        let Command::Test(test) = cli.unwrap().command else { panic!("another command") };
        assert_eq!(test.selection.packages, ["stockade"]);
        assert_eq!(test.args, ["--nocapture"]);
    }
}
