//! The project's own commands: `cargo xtask --help`.

mod binaries;
mod dependencies;
mod docs;
mod model;
mod needs;
mod new_layer;
mod packages;
mod run;
mod size;
mod steps;
mod stress;
mod workspace;

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use clap::{
    Args, Parser,
    builder::{PossibleValue, PossibleValuesParser},
};

use crate::workspace::Workspace;

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Cli {
    /// Runs all tests, then the code in the documentation and in the README
    ///
    /// Tests that need a server are left out, by name, where it is not installed.
    Test {
        #[command(flatten)]
        packages: Packages,

        /// Passed to every test binary: a part of a test's name, or an option such as --nocapture
        #[arg(last = true)]
        args: Vec<String>,
    },

    /// Runs the code that shares locks and counters under a model checker
    ///
    /// Each test in the src/tests/shuttle.rs of a crate runs under thousands of schedules of its threads. The
    /// seed of a schedule that fails is printed; --seed with it, and --schedules 1, runs that schedule again.
    Check {
        #[command(flatten)]
        packages: Packages,

        #[command(flatten)]
        plan: model::Plan,
    },

    /// Runs the tests that use real time, processes or servers many times on a busy machine
    ///
    /// Each package lists these tests in the table [package.metadata.stress] of its manifest. While they run, two
    /// threads a core compute and allocate, as two builds would. Ctrl-C leaves no process and no file behind.
    Stress {
        #[command(flatten)]
        packages: Packages,

        /// Runs each test this many times
        #[arg(long, value_name = "N", default_value_t = 20)]
        times: u32,
    },

    /// Makes a crate for a new layer, with the files that a layer crate has
    ///
    /// The layer in it works and keeps the contract; CONTRIBUTING.md says how to go on from there.
    NewLayer {
        /// The name, such as `load-shed` for crates/stockade-load-shed; `stockade-load-shed` makes the same crate
        name: String,

        /// What the layer does, as the end of the sentence "a layer that …"
        #[arg(long, value_name = "TEXT", default_value = "does what is yet to be said")]
        about: String,
    },

    /// Prints the code lines of each crate beside its budget, and which files and functions are long
    ///
    /// Counts what is neither blank, nor a comment, nor a test.
    Size {
        /// Fails when a crate is over its budget
        #[arg(long)]
        check: bool,
    },

    /// Prints what each dependency of the published crates is for, and what it costs to build
    ///
    /// Builds all of them once more to measure that, which takes some minutes.
    Dependencies,

    /// Runs a fleet of clients against an overloaded server in virtual time, with and without the layers
    ///
    /// Shows the storm of retries that keeps an overload going, and how the layers end it, as tables and as a
    /// chart. All arguments go to the simulator: --help lists its options, --list its scenarios.
    #[command(disable_help_flag = true)]
    Simulate(Forwarded),

    /// Measures every combination of the layers, beside their peers, and draws a report
    ///
    /// All arguments go to the benchmark suite: --help lists its commands and options. Without any it measures
    /// everything; with --quick in less than three minutes.
    #[command(disable_help_flag = true)]
    Bench(Forwarded),

    /// Writes the table of figures in the README from the results that are checked in
    ///
    /// All arguments go to `cargo xtask bench readme`: --help lists its options.
    #[command(disable_help_flag = true)]
    Readme(Forwarded),

    /// Runs every check that a change must pass
    ///
    /// The steps run in the order of the list under --only, and stop at the first that fails. The steps
    /// examples and deny look at the whole workspace, whatever --package says. Nothing is left out:
    /// a server that tests or examples need is installed with apt-get where it is missing.
    Ci {
        #[command(flatten)]
        packages: Packages,

        /// Runs only this step; may be given several times
        #[arg(long, value_name = "STEP", value_parser = steps())]
        only: Vec<String>,

        /// Runs the remaining steps although one has failed
        #[arg(long)]
        keep_going: bool,
    },
}

