//! The command: `simulate --help`.

mod progress;

use std::{
    env, fs,
    io::{self, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result};
use clap::Parser;
use signal_hook::{consts::SIGINT, flag};
use stockade_simulate::{
    builtin::{self, BUILTIN},
    chart, report,
    run::{Run, run},
    scenario::{Changes, Scenario},
    values::{Count, Positive, Span},
};

use crate::progress::Progress;

/// Runs a fleet of clients against one server in virtual time, with and without the layers of stockade
///
/// Each stack of the scenario gets a run of its own through the same calls. What comes out are tables, a chart, and,
/// if wanted, JSON. The same seed gives the same figures.
#[derive(Debug, Parser)]
#[command(name = "simulate", bin_name = "cargo xtask simulate", after_help = AFTER)]
struct Cli {
    /// A scenario: a file, or the name of one that comes along
    #[arg(default_value = BUILTIN[0].name)]
    scenario: String,

    /// Runs this stack of the scenario only; may be given several times
    #[arg(long, value_name = "NAME")]
    stack: Vec<String>,

    /// Where all chance comes from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// How many clients there are, in place of the scenario's number
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    clients: Option<Count>,

    /// How many calls a second each client makes, in place of the scenario's number
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    rate: Option<Positive>,

    /// How long it lasts, in simulated time, such as 90s; phases that would begin later are left out
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    duration: Option<Span>,

    /// Where the chart goes [default: simulate/NAME.svg in the target directory]
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Writes all figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Does not tell how far it is
    #[arg(long)]
    no_progress: bool,

    /// Lists the scenarios that come along
    #[arg(long)]
    list: bool,

    /// Prints the scenario's file, to begin one of your own with
    #[arg(long)]
    print: bool,
}

const AFTER: &str = "\
Examples:
  cargo xtask simulate                                 the first scenario that comes along
  cargo xtask simulate --print storm > mine.toml       its file, to change it
  cargo xtask simulate mine.toml --json figures.json
  cargo xtask simulate --stack recommended --rate 100

Ctrl-C ends it early and shows what was simulated so far; a second one ends it at once.
The exit code is 2 for a scenario with a mistake in it, and 130 after Ctrl-C.";

const INTERRUPTED: u8 = 130;
const BAD_INPUT: u8 = 2;

fn main() -> ExitCode {
    match simulate(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn simulate(cli: &Cli) -> Result<ExitCode> {
    if cli.list {
        list()?;
        return Ok(ExitCode::SUCCESS);
    }
    let (path, text) = match builtin::find(&cli.scenario) {
        Some(builtin) => (format!("{}.toml", builtin.name), builtin.text.to_owned()),
        None => match fs::read_to_string(&cli.scenario) {
            Ok(text) => (cli.scenario.clone(), text),
            Err(error) => return Ok(refuse(&unreadable(&cli.scenario, &error))),
        },
    };
    if cli.print {
        print(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut scenario = match Scenario::read(&path, &text) {
        Ok(scenario) => scenario,
        Err(fault) => return Ok(refuse(&fault.to_string())),
    };
    for wanted in &cli.stack {
        if !scenario.stacks.iter().any(|stack| stack.name() == wanted) {
            let names: Vec<_> = scenario.stacks.iter().map(|s| format!("{:?}", s.name())).collect();
            let names = names.join(", ");
            return Ok(refuse(&format!(
                "--stack {wanted:?}: {path} has no such stack; it has {names}"
            )));
        }
    }
    scenario.stacks.retain(|s| cli.stack.is_empty() || cli.stack.iter().any(|w| w == s.name()));
    let Cli { clients, rate, duration, .. } = *cli;
    match scenario.with(Changes { clients, rate, duration }) {
        Ok(scenario) => run_all(cli, &path, &scenario),
        Err(message) => Ok(refuse(&message)),
    }
}

fn run_all(cli: &Cli, path: &str, scenario: &Scenario) -> Result<ExitCode> {
    let interrupted = Arc::new(AtomicBool::new(false));
    flag::register_conditional_shutdown(SIGINT, INTERRUPTED.into(), Arc::clone(&interrupted))
        .and_then(|_| flag::register(SIGINT, Arc::clone(&interrupted)))
        .context("cannot listen for Ctrl-C")?;
    let mut progress = Progress::new(!cli.no_progress, scenario, scenario.stacks.len());
    let mut runs = Vec::new();
    for (n, stack) in scenario.stacks.iter().enumerate() {
        let run = run(scenario, stack, cli.seed, |now| {
            progress.at(n, stack.name(), scenario, now);
            if interrupted.load(Ordering::Relaxed) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        progress.ended(&run);
        runs.push(run);
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
    }
    progress.done();
    show(cli, path, scenario, &runs)?;
    if interrupted.load(Ordering::Relaxed) {
        print("stopped by Ctrl-C: this is what was simulated until then\n")?;
        return Ok(ExitCode::from(INTERRUPTED));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the tables, and writes the files: in this order, so that the tables are there when a file cannot be written.
fn show(cli: &Cli, path: &str, scenario: &Scenario, runs: &[Run]) -> Result<()> {
    let name = Path::new(path).file_stem().map_or_else(|| path.into(), |s| s.to_string_lossy());
    let title = if scenario.about.is_empty() { &name } else { scenario.about.as_str() };
    let setting = report::setting(scenario, cli.seed);
    let (details, summary) = (report::details(scenario, runs), report::summary(scenario, runs));
    let legend = report::LEGEND;
    print(&format!("{title}\n{setting}\n\n{details}\n\n{summary}\n\n{legend}\n\n"))?;
    let svg = chart::svg(title, &setting, scenario, runs);
    let svg = svg.map_err(|error| anyhow::anyhow!("cannot draw the chart: {error}"))?;
    let place = cli.svg.clone().unwrap_or_else(|| output_directory().join(format!("{name}.svg")));
    write("chart", &place, &svg)?;
    if let Some(place) = &cli.json {
        let json = report::json(&name, scenario, cli.seed, runs);
        write("figures", place, &format!("{json:#}\n"))?;
    }
    Ok(())
}

fn list() -> Result<()> {
    let lines = BUILTIN.iter().map(|builtin| {
        let about = Scenario::read(builtin.name, builtin.text).map(|scenario| scenario.about);
        format!("{:10} {}\n", builtin.name, about.unwrap_or_default())
    });
    print(&lines.collect::<String>())
}

/// Prints. If nobody reads any more, as after `simulate | head`, that is no failure.
fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot print"),
    }
}

fn write(what: &str, place: &Path, text: &str) -> Result<()> {
    let told = || format!("cannot write {}", place.display());
    if let Some(directory) = place.parent() {
        fs::create_dir_all(directory).with_context(told)?;
    }
    fs::write(place, text).with_context(told)?;
    print(&format!("{what}: {}\n", place.display()))
}

/// Beside the directory that cargo has put this program in.
fn output_directory() -> PathBuf {
    let program = env::current_exe().unwrap_or_default();
    program.ancestors().nth(2).unwrap_or(Path::new("")).join("simulate")
}

fn unreadable(scenario: &str, error: &io::Error) -> String {
    let names: Vec<_> = BUILTIN.iter().map(|builtin| builtin.name).collect();
    let names = names.join(", ");
    format!(
        "cannot read {scenario}: {error}; name a file, or one of those that come along: {names}"
    )
}

fn refuse(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::from(BAD_INPUT)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
