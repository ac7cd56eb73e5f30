//! The project's own commands: `cargo xtask --help`.

mod metadata;
mod run;
mod steps;

use std::process::ExitCode;

use anyhow::Result;
use clap::{
    Args, Parser, Subcommand,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};

use crate::{
    metadata::Project,
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
    /// Needs a Rust toolchain and no server.
    Test(TestArgs),

    /// Runs every check that a change must pass
    ///
    /// The steps run in the order of the list under --only, and end at the first that fails. The steps
    /// examples and deny look at the workspace as a whole, whatever --package says.
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
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    let project = Project::load()?;
    match command {
        Command::Test(TestArgs { selection, args }) => {
            let job = Job::new(project, selection.packages, args)?;
            steps::test(&job)
        }
        Command::Ci(CiArgs { selection, only, keep_going }) => {
            let job = Job::new(project, selection.packages, Vec::new())?;
            let chosen = |step: &&Step| only.is_empty() || only.iter().any(|o| o.name == step.name);
            run::all(steps::CI.iter().filter(chosen), &job, keep_going)
        }
    }
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
    fn what_follows_two_dashes_goes_to_the_tests() {
        let cli = Cli::try_parse_from(["xtask", "test", "-p", "stockade", "--", "--nocapture"]);

        let Command::Test(test) = cli.unwrap().command else { panic!("another command") };
        assert_eq!(test.selection.packages, ["stockade"]);
        assert_eq!(test.args, ["--nocapture"]);
    }
}