#[derive(Debug, Args)]
struct Forwarded {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

#[derive(Debug, Args)]
struct Packages {
    /// Only looks at this package; may be given several times
    #[arg(short, long = "package", value_name = "NAME")]
    packages: Vec<String>,
}

fn main() -> ExitCode {
    match docs::rustdoc().unwrap_or_else(|| dispatch(Cli::parse())) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode> {
    match cli {
        Cli::Test { packages, args } => steps::test(&packages.load(args)?)?,
        Cli::Check { packages, plan } => model::check(&packages.load(Vec::new())?, &plan)?,
        Cli::Stress { packages, times } => stress::run(&packages.load(Vec::new())?, times)?,
        Cli::NewLayer { name, about } => {
            new_layer::create(&Workspace::load(Vec::new(), Vec::new())?, &name, &about)?;
        }
        Cli::Size { check } => size::print(&Workspace::load(Vec::new(), Vec::new())?, check)?,
        Cli::Dependencies => dependencies::print(&Workspace::load(Vec::new(), Vec::new())?)?,
        Cli::Simulate(Forwarded { args }) => {
            let mut cargo = workspace::cargo("run");
            cargo.args(["--quiet", "--release", "--package", "stockade-simulate", "--"]);
            return run::hand_over(cargo.args(args));
        }
        Cli::Bench(Forwarded { args }) => return run::hand_over(workspace::bench().args(args)),
        Cli::Readme(Forwarded { args }) => {
            return run::hand_over(workspace::bench().arg("readme").args(args));
        }
        Cli::Ci { packages, only, keep_going } => {
            let steps = steps::CI.iter();
            let steps = steps.filter(|s| only.is_empty() || only.iter().any(|name| name == s.name));
            run::all(steps, &packages.load(Vec::new())?, keep_going)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the name of a step; clap lists the names in the help and when a name is unknown.
fn steps() -> PossibleValuesParser {
    PossibleValuesParser::new(steps::CI.iter().map(|s| PossibleValue::new(s.name).help(s.about)))
}

// === impl Packages ===

impl Packages {
    fn load(self, test_args: Vec<String>) -> Result<Workspace> {
        Workspace::load(self.packages, test_args)
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

    use super::*;

    fn parse(words: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["xtask"], words].concat())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_unknown_step_is_answered_with_the_known_ones() {
        let error = parse(&["ci", "--only", "nothing"]).unwrap_err();

        assert_eq!(error.kind(), ErrorKind::InvalidValue);
        for step in steps::CI {
            assert!(error.to_string().contains(step.name), "{error}");
        }
    }

    #[test]
    fn arguments_for_the_benchmark_suite_are_passed_on_unchanged() {
        let words = ["--quick", "save", "x", "--layers", "retry,breaker", "--help"];
        let cli = parse(&[&["bench"], &words[..]].concat());

        let Cli::Bench(bench) = cli.unwrap() else { panic!("another command") };
        assert_eq!(bench.args, words);
    }

    #[test]
    fn a_schedule_that_failed_can_be_run_again() {
        let cli = parse(&["check", "--seed", "9", "--schedules", "1"]);

        let Cli::Check { plan, .. } = cli.unwrap() else { panic!("another command") };
        assert_eq!((plan.seed, plan.schedules, plan.deep), (Some(9), Some(1), false));
    }

    #[test]
    fn arguments_for_the_simulator_are_passed_on_unchanged() {
        for args in [&["--help"][..], &["mine.toml", "--seed", "3"], &["--list", "--", "-x"]] {
            let cli = parse(&[&["simulate"], args].concat());

            let Cli::Simulate(simulate) = cli.unwrap() else { panic!("another") };
            assert_eq!(simulate.args, args);
        }
    }

    #[test]
    fn arguments_after_two_dashes_are_passed_to_the_tests() {
        let cli = parse(&["test", "-p", "stockade", "--", "--nocapture"]);

        let Cli::Test { packages, args } = cli.unwrap() else { panic!("another command") };
        assert_eq!(packages.packages, ["stockade"]);
        assert_eq!(args, ["--nocapture"]);
    }
}
